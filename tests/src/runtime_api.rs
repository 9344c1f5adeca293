//! The Lambda Runtime API, for one execution environment: what a bootstrap asks for its invocations.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};

const LIMIT: Duration = Duration::from_secs(60);

type Answer = Result<Value, Value>;

struct Shared {
    waiting: tokio::sync::Mutex<mpsc::UnboundedReceiver<(String, Vec<u8>)>>,
    answers: Mutex<HashMap<String, oneshot::Sender<Answer>>>,
    asked: watch::Sender<Option<Instant>>,
}

/// An environment with one bootstrap in it.
pub struct Environment {
    shared: Arc<Shared>,
    invocations: mpsc::UnboundedSender<(String, Vec<u8>)>,
    child: Child,
    started: Instant,
    server: tokio::task::JoinHandle<()>,
    num_invocations: u64,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("pid", &self.child.id()).finish_non_exhaustive()
    }
}

impl Environment {
    /// Starts the bootstrap `program` with `variables` as its environment and no others.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub async fn start<'a>(program: &Path, variables: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let (invocations, waiting) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            waiting: tokio::sync::Mutex::new(waiting),
            answers: Mutex::default(),
            asked: watch::Sender::new(None),
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failure))
            .route("/2018-06-01/runtime/init/error", post(async || StatusCode::ACCEPTED))
            .route("/2020-01-01/extension/register", post(register))
            .route("/2020-01-01/extension/event/next", get(std::future::pending::<()>))
            .with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("the runtime API") });
        let started = Instant::now();
        let child = Command::new(program)
            .env_clear()
            .envs(variables)
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "test")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .stdin(Stdio::null())
            .stdout(if std::env::var_os("MOOLA_SHOW").is_some() { Stdio::inherit() } else { Stdio::null() })
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { shared, invocations, child, started, server, num_invocations: 0 }
    }

    /// Waits until the bootstrap asks for its first invocation; returns how long after its start that was.
    ///
    /// # Panics
    /// Where it does not in time.
    pub async fn ready(&self) -> Duration {
        let mut asked = self.shared.asked.subscribe();
        let first = tokio::time::timeout(LIMIT, asked.wait_for(Option::is_some)).await;
        let first = *first.expect("no call of the runtime API").expect("the server");
        first.expect("a time").duration_since(self.started)
    }

    /// How long ago the bootstrap was started.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Invokes the function: its answer, or its error as it is reported to Lambda.
    ///
    /// # Errors
    /// The error that the function reports.
    ///
    /// # Panics
    /// Where nothing comes in time.
    pub async fn invoke(&mut self, payload: &Value) -> Answer {
        self.num_invocations += 1;
        let id = format!("{:08}-0000-0000-0000-000000000000", self.num_invocations);
        let (sender, receiver) = oneshot::channel();
        self.shared.answers.lock().expect("answers").insert(id.clone(), sender);
        self.invocations.send((id, payload.to_string().into_bytes())).expect("the bootstrap");
        tokio::time::timeout(LIMIT, receiver).await.expect("an answer in time").expect("an answer")
    }

    /// Sends an HTTP request as API Gateway does; returns the status and the body.
    ///
    /// # Panics
    /// Where the answer is none.
    pub async fn http(&mut self, method: &str, path: &str, body: Option<&Value>) -> (u64, Value) {
        let answer = self.invoke(&http_event(method, path, body)).await.unwrap_or_else(|error| panic!("{error}"));
        let text = answer["body"].as_str().unwrap_or_default();
        let status = answer["statusCode"].as_u64().unwrap_or_else(|| panic!("no status: {answer}"));
        (status, serde_json::from_str(text).unwrap_or_else(|_| json!(text)))
    }

    /// The process of the bootstrap.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it as Lambda does, with SIGTERM; whether it ended by itself, with exit code 0.
    ///
    /// # Panics
    /// Where it does not end in time.
    pub async fn terminate(mut self) -> bool {
        let pid = self.child.id().expect("a running process").to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill").success());
        let ended = tokio::time::timeout(LIMIT, self.child.wait()).await.expect("its end");
        ended.expect("its status").success()
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A request as an HTTP API of API Gateway hands it on, in payload version 2.0.
#[must_use]
pub fn http_event(method: &str, path: &str, body: Option<&Value>) -> Value {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": { "host": "api.test", "content-type": "application/json", "accept": "*/*" },
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "api",
            "domainName": "api.test",
            "domainPrefix": "api",
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "tests" },
            "requestId": "request",
            "routeKey": "$default",
            "stage": "$default",
            "time": "05/Jan/2026:00:00:00 +0000",
            "timeEpoch": 1_767_571_200_000_i64,
        },
        "isBase64Encoded": false,
    });
    if let Some(body) = body {
        event["body"] = json!(body.to_string());
    }
    event
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    shared.asked.send_if_modified(|asked| asked.is_none() && asked.replace(Instant::now()).is_none());
    let Some((id, payload)) = shared.waiting.lock().await.recv().await else {
        // Nobody will invoke it any more; it is about to be killed.
        return std::future::pending().await;
    };
    let headers = [
        ("lambda-runtime-aws-request-id", id),
        ("lambda-runtime-deadline-ms", "9999999999999".to_owned()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:test".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, payload).into_response()
}

async fn response(State(shared): State<Arc<Shared>>, Segment(id): Segment<String>, body: Bytes) -> StatusCode {
    answer(&shared, &id, Ok(serde_json::from_slice(&body).unwrap_or_default()))
}

async fn failure(State(shared): State<Arc<Shared>>, Segment(id): Segment<String>, body: Bytes) -> StatusCode {
    answer(&shared, &id, Err(serde_json::from_slice(&body).unwrap_or_default()))
}

fn answer(shared: &Shared, id: &str, answer: Answer) -> StatusCode {
    match shared.answers.lock().expect("answers").remove(id) {
        // Whoever asked may be gone.
        Some(waiting) => drop(waiting.send(answer)),
        None => return StatusCode::NOT_FOUND,
    }
    StatusCode::ACCEPTED
}

async fn register() -> Response {
    let body = json!({ "functionName": "test", "functionVersion": "$LATEST", "handler": "bootstrap" });
    ([("lambda-extension-identifier", "00000000-0000-0000-0000-000000000001")], Json(body)).into_response()
}
