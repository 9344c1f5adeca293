//! What Batch and CloudWatch Logs say, as JSON.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use moola_core::ports::{JobId, JobRequest, is_retry_exit_code};
use moola_core::{Error, ErrorKind};
use serde_json::{Value, json};

/// The emulator's account.
const ACCOUNT: &str = "000000000000";
const STATUSES: [&str; 7] = ["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"];
const MAX_RULES: usize = 5;

/// An error answer.
pub(super) struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

impl Refusal {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: 400, code, message: message.into() }
    }

    pub(super) fn client(message: impl Into<String>) -> Self {
        Self::new("ClientException", message)
    }

    pub(super) fn into_response(self) -> Response {
        response(self.status, Some(self.code), &json!({ "__type": self.code, "message": self.message }))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let message = error.chain();
        match error.kind() {
            ErrorKind::Invalid | ErrorKind::NotFound => Self::client(message),
            _ => Self { status: 500, code: "ServerException", message },
        }
    }
}

pub(super) fn response(status: u16, error: Option<&str>, body: &Value) -> Response {
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    let response = match error {
        Some(code) => response.header("x-amzn-errortype", code),
        None => response,
    };
    response.body(Body::from(body.to_string())).expect("headers are ASCII")
}

pub(super) fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:batch:us-east-1:{ACCOUNT}:{kind}/{name}")
}

pub(super) fn text<'a>(body: &'a Value, field: &str) -> Result<&'a str, Refusal> {
    body[field].as_str().ok_or_else(|| Refusal::client(format!("{field} must not be null")))
}

