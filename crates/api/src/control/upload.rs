//! Models from elsewhere: PyTorch, scikit-learn, XGBoost, whatever writes ONNX.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use moola_core::commit::sha256_hex;
use moola_core::contract::{
    DatasetRef, FORMAT_VERSION, InputKind, InputSpec, Lineage, OutputSpec, SplitSpec, Task, TrainingSpec, WindowSpec,
    paths,
};
use moola_core::ports::{Artifact, LoadedModel};
use moola_core::registry::{NewVersion, Version};
use moola_core::{Error, Result, inputs, samples};
use moola_market::features::FeatureSet;
use moola_market::labels::LabelSpec;
use moola_market::simulate::{SimulationConfig, simulate};
use moola_market::windows::{NUM_CHANNELS, Scaling, WINDOW_BARS};
use serde::{Deserialize, Serialize};

use super::{ControlState, uploads};
use crate::error::{ApiError, ApiResult};
use crate::extract::{Json, Path};

/// A model to be registered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    /// What the model is.
    pub manifest: UploadManifest,
    /// The ONNX file, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_base64: Option<String>,
    /// The upload that holds the ONNX file, in place of `model_base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_upload: Option<String>,
}

/// What a model from elsewhere is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadManifest {
    /// What it predicts.
    pub task: Task,
    /// What its inputs are made of, in the graph's order.
    pub inputs: Vec<UploadInput>,
    /// The output that holds the prediction; by default the only one whose shape fits.
    #[serde(default)]
    pub output: Option<String>,
    /// Names of the classes, in the order of the output.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Bars of a window.
    #[serde(default = "default_window")]
    pub window_bars: usize,
    /// Name of the feature set that an input of kind `features` is made of.
    #[serde(default)]
    pub feature_set: Option<String>,
    /// On which samples the gates judge it; without it, it cannot pass them.
    #[serde(default)]
    pub evaluation: Option<UploadEvaluation>,
    /// The program that wrote it.
    #[serde(default)]
    pub producer: Option<String>,
    /// Whether it is promoted as soon as it passes the gates.
    #[serde(default)]
    pub auto_promote: bool,
}

fn default_window() -> usize {
    WINDOW_BARS
}

/// What an input is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadInput {
    /// `bars` (encoded), `raw_bars` (prices) or `features`.
    pub kind: InputKind,
    /// Standardisation before the graph.
    #[serde(default)]
    pub scaling: Option<Scaling>,
    /// What stands in for a missing feature, by name.
    #[serde(default)]
    pub missing: BTreeMap<String, f64>,
}

/// On which samples a model is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadEvaluation {
    /// Dataset: `name` for its latest version, or `name@version`.
    pub dataset: String,
    /// What is predicted.
    pub label: LabelSpec,
    /// A window every so many bars.
    #[serde(default = "one")]
    pub stride: usize,
    /// Which of the samples train, validate and test: the test fold must not have trained the model.
    #[serde(default)]
    pub split: SplitSpec,
}

fn one() -> usize {
    1
}

/// Registers a model from elsewhere.
#[utoipa::path(post, path = "/api/v2/models/{model}/versions", tag = "models", operation_id = "register_model_version",
    params(("model" = String, Path, description = "Its name; created where it does not exist")),
    request_body(content = serde_json::Value, description = "`manifest` (`task`, `inputs`, `classes`, `window_bars`, `feature_set`, `evaluation`) and `model_base64`, or `model_upload` with the id of an upload"),
    responses((status = 201, description = "The version"), (status = 400, description = "The file is no model that can be served, or does not fit its manifest"),
        (status = 404, description = "No such dataset or feature set, or nothing was sent to the upload")))]
