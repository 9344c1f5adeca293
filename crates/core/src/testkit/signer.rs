use std::sync::Arc;

use super::{ok, refused};
use crate::error::ErrorKind;
use crate::ports::{Signature, Signer};

/// Checks [`Signer`]; `make` makes a signer with a key of its own that trusts no other.
///
/// # Panics
/// Where a promise is broken.
pub async fn signer<T: Signer + 'static>(make: impl AsyncFn() -> Arc<T>) {
    let signer = make().await;
    let public_key = ok(signer.public_key().await, "public key");
    assert!(public_key.starts_with("-----BEGIN PUBLIC KEY-----\n"), "{public_key}");
    assert_eq!(ok(signer.public_key().await, "public key"), public_key);

    let messages = [Vec::new(), b"message".to_vec(), vec![7; 1_000_000]];
    for message in &messages {
        let signature = ok(signer.sign(message).await, "sign");
        assert!(!signature.algorithm.is_empty());
        assert_eq!(signature.key_id.len(), 64, "{}", signature.key_id);
        ok(signer.verify(message, &signature).await, "verify");
        let mut changed = message.clone();
        changed.push(0);
        refused(signer.verify(&changed, &signature).await, ErrorKind::Corrupt, "another message");
    }

    let signature = ok(signer.sign(b"message").await, "sign");
    let with = |change: &dyn Fn(&mut Signature)| {
        let mut changed = signature.clone();
        change(&mut changed);
        changed
    };
    let flipped = with(&|signature| {
        let digit = if signature.signature.starts_with('0') { "1" } else { "0" };
        signature.signature.replace_range(..1, digit);
    });
    refused(signer.verify(b"message", &flipped).await, ErrorKind::Corrupt, "a changed signature");
    for text in ["", "xyz", "abcd", &signature.signature[2..], &format!("{}00", signature.signature)] {
        let malformed = with(&|signature| text.clone_into(&mut signature.signature));
        refused(signer.verify(b"message", &malformed).await, ErrorKind::Invalid, "a malformed signature");
    }
    let algorithm = with(&|signature| signature.algorithm = "none".into());
    refused(signer.verify(b"message", &algorithm).await, ErrorKind::Invalid, "another algorithm");
    let unknown = with(&|signature| signature.key_id = "0".repeat(64));
    refused(signer.verify(b"message", &unknown).await, ErrorKind::Forbidden, "an unknown key");

    let other = make().await;
    assert_ne!(ok(other.public_key().await, "public key"), public_key);
    refused(other.verify(b"message", &signature).await, ErrorKind::Forbidden, "a key that is not trusted");
}
