//! Models with inputs and expected outputs, as tests/oracle/cases.py writes them; how one of them ends.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use moola_wasm_compiler::{Options, compile};
use serde::Deserialize;

use crate::module::{Outcome, Running};

/// Bytes of cases.bin: where they begin, how many.
type Span = [usize; 2];

/// A file of cases.
#[derive(Deserialize)]
pub(crate) struct Cases {
    /// Where they come from.
    pub(crate) source: String,
    pub(crate) cases: Vec<Case>,
    #[serde(skip)]
    bytes: Vec<u8>,
}

/// A model with inputs and expected outputs.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The operator, or another heading.
    pub(crate) group: String,
    model: Span,
    constant: Option<WithConstants>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// The same model with some inputs as constants.
#[derive(Deserialize)]
struct WithConstants {
    model: Span,
    inputs: Vec<String>,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    r#type: String,
    shape: Vec<usize>,
    data: Payload,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Payload {
    Numbers(Span),
    Texts(Vec<String>),
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The answers agree.
    Passed,
    /// The answers agree where parameters are constants.
    PassedWithConstants,
    /// The compiler refused the model, and said why.
    Unsupported(String),
    /// Anything else.
    Failed(String),
}

impl Cases {
    /// Reads a folder.
    pub(crate) fn read(folder: &Path) -> Self {
        let text = std::fs::read(folder.join("cases.json")).expect("cases.json");
        let mut cases: Self = serde_json::from_slice(&text).expect("cases");
        cases.bytes = std::fs::read(folder.join("cases.bin")).expect("cases.bin");
        cases
    }

    fn bytes(&self, [at, len]: Span) -> &[u8] {
        &self.bytes[at..at + len]
    }

    /// The model of a case.
    pub(crate) fn model(&self, case: &Case) -> &[u8] {
        self.bytes(case.model)
    }

