use moola_core::ErrorKind;
use moola_core::ports::Event;
use serde_json::json;

use super::*;

fn schedule(name: &str, expression: ScheduleExpression) -> Schedule {
    let event = Event {
        id: "template".into(),
        source: "moola.schedule".into(),
        detail_type: "Drift Check Due".into(),
        time_ms: 0,
        correlation_id: String::new(),
        detail: json!({ "version": 1 }),
    };
    Schedule { name: name.into(), expression, enabled: true, event }
}

#[test]
fn a_rate_starts_one_period_from_now() {
    let rate = schedule("a", "rate(5 minutes)".parse().unwrap());
    assert_eq!(start(&rate, 1_000_999).unwrap(), Some(DateTime::from_secs(1_300)));
    let cron = schedule("a", "cron(0 18 ? * MON-FRI *)".parse().unwrap());
    assert_eq!(start(&cron, 1_000_999).unwrap(), None);
}

#[test]
fn what_the_scheduler_would_refuse_is_refused() {
    for (name, expression, said) in [
        ("a", "rate(30 seconds)", "whole minutes"),
        ("a", "rate(90 seconds)", "whole minutes"),
        ("a", "rate(200000 days)", "100 years"),
        ("a b", "rate(1 day)", "name"),
        ("a", "cron(0 24 * * ? *)", "hour of cron"),
    ] {
        let error = start(&schedule(name, expression.parse().unwrap()), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(said), "{error}");
    }
    let huge = ScheduleExpression::Rate { secs: u64::MAX / 60 * 60 };
    assert_eq!(start(&schedule("a", huge), 0).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_schedule_of_somebody_else_is_no_schedule_of_moola() {
    let output = GetScheduleOutput::builder().schedule_expression("at(2026-01-05T00:00:00)").build();
    assert_eq!(read("theirs", output).unwrap_err().kind(), ErrorKind::Corrupt);
}
