//! Keys of blobs.

/// `runs/<run>/<file>`.
#[must_use]
pub fn run(run_id: &str, file: &str) -> String {
    format!("runs/{run_id}/{file}")
}

/// `models/<model>/<version>/<file>`.
#[must_use]
pub fn model(model: &str, version: u32, file: &str) -> String {
    format!("models/{model}/{version}/{file}")
}

/// `models/<model>/<version>/builds/<build>/<file>`.
#[must_use]
pub fn build(model: &str, version: u32, build: &str, file: &str) -> String {
    format!("models/{model}/{version}/builds/{build}/{file}")
}

/// `datasets/<name>/<version>/<file>`.
#[must_use]
pub fn dataset(name: &str, version: &str, file: &str) -> String {
    format!("datasets/{name}/{version}/{file}")
}

/// What the container is told to do.
pub const SPEC: &str = "spec.json";
/// How it ended; written last.
pub const RESULT: &str = "result.json";
/// The model of a package or a run's artifacts.
pub const MODEL_ONNX: &str = "model.onnx";
/// Describes a package; written last of the files that it lists.
pub const MANIFEST: &str = "manifest.json";
/// Signs the manifest of a package, or a build.
pub const SIGNATURE: &str = "signature.json";
/// Describes a build; written last of its files, but for its signature.
pub const BUILD: &str = "build.json";
/// Training-time distributions for drift.
pub const REFERENCE: &str = "reference.json";
/// What the trainer measured.
pub const METRICS: &str = "metrics.json";
/// Where everything came from.
pub const LINEAGE: &str = "lineage.json";
