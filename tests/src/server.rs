//! `moola up` as a child process, and calls of its API.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Method, header};
use serde_json::Value;

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A program of this workspace that cargo built beside the tests.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of the test");
    let target = test.parent().and_then(Path::parent).expect("a target directory");
    let path = target.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{} is missing: run `cargo test --workspace`, or build it", path.display());
    path
}

/// The `moola` binary.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn moola() -> PathBuf {
    program("moola")
}

fn command(data_dir: &Path) -> Command {
    let mut command = Command::new(moola());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MOOLA_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").env("NO_COLOR", "1").arg("--data-dir").arg(data_dir).stdin(Stdio::null());
    command
}

/// Runs `moola` with `args` to its end.
///
/// # Panics
/// Where it cannot be started.
pub fn run<S: AsRef<OsStr>>(data_dir: &Path, args: &[S]) -> Output {
    command(data_dir).args(args).output().expect("moola")
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body; null where it is no JSON.
    pub json: Value,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body of a success.
    ///
    /// # Panics
    /// Where it is none.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "status {}: {}", self.status, self.text);
        self.json
    }

    /// The message of a refusal, whose status must be `status`.
    ///
    /// # Panics
    /// Where it is another, or the body is no error.
    #[track_caller]
    #[must_use]
    pub fn refused(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.json["error_code"].is_string(), "no error code: {}", self.text);
        self.json["message"].as_str().unwrap_or_else(|| panic!("no message: {}", self.text)).to_owned()
    }
}

/// Calls the API.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
}

impl Api {
    /// The API at `base`, `http://<host>:<port>` and what every path starts with.
    ///
    /// # Panics
    /// Where no client can be made.
    pub fn new(base: impl Into<String>) -> Self {
        let base = base.into();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().expect("a client");
        Self { http, base }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// Where the server is gone.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: Vec<u8>,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).body(body);
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok(Answer { status, json: serde_json::from_str(&text).unwrap_or_default(), text })
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// Where the server is gone.
    pub async fn try_json(&self, method: Method, path: &str, body: &Value) -> reqwest::Result<Answer> {
        self.send(method, path, Some("application/json"), body.to_string().into_bytes()).await
    }

    /// Gets.
    ///
    /// # Panics
    /// Where the server is gone.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, Vec::new()).await.unwrap_or_else(|error| panic!("GET {path}: {error:?}"))
    }

    /// Posts JSON.
    ///
    /// # Panics
    /// Where the server is gone.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let answer = self.try_json(Method::POST, path, body).await;
        answer.unwrap_or_else(|error| panic!("POST {path}: {error:?}"))
    }

    /// Imports a file as a version of the dataset `name`, of an instrument of the same name.
    ///
    /// # Errors
    /// Where the server is gone.
    pub async fn import(&self, name: &str, file: String) -> reqwest::Result<Answer> {
        let path = format!("/api/v2/datasets?name={name}&symbol={name}&interval=1h");
        self.send(Method::POST, &path, Some("application/octet-stream"), file.into_bytes()).await
    }

    /// Registers a version.
    ///
    /// # Errors
    /// Where the server is gone.
    pub async fn register(&self, model: &str, manifest: &Value, onnx: &[u8]) -> reqwest::Result<Answer> {
        use base64::Engine as _;
        let content = base64::engine::general_purpose::STANDARD.encode(onnx);
        let body = serde_json::json!({"manifest": manifest, "model_base64": content});
        self.try_json(Method::POST, &format!("/api/v2/models/{model}/versions"), &body).await
    }

    /// Waits until the gates judged a version.
    ///
    /// # Panics
    /// Where they do not in time.
    pub async fn judged(&self, model: &str, version: u64) -> Value {
        let path = format!("/api/v2/models/{model}/versions/{version}");
        let judged = || async { Some(self.get(&path).await.ok()).filter(|version| !version["gates"].is_null()) };
        crate::until("the judgement of the gates", Duration::from_secs(30), judged).await
    }

    /// Judges a version against what serves, then promotes it.
    ///
    /// # Errors
    /// Where the server is gone.
    pub async fn promote(&self, model: &str, version: u64) -> reqwest::Result<Answer> {
        let path = format!("/api/v2/models/{model}/versions/{version}");
        let judged = self.try_json(Method::POST, &format!("{path}/gates"), &Value::Null).await?;
        if judged.status != 200 {
            return Ok(judged);
        }
        self.try_json(Method::POST, &format!("{path}/deploy"), &serde_json::json!({"reason": "test"})).await
    }
}

/// A running `moola up`.
#[derive(Debug)]
pub struct Server {
    child: Child,
    api: Api,
    log: PathBuf,
}

impl Server {
    /// Starts it over `data_dir` with `settings` as its `moola.toml`, and waits until it is ready.
    ///
    /// # Panics
    /// Where it does not get ready; what it printed is shown.
    pub async fn start(data_dir: &Path, settings: &str) -> Self {
        std::fs::create_dir_all(data_dir).expect("the data directory");
        std::fs::write(data_dir.join("moola.toml"), settings).expect("the settings");
        let log = data_dir.join("moola.log");
        let file = File::options().create(true).append(true).open(&log).expect("a file for the log");
        let out = file.try_clone().expect("a file for the log");
        let child = command(data_dir).args(["up", "--port", "0"]).stdout(out).stderr(file).spawn().expect("moola up");
        let mut server = Self { child, api: Api::new(String::new()), log };
        let (path, started) = (data_dir.join("server.json"), Instant::now());
        while started.elapsed() < START_LIMIT {
            if let Some(status) = server.child.try_wait().expect("the state of moola up") {
                panic!("moola up ended with {status}");
            }
            if server.api.base.is_empty() {
                let file: Value =
                    std::fs::read(&path).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
                // A kill leaves the file of another process.
                if file["pid"] == server.child.id() {
                    server.api = Api::new(file["url"].as_str().expect("an address").to_owned());
                }
            } else if server.api.send(Method::GET, "/ready", None, Vec::new()).await.is_ok_and(|it| it.status == 200) {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("moola up was not ready within {} s", START_LIMIT.as_secs());
    }

    /// Its API.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Kills it with SIGKILL.
    ///
    /// # Panics
    /// Where it was gone already.
    pub fn kill9(mut self) {
        assert!(self.child.try_wait().expect("the state of moola up").is_none(), "moola up ended by itself");
        self.child.kill().expect("kill -9");
        self.child.wait().expect("the end of moola up");
    }

    /// Ends it with SIGTERM.
    ///
    /// # Panics
    /// Where it does not end with exit code 0 in time.
    pub async fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let started = Instant::now();
        while started.elapsed() < STOP_LIMIT {
            if let Some(status) = self.child.try_wait().expect("the state of moola up") {
                assert!(status.success(), "moola up ended with {status}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("moola up did not end within {} s", STOP_LIMIT.as_secs());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail where it is gone, which is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of moola.log\n{}\n---", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}
