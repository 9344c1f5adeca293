//! Real clients of the SDK over answers that a test makes up.

use std::fmt;
use std::sync::{Arc, Mutex};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::{Response, StatusCode};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;

/// A request that was made.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Method and target: `GET /bucket/key?x-id=GetObject`.
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Status, headers, body.
pub(crate) type Answer = (u16, Vec<(&'static str, String)>, String);

/// An answer without headers.
pub(crate) fn answer(status: u16, body: &str) -> Answer {
    (status, Vec::new(), body.to_owned())
}

type Answering = dyn Fn(usize, &Asked) -> Answer + Send + Sync;

/// Answers requests, and remembers them.
#[derive(Clone)]
pub(crate) struct Canned {
    answering: Arc<Answering>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl fmt::Debug for Canned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canned")
    }
}

impl Canned {
    /// `answering` gets the number of the request, from 0, and the request.
    pub(crate) fn new(answering: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self { answering: Arc::new(answering), asked: Arc::default() }
    }

    /// Clients that ask this; each call makes one attempt.
    pub(crate) async fn config(&self) -> SdkConfig {
        crate::config_loader()
            .http_client(self.clone())
            .endpoint_url("http://aws.test")
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
            .retry_config(RetryConfig::standard().with_max_attempts(1))
            .load()
            .await
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Methods and targets of what was asked so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

impl HttpConnector for Canned {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let headers = request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let target = request.uri().strip_prefix("http://aws.test").unwrap_or(request.uri());
        let body = request.body().bytes().unwrap_or_default();
        let body = String::from_utf8_lossy(&body[..body.len().min(100_000)]).into_owned();
        let asked = Asked { line: format!("{} {target}", request.method()), headers, body };
        let mut all = self.asked.lock().unwrap();
        let (status, headers, body) = (self.answering)(all.len(), &asked);
        all.push(asked);
        let mut response = Response::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body));
        for (name, value) in headers {
            response.headers_mut().insert(name, value);
        }
        HttpConnectorFuture::ready(Ok(response))
    }
}

impl HttpClient for Canned {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
