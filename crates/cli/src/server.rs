//! `moola up`: the platform behind HTTP.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::http::HeaderValue;
use axum::response::Response;
use moola_core::app::Settings;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::args::{Global, UpArgs};
use crate::client::{INSTANCE, ServerFile};
use crate::config;
use crate::output::{self, Hint as _, note, usage};
use crate::platform::Platform;

/// What requests that were accepted get to end.
const DRAIN: Duration = Duration::from_secs(20);

/// A platform that answers over HTTP.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    file: PathBuf,
    platform: Platform,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    /// Opens the data directory, starts everything and listens.
    pub(crate) async fn start(data_dir: &Path, settings: Settings, address: SocketAddr) -> anyhow::Result<Self> {
        let platform = Platform::open(data_dir, settings).await?;
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on `{address}`"));
        let listener = listener.hint("choose another port with `--port`; 0 takes any free one")?;
        let address = listener.local_addr()?;
        platform.start().await?;
        let url = format!("http://{address}");
        let instance = platform.new_id();
        let router = with_instance(platform.router(), &instance)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async {
            // A sender that is gone stops it as well.
            let _ = stopped.await;
        });
        let serving = tokio::spawn(serving.into_future());
        let file = ServerFile::path(data_dir);
        let content = ServerFile { url: url.clone(), pid: std::process::id(), instance };
        write_file(&file, &serde_json::to_vec_pretty(&content)?)
            .await
            .with_context(|| format!("cannot write `{}`", file.display()))?;
        Ok(Self { url, file, platform, stop, serving })
    }

    /// Such as `http://127.0.0.1:8080`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Accepts no more requests, lets those that were accepted end, stops jobs so that they go on after the next start.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        if let Err(error) = tokio::fs::remove_file(&self.file).await {
            warn!(%error, "server.json was not removed");
        }
        let _ = self.stop.send(());
        match tokio::time::timeout(DRAIN, self.serving).await {
            Ok(served) => served??,
            Err(_) => warn!("some requests did not end in {} s", DRAIN.as_secs()),
        }
        self.platform.close().await;
        Ok(())
    }
}

/// Nobody reads a half of it.
async fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("json.new");
    tokio::fs::write(&temporary, bytes).await?;
    tokio::fs::rename(&temporary, path).await
}

fn with_instance(router: Router, instance: &str) -> anyhow::Result<Router> {
    let instance = HeaderValue::from_str(instance)?;
    Ok(router.layer(axum::middleware::map_response(move |mut response: Response| {
        response.headers_mut().insert(INSTANCE, instance.clone());
        async move { response }
    })))
}

/// Runs the platform until it is told to stop.
pub(crate) async fn up(global: &Global, args: UpArgs) -> anyhow::Result<()> {
    check_host(args.host, args.insecure_no_auth)?;
    let data_dir = config::data_dir(global)?;
    let settings = config::settings(global, &data_dir)?;
    let mut signals = Signals::new()?;
    let server = Server::start(&data_dir, settings, SocketAddr::new(args.host, args.port)).await?;
    if global.json {
        output::json(&json!({"url": server.url(), "pid": std::process::id(), "data_dir": data_dir}))?;
    }
    note(global, format!("moola is up at {} (data in {}); Ctrl-C stops it", server.url(), data_dir.display()));
    let signal = signals.wait().await;
    info!(signal, "stopping");
    note(global, "stopping; once more stops at once");
    tokio::select! {
        stopped = server.stop() => stopped,
        signal = signals.wait() => anyhow::bail!("stopped at once by {signal}: what was running goes on at the next start"),
    }
}

fn check_host(host: IpAddr, insecure_no_auth: bool) -> anyhow::Result<()> {
    if host.is_loopback() || insecure_no_auth {
        return Ok(());
    }
    Err(usage(
        format!(
            "`--host` is `{host}`, expected an address of this machine alone (127.0.0.1 or ::1): the API asks nobody who they are"
        ),
        "put a proxy that does in front of it, or accept that anyone who reaches the port may do anything: `--insecure-no-auth`",
    ))
}

/// What tells a process to stop.
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// Listens; needs a tokio runtime.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            interrupt: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?,
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    /// Waits for the next one and names it.
    #[cfg(unix)]
    pub(crate) async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Waits for the next one and names it.
    #[cfg(not(unix))]
    pub(crate) async fn wait(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_is_refused() {
        let any: IpAddr = "0.0.0.0".parse().expect("an address");
        assert!(check_host(any, false).is_err());
        assert!(check_host(any, true).is_ok());
        assert!(check_host("127.0.0.1".parse().expect("an address"), false).is_ok());
        assert!(check_host("::1".parse().expect("an address"), false).is_ok());
    }
}
