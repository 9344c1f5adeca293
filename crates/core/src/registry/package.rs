//! Reading a package, trusting nothing in it before it was checked.

use bytes::Bytes;

use super::Version;
use crate::commit::{from_json_bytes, sha256_hex};
use crate::contract::{FORMAT_VERSION, ModelManifest, PackageSignature, paths};
use crate::error::{Error, Result};
use crate::ports::{Blobs, Signer};

/// A package whose signature and digests hold.
#[derive(Debug, Clone)]
pub struct VerifiedPackage {
    /// The manifest.
    pub manifest: ModelManifest,
    /// The model.
    pub model: Bytes,
}

impl VerifiedPackage {
    /// Reads another file of the package.
    ///
    /// # Errors
    /// `NotFound` where the manifest has no such file, `Corrupt` where its bytes are not those that were signed.
    pub async fn file(&self, blobs: &dyn Blobs, name: &str) -> Result<Bytes> {
        let key = paths::model(&self.manifest.model, self.manifest.version, name);
        check_file(&self.manifest, name, blobs.get(&key).await)
    }
}

/// Reads the package of `version` and checks it: the manifest is the one that the registry recorded, its signature is by a
/// trusted key, and the model's bytes are those that it lists.
///
/// # Errors
/// `Corrupt` or `Forbidden` where a check fails, `Invalid` where the manifest is of an unknown format; those of the ports.
pub async fn load_package(
    blobs: &dyn Blobs,
    signer: &dyn Signer,
    model: &str,
    version: u32,
    manifest_sha256: &str,
) -> Result<VerifiedPackage> {
    let key = paths::model(model, version, paths::MANIFEST);
    let signature_key = paths::model(model, version, paths::SIGNATURE);
    let model_key = paths::model(model, version, paths::MODEL_ONNX);
    // All at once: a function waits for this at every cold start.
    let (bytes, signature, model_bytes) =
        futures::join!(blobs.get(&key), blobs.get(&signature_key), blobs.get(&model_key));
    let bytes = bytes?;
    if sha256_hex(&bytes) != manifest_sha256 {
        return Err(Error::corrupt(format!("blob `{key}` is not the manifest that was registered")));
    }
    let signature: PackageSignature = from_json_bytes(&signature_key, &signature?)?;
    if signature.manifest_sha256 != manifest_sha256 {
        return Err(Error::corrupt(format!("blob `{signature_key}` signs another manifest")));
    }
    signer.verify(&bytes, &signature.signature).await?;
    let manifest: ModelManifest = from_json_bytes(&key, &bytes)?;
    if manifest.format_version != FORMAT_VERSION || manifest.model != model || manifest.version != version {
        return Err(Error::corrupt(format!(
            "blob `{key}` describes `{}/{}` in format {}",
            manifest.model, manifest.version, manifest.format_version
        )));
    }
    let model = check_file(&manifest, paths::MODEL_ONNX, model_bytes)?;
    Ok(VerifiedPackage { manifest, model })
}

/// Checks that a file, as it was read, is the one that the manifest lists.
fn check_file(manifest: &ModelManifest, name: &str, read: Result<Bytes>) -> Result<Bytes> {
    let Some(digest) = manifest.files.get(name) else {
        let package = format!("{}/{}", manifest.model, manifest.version);
        return Err(Error::not_found("file", format_args!("{name}` of package `{package}")));
    };
    let bytes = read?;
    if bytes.len() as u64 != digest.size_bytes || sha256_hex(&bytes) != digest.sha256 {
        let key = paths::model(&manifest.model, manifest.version, name);
        return Err(Error::corrupt(format!("blob `{key}` does not have the digest in the manifest")));
    }
    Ok(bytes)
}

impl Version {
    /// Reads and checks this version's package; see [`load_package`].
    ///
    /// # Errors
    /// Those of [`load_package`].
    pub async fn package(&self, blobs: &dyn Blobs, signer: &dyn Signer) -> Result<VerifiedPackage> {
        load_package(blobs, signer, &self.model, self.version, &self.manifest_sha256).await
    }
}
