//! The `predict` function: runs compiled models. It links no ONNX runtime and no compiler, so that it starts fast.

use std::sync::Arc;

use moola_core::ports::Engine;
use moola_wasm_runtime::{WasmConfig, WasmEngine};

/// Names the function that runs what is not compiled.
const NATIVE: &str = "MOOLA_PREDICT_NATIVE";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    moola_aws::lambda::init_tracing();
    // One request at a time: instances are mapped when they are needed.
    let wasm = WasmEngine::new(WasmConfig::default()).map_err(|error| anyhow::anyhow!("{}", error.chain()))?;
    let engines: Vec<Arc<dyn Engine>> = vec![Arc::new(wasm)];
    moola_predict::run("predict", engines, Some(NATIVE)).await
}
