//! The `moola` command: the whole platform in one process, and a client of it.

mod args;
mod client;
mod commands;
mod config;
mod demo;
mod output;
mod platform;
mod server;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use args::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli);
    if let Command::Trainer { spec_url } = &cli.command {
        return match commands::train::run_trainer(spec_url) {
            Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
            Err(error) => output::fail(&error),
        };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&anyhow::Error::from(error).context("cannot start")),
    };
    let done = runtime.block_on(run(cli));
    // What still computes in the background must not hold up the end.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match done {
        Ok(code) => code,
        Err(error) => output::fail(&error),
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Up(up) => server::up(&cli.global, up).await,
        Command::Demo(demo) => demo::run(&cli.global, demo).await,
        Command::Compile(args) => commands::compile::run(&cli.global, &args),
        command => commands::run(&cli.global, command).await,
    }
    .map(|()| ExitCode::SUCCESS)
}

/// Logs go to standard error: warnings by themselves, `-v` and `-vv` tell more, `RUST_LOG` decides alone.
fn start_log(cli: &Cli) {
    let is_service = matches!(cli.command, Command::Up(_) | Command::Trainer { .. });
    let level = match (cli.global.verbose, cli.global.quiet) {
        (0, true) => "error",
        (0, false) if is_service => "info,tract_core=warn,tract_hir=warn,tract_onnx=warn",
        (0, false) => "error",
        (1, _) => "info,tract_core=warn,tract_hir=warn,tract_onnx=warn",
        (2, _) => "debug,tract_core=info,tract_hir=info,tract_onnx=info,hyper=info,reqwest=info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ansi = std::io::stderr().is_terminal() && !is_plain;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    // Somebody else's subscriber would do as well.
    let _ = log.finish().try_init();
}
