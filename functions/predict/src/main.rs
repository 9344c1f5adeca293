//! The `predict` function: runs compiled models. It links no ONNX runtime and no compiler, so that it starts fast.

use std::sync::Arc;

use moola_core::ports::Engine;
use moola_wasm_runtime::WasmEngine;

/// Names the function that runs what is not compiled.
const NATIVE: &str = "MOOLA_PREDICT_NATIVE";
/// Places for instances of models. Lambda sends one request at a time.
const INSTANCES: u32 = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    moola_aws::lambda::init_tracing();
    let wasm = WasmEngine::pooled(INSTANCES).map_err(|error| anyhow::anyhow!("{}", error.chain()))?;
    let engines: Vec<Arc<dyn Engine>> = vec![Arc::new(wasm)];
    moola_predict::run("predict", engines, Some(NATIVE)).await
}
