use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A signature over some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// `ed25519`.
    pub algorithm: String,
    /// SHA-256 of the public key, in hex.
    pub key_id: String,
    /// The signature, in hex.
    pub signature: String,
}

/// Signs bytes and verifies signatures.
#[async_trait]
pub trait Signer: Send + Sync {
    /// Signs `message`.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn sign(&self, message: &[u8]) -> Result<Signature>;

    /// The public key in PEM (SubjectPublicKeyInfo).
    ///
    /// # Errors
    /// `Unavailable`.
    async fn public_key(&self) -> Result<String>;

    /// Checks a signature made by this or another trusted key.
    ///
    /// # Errors
    /// `Corrupt` where the signature does not fit the message, `Forbidden` where the key is not trusted, `Invalid` where
    /// it is malformed.
    async fn verify(&self, message: &[u8], signature: &Signature) -> Result<()>;
}
