use moola_core::ErrorKind::{Corrupt, Forbidden, Invalid, Refused};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::LineEnding;

use super::*;

fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 32]).unwrap()
}

fn pem(seed: u8) -> String {
    signing_key(seed).verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
}

fn signature(seed: u8, message: &[u8]) -> Signature {
    let key = signing_key(seed);
    let signature: p256::ecdsa::Signature = key.sign(message);
    Signature {
        algorithm: ALGORITHM.into(),
        key_id: key_id(key.verifying_key()).unwrap(),
        signature: hex::encode(signature.to_bytes()),
    }
}

#[tokio::test]
async fn trusted_keys_verify_and_sign_nothing() {
    let keys = TrustedKeys::from_pem(&format!("\n{}\r\n{}", pem(1), pem(2).replace('\n', "\r\n"))).unwrap();
    assert_eq!(keys.ids().count(), 2);
    for seed in [1, 2] {
        keys.verify(b"message", &signature(seed, b"message")).await.unwrap();
        let error = keys.verify(b"other", &signature(seed, b"message")).await.unwrap_err();
        assert_eq!(error.kind(), Corrupt);
    }
    assert_eq!(keys.verify(b"message", &signature(3, b"message")).await.unwrap_err().kind(), Forbidden);
    assert_eq!(keys.sign(b"message").await.unwrap_err().kind(), Refused);
    assert_eq!(keys.public_key().await.unwrap_err().kind(), Refused);
}

#[tokio::test]
async fn malformed_signatures_are_invalid_and_damaged_ones_corrupt() {
    let keys = TrustedKeys::from_pem(&pem(1)).unwrap();
    let good = signature(1, b"message");
    let with = |text: &str| Signature { signature: text.into(), ..good.clone() };
    for text in ["", "00", "zz", &good.signature[2..]] {
        assert_eq!(keys.verify(b"message", &with(text)).await.unwrap_err().kind(), Invalid, "{text}");
    }
    // No signature has these numbers: zero, and more than the order of the curve.
    for text in ["00".repeat(64), "ff".repeat(64)] {
        assert_eq!(keys.verify(b"message", &with(&text)).await.unwrap_err().kind(), Corrupt, "{text}");
    }
    let ed25519 = Signature { algorithm: "ed25519".into(), ..good.clone() };
    let error = keys.verify(b"message", &ed25519).await.unwrap_err();
    assert_eq!(error.to_string(), "`algorithm` is `ed25519`, expected `ecdsa-p256-sha256`");
}

#[tokio::test]
async fn both_forms_of_a_signature_count() {
    // KMS returns any of the two that ECDSA allows; p256 makes the one with the low s.
    let keys = TrustedKeys::from_pem(&pem(1)).unwrap();
    let mut signature = signature(1, b"message");
    let bytes = hex::decode(&signature.signature).unwrap();
    let (r, s) = p256::ecdsa::Signature::from_slice(&bytes).unwrap().split_scalars();
    let other = p256::ecdsa::Signature::from_scalars(r, -s).unwrap();
    assert_ne!(other.to_bytes()[..], bytes[..]);
    signature.signature = hex::encode(other.to_bytes());
    keys.verify(b"message", &signature).await.unwrap();
}

#[test]
fn what_is_no_list_of_keys_is_refused_with_its_defect() {
    assert_eq!(TrustedKeys::from_pem(" \n").unwrap().ids().count(), 0);
    let good = pem(1);
    let ed25519 = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                   -----END PUBLIC KEY-----\n";
    let cases = [
        ("arn:aws:kms:key".to_owned(), "text that is no block, where block 1 could begin"),
        (format!("{good}rest"), "text that is no block, where block 2 could begin"),
        (good[..60].to_owned(), "block 1 without an end"),
        (good.replace("PUBLIC", "PRIVATE"), "block 1, which starts with `-----BEGIN PRIVATE KEY-----`"),
        (format!("{good}{ed25519}"), "block 2, which holds something else"),
        (good.replacen("MFk", "AAA", 1), "block 1, which holds something else"),
        (format!("{good}{good}"), "block 2, whose key came before"),
    ];
    for (text, defect) in cases {
        let error = TrustedKeys::from_pem(&text).unwrap_err();
        assert_eq!(error.kind(), Invalid);
        assert!(error.to_string().starts_with(&format!("`MOOLA_TRUSTED_KEYS` is `{defect}`")), "{error}");
    }
}

