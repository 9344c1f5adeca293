use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::ProvideErrorMetadata;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, MessageType, SigningAlgorithmSpec};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use moola_core::ports::{Signature, Signer};
use moola_core::{Error, ErrorKind, Result};
use p256::ecdsa::VerifyingKey;
use p256::pkcs8::{DecodePublicKey, EncodePublicKey, LineEnding};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use super::{ALGORITHM, TrustedKeys, key_id, not_trusted, signature_bytes, verify};
use crate::error::unexpected;

/// Signs with a key of KMS (`ECC_NIST_P256`, `SIGN_VERIFY`), which never leaves it; trusts that key and others.
///
/// Verifying asks KMS for its own public key once at most, and not at all where a signature is of another trusted key.
#[derive(Debug)]
pub struct KmsSigner {
    client: Client,
    key: String,
    trusted: TrustedKeys,
    own: OnceCell<OwnKey>,
}

#[derive(Debug)]
struct OwnKey {
    /// Names this very key: an alias may name another one tomorrow.
    arn: String,
    id: String,
    pem: String,
    public: VerifyingKey,
}

impl KmsSigner {
    /// Signs with `key`: the id, ARN or alias of a key.
    #[must_use]
    pub fn new(config: &SdkConfig, key: impl Into<String>, trusted: TrustedKeys) -> Self {
        Self { client: Client::new(config), key: key.into(), trusted, own: OnceCell::new() }
    }

    async fn own(&self) -> Result<&OwnKey> {
        self.own.get_or_try_init(|| self.read_own()).await
    }

    async fn read_own(&self) -> Result<OwnKey> {
        let request = self.client.get_public_key().key_id(&self.key);
        let answer = request.send().await.map_err(|error| refusal("get of the public key", &self.key, error))?;
        if answer.key_spec() != Some(&KeySpec::EccNistP256) {
            let spec = answer.key_spec().map_or("unknown", KeySpec::as_str);
            return Err(wrong_key(&self.key, spec));
        }
        let der = answer.public_key().map(AsRef::as_ref).unwrap_or_default();
        let public = VerifyingKey::from_public_key_der(der)
            .map_err(|error| Error::internal("KMS returned no public key").with_source(error))?;
        let pem = public
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| Error::internal("cannot encode the public key").with_source(error))?;
        let arn = answer.key_id().unwrap_or(&self.key).to_owned();
        Ok(OwnKey { arn, id: key_id(&public)?, pem, public })
    }
}

fn wrong_key(key: &str, spec: &str) -> Error {
    let expected = "a key of the spec ECC_NIST_P256 and the usage SIGN_VERIFY";
    Error::invalid("MOOLA_SIGNING_KEY", format!("{key} ({spec})"), expected)
}

/// What a refusal of KMS means to one who has to do with `key`.
fn refusal<E>(what: &str, key: &str, error: SdkError<E, Response>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    match code {
        "NotFoundException" => Error::not_found("key", key).with_source(error),
        "InvalidKeyUsageException" | "UnsupportedOperationException" => wrong_key(key, code).with_source(error),
        "DisabledException" | "KMSInvalidStateException" => {
            Error::new(ErrorKind::Refused, format!("key `{key}` is disabled or about to be deleted")).with_source(error)
        }
        "KeyUnavailableException" | "DependencyTimeoutException" => {
            Error::unavailable(format!("key `{key}` is not available")).with_source(error)
        }
        _ => unexpected(&format!("{what} of `{key}`"), error),
    }
}

#[async_trait]
impl Signer for KmsSigner {
    async fn sign(&self, message: &[u8]) -> Result<Signature> {
        let own = self.own().await?;
        // KMS takes messages of 4 kB, so it gets their digest.
        let answer = self
            .client
            .sign()
            .key_id(&own.arn)
            .message(Blob::new(Sha256::digest(message).to_vec()))
            .message_type(MessageType::Digest)
            .signing_algorithm(SigningAlgorithmSpec::EcdsaSha256)
            .send()
            .await
            .map_err(|error| refusal("sign with the key", &self.key, error))?;
        let der = answer.signature().map(AsRef::as_ref).unwrap_or_default();
        let signature = p256::ecdsa::Signature::from_der(der)
            .map_err(|error| Error::internal("KMS returned no ECDSA signature").with_source(error))?;
        Ok(Signature {
            algorithm: ALGORITHM.into(),
            key_id: own.id.clone(),
            signature: hex::encode(signature.to_bytes()),
        })
    }

    async fn public_key(&self) -> Result<String> {
        Ok(self.own().await?.pem.clone())
    }

    async fn verify(&self, message: &[u8], signature: &Signature) -> Result<()> {
        let bytes = signature_bytes(signature)?;
        if let Some(key) = self.trusted.key(&signature.key_id) {
            return verify(key, &signature.key_id, message, &bytes);
        }
        let own = self.own().await?;
        if signature.key_id != own.id {
            return Err(not_trusted(&signature.key_id));
        }
        verify(&own.public, &own.id, message, &bytes)
    }
}
