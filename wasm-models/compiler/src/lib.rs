//! Compiles ONNX models to small stand-alone WebAssembly modules.