pub(super) async fn register(
    State(state): State<ControlState>,
    Path(model): Path<String>,
    Json(request): Json<RegisterRequest>,
) -> ApiResult<(StatusCode, Json<Version>)> {
    let RegisterRequest { manifest, model_base64, model_upload } = request;
    let bytes = file(&state, model_base64, model_upload).await?;
    let file = Artifact::onnx();
    let engine = state.engines.iter().find(|engine| engine.choose(std::slice::from_ref(&file)).is_some()).cloned();
    let engine = engine.ok_or_else(|| Error::internal("there is no engine for ONNX"))?;
    let engine_name = engine.name();
    let content = bytes.clone();
    let loaded = tokio::task::spawn_blocking(move || engine.load(&file, &content))
        .await
        .map_err(|error| Error::internal("loading a model").with_source(error))??;
    let feature_set = manifest.feature_set.as_deref().map(FeatureSet::builtin).transpose().map_err(Error::from)?;
    let (inputs, output) = fit(&manifest, feature_set.as_ref(), &loaded)?;
    let trial = Trial {
        task: manifest.task,
        inputs: inputs.clone(),
        output: output.clone(),
        window_bars: manifest.window_bars,
        feature_set: feature_set.clone(),
    };
    tokio::task::spawn_blocking(move || trial.run(&*loaded))
        .await
        .map_err(|error| Error::internal("trying a model").with_source(error))??;
    let evaluation = match &manifest.evaluation {
        Some(evaluation) => Some(spec(&state, &model, &manifest, evaluation).await?),
        None => None,
    };
    let dataset = evaluation.as_ref().map(|spec| format!("{}@{}", spec.dataset.name, spec.dataset.version));
    let source_sha256 = match &evaluation {
        Some(spec) => {
            let dataset = state.app.datasets.get(&spec.dataset.name, Some(&spec.dataset.version)).await?;
            Some(dataset.source.sha256)
        }
        None => None,
    };
    // The same file with another manifest is another version.
    let digest = {
        let text = serde_json::to_vec(&manifest).map_err(|e| Error::internal("encoding a manifest").with_source(e))?;
        sha256_hex(&[sha256_hex(&bytes).as_bytes(), &text].concat())
    };
    let version = state
        .app
        .registry
        .register(NewVersion {
            model,
            source: format!("upload/{digest}"),
            task: manifest.task,
            inputs,
            output,
            classes: manifest.classes,
            window_bars: manifest.window_bars,
            feature_set,
            evaluation,
            files: BTreeMap::from([(paths::MODEL_ONNX.to_owned(), bytes)]),
            engine: engine_name.into(),
            lineage: Lineage { dataset, source_sha256, producer: manifest.producer, ..Lineage::default() },
            metrics: BTreeMap::new(),
            correlation_id: state.app.ports.ids.new_id(),
            auto_promote: manifest.auto_promote,
        })
        .await?;
    Ok((StatusCode::CREATED, Json(version)))
}

/// The ONNX file.
async fn file(state: &ControlState, base64: Option<String>, upload: Option<String>) -> ApiResult<Bytes> {
    match (base64, upload) {
        (Some(text), None) => match BASE64.decode(text.as_bytes()) {
            Ok(bytes) => Ok(Bytes::from(bytes)),
            Err(error) => Err(ApiError::invalid("model_base64", error, "an ONNX file in base64 with padding")),
        },
        // Without base64 it is a quarter smaller.
        (None, Some(id)) => uploads::read(state, "model_upload", &id, state.limits.max_model_bytes / 4 * 3).await,
        (None, None) => {
            let expected = "an ONNX file in base64, or `model_upload` with the id of an upload";
            Err(ApiError::invalid("model_base64", "absent", expected))
        }
        (Some(_), Some(id)) => Err(ApiError::invalid("model_upload", id, "absent where `model_base64` is there")),
    }
}

