//! Runs compiled models with wasmtime.
