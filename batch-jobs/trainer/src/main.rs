//! Trains one model as its spec says.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::Parser;
use moola_trainer::{EXIT_FAILED, Options};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Trains one model as its spec says, from its last checkpoint where there is one.
///
/// Exit codes: 0 done (or done before); 75 run me again (asked to stop by SIGTERM or SIGINT after a checkpoint, or the
/// storage is not available for now); 1 failed for good, see `result.json`; 2 wrong command line.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// URL of the spec: `file:///<directory>/runs/<run>/spec.json`.
    spec: String,
    /// Job that this is part of; recorded in the result.
    #[arg(long, env = "AWS_BATCH_JOB_ID", hide_env_values = true)]
    job_id: Option<String>,
    /// Which attempt of the job this is, from 1.
    #[arg(long, env = "AWS_BATCH_JOB_ATTEMPT")]
    attempt: Option<u32>,
    /// Which child of an array job this is; recorded in the result.
    #[arg(long, env = "AWS_BATCH_JOB_ARRAY_INDEX")]
    array_index: Option<u32>,
    /// Threads of the recurrent layers; 0 for as many as there are cores. The result does not depend on it.
    #[arg(long, env = "MOOLA_THREADS", default_value_t = 0)]
    threads: usize,
    /// Shows lines instead of a bar.
    #[arg(long, env = "MOOLA_NO_PROGRESS")]
    no_progress: bool,
}

fn main() {
    let arguments = Arguments::parse();
    moola_trainer::keep_freed_memory();
    let code = start(&arguments).unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        EXIT_FAILED
    });
    std::process::exit(code);
}

fn start(arguments: &Arguments) -> anyhow::Result<i32> {
    let filter = EnvFilter::try_from_env("MOOLA_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let stop = Arc::new(AtomicBool::new(false));
    {
        let _guard = runtime.enter();
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let mut signals = signal(kind).context("listening to signals")?;
            let stop = Arc::clone(&stop);
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    stop.store(true, Ordering::Relaxed);
                }
            });
        }
    }
    moola_trainer::lstm::set_num_threads(arguments.threads);
    let threads = match arguments.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let mut environment: BTreeMap<String, String> = [
        ("operating_system", std::env::consts::OS.to_owned()),
        ("processor", std::env::consts::ARCH.to_owned()),
        ("threads", threads.to_string()),
        ("backend", "burn 0.21 flex".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    environment.extend(arguments.job_id.clone().map(|id| ("job_id".to_owned(), id)));
    environment.extend(arguments.array_index.map(|index| ("array_index".to_owned(), index.to_string())));
    let show_bar = !arguments.no_progress && std::io::stderr().is_terminal();
    let options = Options { show_bar, stop, attempt: arguments.attempt, environment };
    Ok(moola_trainer::run(&arguments.spec, &options, runtime.handle()))
}
