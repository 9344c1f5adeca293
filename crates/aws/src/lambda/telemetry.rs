//! Logs: JSON lines on standard output, with the ids of the invocation, the request and the event.

use tracing_subscriber::EnvFilter;

/// Starts the log. `MOOLA_LOG` says what is logged (`info` by default; `moola_core=debug,warn`).
pub fn init_tracing() {
    let filter = EnvFilter::try_from_env("MOOLA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(true)
        .with_target(true)
        .with_env_filter(filter)
        .with_writer(std::io::stdout);
    // CloudWatch knows the time of a line; a second start in one process (tests) changes nothing.
    let _ = log.without_time().try_init();
}
