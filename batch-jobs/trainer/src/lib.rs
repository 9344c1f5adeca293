//! The training container: burn models, training loop, evaluation and ONNX export.
