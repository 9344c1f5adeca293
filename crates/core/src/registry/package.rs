//! Reading a package and its build, trusting nothing in them before it was checked.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Version;
use crate::commit::{from_json_bytes, sha256_hex};
use crate::contract::{
    BuildManifest, BuildSignature, FORMAT_VERSION, FileDigest, ModelManifest, PackageSignature, paths,
};
use crate::error::{Error, ErrorKind, Result};
use crate::ports::{Artifact, Blobs, Engine, LoadedModel, ModelFormat, Ports, Signer};

/// Name of the engine that runs compiled models.
pub(crate) const WASM: &str = "wasm";
/// Name of the engine that runs ONNX files.
pub(crate) const NATIVE: &str = "native";

/// Names a build and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRef {
    /// Its id.
    pub id: String,
    /// SHA-256 of `build.json`, in hex.
    pub sha256: String,
}

/// Names what is served of a version, as the registry recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Registered model.
    pub model: String,
    /// The version.
    pub version: u32,
    /// SHA-256 of the package's manifest, in hex.
    pub manifest_sha256: String,
    /// Its build, where it has one.
    pub build: Option<BuildRef>,
}

/// A package, and its build, whose signatures hold.
#[derive(Debug, Clone)]
pub struct VerifiedPackage {
    /// The manifest.
    pub manifest: ModelManifest,
    /// The build, where the version has one.
    pub build: Option<BuildManifest>,
}

impl VerifiedPackage {
    /// The engine that was chosen for the version.
    #[must_use]
    pub fn engine(&self) -> &str {
        self.build.as_ref().map_or(&self.manifest.engine, |build| &build.engine)
    }

    /// Reads a file of the package.
    ///
    /// # Errors
    /// `NotFound` where the manifest has no such file, `Corrupt` where its bytes are not those that were signed.
    pub async fn file(&self, blobs: &dyn Blobs, name: &str) -> Result<Bytes> {
        let key = paths::model(&self.manifest.model, self.manifest.version, name);
        check_file(&self.manifest, name, blobs.get(&key).await)
    }

    /// Reads a file that a model is loaded from.
    async fn artifact(&self, blobs: &dyn Blobs, artifact: &Artifact) -> Result<Bytes> {
        let build = self.build.as_ref().filter(|_| artifact.format != ModelFormat::Onnx);
        let Some(build) = build else { return self.file(blobs, &artifact.file).await };
        let Some(file) = build.files.iter().find(|file| file.artifact == *artifact) else {
            return Err(Error::not_found("file", format_args!("{}` of build `{}", artifact.file, build.build)));
        };
        let key = paths::build(&build.model, build.version, &build.build, &artifact.file);
        checked(&key, blobs.get(&key).await?, &file.digest)
    }

    /// The files that the version can be loaded from.
    fn artifacts(&self) -> Vec<Artifact> {
        let compiled = self.build.iter().flat_map(|build| &build.files).map(|file| file.artifact.clone());
        std::iter::once(Artifact::onnx()).chain(compiled).collect()
    }
}

/// Reads what `target` names and checks it: the manifest and the build are those that the registry recorded, and their
/// signatures are by a trusted key. What files they list is checked when one is read.
///
/// # Errors
/// `Corrupt` or `Forbidden` where a check fails; those of the ports.
pub async fn load_package(blobs: &dyn Blobs, signer: &dyn Signer, target: &Target) -> Result<VerifiedPackage> {
    // All at once: a function waits for this at every cold start.
    let (manifest, build) = futures::join!(load_manifest(blobs, signer, target), async {
        match &target.build {
            Some(build) => load_build(blobs, signer, target, build).await.map(Some),
            None => Ok(None),
        }
    });
    Ok(VerifiedPackage { manifest: manifest?, build: build? })
}

