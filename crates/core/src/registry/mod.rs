//! Registered models, their immutable versions, and which of them serves.
//!
//! # How it is stored
//! | partition | sort key | what |
//! |---|---|---|
//! | `models` | `<model>` | [`Model`] with the next version's number |
//! | `model/<model>` | `version/<number>` | [`Version`], made visible after all its blobs |
//! | `model/<model>` | `alias/<alias>` | version number |
//! | `model/<model>` | `history/<id>` | [`Move`], appended, never changed |
//! | `production` | `<model>` | [`Route`]: which version serves; what every change of it must win |
//! | `registered` | `<source>` | the version that a run (or an upload's digest) became: registering is idempotent |

mod package;
mod stage;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use package::{BuildRef, ChosenModel, NoEngine, Target, VerifiedPackage, choose_model, load_package};
pub(crate) use package::{NATIVE, WASM, read_build};
pub use stage::{Decision, Move, Stage};

use crate::commit::{from_json_bytes, put, sha256_hex, to_json_bytes, unchanged};
use crate::contract::{
    EngineChoice, FORMAT_VERSION, FileDigest, InputSpec, Lineage, ModelManifest, OutputSpec, PackageSignature, Task,
    TrainingSpec, paths,
};
use crate::error::{Error, ErrorKind, Result};
use crate::names::check_name;
use crate::ports::{Condition, Event, Key, Ports, PutMode, Query, Write};

/// A registered model: a name for a line of versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: String,
    /// Free labels.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The number that the next version gets.
    pub next_version: u32,
    /// When it was created.
    pub created_ms: i64,
    /// When a version was last registered.
    pub updated_ms: i64,
}

/// A version of a model. Its package never changes; its stage, description and tags may.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Registered model.
    pub model: String,
    /// 1, 2, ...; a number may be missing where registering was interrupted.
    pub version: u32,
    /// Where it stands in its life cycle.
    pub stage: Stage,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Free labels.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// SHA-256 of the manifest: ties this record to the package.
    pub manifest_sha256: String,
    /// How it was built; a version without a build is served from its ONNX file.
    #[serde(default)]
    pub build: Option<VersionBuild>,
    /// The latest report of the gates.
    #[serde(default)]
    pub gates: Option<GateSummary>,
    /// Where it came from.
    #[serde(default)]
    pub lineage: Lineage,
    /// Main metrics on held-out samples, by name.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
    /// Ties it to what caused it.
    pub correlation_id: String,
    /// Whether it is promoted as soon as it passes the gates.
    #[serde(default)]
    pub auto_promote: bool,
    /// When it was registered.
    pub created_ms: i64,
    /// When its record last changed.
    pub updated_ms: i64,
}

/// How a version was built: what of [`crate::contract::BuildManifest`] a list shows, and who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionBuild {
    /// The build.
    #[serde(flatten)]
    pub reference: BuildRef,
    /// The engine that serves: `native` or `wasm`.
    pub engine: String,
    /// What was asked for.
    pub choice: EngineChoice,
    /// What decided on the engine.
    pub reason: String,
    /// What the compiler's result depends on; another compiler builds anew.
    pub fingerprint: String,
    /// Who built it.
    pub actor: String,
    /// The operator's reason, where one asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// When.
    pub created_ms: i64,
}

/// How the gates judged a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSummary {
    /// Whether no required gate failed.
    pub passed: bool,
    /// The version in production that it was compared with.
    pub compared_with: Option<u32>,
    /// Names of the gates that failed.
    pub failed: Vec<String>,
    /// The blob that holds the report.
    pub report: String,
    /// SHA-256 of the report.
    pub report_sha256: String,
    /// When.
    pub created_ms: i64,
}

/// Which version of a model serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Registered model.
    pub model: String,
    /// The version; `None` where nothing serves any more.
    pub version: Option<u32>,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Option<String>,
    /// Its build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildRef>,
    /// Since when.
    pub since_ms: i64,
}

