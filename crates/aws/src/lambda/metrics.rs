//! Metrics in CloudWatch's embedded metric format: one JSON line per invocation, no call.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

const NAMESPACE: &str = "moola";

/// Counts what an invocation does. All metrics have one dimension, `function`.
#[derive(Debug)]
pub struct Metrics {
    function: &'static str,
    is_cold: AtomicBool,
    num_handled: AtomicU64,
    num_failed: AtomicU64,
}

impl Metrics {
    pub(super) fn new(function: &'static str) -> Self {
        Self { function, is_cold: AtomicBool::new(true), num_handled: AtomicU64::new(0), num_failed: AtomicU64::new(0) }
    }

    pub(super) fn count_event(&self, is_handled: bool) {
        let counter = if is_handled { &self.num_handled } else { &self.num_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn emit_events(&self, now_ms: i64, took: Duration) {
        let (handled, failed) =
            (self.num_handled.swap(0, Ordering::Relaxed), self.num_failed.swap(0, Ordering::Relaxed));
        self.emit(now_ms, took, &[("EventsHandled", handled), ("EventsFailed", failed)]);
    }

    pub(super) fn emit_request(&self, now_ms: i64, status: StatusCode, took: Duration) {
        let counts = [
            ("Requests", 1),
            ("ClientErrors", u64::from(status.is_client_error())),
            ("ServerErrors", u64::from(status.is_server_error())),
        ];
        self.emit(now_ms, took, &counts);
    }

    fn emit(&self, now_ms: i64, took: Duration, counts: &[(&str, u64)]) {
        let is_cold = self.is_cold.swap(false, Ordering::Relaxed);
        let mut line = record(self.function, now_ms, took, is_cold, counts).to_string();
        line.push('\n');
        // A log that takes no more lines is no reason to fail an invocation.
        let _ = std::io::stdout().write_all(line.as_bytes());
    }
}

fn record(function: &str, now_ms: i64, took: Duration, is_cold: bool, counts: &[(&str, u64)]) -> Value {
    let mut metrics = vec![json!({ "Name": "Duration", "Unit": "Milliseconds" })];
    let mut record = json!({ "function": function, "Duration": took.as_secs_f64() * 1e3 });
    let counts = counts.iter().copied().chain([("ColdStarts", u64::from(is_cold))]);
    for (name, count) in counts {
        metrics.push(json!({ "Name": name, "Unit": "Count" }));
        record[name] = json!(count);
    }
    let directive = json!({ "Namespace": NAMESPACE, "Dimensions": [["function"]], "Metrics": metrics });
    record["_aws"] = json!({ "Timestamp": now_ms, "CloudWatchMetrics": [directive] });
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_that_is_declared_has_a_value_and_a_dimension() {
        let record = record("react", 1_767_571_200_123, Duration::from_micros(1500), true, &[("EventsHandled", 2)]);
        let directive = &record["_aws"]["CloudWatchMetrics"][0];
        let names: Vec<&str> =
            directive["Metrics"].as_array().unwrap().iter().map(|metric| metric["Name"].as_str().unwrap()).collect();
        assert_eq!(names, ["Duration", "EventsHandled", "ColdStarts"]);
        assert!(names.iter().all(|name| record[name].is_number()), "{record}");
        assert_eq!(record["Duration"], 1.5);
        assert_eq!(record["function"], "react");
        assert_eq!(directive["Dimensions"][0][0], "function");
        assert_eq!(record["_aws"]["Timestamp"], 1_767_571_200_123_i64);
    }
}