async fn load_manifest(blobs: &dyn Blobs, signer: &dyn Signer, target: &Target) -> Result<ModelManifest> {
    let Target { model, version, manifest_sha256, .. } = target;
    let key = paths::model(model, *version, paths::MANIFEST);
    let signature_key = paths::model(model, *version, paths::SIGNATURE);
    let (bytes, signature) = futures::join!(blobs.get(&key), blobs.get(&signature_key));
    let bytes = bytes?;
    if sha256_hex(&bytes) != *manifest_sha256 {
        return Err(Error::corrupt(format!("blob `{key}` is not the manifest that was registered")));
    }
    let signature: PackageSignature = from_json_bytes(&signature_key, &signature?)?;
    if signature.manifest_sha256 != *manifest_sha256 {
        return Err(Error::corrupt(format!("blob `{signature_key}` signs another manifest")));
    }
    signer.verify(&bytes, &signature.signature).await?;
    let manifest: ModelManifest = from_json_bytes(&key, &bytes)?;
    if manifest.format_version != FORMAT_VERSION || manifest.model != *model || manifest.version != *version {
        return Err(Error::corrupt(format!(
            "blob `{key}` describes `{}/{}` in format {}",
            manifest.model, manifest.version, manifest.format_version
        )));
    }
    Ok(manifest)
}

async fn load_build(
    blobs: &dyn Blobs,
    signer: &dyn Signer,
    target: &Target,
    reference: &BuildRef,
) -> Result<BuildManifest> {
    match read_build(blobs, signer, target, &reference.id).await? {
        Some((build, sha256)) if sha256 == reference.sha256 => Ok(build),
        Some(_) => {
            let key = paths::build(&target.model, target.version, &reference.id, paths::BUILD);
            Err(Error::corrupt(format!("blob `{key}` is not the build that was recorded")))
        }
        None => {
            let key = paths::build(&target.model, target.version, &reference.id, paths::SIGNATURE);
            Err(Error::not_found("blob", key))
        }
    }
}

/// A build whose signature holds, with the SHA-256 of its bytes; `None` where it was not signed (yet).
///
/// # Errors
/// `Corrupt` or `Forbidden` where a check fails; those of the ports.
pub(crate) async fn read_build(
    blobs: &dyn Blobs,
    signer: &dyn Signer,
    target: &Target,
    id: &str,
) -> Result<Option<(BuildManifest, String)>> {
    let key = paths::build(&target.model, target.version, id, paths::BUILD);
    let signature_key = paths::build(&target.model, target.version, id, paths::SIGNATURE);
    let (bytes, signature) = futures::join!(blobs.get(&key), blobs.get(&signature_key));
    let signature = match signature {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        signature => signature?,
    };
    let bytes = bytes?;
    let sha256 = sha256_hex(&bytes);
    let signature: BuildSignature = from_json_bytes(&signature_key, &signature)?;
    if signature.build_sha256 != sha256 {
        return Err(Error::corrupt(format!("blob `{signature_key}` signs another build than `{key}`")));
    }
    signer.verify(&bytes, &signature.signature).await?;
    let build: BuildManifest = from_json_bytes(&key, &bytes)?;
    let is_of_target = build.format_version == FORMAT_VERSION
        && (&build.model, build.version, &build.manifest_sha256)
            == (&target.model, target.version, &target.manifest_sha256)
        && build.build == id;
    if !is_of_target {
        return Err(Error::corrupt(format!(
            "blob `{key}` describes build `{}` of `{}/{}` in format {}",
            build.build, build.model, build.version, build.format_version
        )));
    }
    Ok(Some((build, sha256)))
}

/// Checks that a file, as it was read, is the one that the manifest lists.
fn check_file(manifest: &ModelManifest, name: &str, read: Result<Bytes>) -> Result<Bytes> {
    let Some(digest) = manifest.files.get(name) else {
        let package = format!("{}/{}", manifest.model, manifest.version);
        return Err(Error::not_found("file", format_args!("{name}` of package `{package}")));
    };
    checked(&paths::model(&manifest.model, manifest.version, name), read?, digest)
}

fn checked(key: &str, bytes: Bytes, digest: &FileDigest) -> Result<Bytes> {
    if bytes.len() as u64 != digest.size_bytes || sha256_hex(&bytes) != digest.sha256 {
        return Err(Error::corrupt(format!("blob `{key}` does not have the digest that was signed")));
    }
    Ok(bytes)
}

/// No engine of this program loads a version; another program may have one that does.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoEngine(pub String);

impl NoEngine {
    /// Whether this is why `error` came about.
    #[must_use]
    pub fn caused(error: &Error) -> bool {
        let first = std::error::Error::source(error);
        std::iter::successors(first, |source| source.source()).any(|source| source.is::<NoEngine>())
    }
}