#[cfg(feature = "kms")]
mod kms {
    use aws_smithy_types::base64;
    use moola_core::ErrorKind::{Internal, NotFound, Unavailable};
    use serde_json::json;

    use super::*;
    use crate::canned::{Answer, Canned, answer};

    fn public_key(seed: u8, spec: &str) -> Answer {
        let der = signing_key(seed).verifying_key().to_public_key_der().unwrap();
        let body = json!({"KeyId": "arn:key", "PublicKey": base64::encode(der.as_bytes()), "KeySpec": spec});
        answer(200, &body.to_string())
    }

    fn refusal(status: u16, code: &str) -> Answer {
        answer(status, &json!({"__type": code, "message": "no"}).to_string())
    }

    #[tokio::test]
    async fn kms_signs_a_digest_with_the_key_that_the_alias_named_first() {
        let canned = Canned::new(|_, asked| {
            if asked.header("x-amz-target") == Some("TrentService.GetPublicKey") {
                return public_key(1, "ECC_NIST_P256");
            }
            let signature: p256::ecdsa::Signature = signing_key(1).sign(b"message");
            let body = json!({"KeyId": "arn:key", "Signature": base64::encode(signature.to_der().as_bytes())});
            answer(200, &body.to_string())
        });
        let trusted = TrustedKeys::from_pem(&pem(2)).unwrap();
        let signer = KmsSigner::new(&canned.config().await, "alias/moola", trusted);
        signer.verify(b"message", &signature(2, b"message")).await.unwrap();
        assert!(canned.asked().is_empty(), "a trusted key needs no KMS");
        assert_eq!(signer.sign(b"message").await.unwrap(), signature(1, b"message"));
        signer.verify(b"message", &signature(1, b"message")).await.unwrap();
        assert_eq!(signer.verify(b"message", &signature(3, b"message")).await.unwrap_err().kind(), Forbidden);
        assert_eq!(signer.public_key().await.unwrap(), pem(1));
        let bodies: Vec<serde_json::Value> =
            canned.asked().iter().map(|asked| serde_json::from_str(&asked.body).unwrap()).collect();
        assert_eq!(bodies.len(), 2, "the public key is asked for once");
        assert_eq!(bodies[0]["KeyId"], "alias/moola");
        let digest = base64::encode(Sha256::digest(b"message"));
        let expected = json!({"KeyId": "arn:key", "Message": digest, "MessageType": "DIGEST",
            "SigningAlgorithm": "ECDSA_SHA_256"});
        assert_eq!(bodies[1], expected);
    }

    #[tokio::test]
    async fn refusals_of_kms_are_told_apart() {
        let cases = [
            (400, "NotFoundException", NotFound),
            (400, "DisabledException", Refused),
            (400, "KMSInvalidStateException", Refused),
            (400, "InvalidKeyUsageException", Invalid),
            (400, "AccessDeniedException", Forbidden),
            (400, "ThrottlingException", Unavailable),
            (500, "KMSInternalException", Unavailable),
            (500, "KeyUnavailableException", Unavailable),
            (400, "InvalidArnException", Internal),
        ];
        for (status, code, kind) in cases {
            let canned = Canned::new(move |_, _| refusal(status, code));
            let signer = KmsSigner::new(&canned.config().await, "alias/moola", TrustedKeys::default());
            let error = signer.sign(b"message").await.unwrap_err();
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.to_string().contains("alias/moola"), "{error}");
        }
        let canned = Canned::new(|_, _| public_key(1, "ECC_SECG_P256K1"));
        let signer = KmsSigner::new(&canned.config().await, "alias/moola", TrustedKeys::default());
        let error = signer.public_key().await.unwrap_err();
        assert_eq!(error.kind(), Invalid);
        assert!(error.to_string().contains("ECC_SECG_P256K1"), "{error}");
    }
}
