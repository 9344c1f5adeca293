//! Child processes.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use moola_core::ports::{JobDescription, JobId};
use moola_core::{Error, Result};
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::{CommandTemplate, child_index};

const INHERITED: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "TZ",
    "LANG",
    "LD_LIBRARY_PATH",
    "RAYON_NUM_THREADS",
    "SSL_CERT_FILE",
    "RUST_LOG",
    "RUST_BACKTRACE",
];
const INHERITED_PREFIXES: [&str; 5] = ["AWS_", "MOOLA_", "LC_", "CUDA_", "NVIDIA_"];
const SECRETS: [&str; 4] = ["KEY", "TOKEN", "SECRET", "PASSWORD"];

/// A command and where its output goes.
pub(super) struct JobCommand {
    command: Command,
    log: PathBuf,
}

/// How an attempt ended.
pub(super) struct End {
    /// `None` where it never ran, or nobody saw the end.
    pub(super) exit_code: Option<i32>,
    /// Why it was ended from outside or could not start.
    pub(super) stopped: Option<String>,
    /// Whether that was asked for, by a cancellation or a shutdown.
    pub(super) is_asked: bool,
}

impl End {
    /// Whether the platform ended, and the attempt with it.
    pub(super) fn is_interruption(&self) -> bool {
        self.exit_code.is_none() && self.stopped.is_none()
    }
}

fn is_inherited(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let is_listed = INHERITED.contains(&name) || INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    is_listed
        && !name.starts_with("AWS_BATCH")
        && !(name.starts_with("MOOLA_") && SECRETS.iter().any(|secret| name.contains(secret)))
}

fn inherited(environment: impl Iterator<Item = (OsString, OsString)>) -> impl Iterator<Item = (OsString, OsString)> {
    environment.filter(|(name, _)| is_inherited(name))
}

pub(super) fn command(template: &CommandTemplate, job: &JobDescription, log: PathBuf) -> JobCommand {
    let mut command = Command::new(&template.program);
    command
        .args(&template.args)
        .args(&job.request.args)
        .env_clear()
        .envs(inherited(std::env::vars_os()))
        .envs(&job.request.environment)
        .env("AWS_BATCH_JOB_ID", &job.id.0)
        .env("AWS_BATCH_JOB_ATTEMPT", job.attempts.to_string())
        .env("AWS_BATCH_JQ_NAME", &job.request.queue)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .process_group(0);
    if let Some((_, index)) = child_index(&job.id) {
        command.env("AWS_BATCH_JOB_ARRAY_INDEX", index.to_string());
    }
    die_with_parent(&mut command);
    JobCommand { command, log }
}

/// Lets the kernel kill the child when the thread that starts it ends.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before that call.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_command: &mut Command) {}

type Order = (JobCommand, oneshot::Sender<Result<Child>>);

/// A thread that starts child processes and lives as long as they may, since they die with it.
pub(super) struct Spawner {
    orders: mpsc::Sender<Order>,
}

impl Spawner {
    pub(super) fn start() -> Result<Self> {
        let (orders, received) = mpsc::channel::<Order>();
        let runtime =
            Handle::try_current().map_err(|error| Error::internal("jobs need a tokio runtime").with_source(error))?;
        std::thread::Builder::new()
            .name("moola-jobs".into())
            .spawn(move || {
                let _entered = runtime.enter();
                for (command, reply) in received {
                    // A caller that has gone drops the child, which ends it.
                    let _ = reply.send(command.spawn());
                }
            })
            .map_err(|error| Error::unavailable("cannot start the thread of jobs").with_source(error))?;
        Ok(Self { orders })
    }

    pub(super) async fn spawn(&self, command: JobCommand) -> Result<Child> {
        let gone = || Error::internal("the thread of jobs has ended");
        let (reply, child) = oneshot::channel();
        self.orders.send((command, reply)).map_err(|_| gone())?;
        child.await.map_err(|_| gone())?
    }
}

impl JobCommand {
    fn spawn(mut self) -> Result<Child> {
        let open = || -> io::Result<_> {
            self.log.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
            Ok((log.try_clone()?, log))
        };
        let (stdout, stderr) = open().map_err(|error| crate::io_error("write the log", &self.log, error))?;
        let program = self.command.as_std().get_program().to_owned();
        let child =
            self.command.stdout(stdout).stderr(stderr).spawn().map_err(|error| {
                Error::unavailable(format!("cannot start `{}`", program.display())).with_source(error)
            })?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Child { child, group: Group(group) })
    }
}

/// A process group, which is killed in the end.
struct Group(Option<i32>);

impl Group {
    fn signal(&self, signal: i32) {
        if let Some(id) = self.0 {
            // SAFETY: no memory is involved. The group was made by us, and its id is not given away while it has members.
            unsafe {
                libc::kill(-id, signal);
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
    }
}

/// A running child process; dropping it kills its group.
pub(super) struct Child {
    child: tokio::process::Child,
    group: Group,
}

impl Child {
    /// Waits for the end, and brings it about on `stop` or after `timeout`.
    pub(super) async fn wait(mut self, stop: &Notify, timeout: Option<Duration>, grace: Duration) -> End {
        let timed_out = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let (status, stopped, is_asked) = tokio::select! {
            status = self.child.wait() => (status, None, false),
            () = stop.notified() => (self.stop(grace).await, Some("stopped".to_owned()), true),
            () = timed_out => {
                let reason = format!("attempt ran longer than {} s", timeout.unwrap_or_default().as_secs());
                (self.stop(grace).await, Some(reason), false)
            }
        };
        match status {
            Ok(status) => End { exit_code: Some(exit_code(status)), stopped, is_asked },
            Err(error) => End { exit_code: None, stopped: Some(format!("the process was lost: {error}")), is_asked },
        }
    }

    async fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        self.group.signal(libc::SIGTERM);
        match tokio::time::timeout(grace, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.group.signal(libc::SIGKILL);
                self.child.wait().await
            }
        }
    }
}

/// The exit code, or 128 plus the number of the signal.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(128)
}

/// Kills processes of a job that outlived the platform: those that the child itself had started. They are known by the
/// job's id in their environment.
pub(super) fn kill_orphans(id: &JobId) {
    let wanted = format!("AWS_BATCH_JOB_ID={id}");
    // Without `/proc` there is nothing to look at.
    let Ok(processes) = std::fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // Those of other users cannot be read.
        let Ok(environment) = std::fs::read(process.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            // SAFETY: no memory is involved.
            unsafe {
                libc::kill(pid, libc::SIGKILL);
            }
        }
    }
}

#[cfg(test)]
mod tests;
