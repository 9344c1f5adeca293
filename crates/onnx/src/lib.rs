//! Loads, checks and runs ONNX models with tract, and writes ONNX graphs.

pub mod writer;
