//! The documents of the prediction routes.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use moola_core::contract::Task;
use moola_core::serving::log::{Outcome, PredictionRecord};
use moola_core::serving::{Answer, Attribution, PredictRequest, Prediction, Sample};
use moola_core::{Error, Result};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{V1_FIELDS, V2_FIELDS, reference};
use crate::error::{ApiError, ApiResult};
use crate::extract::shown;

/// Open, high, low, close of a bar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ohlc([f64; 4]);

impl<'de> Deserialize<'de> for Ohlc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Row;

        impl<'de> Visitor<'de> for Row {
            type Value = Ohlc;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("4 numbers: open, high, low, close")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ohlc, A::Error> {
                let mut row = [0.0; 4];
                for (count, price) in row.iter_mut().enumerate() {
                    *price = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(count, &self))?;
                }
                let mut count = 4;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                if count == 4 { Ok(Ohlc(row)) } else { Err(de::Error::invalid_length(count, &self)) }
            }
        }

        deserializer.deserialize_seq(Row)
    }
}

/// A time: milliseconds since the epoch, or a text such as `2026-01-05T00:00:00Z`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(i64);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds since the epoch, or a time such as `2026-01-05T00:00:00Z`")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Time, E> {
                Ok(Time(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Time, E> {
                let value = i64::try_from(value)
                    .map_err(|_| de::Error::invalid_value(de::Unexpected::Unsigned(value), &self))?;
                Ok(Time(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Time, E> {
                moola_market::read::parse_timestamp(value.as_bytes(), 0, None)
                    .map(Time)
                    .map_err(|_| de::Error::invalid_value(de::Unexpected::Str(value), &self))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A batch of windows for a model.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `model_version` and `input_data`")]
pub struct PredictBodyV2 {
    /// A registered model; may be part of `model_version` instead.
    #[schema(example = "sp500-range")]
    model: Option<String>,
    /// `<model>` or `<model>/<version>`, or a version alone where `model` is given. A version is a number, `latest`,
    /// `production` (where absent), `staging` or an alias.
    #[schema(example = "sp500-range/production")]
    model_version: Option<String>,
    /// The bars.
    input_data: InputData,
    /// Free; logged with the predictions.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// Windows of bars, or a symbol.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `ohlc_data` or `symbol`")]
pub struct InputData {
    /// Open, high, low, close: `[batch, window, 4]`. Absent to predict on the latest bars of `symbol` that moola holds.
    #[schema(value_type = Option<Vec<Vec<[f64; 4]>>>)]
    ohlc_data: Option<Vec<Vec<Ohlc>>>,
    /// The bars right before each window, for models whose features need more than the window: `[batch, history, 4]`.
    #[schema(value_type = Option<Vec<Vec<[f64; 4]>>>)]
    history: Option<Vec<Vec<Ohlc>>>,
    /// Volumes of history and window: `[batch, history + window]`.
    #[schema(value_type = Option<Vec<Vec<Option<f64>>>>)]
    volume: Option<Vec<Vec<Option<f64>>>>,
    /// Start times of the bars of history and window, milliseconds since the epoch or texts: `[batch, history + window]`.
    #[schema(value_type = Option<Vec<Vec<String>>>)]
    timestamps: Option<Vec<Vec<Time>>>,
    /// Instrument. With `timestamps`, the history is taken from the bars that moola holds of it.
    #[schema(example = "SP500")]
    symbol: Option<String>,
}

impl PredictBodyV2 {
    pub(super) fn into_request(self, request_id: String) -> ApiResult<PredictRequest> {
        let model = reference(self.model.as_deref(), self.model_version.as_deref())?;
        let InputData { ohlc_data, history, volume, timestamps, symbol } = self.input_data;
        let num_rows = ohlc_data.as_ref().map(Vec::len);
        if num_rows == Some(0) {
            return Err(ApiError::invalid("input_data.ohlc_data", "[]", "at least one window"));
        }
        let lens = [
            ("history", history.as_ref().map(Vec::len)),
            ("volume", volume.as_ref().map(Vec::len)),
            ("timestamps", timestamps.as_ref().map(Vec::len)),
        ];
        for (name, len) in lens {
            let expected = match num_rows {
                Some(num_rows) if len.is_some_and(|len| len != num_rows) => {
                    format!("{num_rows}, one for each window of `input_data.ohlc_data`")
                }
                None if len.is_some() => "none without `input_data.ohlc_data`".to_owned(),
                _ => continue,
            };
            let given = format!("{} entries", len.unwrap_or(0));
            return Err(ApiError::invalid(&format!("input_data.{name}"), given, expected));
        }
        let (mut history, mut volume, mut timestamps) =
            (history.map(Vec::into_iter), volume.map(Vec::into_iter), timestamps.map(Vec::into_iter));
        let samples = ohlc_data.unwrap_or_default().into_iter().map(|ohlc| {
            let history = history.as_mut().and_then(Iterator::next);
            let volume = volume.as_mut().and_then(Iterator::next);
            sample(ohlc, history, volume, timestamps.as_mut().and_then(Iterator::next))
        });
        let samples = samples.collect();
        let metadata = self.metadata;
        Ok(PredictRequest { model, samples, symbol, request_id, metadata, explain: false, fields: V2_FIELDS })
    }
}

fn sample(
    ohlc: Vec<Ohlc>,
    history: Option<Vec<Ohlc>>,
    volume: Option<Vec<Option<f64>>>,
    timestamps: Option<Vec<Time>>,
) -> Sample {
    let rows = |rows: Vec<Ohlc>| rows.into_iter().map(|row| row.0).collect();
    Sample {
        ohlc: rows(ohlc),
        history: rows(history.unwrap_or_default()),
        volume,
        time_ms: timestamps.map(|times| times.into_iter().map(|time| time.0).collect()),
    }
}

/// One window for a model.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", expecting = "an object with `features`")]
pub struct PredictBodyV1 {
    /// The bars: an object, or the rows of `ohlc_data` alone.
    features: Features,
    /// The caller's id; the header `x-request-id` where absent.
    request_id: Option<String>,
    /// Whether to say why.
    #[serde(default)]
    explain_prediction: bool,
    /// A number, `latest`, `production` (where absent), `staging` or an alias.
    model_version: Option<String>,
    /// Free; logged with the prediction.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// One window of bars, or a symbol.
#[derive(Debug, Default, ToSchema)]
pub struct Features {
    /// Open, high, low, close: `[window, 4]`. Absent to predict on the latest bars of `symbol` that moola holds.
    #[schema(value_type = Option<Vec<[f64; 4]>>)]
    ohlc_data: Option<Vec<Ohlc>>,
    /// The bars right before the window, for models whose features need more than the window: `[history, 4]`.
    #[schema(value_type = Option<Vec<[f64; 4]>>)]
    history: Option<Vec<Ohlc>>,
    /// Volumes of history and window: `[history + window]`.
    volume: Option<Vec<Option<f64>>>,
    /// Start times of the bars of history and window, milliseconds since the epoch or texts: `[history + window]`.
    #[schema(value_type = Option<Vec<String>>)]
    timestamps: Option<Vec<Time>>,
    /// Instrument. With `timestamps`, the history is taken from the bars that moola holds of it.
    symbol: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeaturesObject {
    ohlc_data: Option<Vec<Ohlc>>,
    history: Option<Vec<Ohlc>>,
    volume: Option<Vec<Option<f64>>>,
    timestamps: Option<Vec<Time>>,
    symbol: Option<String>,
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Features;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with `ohlc_data` or `symbol`, or a list of bars")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Features, A::Error> {
                let ohlc_data = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Features { ohlc_data: Some(ohlc_data), ..Features::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Features, A::Error> {
                let FeaturesObject { ohlc_data, history, volume, timestamps, symbol } =
                    FeaturesObject::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Features { ohlc_data, history, volume, timestamps, symbol })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl PredictBodyV1 {
    pub(super) fn into_request(self, model: &str, request_id: String) -> ApiResult<PredictRequest> {
        let model = reference(Some(model), self.model_version.as_deref())?;
        let request_id = match self.request_id {
            Some(given) if given.is_empty() || given.len() > 128 => {
                return Err(ApiError::invalid("requestId", shown(&given), "1 to 128 bytes"));
            }
            Some(given) => given,
            None => request_id,
        };
        let Features { ohlc_data, history, volume, timestamps, symbol } = self.features;
        let samples = match ohlc_data {
            Some(ohlc) => vec![sample(ohlc, history, volume, timestamps)],
            None if history.is_some() || volume.is_some() || timestamps.is_some() => {
                let expected = "the window that `history`, `volume` and `timestamps` belong to";
                return Err(ApiError::invalid("features.ohlc_data", "missing", expected));
            }
            None => Vec::new(),
        };
        let (metadata, explain) = (self.metadata, self.explain_prediction);
        Ok(PredictRequest { model, samples, symbol, request_id, metadata, explain, fields: V1_FIELDS })
    }
}

/// A class, or a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum PredictedValue {
    /// The most probable class.
    Class(String),
    /// The value of a regression.
    Value(f64),
}

/// The parts of a prediction that both versions tell.
struct Told {
    value: PredictedValue,
    confidence: Option<f64>,
    probabilities: Option<BTreeMap<String, f64>>,
}

fn told(answer: &Answer, prediction: &Prediction) -> Result<Told> {
    let manifest = &answer.served.manifest;
    let missing = || Error::internal("a prediction without a value");
    match (manifest.task, prediction.class) {
        (Task::Classification, Some(class)) => Ok(Told {
            value: PredictedValue::Class(manifest.classes.get(class).cloned().ok_or_else(missing)?),
            confidence: prediction.outputs.get(class).copied(),
            probabilities: Some(manifest.classes.iter().cloned().zip(prediction.outputs.iter().copied()).collect()),
        }),
        _ => {
            let value = prediction.outputs.first().copied().ok_or_else(missing)?;
            Ok(Told { value: PredictedValue::Value(value), confidence: None, probabilities: None })
        }
    }
}

fn time_text(time_ms: i64) -> String {
    Timestamp::from_millisecond(time_ms).map_or_else(|_| time_ms.to_string(), |time| time.to_string())
}

/// Predictions for a batch of windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PredictAnswerV2 {
    /// In the order of the windows.
    pub predictions: Vec<PredictionV2>,
    /// What predicted.
    pub model_metadata: ModelMetadata,
}

/// One prediction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PredictionV2 {
    /// The most probable class; absent of a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Its probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// By class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<BTreeMap<String, f64>>,
    /// The value of a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Names it in the log; outcomes refer to it.
    pub prediction_id: String,
}

/// What predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelMetadata {
    /// Registered model.
    pub model: String,
    /// The version's number.
    pub model_version: String,
    /// The dataset that it was trained on, `<name>@<version>`.
    pub training_data_version: Option<String>,
    /// When it predicted.
    pub timestamp: String,
    /// What ran it.
    pub engine: String,
    /// The dataset of the bars that moola added, `<name>@<version>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bars_from: Option<String>,
    /// Start of the last bar that moola added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_bar: Option<String>,
}

impl PredictAnswerV2 {
    pub(super) fn new(answer: &Answer) -> Result<Self> {
        let manifest = &answer.served.manifest;
        let predictions = answer.predictions.iter().map(|prediction| {
            let Told { value, confidence, probabilities } = told(answer, prediction)?;
            let (class, value) = match value {
                PredictedValue::Class(class) => (Some(class), None),
                PredictedValue::Value(value) => (None, Some(value)),
            };
            let prediction_id = prediction.prediction_id.clone();
            Ok(PredictionV2 { class, confidence, probabilities, value, prediction_id })
        });
        Ok(Self {
            predictions: predictions.collect::<Result<_>>()?,
            model_metadata: ModelMetadata {
                model: manifest.model.clone(),
                model_version: manifest.version.to_string(),
                training_data_version: manifest.lineage.dataset.clone(),
                timestamp: time_text(answer.time_ms),
                engine: answer.served.engine.into(),
                bars_from: answer.held_bars.as_ref().map(|held| held.source.clone()),
                last_bar: answer.held_bars.as_ref().map(|held| time_text(held.last_time_ms)),
            },
        })
    }
}

/// A prediction for one window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PredictAnswerV1 {
    /// Names it in the log; outcomes refer to it.
    pub prediction_id: String,
    /// The caller's id, or the one that it was given.
    pub request_id: String,
    /// The most probable class, or the value of a regression.
    pub prediction: PredictedValue,
    /// The class's probability; `null` of a regression.
    pub confidence: Option<f64>,
    /// By class; `null` of a regression.
    pub probabilities: Option<BTreeMap<String, f64>>,
    /// What predicted.
    pub model_info: ModelInfo,
    /// Milliseconds from the decoded request to the answer.
    pub latency: f64,
    /// When it predicted.
    pub timestamp: String,
    /// Why, where asked.
    pub explanation: Option<Explanation>,
}

/// What predicted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelInfo {
    /// Registered model.
    pub name: String,
    /// The version's number.
    pub version: String,
    /// The dataset that it was trained on, `<name>@<version>`.
    pub training_data_version: Option<String>,
    /// What ran it: `native` or `wasm`.
    pub engine: String,
}

/// Why a prediction is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// `occlusion`: every input is replaced by its mean over the training windows, one at a time.
    pub method: String,
    /// The class whose probability is explained, or `value`.
    pub output: String,
    /// The inputs, the largest effect first.
    pub attributions: Vec<Explained>,
}

/// What one input did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// Name of the feature, or of the input that holds all bars of the window.
    pub name: String,
    /// The feature's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// How much the prediction falls where the input is replaced.
    pub attribution: f64,
}

impl PredictAnswerV1 {
    pub(super) fn new(answer: &Answer, request_id: String) -> Result<Self> {
        let manifest = &answer.served.manifest;
        let prediction = answer.predictions.first().ok_or_else(|| Error::internal("an answer without a prediction"))?;
        let Told { value, confidence, probabilities } = told(answer, prediction)?;
        let explained = |Attribution { name, value, attribution }| Explained { name, value, attribution };
        Ok(Self {
            prediction_id: prediction.prediction_id.clone(),
            request_id,
            prediction: value,
            confidence,
            probabilities,
            model_info: ModelInfo {
                name: manifest.model.clone(),
                version: manifest.version.to_string(),
                training_data_version: manifest.lineage.dataset.clone(),
                engine: answer.served.engine.into(),
            },
            latency: answer.timings.total.as_secs_f64() * 1e3,
            timestamp: time_text(answer.time_ms),
            explanation: answer.explanation.clone().map(|explanation| Explanation {
                method: explanation.method,
                output: explanation.output,
                attributions: explanation.attributions.into_iter().map(explained).collect(),
            }),
        })
    }
}

/// What happened after predictions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `outcomes`")]
pub struct Outcomes {
    /// At least one.
    outcomes: Vec<OutcomeBody>,
}

/// What happened after one prediction.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object with `prediction_id` and `label` or `value`")]
struct OutcomeBody {
    /// The prediction.
    prediction_id: String,
    /// The class that came true, of a classification.
    label: Option<String>,
    /// The value that came true, of a regression.
    value: Option<f64>,
}

impl Outcomes {
    pub(super) fn into_outcomes(self) -> ApiResult<Vec<Outcome>> {
        if self.outcomes.is_empty() {
            return Err(ApiError::invalid("outcomes", "[]", "at least one"));
        }
        let outcome = |OutcomeBody { prediction_id, label, value }| Outcome { prediction_id, label, value, time_ms: 0 };
        Ok(self.outcomes.into_iter().map(outcome).collect())
    }
}

/// Outcomes were recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutcomesRecorded {
    /// How many.
    pub num_recorded: usize,
}

/// Logged predictions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LoggedPredictions {
    /// The newest first.
    #[schema(value_type = Vec<Object>)]
    pub predictions: Vec<PredictionRecord>,
}
