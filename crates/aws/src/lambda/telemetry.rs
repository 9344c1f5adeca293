//! Logs: JSON lines on standard output, with the ids of the invocation, the request and the event.

use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts the log. `MOOLA_LOG` says what is logged (`info` by default; `moola_core=debug,warn`): levels of targets.
pub fn init_tracing() {
    let targets = std::env::var("MOOLA_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let targets = targets.unwrap_or_else(|| Targets::new().with_default(tracing::Level::INFO));
    // CloudWatch knows the time of a line.
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true)
        .with_target(true)
        .without_time()
        .with_writer(std::io::stdout);
    // A second start in one process (tests) changes nothing.
    let _ = tracing_subscriber::registry().with(lines.with_filter(targets)).try_init();
}
