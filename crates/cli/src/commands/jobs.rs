//! `moola jobs`.

use moola_api::control::RunView;
use moola_core::ports::{JobDescription, LogLine};
use moola_core::training::Run;
use serde::Deserialize;

use super::show;
use crate::args::{Global, JobsCommand};
use crate::client::{Call, Client};
use crate::output::{self, Table, line};

#[derive(Deserialize)]
struct Jobs {
    jobs: Vec<JobDescription>,
}

#[derive(Deserialize)]
struct Lines {
    lines: Vec<LogLine>,
}

/// Runs the command.
pub(super) async fn run(global: &Global, client: &Client, command: JobsCommand) -> anyhow::Result<()> {
    match command {
        JobsCommand::List { limit } => {
            show(global, client, Call::get(&["jobs"]).with("limit", limit), |answer: Jobs| {
                let mut table = Table::new(&["id", "name", "status", "attempts", "created", "reason"]);
                for job in answer.jobs {
                    table.row([
                        job.id.to_string(),
                        job.request.name,
                        job.status.as_str().into(),
                        job.attempts.to_string(),
                        output::time(job.created_ms),
                        job.status_reason.unwrap_or_default(),
                    ]);
                }
                table.print()
            })
            .await
        }
        JobsCommand::Logs { job, limit } => {
            let is_run = run_of(client, &job).await.is_some();
            let run = ["training", "jobs", job.as_str(), "logs"];
            let own = ["jobs", job.as_str(), "logs"];
            let call = Call::get(if is_run { &run } else { &own }).with("limit", limit);
            show(global, client, call, |answer: Lines| answer.lines.iter().try_for_each(|entry| line(&entry.text)))
                .await
        }
        JobsCommand::Cancel { job } => {
            if let Some(run) = run_of(client, &job).await {
                let has_ended = run.status.is_final();
                let call = Call::post(&["training", "jobs", &job, "cancel"]);
                return show(global, client, call, |run: Run| {
                    let status = super::runs::status(run.status);
                    if has_ended {
                        return line(format!("run {} has already ended ({status})", run.run_id));
                    }
                    line(format!("run {} is {status}", run.run_id))
                })
                .await;
            }
            let before: JobDescription = client.call(Call::get(&["jobs", &job])).await?;
            show(global, client, Call::post(&["jobs", &job, "cancel"]), |job: JobDescription| {
                if before.status.is_final() {
                    return line(format!("job {} has already ended ({})", job.id, job.status.as_str()));
                }
                line(format!("job {} is told to end ({})", job.id, job.status.as_str()))
            })
            .await
        }
    }
}

/// The run of that id, of which the run is cancelled and not the job alone; `None` where it is a job's.
async fn run_of(client: &Client, id: &str) -> Option<Run> {
    client.call::<RunView>(Call::get(&["training", "jobs", id])).await.ok().map(|view| view.run)
}
