//! The `registry` function: models, versions, aliases, stages and what happened, over HTTP.

use moola_api::control::registry_router;
use moola_control::{Control, run, state};
use moola_core::builds::Engines;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let app = Control::from_env().await?.app(Engines::default());
    let router = registry_router(state(&app, Vec::new()));
    run("registry", &app, Some(router), None).await
}
