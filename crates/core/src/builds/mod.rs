//! What is made of a version so that it can serve: its compiled files, and the engine that runs it.
//!
//! A package never changes, but what the compiler makes of it does, with every version of the compiler. So a build lies
//! beside the package, below an id that is a digest of all that it depends on; see ADR 0016. It is written like a package:
//! the files, then `build.json`, then its signature, then one transaction that moves the version's record, and the route
//! where the version serves. An attempt that is cut off leaves blobs that nothing names, and the next one goes on with them.

mod trial;

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::{error, info, warn};

use crate::commit::{from_json_bytes, sha256_hex, to_json_bytes};
use crate::contract::{
    BuildFile, BuildManifest, BuildSignature, EngineChoice, EngineGround, FORMAT_VERSION, FileDigest, paths,
};
use crate::error::{Error, ErrorKind, Result};
use crate::ports::{CompiledFile, Compiler, Engine, LoadedModel, Ports, PutMode};
use crate::registry::{
    BuildRef, ChosenModel, Decision, NATIVE, Registry, Target, Version, VersionBuild, WASM, choose_model, load_package,
    read_build,
};
use trial::{Outcome, Subject};

/// Who builds where no person asked for it.
const ACTOR: &str = "moola";

/// How builds choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BuildConfig {
    /// The compiled model serves unless it takes more than so many times as long as the native engine, for one row or for 32:
    /// it starts faster, and is isolated.
    pub max_slowdown: f64,
    /// A call that takes longer by less than this does not count, however many times as long it takes: a fresh instance for
    /// every request has its price.
    pub negligible_us: f64,
}

impl Default for BuildConfig {
    fn default() -> Self {
        Self { max_slowdown: 2.0, negligible_us: 200.0 }
    }
}

/// What a program runs models with, and what it compiles them with, if it does.
#[derive(Debug, Clone, Default)]
pub struct Engines {
    /// The engines.
    pub engines: Vec<Arc<dyn Engine>>,
    /// The compiler.
    pub compiler: Option<Arc<dyn Compiler>>,
}

impl From<Vec<Arc<dyn Engine>>> for Engines {
    fn from(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self { engines, compiler: None }
    }
}

/// Builds versions.
#[derive(Debug, Clone)]
pub struct Builds {
    ports: Ports,
    registry: Registry,
    engines: Engines,
    config: BuildConfig,
}

impl Builds {
    /// Makes the service.
    #[must_use]
    pub fn new(ports: Ports, engines: impl Into<Engines>, config: BuildConfig) -> Self {
        Self { registry: Registry::new(ports.clone()), ports, engines: engines.into(), config }
    }

    /// Builds a version as an operator wants it, and lets it serve so. The same again returns the build that is there.
    /// Its files that are missing or damaged are compiled again.
    ///
    /// # Errors
    /// `NotFound`; `Refused` where this program has no compiler, or the compiled model is wanted and there is none that
    /// answers as the native engine does; `Corrupt` where stored files are not what they should be; those of the ports.
    pub async fn build(&self, model: &str, version: u32, choice: EngineChoice, decision: &Decision) -> Result<Version> {
        let record = self.registry.version(model, version).await?;
        if self.engines.compiler.is_none() && choice != EngineChoice::Native {
            return Err(Error::new(ErrorKind::Refused, "this program has no compiler of models"));
        }
        let (build, reference) = self.make(&record.target(), choice).await?;
        self.record(&record, &build, reference, Some(decision)).await
    }