/// The inputs and the output of a manifest, checked against the graph.
fn fit(
    manifest: &UploadManifest,
    feature_set: Option<&FeatureSet>,
    loaded: &Arc<dyn LoadedModel>,
) -> Result<(Vec<InputSpec>, OutputSpec)> {
    if !(2..=10_000).contains(&manifest.window_bars) {
        return Err(Error::invalid("manifest.window_bars", manifest.window_bars, "a number from 2 to 10000"));
    }
    let width = match manifest.task {
        Task::Classification if manifest.classes.len() < 2 => {
            return Err(Error::invalid("manifest.classes", format!("{:?}", manifest.classes), "at least two names"));
        }
        Task::Classification => manifest.classes.len(),
        Task::Regression if !manifest.classes.is_empty() => {
            return Err(Error::invalid("manifest.classes", format!("{:?}", manifest.classes), "none, of a regression"));
        }
        Task::Regression => 1,
    };
    let graph = loaded.inputs();
    if graph.len() != manifest.inputs.len() {
        let names: Vec<&str> = graph.iter().map(|(name, _)| name.as_str()).collect();
        let expected = format!("one for each input of the graph: `{}`", names.join("`, `"));
        return Err(Error::invalid("manifest.inputs", format!("{} inputs", manifest.inputs.len()), expected));
    }
    let mut inputs = Vec::new();
    for (index, (input, (name, open))) in manifest.inputs.iter().zip(graph).enumerate() {
        let window = manifest.window_bars;
        let shapes = match input.kind {
            InputKind::Bars => vec![vec![window, NUM_CHANNELS]],
            InputKind::RawBars => vec![vec![window, NUM_CHANNELS], vec![window * NUM_CHANNELS]],
            InputKind::Features => {
                let set = feature_set.ok_or_else(|| {
                    Error::invalid(
                        "manifest.feature_set",
                        "absent",
                        "the name of a feature set, for the input `features`",
                    )
                })?;
                vec![vec![set.len()]]
            }
        };
        let Some(shape) = shapes.iter().find(|shape| takes(open, shape)) else {
            let expected = format!("{shapes:?} without the batch, as made from `{}`", kind_name(input.kind));
            let field = format!("shape of input {name} (manifest.inputs[{index}])");
            return Err(Error::invalid(&field, shown(open), expected));
        };
        if let Some(scaling) = &input.scaling {
            check_scaling(&format!("manifest.inputs[{index}].scaling"), scaling, shape)?;
        }
        inputs.push(InputSpec {
            name: name.clone(),
            kind: input.kind,
            shape: shape.clone(),
            scaling: input.scaling.clone(),
            missing: input.missing.clone(),
        });
    }
    let named =
        |(name, _): &&(String, Vec<Option<usize>>)| manifest.output.as_ref().is_none_or(|output| output == name);
    let fitting: Vec<_> = loaded
        .outputs()
        .iter()
        .filter(named)
        .filter(|(_, open)| takes(open, &[width]) || (width == 1 && open.is_empty()))
        .collect();
    let [(name, _)] = fitting.as_slice() else {
        let outputs = loaded.outputs().iter().map(|(name, open)| format!("`{name}` {}", shown(open)));
        let outputs = outputs.collect::<Vec<_>>().join(", ");
        let given = manifest.output.as_deref().unwrap_or("absent");
        return Err(Error::invalid(
            "manifest.output",
            given,
            format!("an output of shape [{width}]; there are {outputs}"),
        ));
    };
    Ok((inputs, OutputSpec { name: name.clone(), shape: vec![width] }))
}

/// Checks that there is one entry for each channel, or for each number of flat bars, and that all can be computed with.
fn check_scaling(field: &str, scaling: &Scaling, shape: &[usize]) -> Result<()> {
    let (means, stds) = (scaling.mean.len(), scaling.std.len());
    let last = shape.last().copied().unwrap_or(0);
    let is_flat = shape.len() == 1 && last.is_multiple_of(NUM_CHANNELS);
    if means != stds || (means != last && !(is_flat && means == NUM_CHANNELS)) {
        let expected = format!("one of each for each of the {last} numbers of a row, or {NUM_CHANNELS} for flat bars");
        return Err(Error::invalid(field, format!("{means} means and {stds} standard deviations"), expected));
    }
    let is_bad = |(mean, std): (&f64, &f64)| !mean.is_finite() || !std.is_finite() || *std <= 0.0;
    match scaling.mean.iter().zip(&scaling.std).position(is_bad) {
        Some(index) => {
            let given = format!("mean {} and std {} at {index}", scaling.mean[index], scaling.std[index]);
            Err(Error::invalid(field, given, "finite numbers, a standard deviation above 0"))
        }
        None => Ok(()),
    }
}

