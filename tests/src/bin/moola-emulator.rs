//! Makes on an emulator of AWS what moola needs there, and stands in for AWS Batch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use moola_local::CommandTemplate;
use moola_tests::batch_service::{BatchService, BatchServiceConfig};
use moola_tests::setup::{Made, Setup};

/// Makes on an emulator of AWS what Terraform makes in AWS: bucket, table, signing key, bus, queues, rules, schedules,
/// topic, and the functions with their HTTP API where the emulator runs functions.
///
/// The standard AWS environment says where the emulator is: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID,
/// AWS_SECRET_ACCESS_KEY.
#[derive(Debug, Parser)]
#[command(name = "moola-emulator", version)]
struct Arguments {
    /// What everything's name starts with.
    #[arg(long, default_value = "moola")]
    prefix: String,
    /// Folder of the functions' bootstraps, such as `target/lambda`; without it no functions are made.
    #[arg(long)]
    bootstraps: Option<PathBuf>,
    /// Writes the environment of functions and trainers to this file, as `cargo lambda watch --env-file` reads it.
    #[arg(long)]
    env_file: Option<PathBuf>,
    /// Then stands in for AWS Batch until it is stopped: runs this trainer for every job.
    #[arg(long, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
    /// Where the stand-in keeps its jobs and their logs.
    #[arg(long, default_value = "moola-batch")]
    data: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL") else {
        bail!("AWS_ENDPOINT_URL is not set; this is for emulators, in AWS use terraform/");
    };
    let config = moola_aws::sdk_config().await;
    let standard = ["AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
    let mut environment: BTreeMap<String, String> =
        standard.into_iter().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
    let service = match &arguments.trainer {
        Some(trainer) => {
            let trainer = trainer.canonicalize().with_context(|| trainer.display().to_string())?;
            let template = CommandTemplate { program: trainer, args: Vec::new() };
            let names = ["cpu", "gpu"].map(|queue| format!("{}-trainer-{queue}", arguments.prefix));
            let definitions = names.into_iter().map(|name| (name, template.clone())).collect();
            let mut service = BatchServiceConfig::new(definitions, &arguments.data);
            service.queues = ["cpu", "gpu"].map(|queue| format!("{}-{queue}", arguments.prefix)).into();
            service.environment = environment.clone();
            Some(BatchService::start(service, &config).await?)
        }
        None => None,
    };
    if let Some(service) = &service {
        for name in ["AWS_ENDPOINT_URL_BATCH", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"] {
            environment.insert(name.into(), service.endpoint());
        }
    }
    let mut setup = Setup::new(config, &arguments.prefix);
    setup.bootstraps = arguments.bootstraps;
    setup.environment = environment;
    let made = setup.make().await?;
    report(&made, &endpoint);
    if let Some(file) = &arguments.env_file {
        std::fs::write(file, env_file(&made.environment)).with_context(|| file.display().to_string())?;
        println!("environment   {}", file.display());
    }
    if let Some(service) = service {
        println!("AWS Batch     {} (stop with Ctrl-C)", service.endpoint());
        tokio::signal::ctrl_c().await?;
        service.shutdown().await;
    }
    Ok(())
}

fn report(made: &Made, endpoint: &str) {
    println!("emulator      {endpoint}");
    let names: BTreeSet<&str> = ["MOOLA_BUCKET", "MOOLA_TABLE", "MOOLA_BUS"].into();
    for (name, value) in made.environment.iter().filter(|(name, _)| names.contains(name.as_str())) {
        println!("{name:<13} {value}");
    }
    match &made.endpoint {
        Some(endpoint) => println!("HTTP API      {endpoint}"),
        None => println!("HTTP API      none: no --bootstraps were given"),
    }
}

/// `NAME=value` per line, with the line ends of values as `\n` in double quotes.
fn env_file(environment: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (name, value) in environment {
        let _ = if value.contains('\n') {
            writeln!(text, "{name}=\"{}\"", value.trim_end().replace('\n', "\\n"))
        } else {
            writeln!(text, "{name}={value}")
        };
    }
    text
}