    /// Compiles a case, runs it and compares; `tolerance` is relative to the scale of each output.
    pub(crate) fn check(&self, case: &Case, tolerance: f64) -> End {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let end = self.check_model(case, self.bytes(case.model), &[], tolerance);
            match (&end, &case.constant) {
                (End::Unsupported(_), Some(constant)) => {
                    match self.check_model(case, self.bytes(constant.model), &constant.inputs, tolerance) {
                        End::Passed => End::PassedWithConstants,
                        other => other,
                    }
                }
                _ => end,
            }
        }));
        caught.unwrap_or_else(|panic| End::Failed(format!("panicked: {}", panic_text(&*panic))))
    }

    fn check_model(&self, case: &Case, model: &[u8], constant: &[String], tolerance: f64) -> End {
        let compiled = match compile(model, &Options::default()) {
            Ok(compiled) => compiled,
            Err(error) if error.is_fault => return End::Failed(error.to_string()),
            Err(error) => return End::Unsupported(error.reason),
        };
        match self.answers(case, &compiled.wasm, constant, tolerance) {
            Ok(()) => End::Passed,
            Err(reason) => {
                let given = case.inputs.iter().filter(|input| !constant.contains(&input.name));
                if given.clone().any(|input| !self.is_finite(input)) {
                    return End::Unsupported("inputs that are not finite are not specified".into());
                }
                End::Failed(reason)
            }
        }
    }

    fn answers(&self, case: &Case, wasm: &[u8], constant: &[String], tolerance: f64) -> Result<(), String> {
        let mut running = Running::new(wasm)?;
        let given: BTreeMap<&str, &Tensor> = case
            .inputs
            .iter()
            .filter(|input| !constant.contains(&input.name))
            .map(|input| (input.name.as_str(), input))
            .collect();
        let descriptor = running.descriptor.clone();
        let mut rows = 1;
        let mut inputs = Vec::new();
        for port in &descriptor.inputs {
            let input = given.get(port.name.as_str()).ok_or_else(|| format!("an input `{}`", port.name))?;
            let Payload::Numbers(span) = &input.data else { return Err(format!("`{}` takes texts", port.name)) };
            same("type of input", &port.r#type, &input.r#type)?;
            if port.shape.first() == Some(&None) {
                rows = input.shape[0];
            }
            inputs.push(self.bytes(*span).to_vec());
        }
        if inputs.len() != given.len() {
            return Err(format!("{} inputs, expected {}", inputs.len(), given.len()));
        }
        let answers = match running.run(rows, &inputs)? {
            Outcome::Answered(answers) => answers,
            other => return Err(format!("ended with {other:?}")),
        };
        for expected in &case.outputs {
            let at = descriptor.outputs.iter().position(|port| port.name == expected.name);
            let at = at.ok_or_else(|| format!("no output `{}`", expected.name))?;
            let port = &descriptor.outputs[at];
            let shape: Vec<usize> = port.shape.iter().map(|size| size.unwrap_or(rows)).collect();
            if shape != expected.shape {
                return Err(format!("output `{}` has shape {shape:?}, expected {:?}", port.name, expected.shape));
            }
            match &expected.data {
                Payload::Texts(texts) => {
                    let (words, _) = answers[at].as_chunks::<8>();
                    let label = |word: &[u8; 8]| port.labels.get(i64::from_le_bytes(*word) as usize).cloned();
                    same(
                        "labels",
                        &words.iter().map(label).collect::<Vec<_>>(),
                        &texts.iter().cloned().map(Some).collect(),
                    )?;
                }
                Payload::Numbers(span) => {
                    same("type of output", &port.r#type, &expected.r#type)?;
                    compare(&expected.r#type, &answers[at], self.bytes(*span), tolerance)
                        .map_err(|reason| format!("output `{}`: {reason}", port.name))?;
                }
            }
        }
        Ok(())
    }

    fn is_finite(&self, tensor: &Tensor) -> bool {
        match &tensor.data {
            Payload::Numbers(span) if tensor.r#type.starts_with("float") => {
                numbers(&tensor.r#type, self.bytes(*span)).iter().all(|number| number.is_finite())
            }
            _ => true,
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, actual: &T, expected: &T) -> Result<(), String> {
    if actual == expected { Ok(()) } else { Err(format!("{what} {actual:?}, expected {expected:?}")) }
}

fn numbers(kind: &str, bytes: &[u8]) -> Vec<f64> {
    match kind {
        "float32" => bytes.as_chunks().0.iter().map(|it| f64::from(f32::from_le_bytes(*it))).collect(),
        "float64" => bytes.as_chunks().0.iter().map(|it| f64::from_le_bytes(*it)).collect(),
        _ => Vec::new(),
    }
}

/// Compares: floating-point numbers to `tolerance` times the largest finite one expected, the others exactly.
fn compare(kind: &str, actual: &[u8], expected: &[u8], tolerance: f64) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} bytes, expected {}", actual.len(), expected.len()));
    }
    if !kind.starts_with("float") {
        return match actual.iter().zip(expected).position(|(a, e)| a != e) {
            Some(at) => Err(format!("byte {at} is {}, expected {}", actual[at], expected[at])),
            None => Ok(()),
        };
    }
    let (actual, expected) = (numbers(kind, actual), numbers(kind, expected));
    let finite = expected.iter().copied().filter(|number| number.is_finite());
    let scale = finite.fold(1e-30_f64, |scale, number| scale.max(number.abs()));
    for (at, (a, e)) in actual.iter().zip(&expected).enumerate() {
        let agrees =
            if e.is_finite() { (a - e).abs() <= tolerance * scale } else { a == e || (a.is_nan() && e.is_nan()) };
        if !agrees {
            return Err(format!("number {at} is {a}, expected {e} (scale {scale:.3})"));
        }
    }
    Ok(())
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "something".into())
}

/// Counts of a group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) with_constants: usize,
    pub(crate) unsupported: BTreeMap<String, Vec<String>>,
    pub(crate) failed: Vec<(String, String)>,
}

impl Count {
    pub(crate) fn num_unsupported(&self) -> usize {
        self.unsupported.values().map(Vec::len).sum()
    }
}

/// Checks all cases, by group.
pub(crate) fn check_all(cases: &Cases, tolerance: impl Fn(&str) -> f64) -> BTreeMap<String, Count> {
    let mut counts = BTreeMap::<String, Count>::new();
    for case in &cases.cases {
        let count = counts.entry(case.group.clone()).or_default();
        match cases.check(case, tolerance(&case.group)) {
            End::Passed => count.passed += 1,
            End::PassedWithConstants => {
                count.passed += 1;
                count.with_constants += 1;
            }
            End::Unsupported(reason) => count.unsupported.entry(reason).or_default().push(case.name.clone()),
            End::Failed(reason) => count.failed.push((case.name.clone(), reason)),
        }
    }
    counts
}

/// Panics with the failures, where there are any.
#[track_caller]
pub(crate) fn assert_none_failed(counts: &BTreeMap<String, Count>) {
    let failed: Vec<_> = counts.values().flat_map(|count| &count.failed).collect();
    for (name, reason) in &failed {
        println!("FAILED {name}: {reason}");
    }
    assert!(failed.is_empty(), "{} tests failed", failed.len());
}