/// One prediction on simulated bars: a model whose answers are no predictions is refused before anything is stored.
struct Trial {
    task: Task,
    inputs: Vec<InputSpec>,
    output: OutputSpec,
    window_bars: usize,
    feature_set: Option<FeatureSet>,
}

impl Trial {
    fn run(self, loaded: &dyn LoadedModel) -> Result<()> {
        let num_bars = self.feature_set.as_ref().map_or(0, FeatureSet::history_bars).max(self.window_bars);
        let bars = simulate(&SimulationConfig { num_bars, ..SimulationConfig::default() })?.bars;
        let encoded =
            inputs::encode(&self.inputs, self.feature_set.as_ref(), self.window_bars, &bars, &[num_bars - 1])?;
        let outputs = loaded.run(encoded.tensors)?;
        let place = loaded.outputs().iter().position(|(name, _)| *name == self.output.name);
        let answer = place.and_then(|place| outputs.into_iter().nth(place));
        let answer = answer.ok_or_else(|| Error::internal("a model without its output"))?.into_data();
        let name = format!("output {}", self.output.name);
        let shown = format!("{answer:?}");
        if answer.iter().any(|value| !value.is_finite()) {
            return Err(Error::invalid(&name, shown, "finite numbers, for a window of simulated bars"));
        }
        let sum: f32 = answer.iter().sum();
        let is_distribution = (sum - 1.0).abs() <= 1e-3 && answer.iter().all(|value| *value >= -1e-3);
        if self.task == Task::Classification && !is_distribution {
            return Err(Error::invalid(&name, shown, "probabilities that sum to 1")
                .with_hint("export the model with a softmax after its logits"));
        }
        Ok(())
    }
}

fn kind_name(kind: InputKind) -> &'static str {
    match kind {
        InputKind::Bars => "bars",
        InputKind::RawBars => "raw_bars",
        InputKind::Features => "features",
    }
}

/// Whether a shape with open sizes takes another.
fn takes(open: &[Option<usize>], shape: &[usize]) -> bool {
    open.len() == shape.len() && open.iter().zip(shape).all(|(open, size)| open.is_none_or(|open| open == *size))
}

fn shown(open: &[Option<usize>]) -> String {
    let sizes: Vec<String> = open.iter().map(|size| size.map_or("?".to_owned(), |size| size.to_string())).collect();
    format!("[{}]", sizes.join(", "))
}

/// The spec whose test fold judges the model.
async fn spec(
    state: &ControlState,
    model: &str,
    manifest: &UploadManifest,
    evaluation: &UploadEvaluation,
) -> Result<TrainingSpec> {
    let (name, version) = match evaluation.dataset.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (evaluation.dataset.as_str(), None),
    };
    let dataset = state.app.datasets.get(name, version).await?;
    let spec = TrainingSpec {
        format_version: FORMAT_VERSION,
        run_id: "upload".into(),
        model_name: model.into(),
        dataset: DatasetRef {
            name: dataset.name.clone(),
            version: dataset.version.clone(),
            sha256: dataset.sha256.clone(),
            symbol: dataset.symbol.clone(),
            interval: dataset.interval,
        },
        window: WindowSpec {
            bars: manifest.window_bars,
            stride: evaluation.stride,
            feature_set: manifest.feature_set.clone().unwrap_or_default(),
            max_windows: 0,
        },
        label: evaluation.label.clone(),
        split: evaluation.split.clone(),
        model: moola_core::contract::ModelSpec::default(),
        optimizer: moola_core::contract::OptimizerSpec::default(),
        resources: moola_core::contract::ResourceSpec::default(),
        seed: 1337,
        correlation_id: None,
    };
    let bars = state.app.datasets.load_bars(&dataset.name, Some(&dataset.version)).await?;
    let set = samples::build(&spec, &bars)?;
    if set.task() != manifest.task || set.classes.len() != manifest.classes.len() {
        return Err(Error::invalid(
            "manifest.evaluation.label",
            format!("{} classes", set.classes.len()),
            format!("a label of {} classes, as the model has", manifest.classes.len()),
        ));
    }
    Ok(spec)
}
