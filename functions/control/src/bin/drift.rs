//! The `drift` function: checks on a schedule and over HTTP.

use std::sync::Arc;

use moola_api::control::drift_router;
use moola_control::{Control, run, state};
use moola_core::builds::Engines;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let app = Control::from_env().await?.app(Engines::default());
    let router = drift_router(state(&app, Vec::new()));
    run("drift", &app, Some(router), Some(Arc::new(app.monitor.clone()))).await
}
