//! The `predict_native` function: runs models from their ONNX files, where they are not served compiled. `predict` hands their
//! requests on to it.

use std::sync::Arc;

use moola_core::ports::Engine;
use moola_onnx::TractEngine;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    moola_aws::lambda::init_tracing();
    let engines: Vec<Arc<dyn Engine>> = vec![Arc::new(TractEngine)];
    moola_predict::run("predict_native", engines, None).await
}
