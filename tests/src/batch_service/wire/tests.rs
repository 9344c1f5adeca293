use super::*;

fn rules() -> Vec<Value> {
    let rule = |field: &str, pattern: &str, action: &str| json!({ field: pattern, "action": action });
    vec![
        rule("onStatusReason", "Host EC2*", "RETRY"),
        rule("onExitCode", "75", "RETRY"),
        rule("onExitCode", "14*", "retry"),
        rule("onReason", "*", "EXIT"),
    ]
}

#[test]
fn the_first_rule_that_matches_decides() {
    assert!(runs_again(&rules(), 75) && runs_again(&rules(), 143));
    assert!(!runs_again(&rules(), 1) && !runs_again(&rules(), 137));
    assert!(runs_again(&rules()[..2], 1), "what no rule matches is run again");
}

#[test]
fn a_request_that_would_be_run_otherwise_than_it_says_is_refused() {
    let body = |attempts: u32, rules: &[Value]| {
        let retries = json!({ "attempts": attempts, "evaluateOnExit": rules });
        json!({ "jobName": "a", "jobQueue": "q", "jobDefinition": "d", "retryStrategy": retries })
    };
    assert!(request(&body(2, &rules())).is_err(), "137 is not run again");
    assert!(request(&body(1, &rules())).is_ok());
    assert!(request(&body(1, &vec![json!({ "action": "EXIT" }); 6])).is_err());
    assert!(request(&json!({ "jobName": "a" })).is_err());
}

#[test]
fn log_streams_name_job_and_attempt() {
    for id in ["01k7", "01k7:3"] {
        let stream = log_stream("moola-trainer-cpu", id, 2);
        assert!(!stream.contains(':'));
        assert_eq!(log_stream_parts(&stream), Some((JobId(id.into()), 2)));
    }
    assert_eq!(log_stream_parts("x"), None);
}

#[test]
fn pages_go_back_from_the_end() {
    let events: Vec<Value> = (0..5).map(Value::from).collect();
    let ask = |token: Option<&str>| page(&json!({ "limit": 2, "nextToken": token }), &events, 10).ok().unwrap();
    let last = ask(None);
    assert_eq!((&last["events"], &last["nextBackwardToken"]), (&json!([3, 4]), &json!("b/3")));
    let first = ask(Some("b/1"));
    assert_eq!((&first["events"], &first["nextBackwardToken"]), (&json!([0]), &json!("b/0")));
    assert_eq!(ask(Some("b/0"))["nextBackwardToken"], "b/0");
    assert_eq!(ask(Some("f/4"))["events"], json!([4]));
    assert!(page(&json!({ "nextToken": "x" }), &events, 10).is_err());
}
