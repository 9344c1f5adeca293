use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind as Io, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use async_trait::async_trait;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use moola_core::ports::{Signature, Signer};
use moola_core::{Error, ErrorKind, Result};
use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};

use crate::{io_error, sync_dir};

const ALGORITHM: &str = "ed25519";

/// Signs with an ed25519 key in a file (PKCS#8, PEM) that only its owner may read.
///
/// A key's id is the SHA-256 of its public key as DER (SubjectPublicKeyInfo).
pub struct KeyFileSigner {
    key: SigningKey,
    key_id: String,
    trusted: BTreeMap<String, VerifyingKey>,
}

impl fmt::Debug for KeyFileSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFileSigner").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl KeyFileSigner {
    /// Opens the key file; where there is none, makes a key and the file. Of several processes that do so at once, all
    /// get the same key. Blocks.
    ///
    /// # Errors
    /// `Refused` where others may read the file, `Corrupt` where it holds no such key, `Unavailable`.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.exists() {
            create(path)?;
        }
        let mut file = File::open(path).map_err(|error| io_error("read the key", path, error))?;
        let metadata = file.metadata().map_err(|error| io_error("read the key", path, error))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let message = format!("key file `{}` has mode {mode:03o}: others may use it", path.display());
            let hint = format!("chmod 600 {}; make a new key if somebody may have read it", path.display());
            return Err(Error::new(ErrorKind::Refused, message).with_hint(hint));
        }
        let mut pem = String::new();
        file.read_to_string(&mut pem).map_err(|error| io_error("read the key", path, error))?;
        let key = SigningKey::from_pkcs8_pem(&pem).map_err(|error| {
            Error::corrupt(format!("key file `{}` holds no ed25519 key in PKCS#8 PEM", path.display()))
                .with_source(error)
        })?;
        let public = key.verifying_key();
        let key_id = key_id(&public)?;
        Ok(Self { key, trusted: BTreeMap::from([(key_id.clone(), public)]), key_id })
    }

    /// Trusts the public keys in the files `*.pem` of `dir` too; a directory that does not exist holds none. Blocks.
    ///
    /// # Errors
    /// `Corrupt` where a file holds no public ed25519 key, `Unavailable`.
    pub fn with_trusted_dir(mut self, dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == Io::NotFound => return Ok(self),
            entries => entries.map_err(|error| io_error("list", dir, error))?,
        };
        for entry in entries {
            let path = entry.map_err(|error| io_error("list", dir, error))?.path();
            if path.extension().is_none_or(|extension| extension != "pem") {
                continue;
            }
            let pem = fs::read_to_string(&path).map_err(|error| io_error("read the key", &path, error))?;
            let public = VerifyingKey::from_public_key_pem(&pem).map_err(|error| {
                Error::corrupt(format!("`{}` holds no public ed25519 key in PEM", path.display())).with_source(error)
            })?;
            self.trusted.insert(key_id(&public)?, public);
        }
        Ok(self)
    }
}

fn create(path: &Path) -> Result<()> {
    let mut seed = [0; 32];
    SysRng
        .try_fill_bytes(&mut seed)
        .map_err(|error| Error::unavailable("the operating system gives no random bits").with_source(error))?;
    let pem = SigningKey::from_bytes(&seed)
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| Error::internal("cannot encode the key").with_source(error))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temp = dir.join(format!(".key-{}-{:016x}", std::process::id(), u64::from_le_bytes(name_bytes(&seed))));
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(dir)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        file.write_all(pem.as_bytes())?;
        file.sync_all()?;
        let linked = fs::hard_link(&temp, path);
        fs::remove_file(&temp)?;
        match linked {
            Err(error) if error.kind() != Io::AlreadyExists => Err(error),
            _ => sync_dir(dir),
        }
    };
    write().map_err(|error| io_error("create the key", path, error))
}

/// Bytes for a temporary name that tell nothing about the key.
fn name_bytes(seed: &[u8; 32]) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest([b"name", seed.as_slice()].concat()).into();
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest[..8]);
    bytes
}

fn key_id(public: &VerifyingKey) -> Result<String> {
    let der = public
        .to_public_key_der()
        .map_err(|error| Error::internal("cannot encode the public key").with_source(error))?;
    Ok(hex::encode(Sha256::digest(der.as_bytes())))
}

#[async_trait]
impl Signer for KeyFileSigner {
    async fn sign(&self, message: &[u8]) -> Result<Signature> {
        Ok(Signature {
            algorithm: ALGORITHM.into(),
            key_id: self.key_id.clone(),
            signature: hex::encode(self.key.sign(message).to_bytes()),
        })
    }

    async fn public_key(&self) -> Result<String> {
        self.key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| Error::internal("cannot encode the public key").with_source(error))
    }

    async fn verify(&self, message: &[u8], signature: &Signature) -> Result<()> {
        if signature.algorithm != ALGORITHM {
            return Err(Error::invalid("algorithm", &signature.algorithm, format!("`{ALGORITHM}`")));
        }
        let bytes: Option<[u8; 64]> = hex::decode(&signature.signature).ok().and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| Error::invalid("signature", &signature.signature, "128 hex digits"))?;
        let public = self.trusted.get(&signature.key_id).ok_or_else(|| {
            Error::new(ErrorKind::Forbidden, format!("key `{}` is not trusted", signature.key_id))
                .with_hint("put its public key into the directory of trusted keys")
        })?;
        public.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&bytes)).map_err(|error| {
            Error::corrupt(format!("the signature of key `{}` does not fit the message", signature.key_id))
                .with_source(error)
        })
    }
}

#[cfg(test)]
mod tests;
