//! Signatures by a KMS key, verified without KMS.

#[cfg(feature = "kms")]
mod kms;

use std::collections::BTreeMap;

use async_trait::async_trait;
#[cfg(feature = "kms")]
pub use kms::KmsSigner;
use moola_core::ports::{Signature, Signer};
use moola_core::{Error, ErrorKind, Result};
use p256::ecdsa::VerifyingKey;
use p256::ecdsa::signature::Verifier;
use p256::pkcs8::{DecodePublicKey, EncodePublicKey};
use sha2::{Digest, Sha256};

/// Signatures are 64 bytes, r and s.
const ALGORITHM: &str = "ecdsa-p256-sha256";

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// Verifies signatures of known public keys; signs nothing.
///
/// A key's id is the SHA-256 of its public key as DER (SubjectPublicKeyInfo).
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys {
    keys: BTreeMap<String, VerifyingKey>,
}

impl TrustedKeys {
    /// Trusts the public keys in `text`: PEM blocks, one after the other, or none.
    ///
    /// # Errors
    /// `Invalid` where it is something else, naming the block.
    pub fn from_pem(text: &str) -> Result<Self> {
        let invalid = |what: String| {
            let expected = "public keys on the curve P-256 as PEM: blocks from `-----BEGIN PUBLIC KEY-----` to \
                            `-----END PUBLIC KEY-----`";
            Error::invalid("MOOLA_TRUSTED_KEYS", what, expected)
        };
        let mut keys = BTreeMap::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let number = keys.len() + 1;
            if !rest.starts_with(BEGIN) {
                return Err(invalid(format!("text that is no block, where block {number} could begin")));
            }
            let end = rest.find(END).ok_or_else(|| invalid(format!("block {number} without an end")))?;
            let end = rest[end..].find('\n').map_or(rest.len(), |line| end + line);
            let (block, after) = rest.split_at(end);
            if let Some(label) = block.lines().next().filter(|line| *line != "-----BEGIN PUBLIC KEY-----") {
                return Err(invalid(format!("block {number}, which starts with `{label}`")));
            }
            let key = VerifyingKey::from_public_key_pem(block.trim_end())
                .map_err(|error| invalid(format!("block {number}, which holds something else")).with_source(error))?;
            let id = key_id(&key)?;
            if keys.insert(id, key).is_some() {
                return Err(invalid(format!("block {number}, whose key came before")));
            }
            rest = after.trim_start();
        }
        Ok(Self { keys })
    }

    /// The ids of the keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    fn key(&self, id: &str) -> Option<&VerifyingKey> {
        self.keys.get(id)
    }
}

fn key_id(key: &VerifyingKey) -> Result<String> {
    let der =
        key.to_public_key_der().map_err(|error| Error::internal("cannot encode the public key").with_source(error))?;
    Ok(hex::encode(Sha256::digest(der.as_bytes())))
}

/// The bytes of a signature of this algorithm.
fn signature_bytes(signature: &Signature) -> Result<[u8; 64]> {
    if signature.algorithm != ALGORITHM {
        return Err(Error::invalid("algorithm", &signature.algorithm, format!("`{ALGORITHM}`")));
    }
    let bytes: Option<[u8; 64]> = hex::decode(&signature.signature).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Error::invalid("signature", &signature.signature, "128 hex digits"))
}

fn verify(key: &VerifyingKey, id: &str, message: &[u8], signature: &[u8; 64]) -> Result<()> {
    // Numbers that no signature has are damage, like any others that do not fit.
    let fits = p256::ecdsa::Signature::from_slice(signature).and_then(|signature| key.verify(message, &signature));
    fits.map_err(|error| {
        Error::corrupt(format!("the signature of key `{id}` does not fit the message")).with_source(error)
    })
}

fn not_trusted(id: &str) -> Error {
    Error::new(ErrorKind::Forbidden, format!("key `{id}` is not trusted"))
        .with_hint("add its public key to MOOLA_TRUSTED_KEYS")
}

fn only_verifies() -> Error {
    Error::new(ErrorKind::Refused, "this function has no key of its own: it only verifies")
}

#[async_trait]
impl Signer for TrustedKeys {
    async fn sign(&self, _message: &[u8]) -> Result<Signature> {
        Err(only_verifies())
    }

    async fn public_key(&self) -> Result<String> {
        Err(only_verifies())
    }

    async fn verify(&self, message: &[u8], signature: &Signature) -> Result<()> {
        let bytes = signature_bytes(signature)?;
        let key = self.key(&signature.key_id).ok_or_else(|| not_trusted(&signature.key_id))?;
        verify(key, &signature.key_id, message, &bytes)
    }
}

#[cfg(test)]
mod tests;
