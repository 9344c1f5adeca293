//! The `training` function: datasets, features, runs and jobs over HTTP; changes of jobs turn runs into versions.

use std::sync::Arc;

use moola_api::control::data_router;
use moola_control::{Control, Recorded, run, state};
use moola_core::builds::Engines;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let app = Control::from_env().await?.with_jobs().with_signer()?.app(Engines::default());
    let router = data_router(state(&app, Vec::new()));
    let handler = Arc::new(Recorded::new(app.ports.clone(), app.training.clone()));
    run("training", &app, Some(router), Some(handler)).await
}