/// Everything that becomes a version.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// Registered model; created where it does not exist.
    pub model: String,
    /// What makes registering idempotent: `run/<run>` or `upload/<sha256>`.
    pub source: String,
    /// What it predicts.
    pub task: Task,
    /// Inputs in the graph's order.
    pub inputs: Vec<InputSpec>,
    /// The output that holds the prediction.
    pub output: OutputSpec,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Bars of a window.
    pub window_bars: usize,
    /// The feature set.
    pub feature_set: Option<moola_market::features::FeatureSet>,
    /// On which samples it is judged: a run's own spec, or one given with an upload.
    pub evaluation: Option<TrainingSpec>,
    /// The files, `model.onnx` among them.
    pub files: BTreeMap<String, Bytes>,
    /// The engine that serves it.
    pub engine: String,
    /// Where it came from.
    pub lineage: Lineage,
    /// Main metrics.
    pub metrics: BTreeMap<String, f64>,
    /// Ties it to what caused it.
    pub correlation_id: String,
    /// Whether it is promoted as soon as it passes the gates.
    pub auto_promote: bool,
}

/// The file of a package that says on which samples it is judged.
pub const EVALUATION: &str = "evaluation.json";

const VERSION_DIGITS: usize = 10;

/// The registry.
#[derive(Debug, Clone)]
pub struct Registry {
    ports: Ports,
}

impl Registry {
    /// Makes a registry over `ports`.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Registers a version; it is visible in full or not at all. Registering the same source again returns the version
    /// that it became.
    ///
    /// # Errors
    /// `Invalid` for a bad name or a package without a model; `Unavailable`.
    pub async fn register(&self, new: NewVersion) -> Result<Version> {
        check_name("model", &new.model)?;
        if !new.files.contains_key(paths::MODEL_ONNX) {
            return Err(Error::invalid("files", "no `model.onnx`", "a package with `model.onnx`"));
        }
        let number = self.reserve(&new).await?;
        if let Some(version) = self.find_version(&new.model, number).await? {
            return Ok(version);
        }
        let mut files = new.files;
        if let Some(evaluation) = &new.evaluation {
            files.insert(EVALUATION.into(), to_json_bytes(evaluation)?);
        }
        files.insert(paths::LINEAGE.into(), to_json_bytes(&new.lineage)?);
        let mut digests = BTreeMap::new();
        for (name, bytes) in &mut files {
            *bytes = self.keep(&paths::model(&new.model, number, name), bytes.clone()).await?;
            let digest = FileDigest { size_bytes: bytes.len() as u64, sha256: sha256_hex(bytes) };
            digests.insert(name.clone(), digest);
        }
        let evaluation: Option<TrainingSpec> =
            files.get(EVALUATION).map(|bytes| from_json_bytes(EVALUATION, bytes)).transpose()?;
        let lineage = from_json_bytes(paths::LINEAGE, &files[paths::LINEAGE])?;
        let history_bars = new.feature_set.as_ref().map_or(0, moola_market::features::FeatureSet::history_bars);
        let manifest = ModelManifest {
            format_version: FORMAT_VERSION,
            model: new.model.clone(),
            version: number,
            task: new.task,
            inputs: new.inputs,
            output: new.output,
            classes: new.classes,
            window_bars: new.window_bars,
            history_bars: history_bars.max(new.window_bars),
            label: evaluation.map(|evaluation| evaluation.label),
            feature_set: new.feature_set,
            engine: new.engine,
            files: digests,
            lineage,
            created_ms: self.ports.clock.now_ms(),
        };
        let manifest_key = paths::model(&new.model, number, paths::MANIFEST);
        let bytes = self.keep(&manifest_key, to_json_bytes(&manifest)?).await?;
        let manifest: ModelManifest = from_json_bytes(&manifest_key, &bytes)?;
        let manifest_sha256 = sha256_hex(&bytes);
        let signature = self.ports.signer.sign(&bytes).await?;
        let signature = PackageSignature { manifest_sha256: manifest_sha256.clone(), signature };
        let signature_key = paths::model(&new.model, number, paths::SIGNATURE);
        // Every signature of these bytes is as good as another.
        self.ports.blobs.put(&signature_key, to_json_bytes(&signature)?, PutMode::Overwrite).await?;
        let version = Version {
            model: new.model,
            version: number,
            stage: Stage::None,
            description: String::new(),
            tags: BTreeMap::new(),
            manifest_sha256,
            build: None,
            gates: None,
            lineage: manifest.lineage,
            metrics: new.metrics,
            correlation_id: new.correlation_id,
            auto_promote: new.auto_promote,
            created_ms: manifest.created_ms,
            updated_ms: manifest.created_ms,
        };
        self.publish_version(version).await
    }

