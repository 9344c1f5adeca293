//! Another function that answers HTTP requests in place of this one.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::primitives::Blob;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use moola_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The longest that the other function may take, its cold start included. The timeout of `predict` (20 s in
/// terraform/functions.tf) leaves time for its own work before and after.
const LIMIT: Duration = Duration::from_secs(12);

/// A function that this one may invoke.
#[derive(Debug, Clone)]
pub struct OtherFunction {
    client: Client,
    name: String,
}

/// An answer as functions give it to API Gateway.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    multi_value_headers: Map<String, Value>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: bool,
}

impl OtherFunction {
    /// The function `name`, by name or ARN.
    #[must_use]
    pub fn new(config: &SdkConfig, name: impl Into<String>) -> Self {
        let timeouts = TimeoutConfig::builder().read_timeout(LIMIT).operation_timeout(LIMIT).build();
        // Asked again, a busy or slow function would only have more to do; and the first call may be at work still.
        let config = aws_sdk_lambda::config::Builder::from(config)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::disabled())
            .build();
        Self { client: Client::from_conf(config), name: name.into() }
    }

    /// Hands a request on and returns the answer.
    ///
    /// # Errors
    /// `Unavailable` where the function cannot be invoked now, fails, or answers no HTTP response.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>> {
        let payload = Blob::new(event(&request).to_string());
        let sent = self.client.invoke().function_name(&self.name).payload(payload).send().await;
        let output = sent.map_err(|error| {
            let what = match &error {
                SdkError::ServiceError(refused) if refused.raw().status().as_u16() == 429 => "is too busy",
                _ => "cannot be invoked",
            };
            Error::unavailable(format!("the function `{}` {what}", self.name))
                .with_source(aws_sdk_lambda::error::DisplayErrorContext(error).to_string())
        })?;
        let payload = output.payload.map(Blob::into_inner).unwrap_or_default();
        if let Some(kind) = output.function_error {
            let text: String = String::from_utf8_lossy(&payload).chars().take(500).collect();
            let failed = Error::unavailable(format!("the function `{}` failed", self.name));
            return Err(failed.with_source(format!("{kind}: {text}")));
        }
        response(&payload).map_err(|error| {
            Error::unavailable(format!("the function `{}` answered no HTTP response", self.name)).with_source(error)
        })
    }
}

/// The request as an HTTP API of API Gateway tells it, in payload version 2.0.
fn event(request: &Request<Bytes>) -> Value {
    let (method, path) = (request.method().as_str(), request.uri().path());
    let mut headers = Map::new();
    for name in request.headers().keys() {
        let values = request.headers().get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        headers.insert(name.as_str().to_owned(), json!(values.collect::<Vec<_>>().join(",")));
    }
    let (body, is_base64_encoded) = match std::str::from_utf8(request.body()) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (BASE64.encode(request.body()), true),
    };
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.uri().query().unwrap_or_default(),
        "headers": headers,
        "requestContext": {
            "accountId": "-",
            "apiId": "-",
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "-", "userAgent": "-" },
            "requestId": "-",
            "routeKey": "$default",
            "stage": "$default",
            "timeEpoch": 0,
        },
        "body": body,
        "isBase64Encoded": is_base64_encoded,
    })
}

fn response(payload: &[u8]) -> Result<Response<Bytes>, String> {
    let answer: Answer = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    let mut headers = HeaderMap::new();
    let single = answer.headers.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
    let several = answer.multi_value_headers.iter().filter(|(name, _)| !answer.headers.contains_key(*name));
    let several = several.flat_map(|(name, values)| {
        values.as_array().into_iter().flatten().filter_map(move |value| Some((name, value.as_str()?)))
    });
    for (name, value) in single.chain(several) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let body = answer.body.unwrap_or_default();
    let body = if answer.is_base64_encoded {
        BASE64.decode(body).map_err(|error| format!("its body is no base64: {error}"))?
    } else {
        body.into_bytes()
    };
    let status = StatusCode::from_u16(answer.status_code).map_err(|error| error.to_string())?;
    let mut response = Response::new(Bytes::from(body));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_as_api_gateway_tells_it() {
        let request = Request::post("https://api.test/api/v2/inference/predict?a=1&b=%20")
            .header("content-type", "application/json")
            .header("x-request-id", "r1")
            .body(Bytes::from("{\"model\": \"m\"}"))
            .expect("a request");
        let event = event(&request);
        assert_eq!(event["rawPath"], "/api/v2/inference/predict");
        assert_eq!(event["rawQueryString"], "a=1&b=%20");
        assert_eq!(event["headers"]["x-request-id"], "r1");
        assert_eq!(event["requestContext"]["http"]["method"], "POST");
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("{\"model\": \"m\"}"), &json!(false)));
        // It is one that lambda_http reads back.
        let read = lambda_http::request::from_str(&event.to_string()).expect("an event of API Gateway");
        assert_eq!(read.method(), "POST");
        assert_eq!(read.uri().path(), "/api/v2/inference/predict");
        assert_eq!(read.headers()["x-request-id"], "r1");
        let bytes = Request::post("/").body(Bytes::from_static(&[0xff, 0])).expect("a request");
        let event = super::event(&bytes);
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("/wA="), &json!(true)));
    }

    #[test]
    fn an_answer_is_read() {
        let answer = json!({"statusCode": 404, "headers": {"content-type": "application/json"},
            "multiValueHeaders": {"content-type": ["application/json"], "x-a": ["1", "2"]},
            "body": "{}", "isBase64Encoded": false, "cookies": []});
        let read = response(answer.to_string().as_bytes()).expect("an answer");
        assert_eq!((read.status(), read.body().as_ref()), (StatusCode::NOT_FOUND, &b"{}"[..]));
        assert_eq!(read.headers().get_all("x-a").iter().count(), 2);
        assert_eq!(read.headers().get_all("content-type").iter().count(), 1);
        for bad in
            ["", "null", "{\"statusCode\": 99}", "{\"statusCode\": 200, \"body\": \"?\", \"isBase64Encoded\": true}"]
        {
            assert!(response(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
