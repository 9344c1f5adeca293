//! The `compile` function, the one that runs models before they serve: it takes in models from elsewhere, and compiles and judges
//! every version that is registered.

use std::sync::Arc;

use moola_api::control::model_router;
use moola_control::{Control, run, state};
use moola_core::builds::Engines;
use moola_core::ports::Engine;
use moola_onnx::TractEngine;
use moola_wasm_runtime::{WasmCompiler, WasmConfig, WasmEngine};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let wasm = WasmEngine::new(WasmConfig::default()).map_err(|error| anyhow::anyhow!("{}", error.chain()))?;
    let engines: Vec<Arc<dyn Engine>> = vec![Arc::new(wasm), Arc::new(TractEngine)];
    let compiler = Some(Arc::new(WasmCompiler::default()) as _);
    let app = Control::from_env().await?.with_signer()?.app(Engines { engines: engines.clone(), compiler });
    let router = model_router(state(&app, engines));
    run("compile", &app, Some(router), Some(Arc::new(app.gates.clone()))).await
}