/// A verified package with the file and the engine that serve it here.
#[derive(Debug, Clone)]
pub struct ChosenModel {
    /// The package.
    pub package: VerifiedPackage,
    /// What loads it.
    pub engine: Arc<dyn Engine>,
    /// What it is loaded from.
    pub artifact: Artifact,
    /// The verified bytes of that.
    pub bytes: Bytes,
}

impl ChosenModel {
    /// Loads it. Blocks: it is pure computation.
    ///
    /// # Errors
    /// Those of [`Engine::load`].
    pub fn load(&self) -> Result<Arc<dyn LoadedModel>> {
        self.engine.load(&self.artifact, &self.bytes)
    }
}

/// Reads and checks what `target` names, and fetches the one file that serves it on this machine. A compiled model that
/// was not made for this machine, or this version of wasmtime, is served by the native engine where `engines` has one.
///
/// # Errors
/// Those of [`load_package`]; `Invalid` caused by [`NoEngine`] where no engine here can serve it.
pub async fn choose_model(ports: &Ports, engines: &[Arc<dyn Engine>], target: &Target) -> Result<ChosenModel> {
    let (blobs, signer) = (&*ports.blobs, &*ports.signer);
    let onnx_key = paths::model(&target.model, target.version, paths::MODEL_ONNX);
    // Without a build it can be no other file.
    let (package, onnx) = futures::join!(load_package(blobs, signer, target), async {
        if target.build.is_none() { Some(blobs.get(&onnx_key).await) } else { None }
    });
    let package = package?;
    let artifacts = package.artifacts();
    let (engine, artifact) = choose(&package, engines, &artifacts)?;
    let artifact = artifact.clone();
    let bytes = match onnx {
        Some(read) => check_file(&package.manifest, paths::MODEL_ONNX, read)?,
        None => package.artifact(blobs, &artifact).await?,
    };
    Ok(ChosenModel { engine: engine.clone(), artifact, bytes, package })
}

fn choose<'a>(
    package: &VerifiedPackage,
    engines: &'a [Arc<dyn Engine>],
    artifacts: &'a [Artifact],
) -> Result<(&'a Arc<dyn Engine>, &'a Artifact)> {
    let wanted = package.engine();
    let of = |name: &str| {
        let engine = engines.iter().find(|engine| engine.name() == name)?;
        Some((engine, engine.choose(artifacts)?))
    };
    // What was built for the native engine may be wrong in the other one: never the other way round.
    let fallback = || if wanted == WASM { of(NATIVE) } else { None };
    if let Some(chosen) = of(wanted) {
        return Ok(chosen);
    }
    if let Some(chosen) = fallback() {
        let (model, version) = (&package.manifest.model, package.manifest.version);
        tracing::warn!(model, version, "no compiled file for this machine: the native engine serves");
        return Ok(chosen);
    }
    let here: Vec<&str> = engines.iter().map(|engine| engine.name()).collect();
    let compiled = artifacts.iter().filter(|artifact| artifact.format != ModelFormat::Onnx);
    let compiled: Vec<String> = compiled
        .map(|artifact| {
            let of = [&artifact.target, &artifact.runtime].into_iter().flatten().cloned().collect::<Vec<_>>();
            if of.is_empty() { artifact.file.clone() } else { format!("{} ({})", artifact.file, of.join(", ")) }
        })
        .collect();
    let machine = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    let message = if here.contains(&wanted) {
        format!("its compiled files [{}] are none for this machine ({machine}) and program", compiled.join(", "))
    } else {
        format!("it is served by the engine `{wanted}`, and this program has [{}]", here.join(", "))
    };
    Err(Error::new(ErrorKind::Invalid, "no engine of this program can load it").with_source(NoEngine(message)))
}

impl Version {
    /// Names what is served of it.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            model: self.model.clone(),
            version: self.version,
            manifest_sha256: self.manifest_sha256.clone(),
            build: self.build.as_ref().map(|build| build.reference.clone()),
        }
    }

    /// Reads and checks this version's package and build; see [`load_package`].
    ///
    /// # Errors
    /// Those of [`load_package`].
    pub async fn package(&self, blobs: &dyn Blobs, signer: &dyn Signer) -> Result<VerifiedPackage> {
        load_package(blobs, signer, &self.target()).await
    }
}
