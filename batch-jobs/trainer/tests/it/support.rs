//! A directory with a dataset and a spec, and the binary run on it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use moola_core::commit::sha256_hex;
use moola_core::contract::{
    DatasetRef, ModelSpec, OptimizerSpec, Progress, ResourceSpec, RunResult, SplitSpec, TrainingSpec, WindowSpec,
};
use moola_market::labels::LabelSpec;
use moola_market::{Bar, Bars, Interval};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// Bars of a walk whose next step has mostly the sign of the last: what a model can learn.
pub(crate) fn bars(count: usize, seed: u64) -> Bars {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut bars = Bars::with_capacity(count);
    let (mut price, mut up): (f64, bool) = (100.0, true);
    for index in 0..count {
        if random.random::<f64>() < 0.1 {
            up = !up;
        }
        let size = 0.002 + 0.002 * random.random::<f64>();
        let open = price;
        price *= if up { 1.0 + size } else { 1.0 - size };
        let wick = 0.001 * price * random.random::<f64>();
        let (high, low) = (open.max(price) + wick, open.min(price) - wick);
        bars.push(Bar { time_ms: index as i64 * 3_600_000, open, high, low, close: price, volume: None });
    }
    bars
}

/// A small spec of `run_id` over `sha256`.
pub(crate) fn spec(run_id: &str, sha256: &str, label: LabelSpec) -> TrainingSpec {
    TrainingSpec {
        format_version: 1,
        run_id: run_id.into(),
        model_name: "walk".into(),
        dataset: DatasetRef {
            name: "walk".into(),
            version: "1".into(),
            sha256: sha256.into(),
            symbol: "WALK".into(),
            interval: Interval::HOUR,
        },
        window: WindowSpec { bars: 12, stride: 2, feature_set: "core".into(), max_windows: 0 },
        label,
        // The features need 105 bars of history, so the borders between the folds are wide.
        split: SplitSpec { train: 0.5, validation: 0.3, embargo_bars: 0 },
        model: ModelSpec { hidden_size: 8, num_heads: 2, ..ModelSpec::default() },
        optimizer: OptimizerSpec {
            epochs: 4,
            batch_size: 32,
            learning_rate: 5e-3,
            patience: 0,
            checkpoint_steps: 3,
            ..OptimizerSpec::default()
        },
        resources: ResourceSpec::default(),
        seed: 7,
        correlation_id: None,
    }
}

/// Whether the price rises over the next bar.
pub(crate) fn up_or_down() -> LabelSpec {
    LabelSpec::Supplied { column: "up".into(), classes: vec!["down".into(), "up".into()], horizon: 1 }
}

/// A data directory.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) sha256: String,
}

impl Place {
    pub(crate) fn new(mut bars: Bars) -> Self {
        let up = (0..bars.len()).map(|t| match bars.close().get(t + 1) {
            Some(next) => f64::from(u8::from(*next > bars.close()[t])),
            None => f64::NAN,
        });
        let up = up.collect();
        bars.set_extra("up", up).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let bytes = moola_core::columns::to_parquet(&bars).unwrap();
        let folder = dir.path().join("datasets/walk/1");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("bars.parquet"), &bytes).unwrap();
        Self { dir, sha256: sha256_hex(&bytes) }
    }

    pub(crate) fn run_dir(&self, run_id: &str) -> PathBuf {
        self.dir.path().join("runs").join(run_id)
    }

    pub(crate) fn write_spec(&self, spec: &TrainingSpec) {
        std::fs::create_dir_all(self.run_dir(&spec.run_id)).unwrap();
        std::fs::write(self.run_dir(&spec.run_id).join("spec.json"), serde_json::to_vec(spec).unwrap()).unwrap();
    }

    pub(crate) fn command(&self, run_id: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moola-trainer"));
        command.arg(format!("file://{}/spec.json", self.run_dir(run_id).display()));
        for name in ["AWS_BATCH_JOB_ID", "AWS_BATCH_JOB_ATTEMPT", "AWS_BATCH_JOB_ARRAY_INDEX"] {
            command.env_remove(name);
        }
        command
    }

    pub(crate) fn start(&self, run_id: &str) -> Child {
        self.command(run_id).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub(crate) fn train(&self, spec: &TrainingSpec) -> Output {
        self.write_spec(spec);
        self.command(&spec.run_id).output().unwrap()
    }

    /// Trains and expects success.
    pub(crate) fn trained(&self, spec: &TrainingSpec) -> RunResult {
        let output = self.train(spec);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.result(&spec.run_id)
    }

    pub(crate) fn result(&self, run_id: &str) -> RunResult {
        serde_json::from_slice(&std::fs::read(self.run_dir(run_id).join("result.json")).unwrap()).unwrap()
    }

    pub(crate) fn model(&self, run_id: &str) -> Vec<u8> {
        std::fs::read(self.run_dir(run_id).join("artifacts/model.onnx")).unwrap()
    }

    pub(crate) fn progress(&self, run_id: &str) -> Vec<Progress> {
        let mut all = Vec::new();
        for file in files(&self.run_dir(run_id).join("progress")) {
            let text = std::fs::read_to_string(file).unwrap();
            all.extend(text.lines().map(|line| serde_json::from_str::<Progress>(line).unwrap()));
        }
        all
    }
}

/// Files of a folder by name; none where it does not exist.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
