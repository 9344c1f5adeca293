//! Compiled modules against other engines: tract, onnxruntime's stored answers, Node.js.

mod generator;
mod random;
mod support;
mod trained;