pub(super) fn number(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

pub(super) fn pairs(variables: &BTreeMap<String, String>) -> Value {
    variables.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// The request of a `SubmitJob`; queue and definition by the names that they have in Batch.
pub(super) fn request(body: &Value) -> Result<JobRequest, Refusal> {
    let overrides = &body["containerOverrides"];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let pair = |pair: Value| Some((pair["name"].as_str()?.to_owned(), pair["value"].as_str()?.to_owned()));
    let whole = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let tags = body["tags"].as_object().cloned().unwrap_or_default();
    let request = JobRequest {
        name: text(body, "jobName")?.to_owned(),
        definition: text(body, "jobDefinition")?.to_owned(),
        queue: text(body, "jobQueue")?.to_owned(),
        args: list(&overrides["command"]).iter().filter_map(|arg| Some(arg.as_str()?.to_owned())).collect(),
        environment: list(&overrides["environment"]).into_iter().filter_map(pair).collect(),
        array_size: whole(&body["arrayProperties"]["size"]),
        attempts: whole(&body["retryStrategy"]["attempts"]).unwrap_or(1),
        timeout_secs: body["timeout"]["attemptDurationSeconds"].as_u64(),
        tags: tags.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect(),
    };
    let rules = list(&body["retryStrategy"]["evaluateOnExit"]);
    if rules.len() > MAX_RULES {
        return Err(Refusal::client(format!("evaluateOnExit must have at most {MAX_RULES} items")));
    }
    // The processes behind run again by a rule of their own; a request that wants another one would be run wrongly.
    let is_known = |exit_code: i32| runs_again(&rules, exit_code) == is_retry_exit_code(exit_code);
    if request.attempts > 1 && ![1, 2, 3, 75, 137, 143].into_iter().all(is_known) {
        return Err(Refusal::client("the stand-in runs again after exit codes 75, 137 and 143, and no others"));
    }
    Ok(request)
}

/// Whether Batch would run a container again that ended with `exit_code`: the first rule that matches says so, or none does.
fn runs_again(rules: &[Value], exit_code: i32) -> bool {
    let matches = |pattern: &Value, text: &str| match pattern.as_str() {
        None => true,
        Some(pattern) => match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == pattern,
        },
    };
    let first = rules.iter().find(|rule| {
        matches(&rule["onExitCode"], &exit_code.to_string())
            && matches(&rule["onReason"], "")
            && matches(&rule["onStatusReason"], "Essential container in task exited")
    });
    first.is_none_or(|rule| rule["action"].as_str().is_some_and(|action| action.eq_ignore_ascii_case("retry")))
}

/// The log stream of an attempt.
fn log_stream(definition: &str, id: &str, attempt: usize) -> String {
    format!("{definition}/default/{}.{attempt}", id.replace(':', "."))
}

/// Job and attempt of a log stream.
pub(super) fn log_stream_parts(stream: &str) -> Option<(JobId, u32)> {
    let (_, name) = stream.rsplit_once('/')?;
    let (id, attempt) = name.rsplit_once('.')?;
    Some((JobId(id.replace('.', ":")), attempt.parse().ok()?))
}

/// Whether Batch says `PENDING` of an array job that has not ended.
fn is_pending(detail: &Value) -> bool {
    let status = detail["status"].as_str().unwrap_or_default();
    detail["arrayProperties"]["size"].is_number() && !["SUCCEEDED", "FAILED"].contains(&status)
}

/// The detail that Batch tells, of the one that moola's runners tell.
pub(super) fn detail(mut detail: Value) -> Value {
    let id = detail["jobId"].as_str().unwrap_or_default().to_owned();
    let definition = detail["jobDefinition"].as_str().unwrap_or_default().to_owned();
    let queue = detail["jobQueue"].as_str().unwrap_or_default().to_owned();
    let job_arn = arn("job", &id);
    if is_pending(&detail) {
        detail["status"] = json!("PENDING");
    }
    let mut num_attempts = 0;
    for attempt in detail["attempts"].as_array_mut().into_iter().flatten() {
        num_attempts += 1;
        attempt["container"]["logStreamName"] = json!(log_stream(&definition, &id, num_attempts));
    }
    let current = match detail["status"].as_str() {
        Some("RUNNING") => num_attempts + 1,
        Some("SUCCEEDED" | "FAILED") => num_attempts,
        _ => 0,
    };
    if current > 0 {
        detail["container"]["logStreamName"] = json!(log_stream(&definition, &id, current));
    }
    if let Some(array) = detail["arrayProperties"].as_object_mut() {
        let told = array.get("statusSummary").cloned().unwrap_or_default();
        if array.contains_key("size") {
            let count = |status: &str| (status.to_owned(), told.get(status).cloned().unwrap_or(json!(0)));
            array.insert("statusSummary".into(), STATUSES.map(count).into_iter().collect());
        }
    }
    if let Some(fields) = detail.as_object_mut() {
        fields.remove("version");
        fields.extend([
            ("jobArn".to_owned(), json!(job_arn)),
            ("jobQueue".to_owned(), json!(arn("job-queue", &queue))),
            ("jobDefinition".to_owned(), json!(format!("{}:1", arn("job-definition", &definition)))),
            ("dependsOn".to_owned(), json!([])),
            ("parameters".to_owned(), json!({})),
            ("propagateTags".to_owned(), json!(true)),
            ("platformCapabilities".to_owned(), json!(["EC2"])),
        ]);
    }
    detail["tags"]["resourceArn"] = json!(job_arn);
    detail
}

/// What `ListJobs` tells of a detail.
pub(super) fn summary(detail: &Value) -> Value {
    let fields = [
        "jobArn",
        "jobId",
        "jobName",
        "createdAt",
        "startedAt",
        "stoppedAt",
        "status",
        "statusReason",
        "jobDefinition",
        "arrayProperties",
    ];
    let told = fields.into_iter().filter_map(|field| Some((field.to_owned(), detail.get(field)?.clone())));
    Value::Object(told.collect())
}

/// The detail of a state change as Batch publishes it: none of the submission, which is no change, and none of an array job
/// between its submission and its end.
pub(super) fn state_change(told: &Value) -> Option<Value> {
    let is_silent = told["status"] == "SUBMITTED" || (is_pending(told) && told["status"] != "RUNNABLE");
    (!is_silent).then(|| detail(told.clone()))
}

/// A page of `GetLogEvents`: from the end, or from the token, which says up to or from where.
pub(super) fn page(body: &Value, events: &[Value], most: usize) -> Result<Value, Refusal> {
    let limit = number(&body["limit"]).map_or(most, |limit| limit.min(most));
    let token = body["nextToken"].as_str();
    let position = |text: &str| text.parse::<usize>().map(|position| position.min(events.len()));
    let (start, end) = match token.map(|token| token.split_once('/').unwrap_or_default()) {
        Some(("b", text)) => {
            let end = position(text).map_err(|_| Refusal::new("InvalidParameterException", "The token is invalid."))?;
            (end.saturating_sub(limit), end)
        }
        Some(("f", text)) => {
            let start =
                position(text).map_err(|_| Refusal::new("InvalidParameterException", "The token is invalid."))?;
            (start, start.saturating_add(limit).min(events.len()))
        }
        Some(_) => return Err(Refusal::new("InvalidParameterException", "The token is invalid.")),
        None if body["startFromHead"] == true => (0, limit.min(events.len())),
        None => (events.len().saturating_sub(limit), events.len()),
    };
    Ok(json!({
        "events": &events[start..end],
        "nextForwardToken": format!("f/{end}"),
        "nextBackwardToken": format!("b/{start}"),
    }))
}

#[cfg(test)]
mod tests;