    /// Writes a file of a package, unless an earlier or a concurrent attempt to register it did; returns what is there. So
    /// all attempts end with the same package, and none changes one that is visible already.
    async fn keep(&self, key: &str, bytes: Bytes) -> Result<Bytes> {
        match self.ports.blobs.put(key, bytes.clone(), PutMode::Create).await {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.ports.blobs.get(key).await,
            Err(error) => Err(error),
        }
    }

    /// Makes a version visible, or returns it where another call was faster.
    async fn publish_version(&self, version: Version) -> Result<Version> {
        loop {
            let model_key = Key::new("models", &version.model);
            let Some((mut model, revision)) = self.ports.read::<Model>(&model_key).await? else {
                return Err(Error::internal(format!("model `{}` vanished while registering", version.model)));
            };
            model.updated_ms = version.created_ms;
            let event = self.ports.event(
                "Model Version Registered",
                &version.correlation_id,
                json!({"model": version.model, "model_version": version.version, "auto_promote": version.auto_promote}),
            );
            let writes = vec![
                put(version_key(&version.model, version.version), &version, Condition::Absent)?,
                put(model_key, &model, Condition::Revision(revision))?,
            ];
            match self.ports.commit(writes, vec![event]).await {
                Ok(()) => return Ok(version),
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    if let Some(version) = self.find_version(&version.model, version.version).await? {
                        return Ok(version);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The number of the version that `new.source` becomes.
    async fn reserve(&self, new: &NewVersion) -> Result<u32> {
        let source_key = Key::new("registered", format!("{}/{}", new.model, new.source));
        let model_key = Key::new("models", &new.model);
        loop {
            if let Some((number, _)) = self.ports.read::<u32>(&source_key).await? {
                return Ok(number);
            }
            let existing = self.ports.read::<Model>(&model_key).await?;
            let revision = existing.as_ref().map(|(_, revision)| *revision);
            let now_ms = self.ports.clock.now_ms();
            let mut model = existing.map_or_else(
                || Model {
                    name: new.model.clone(),
                    description: String::new(),
                    tags: BTreeMap::new(),
                    next_version: 1,
                    created_ms: now_ms,
                    updated_ms: now_ms,
                },
                |(model, _)| model,
            );
            let number = model.next_version;
            model.next_version += 1;
            let writes = vec![
                put(source_key.clone(), &number, Condition::Absent)?,
                put(model_key.clone(), &model, unchanged(revision))?,
            ];
            match self.ports.table.write(writes).await {
                Ok(()) => return Ok(number),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// All models, by name.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn models(&self) -> Result<Vec<Model>> {
        self.ports.read_all(Query::prefix("models", ""), usize::MAX).await
    }

    /// A model.
    ///
    /// # Errors
    /// `NotFound`; those of the table.
    pub async fn model(&self, name: &str) -> Result<Model> {
        check_name("model", name)?;
        let model = self.ports.read::<Model>(&Key::new("models", name)).await?;
        model
            .map(|(model, _)| model)
            .ok_or_else(|| Error::not_found("model", name).with_hint("`moola models list` shows those that exist"))
    }

    /// The versions of a model, the newest first.
    ///
    /// # Errors
    /// `NotFound`; those of the table.
    pub async fn versions(&self, model: &str) -> Result<Vec<Version>> {
        self.model(model).await?;
        let mut query = Query::prefix(partition(model), "version/");
        query.descending = true;
        self.ports.read_all(query, usize::MAX).await
    }

    /// The newest version of a model, if it has one.
    ///
    /// # Errors
    /// `Invalid` for a bad name; those of the table.
    pub async fn latest(&self, model: &str) -> Result<Option<Version>> {
        check_name("model", model)?;
        let mut query = Query::prefix(partition(model), "version/");
        query.descending = true;
        Ok(self.ports.read_all(query, 1).await?.pop())
    }

    /// A version.
    ///
    /// # Errors
    /// `NotFound`; those of the table.
    pub async fn version(&self, model: &str, version: u32) -> Result<Version> {
        self.model(model).await?;
        self.find_version(model, version).await?.ok_or_else(|| {
            Error::not_found("model version", format_args!("{model}/{version}"))
                .with_hint(format!("`moola models show {model}` shows those that exist"))
        })
    }

    async fn find_version(&self, model: &str, version: u32) -> Result<Option<Version>> {
        Ok(self.ports.read(&version_key(model, version)).await?.map(|(version, _)| version))
    }

    /// The version that `reference` names: a number, `latest`, a stage (`production`, `staging`: its newest version) or an
    /// alias.
    ///
    /// # Errors
    /// `NotFound`; those of the table.
    pub async fn resolve(&self, model: &str, reference: &str) -> Result<Version> {
        if let Ok(number) = reference.parse::<u32>() {
            return self.version(model, number).await;
        }
        let not_found = || {
            Error::not_found("model version", format_args!("{model}/{reference}"))
                .with_hint("accepted are a version number, `latest`, `production`, `staging` or an alias")
        };
        match reference {
            "latest" => {
                self.model(model).await?;
                self.latest(model).await?.ok_or_else(not_found)
            }
            "production" => {
                self.model(model).await?;
                match self.route(model).await?.and_then(|(route, _)| route.version) {
                    Some(number) => self.version(model, number).await,
                    None => Err(not_found()),
                }
            }
            "staging" => {
                let versions = self.versions(model).await?;
                versions.into_iter().find(|version| version.stage == Stage::Staging).ok_or_else(not_found)
            }
            alias => {
                self.model(model).await?;
                check_name("alias", alias)?;
                match self.ports.read::<u32>(&alias_key(model, alias)).await? {
                    Some((number, _)) => self.version(model, number).await,
                    None => Err(not_found()),
                }
            }
        }
    }

    /// The aliases of a model with the versions that they name.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn aliases(&self, model: &str) -> Result<BTreeMap<String, u32>> {
        self.model(model).await?;
        let page = self.ports.table.query(&Query::prefix(partition(model), "alias/")).await?;
        let mut aliases = BTreeMap::new();
        for item in page.items {
            let name = item.key.sort.trim_start_matches("alias/").to_owned();
            let number = item.value.as_u64().and_then(|n| u32::try_from(n).ok());
            aliases.insert(name, number.ok_or_else(|| Error::corrupt(format!("alias `{}`", item.key.sort)))?);
        }
        Ok(aliases)
    }

    /// Points an alias at a version, or removes it (`None`). `production`, `staging`, `latest`, `none`, `archived` and
    /// numbers are no aliases.
    ///
    /// # Errors
    /// `Invalid` for a bad alias, `NotFound`.
    pub async fn set_alias(&self, model: &str, alias: &str, version: Option<u32>) -> Result<()> {
        check_name("alias", alias)?;
        if ["production", "staging", "latest", "none", "archived"].contains(&alias) || alias.parse::<u64>().is_ok() {
            return Err(Error::invalid("alias", alias, "a name that is neither a stage, `latest` nor a number"));
        }
        let write = match version {
            Some(number) => {
                self.version(model, number).await?;
                put(alias_key(model, alias), &number, Condition::Always)?
            }
            None => Write::Delete { key: alias_key(model, alias), condition: Condition::Always },
        };
        self.ports.table.write(vec![write]).await
    }

    /// Replaces the description or tags of a version.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`; those of the table.
    pub async fn annotate(
        &self,
        model: &str,
        version: u32,
        description: Option<String>,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<Version> {
        let change = |record: &mut Version| {
            if let Some(description) = &description {
                record.description.clone_from(description);
            }
            if let Some(tags) = &tags {
                record.tags.clone_from(tags);
            }
        };
        self.update(model, version, change, Vec::new()).await
    }

    /// Records how the gates judged a version.
    ///
    /// # Errors
    /// `NotFound`; those of the table.
    pub(crate) async fn set_gates(
        &self,
        model: &str,
        version: u32,
        gates: GateSummary,
        events: Vec<Event>,
    ) -> Result<Version> {
        self.update(model, version, |record| record.gates = Some(gates.clone()), events).await
    }

    /// Records how a version was built, and what its route, where it serves, names of it: all of it and the event, or
    /// nothing. Where the version must still be in the build `expected` and is not, it stays as it is, and so it does where
    /// it has that build already.
    ///
    /// # Errors
    /// `NotFound`; those of the table.
    pub(crate) async fn set_build(
        &self,
        version: &Version,
        build: VersionBuild,
        expected: Option<Option<&VersionBuild>>,
        event: Event,
    ) -> Result<Version> {
        let (model, number) = (&version.model, version.version);
        let key = version_key(model, number);
        loop {
            let Some((mut record, revision)) = self.ports.read::<Version>(&key).await? else {
                return Err(Error::not_found("model version", format_args!("{model}/{number}")));
            };
            let is_overtaken = expected.is_some_and(|expected| record.build.as_ref() != expected);
            let is_there = record.build.as_ref().is_some_and(|now| {
                (&now.reference, &now.decision, now.choice) == (&build.reference, &build.decision, build.choice)
            });
            if is_overtaken || is_there {
                return Ok(record);
            }
            record.build = Some(build.clone());
            record.updated_ms = self.ports.clock.now_ms();
            let mut writes = vec![put(key.clone(), &record, Condition::Revision(revision))?];
            // A promotion that comes in between changes the record as well, so one of both is refused.
            if let Some((mut route, revision)) = self.route(model).await?
                && route.version == Some(number)
            {
                route.build = Some(build.reference.clone());
                writes.push(put(Key::new("production", model), &route, Condition::Revision(revision))?);
            }
            match self.ports.commit(writes, vec![event.clone()]).await {
                Ok(()) => return Ok(record),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn update(
        &self,
        model: &str,
        version: u32,
        change: impl Fn(&mut Version) + Send,
        events: Vec<Event>,
    ) -> Result<Version> {
        let key = version_key(model, version);
        loop {
            let Some((mut record, revision)) = self.ports.read::<Version>(&key).await? else {
                return Err(Error::not_found("model version", format_args!("{model}/{version}")));
            };
            change(&mut record);
            record.updated_ms = self.ports.clock.now_ms();
            let write = put(key.clone(), &record, Condition::Revision(revision))?;
            match self.ports.commit(vec![write], events.clone()).await {
                Ok(()) => return Ok(record),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Which version of every model serves.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        self.ports.read_all(Query::prefix("production", ""), usize::MAX).await
    }

    async fn route(&self, model: &str) -> Result<Option<(Route, u64)>> {
        self.ports.read(&Key::new("production", model)).await
    }
}

fn partition(model: &str) -> String {
    format!("model/{model}")
}

fn version_key(model: &str, version: u32) -> Key {
    Key::new(partition(model), format!("version/{version:0VERSION_DIGITS$}"))
}

fn alias_key(model: &str, alias: &str) -> Key {
    Key::new(partition(model), format!("alias/{alias}"))
}

#[cfg(test)]
mod tests;
