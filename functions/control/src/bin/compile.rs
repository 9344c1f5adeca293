//! The `compile` function, the one that runs models before they serve: it takes in models from elsewhere, and judges
//! every version that is registered.

use std::sync::Arc;

use moola_api::control::model_router;
use moola_control::{Control, run, state};
use moola_core::ports::Engine;
use moola_onnx::TractEngine;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let engines: Vec<Arc<dyn Engine>> = vec![Arc::new(TractEngine)];
    let app = Control::from_env().await?.with_signer()?.app(engines.clone());
    let router = model_router(state(&app, engines));
    run("compile", &app, Some(router), Some(Arc::new(app.gates.clone()))).await
}