    /// Builds a version that has no build, or one that another compiler made; returns its record as it is then. What an
    /// operator chose is kept. Without a compiler, nothing is built.
    ///
    /// # Errors
    /// `Corrupt` where stored files are not what they should be; those of the ports.
    pub async fn ensure(&self, record: Version) -> Result<Version> {
        let Some(compiler) = &self.engines.compiler else { return Ok(record) };
        let (model, version) = (&record.model, record.version);
        let choice = match &record.build {
            Some(build) if build.choice == EngineChoice::Native || build.fingerprint == compiler.fingerprint() => {
                return Ok(record);
            }
            Some(build) => build.choice,
            None => EngineChoice::Auto,
        };
        let made = match self.make(&record.target(), choice).await {
            Err(refused) if refused.kind() == ErrorKind::Refused => {
                error!(model, version, reason = refused.chain(), "the engine that was asked for cannot serve any more");
                self.make(&record.target(), EngineChoice::Auto).await
            }
            made => made,
        };
        let (build, reference) = made?;
        self.record(&record, &build, reference, None).await
    }

    /// Builds what serves and has no build of this program's compiler. What cannot be built is logged, and goes on serving
    /// as it did.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn refresh(&self) -> Result<()> {
        if self.engines.compiler.is_none() {
            return Ok(());
        }
        for route in self.registry.routes().await? {
            let Some(version) = route.version else { continue };
            let built = match self.registry.version(&route.model, version).await {
                Ok(record) => self.ensure(record).await,
                Err(error) => Err(error),
            };
            if let Err(error) = built {
                error!(model = route.model, version, error = error.chain(), "what serves cannot be built anew");
            }
        }
        Ok(())
    }

    /// Loads a version as serving does.
    ///
    /// # Errors
    /// Those of [`choose_model`] and of the engine.
    pub async fn load(&self, record: &Version) -> Result<(ChosenModel, Arc<dyn LoadedModel>)> {
        let chosen = choose_model(&self.ports, &self.engines.engines, &record.target()).await?;
        let loaded = tokio::task::spawn_blocking(move || chosen.load().map(|loaded| (chosen, loaded)));
        loaded.await.map_err(|e| Error::internal("loading a model").with_source(e))?
    }

    /// The build of a target for a choice, from storage where it is there.
    async fn make(&self, target: &Target, choice: EngineChoice) -> Result<(BuildManifest, BuildRef)> {
        let (blobs, signer) = (&*self.ports.blobs, &*self.ports.signer);
        let fingerprint = self.engines.compiler.as_ref().map_or("none", |compiler| compiler.fingerprint()).to_owned();
        let id = build_id(target, &fingerprint, choice, &self.config);
        if let Some((build, sha256)) = read_build(blobs, signer, target, &id).await? {
            self.repair(target, &build).await?;
            return Ok((build, BuildRef { id, sha256 }));
        }
        let (outcome, compiled) = self.try_out(target, choice).await?;
        let Target { model, version, .. } = target;
        if choice == EngineChoice::Wasm && outcome.engine != WASM {
            let message = format!("model version `{model}/{version}` cannot be served as WASM: {}", outcome.reason);
            return Err(Error::new(ErrorKind::Refused, message).with_hint("`auto` lets the native engine serve it"));
        }
        let described =
            compiled.iter().map(|file| BuildFile { artifact: file.artifact.clone(), digest: digest(&file.bytes) });
        let described: Vec<BuildFile> = described.collect();
        let is_wasm = outcome.engine == WASM;
        let build = BuildManifest {
            format_version: FORMAT_VERSION,
            build: id.clone(),
            model: model.clone(),
            version: *version,
            manifest_sha256: target.manifest_sha256.clone(),
            fingerprint,
            choice,
            engine: outcome.engine.into(),
            ground: outcome.ground,
            reason: outcome.reason,
            benchmark: outcome.benchmark,
            files: if is_wasm { described.clone() } else { Vec::new() },
            created_ms: self.ports.clock.now_ms(),
        };
        if is_wasm {
            for file in compiled {
                let key = paths::build(model, *version, &id, &file.artifact.file);
                self.put_new(&key, file.bytes.into()).await?;
            }
        }
        let key = paths::build(model, *version, &id, paths::BUILD);
        let (build, bytes) = self.keep(&key, build, &described, is_wasm).await?;
        let sha256 = sha256_hex(&bytes);
        let signature = signer.sign(&bytes).await?;
        let signature = BuildSignature { build_sha256: sha256.clone(), signature };
        let key = paths::build(model, *version, &id, paths::SIGNATURE);
        // Every signature of these bytes is as good as another.
        blobs.put(&key, to_json_bytes(&signature)?, PutMode::Overwrite).await?;
        Ok((build, BuildRef { id, sha256 }))
    }

    /// Compiles, compares and measures, off the async threads.
    async fn try_out(&self, target: &Target, choice: EngineChoice) -> Result<(Outcome, Vec<CompiledFile>)> {
        let compiler = match (choice, self.engines.compiler.clone()) {
            (EngineChoice::Auto | EngineChoice::Wasm, Some(compiler)) => compiler,
            _ => return Ok((Outcome::native(EngineGround::Override, "an operator asked for it"), Vec::new())),
        };
        let blobs = &*self.ports.blobs;
        let package = load_package(blobs, &*self.ports.signer, &Target { build: None, ..target.clone() }).await?;
        let onnx = package.file(blobs, paths::MODEL_ONNX).await?;
        let (engines, config) = (self.engines.engines.clone(), self.config.clone());
        let done = tokio::task::spawn_blocking(move || {
            let subject = Subject { manifest: &package.manifest, onnx: &onnx, engines: &engines, choice };
            trial::run(&subject, &*compiler, &config)
        });
        let (outcome, files) = match done.await {
            Ok(done) => done?,
            Err(panic) if panic.is_panic() => {
                let reason = format!("the compiler failed: {panic}");
                (Outcome::native(EngineGround::Refused, reason), Vec::new())
            }
            Err(cut_off) => return Err(Error::unavailable("a build was cut off").with_source(cut_off)),
        };
        let (model, version, reason) = (&target.model, target.version, &outcome.reason);
        match outcome.ground {
            EngineGround::Differs => error!(model, version, reason, "the compiled model is wrong and will not serve"),
            EngineGround::Refused => warn!(model, version, reason, "not compiled: the native engine serves"),
            _ => info!(model, version, engine = outcome.engine, reason, "built"),
        }
        Ok((outcome, files))
    }

    /// Writes those files of a signed build anew that are missing or not what was signed: the compiler makes equal bytes of
    /// equal models.
    async fn repair(&self, target: &Target, build: &BuildManifest) -> Result<()> {
        let (blobs, signer) = (&*self.ports.blobs, &*self.ports.signer);
        let mut damaged = Vec::new();
        for file in &build.files {
            let key = paths::build(&target.model, target.version, &build.build, &file.artifact.file);
            match blobs.get(&key).await {
                Ok(bytes) if digest(&bytes) == file.digest => {}
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => return Err(error),
                Ok(_) | Err(_) => damaged.push((key, file)),
            }
        }
        let (Some((first, _)), Some(compiler)) = (damaged.first(), self.engines.compiler.clone()) else {
            return Ok(());
        };
        warn!(model = target.model, version = target.version, key = first, "a build is damaged: compiled again");
        let package = load_package(blobs, signer, &Target { build: None, ..target.clone() }).await?;
        let onnx = package.file(blobs, paths::MODEL_ONNX).await?;
        let compiled = tokio::task::spawn_blocking(move || trial::compile(&package.manifest, &onnx, &*compiler)).await;
        let compiled = compiled.map_err(|error| Error::internal("compiling a model again").with_source(error))??;
        for (key, file) in damaged {
            let made =
                compiled.iter().find(|made| made.artifact == file.artifact && digest(&made.bytes) == file.digest);
            let made = made.ok_or_else(|| foreign(&key))?;
            // Whatever lies there, these are the bytes that were signed.
            blobs.put(&key, made.bytes.clone().into(), PutMode::Overwrite).await?;
        }
        Ok(())
    }

    /// Writes a compiled file. What lies there already must be the same: the compiler makes equal bytes of equal models.
    async fn put_new(&self, key: &str, bytes: Bytes) -> Result<()> {
        match self.ports.blobs.put(key, bytes.clone(), PutMode::Create).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                if self.ports.blobs.get(key).await? == bytes {
                    Ok(())
                } else {
                    Err(foreign(key))
                }
            }
            done => done,
        }
    }

    /// Writes `build.json`, unless an earlier or a concurrent attempt did: then that one counts, for times differ from run
    /// to run. It is not signed yet, so it may name only what was `compiled` here, and say no more than was found here.
    async fn keep(
        &self,
        key: &str,
        build: BuildManifest,
        compiled: &[BuildFile],
        is_wasm_fit: bool,
    ) -> Result<(BuildManifest, Bytes)> {
        let bytes = to_json_bytes(&build)?;
        match self.ports.blobs.put(key, bytes.clone(), PutMode::Create).await {
            Ok(()) => return Ok((build, bytes)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let bytes = self.ports.blobs.get(key).await?;
        let kept: BuildManifest = from_json_bytes(key, &bytes)?;
        let expected = BuildManifest {
            engine: kept.engine.clone(),
            ground: kept.ground,
            reason: kept.reason.clone(),
            benchmark: kept.benchmark,
            files: kept.files.clone(),
            created_ms: kept.created_ms,
            ..build.clone()
        };
        let by_speed = kept.ground == EngineGround::Benchmark && build.ground == EngineGround::Benchmark;
        let is_safe = match kept.engine.as_str() {
            WASM => (is_wasm_fit || by_speed) && kept.files == compiled,
            NATIVE => build.choice != EngineChoice::Wasm && kept.files.is_empty(),
            _ => false,
        };
        if kept != expected || !is_safe {
            return Err(foreign(key));
        }
        Ok((kept, bytes))
    }

    /// Lets the version serve by a build, and tells of it. Where no operator decided, the build that the decision was made
    /// upon must still be the version's: another call was faster otherwise, and counts.
    async fn record(
        &self,
        record: &Version,
        build: &BuildManifest,
        reference: BuildRef,
        decision: Option<&Decision>,
    ) -> Result<Version> {
        let actor = decision.map_or(ACTOR, |decision| decision.actor.as_str());
        let detail = json!({
            "model": record.model, "model_version": record.version, "build": reference.id, "engine": build.engine,
            "choice": build.choice, "reason": build.reason, "actor": actor,
            "decision": decision.map(|decision| &decision.reason),
        });
        let event = self.ports.event("Model Version Built", &record.correlation_id, detail);
        let now = VersionBuild {
            reference,
            engine: build.engine.clone(),
            choice: build.choice,
            reason: build.reason.clone(),
            fingerprint: build.fingerprint.clone(),
            actor: actor.into(),
            decision: decision.map(|decision| decision.reason.clone()),
            created_ms: self.ports.clock.now_ms(),
        };
        let expected = if decision.is_none() { Some(record.build.as_ref()) } else { None };
        self.registry.set_build(record, now, expected, event).await
    }
}

/// The id of a build: a digest of all that it depends on.
fn build_id(target: &Target, fingerprint: &str, choice: EngineChoice, config: &BuildConfig) -> String {
    let limit = match choice {
        EngineChoice::Auto => format!(" {} {}", config.max_slowdown, config.negligible_us),
        EngineChoice::Wasm | EngineChoice::Native => String::new(),
    };
    let text = format!("{}\n{fingerprint}\n{choice}{limit}", target.manifest_sha256);
    sha256_hex(text.as_bytes())[..32].to_owned()
}

fn digest(bytes: &[u8]) -> FileDigest {
    FileDigest { size_bytes: bytes.len() as u64, sha256: sha256_hex(bytes) }
}

fn foreign(key: &str) -> Error {
    Error::corrupt(format!("blob `{key}` is not what the compiler makes of this version"))
        .with_hint("find out who wrote it, delete the build's folder, build again")
}

#[cfg(test)]
mod tests;
