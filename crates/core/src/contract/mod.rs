//! The documents that moola's parts exchange, and where they are stored.
//!
//! They are written by one program and read by another, maybe years later: every one carries a `format_version`, unknown
//! fields are refused in what users write ([`TrainingSpec`]) and ignored in what programs write.

mod build;
mod manifest;
pub mod paths;
mod result;
mod spec;

pub use build::{BatchTimes, Benchmark, BuildFile, BuildManifest, BuildSignature, EngineChoice, EngineGround};
pub use manifest::{
    FORMAT_VERSION, FileDigest, InputKind, InputSpec, Lineage, ModelManifest, OutputSpec, PackageSignature, Task,
};
pub use result::{EpochProgress, FoldMetrics, Progress, RunOutcome, RunResult, StepProgress, TrainedModel};
pub use spec::{Architecture, DatasetRef, ModelSpec, OptimizerSpec, ResourceSpec, SplitSpec, TrainingSpec, WindowSpec};
