//! Every command is a call of the API: over HTTP to a running platform, or in memory to one that this process opens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, header};
use bytes::Bytes;
use moola_api::ErrorBody;
use reqwest::Url;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::args::Global;
use crate::config;
use crate::output::{Hint as _, note};
use crate::platform::Platform;

/// Says which process answers; kept in [`ServerFile`], so that another platform on the same port is told apart.
pub(crate) const INSTANCE: &str = "x-moola-instance";

/// Where a running platform is found: `server.json` in its data directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    /// Such as `http://127.0.0.1:8080`.
    pub(crate) url: String,
    /// Its process.
    pub(crate) pid: u32,
    /// What it answers in [`INSTANCE`].
    pub(crate) instance: String,
}

impl ServerFile {
    /// Where it is kept.
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("server.json")
    }

    /// Reads it and asks the platform whether it is there.
    async fn running(data_dir: &Path) -> Option<Self> {
        let bytes = tokio::fs::read(Self::path(data_dir)).await.ok()?;
        let file: Self = serde_json::from_slice(&bytes).ok()?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).no_proxy().build().ok()?;
        let answer = http.get(format!("{}/health", file.url)).send().await.ok()?;
        (answer.headers().get(INSTANCE)?.to_str().ok()? == file.instance).then_some(file)
    }
}

/// Calls the API.
#[derive(Debug)]
pub(crate) struct Client {
    transport: Transport,
}

#[derive(Debug)]
enum Transport {
    Http { http: reqwest::Client, base: Url },
    Memory { router: Router, platform: Box<Platform> },
}

/// What is sent.
#[derive(Debug, Default)]
pub(crate) enum Content {
    /// Nothing.
    #[default]
    Nothing,
    /// A document.
    Json(Value),
    /// A file.
    File(Bytes),
}

/// A call of the API.
#[derive(Debug)]
pub(crate) struct Call {
    method: Method,
    segments: Vec<String>,
    query: Vec<(&'static str, String)>,
    content: Content,
}

impl Call {
    /// `GET /api/v2/<segments>`.
    pub(crate) fn get(segments: &[&str]) -> Self {
        let segments = segments.iter().map(|segment| (*segment).to_owned()).collect();
        Self { method: Method::GET, segments, query: Vec::new(), content: Content::Nothing }
    }

    /// `POST /api/v2/<segments>`.
    pub(crate) fn post(segments: &[&str]) -> Self {
        Self { method: Method::POST, ..Self::get(segments) }
    }

    /// `PUT /api/v2/<segments>`.
    pub(crate) fn put(segments: &[&str]) -> Self {
        Self { method: Method::PUT, ..Self::get(segments) }
    }

    /// `DELETE /api/v2/<segments>`.
    pub(crate) fn delete(segments: &[&str]) -> Self {
        Self { method: Method::DELETE, ..Self::get(segments) }
    }

    /// Adds a parameter.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// Adds a parameter where there is a value.
    pub(crate) fn with_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Sends a document.
    pub(crate) fn json(mut self, value: &impl Serialize) -> anyhow::Result<Self> {
        self.content = Content::Json(serde_json::to_value(value)?);
        Ok(self)
    }

    /// Sends a file.
    pub(crate) fn file(mut self, bytes: impl Into<Bytes>) -> Self {
        self.content = Content::File(bytes.into());
        self
    }

    fn url(&self, base: &Url) -> anyhow::Result<Url> {
        let mut url = base.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow!("`{base}` is no address"))?
            .extend(["api", "v2"])
            .extend(&self.segments);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }
}

impl Client {
    /// Calls the running platform of the data directory if there is one, else opens the directory.
    pub(crate) async fn connect(global: &Global) -> anyhow::Result<Self> {
        let data_dir = config::data_dir(global)?;
        if let Some(server) = ServerFile::running(&data_dir).await {
            return Self::remote(&server.url);
        }
        let settings = config::settings(global, &data_dir)?;
        let platform = Platform::open(&data_dir, settings).await?;
        Ok(Self { transport: Transport::Memory { router: platform.router(), platform: Box::new(platform) } })
    }

    /// As [`Client::connect`]; where this process opened the directory, it also runs the jobs.
    pub(crate) async fn connect_to_work(global: &Global) -> anyhow::Result<Self> {
        let client = Self::connect(global).await?;
        if let Transport::Memory { platform, .. } = &client.transport {
            platform.start().await?;
        }
        Ok(client)
    }

    /// Calls the platform at `url`.
    pub(crate) fn remote(url: &str) -> anyhow::Result<Self> {
        let base = Url::parse(url).with_context(|| format!("`{url}` is no address"))?;
        // The platform of this machine is not behind a proxy.
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5)).build()?;
        Ok(Self { transport: Transport::Http { http, base } })
    }

    /// Whether another process answers.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self.transport, Transport::Http { .. })
    }

    /// Calls and decodes the answer.
    pub(crate) async fn call<T: DeserializeOwned>(&self, call: Call) -> anyhow::Result<T> {
        let path = call.segments.join("/");
        let bytes = self.bytes(call).await?;
        serde_json::from_slice(&bytes).with_context(|| format!("the answer of `/api/v2/{path}`"))
    }

    /// Calls and returns the answer's bytes.
    pub(crate) async fn bytes(&self, call: Call) -> anyhow::Result<Bytes> {
        let (status, bytes) = match &self.transport {
            Transport::Http { http, base } => {
                let request = http.request(call.method.clone(), call.url(base)?);
                let request = match call.content {
                    Content::Nothing => request,
                    Content::Json(value) => request.json(&value),
                    Content::File(bytes) => {
                        request.header(header::CONTENT_TYPE, "application/octet-stream").body(bytes)
                    }
                };
                let answer = request.send().await.context("the platform does not answer");
                let answer = answer.hint("is it still up? `moola up` starts it")?;
                let status = answer.status();
                (status, answer.bytes().await.context("the platform's answer ended early")?)
            }
            Transport::Memory { router, .. } => {
                let url = call.url(&Url::parse("http://moola/")?)?;
                let request = Request::builder().method(call.method.clone()).uri(url.as_str());
                let request = match call.content {
                    Content::Nothing => request.body(Body::empty()),
                    Content::Json(value) => request
                        .header(header::CONTENT_TYPE, "application/json")
                        .body(Body::from(serde_json::to_vec(&value)?)),
                    Content::File(bytes) => {
                        request.header(header::CONTENT_TYPE, "application/octet-stream").body(Body::from(bytes))
                    }
                }?;
                let answer = router.clone().oneshot(request).await?;
                let status = answer.status();
                (status, axum::body::to_bytes(answer.into_body(), usize::MAX).await.context("the answer ended early")?)
            }
        };
        if status.is_success() {
            return Ok(bytes);
        }
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => {
                let error: anyhow::Result<Bytes> = Err(anyhow!(body.message));
                match body.hint {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
            Err(_) => Err(anyhow!("the platform answered {status}: {}", String::from_utf8_lossy(&bytes))),
        }
    }

    /// Waits for what the calls set off (where this process did it), then closes the directory.
    pub(crate) async fn close(self, global: &Global) -> anyhow::Result<()> {
        if let Transport::Memory { platform, router } = self.transport {
            drop(router);
            if !platform.settle(Duration::from_secs(300)).await? {
                note(global, "some events are not handled yet: `moola up` goes on with them");
            }
            platform.close().await;
        }
        Ok(())
    }
}
