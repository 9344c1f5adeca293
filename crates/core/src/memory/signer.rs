use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::lock;
use crate::error::{Error, ErrorKind, Result};
use crate::ports::{Signature, Signer};

const ALGORITHM: &str = "test-hmac-sha256";

/// Signs with HMAC-SHA-256 (RFC 2104), for tests only: whoever can verify can also sign, and there is no public key.
#[derive(Debug)]
pub struct MemorySigner {
    key_id: String,
    keys: Mutex<BTreeMap<String, [u8; 32]>>,
}

impl MemorySigner {
    /// Makes a signer whose key is derived from `seed`.
    #[must_use]
    pub fn new(seed: &[u8]) -> Self {
        let key: [u8; 32] = Sha256::digest(seed).into();
        let key_id = hex::encode(Sha256::digest(key));
        Self { keys: Mutex::new(BTreeMap::from([(key_id.clone(), key)])), key_id }
    }

    /// Trusts what `other` signs.
    pub fn trust(&self, other: &Self) {
        let theirs = lock(&other.keys).clone();
        lock(&self.keys).extend(theirs);
    }
}

fn hmac(key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

#[async_trait]
impl Signer for MemorySigner {
    async fn sign(&self, message: &[u8]) -> Result<Signature> {
        let key = lock(&self.keys).get(&self.key_id).copied().ok_or_else(|| Error::internal("the key is missing"))?;
        Ok(Signature {
            algorithm: ALGORITHM.into(),
            key_id: self.key_id.clone(),
            signature: hex::encode(hmac(&key, message)),
        })
    }

    async fn public_key(&self) -> Result<String> {
        Ok(format!("-----BEGIN PUBLIC KEY-----\ntest-only {}\n-----END PUBLIC KEY-----\n", self.key_id))
    }

    async fn verify(&self, message: &[u8], signature: &Signature) -> Result<()> {
        if signature.algorithm != ALGORITHM {
            return Err(Error::invalid("algorithm", &signature.algorithm, format!("`{ALGORITHM}`")));
        }
        let bytes = hex::decode(&signature.signature).ok().filter(|bytes| bytes.len() == 32);
        let bytes = bytes.ok_or_else(|| Error::invalid("signature", &signature.signature, "64 hex digits"))?;
        let key = lock(&self.keys)
            .get(&signature.key_id)
            .copied()
            .ok_or_else(|| Error::new(ErrorKind::Forbidden, format!("key `{}` is not trusted", signature.key_id)))?;
        if bytes == hmac(&key, message) {
            Ok(())
        } else {
            Err(Error::corrupt(format!("the signature of key `{}` does not fit the message", signature.key_id)))
        }
    }
}
