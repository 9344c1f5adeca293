//! The `react` function: keeps what happened, promotes what passed its gates, retrains what drifted.

use std::sync::Arc;

use moola_control::{Control, Recorded, run};
use moola_core::builds::Engines;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let app = Control::from_env().await?.with_jobs().app(Engines::default());
    let handler = Arc::new(Recorded::new(app.ports.clone(), app.reactor.clone()));
    run("react", &app, None, Some(handler)).await
}
