use jiff::Timestamp;

use crate::ports::ScheduleExpression;

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn firings(expression: &str, from: &str, num: usize) -> Vec<String> {
    let expression: ScheduleExpression = expression.parse().unwrap();
    let mut after = ms(from);
    let mut found = Vec::new();
    for _ in 0..num {
        let Some(next) = expression.next_after(ms(from), after).unwrap() else { break };
        assert!(next > after);
        found.push(Timestamp::from_millisecond(next).unwrap().to_string());
        after = next;
    }
    found
}

#[test]
fn rates_count_from_the_anchor() {
    assert_eq!(
        firings("rate(90 minutes)", "2026-03-01T00:00:07Z", 3),
        ["2026-03-01T01:30:07Z", "2026-03-01T03:00:07Z", "2026-03-01T04:30:07Z"]
    );
    let rate: ScheduleExpression = "rate(1 hour)".parse().unwrap();
    assert_eq!(rate.next_after(0, 3_600_000).unwrap(), Some(7_200_000));
    assert_eq!(rate.next_after(0, 3_599_999).unwrap(), Some(3_600_000));
    assert_eq!(rate.next_after(10_000, 0).unwrap(), Some(3_610_000));
}

#[test]
fn cron_fields_mean_what_eventbridge_says() {
    // Weekdays at 18:00 UTC: Friday, then Monday.
    assert_eq!(
        firings("cron(0 18 ? * MON-FRI *)", "2026-03-06T17:59:59Z", 2),
        ["2026-03-06T18:00:00Z", "2026-03-09T18:00:00Z"]
    );
    // 1 is Sunday.
    assert_eq!(firings("cron(0 0 ? * 1 *)", "2026-03-06T00:00:00Z", 1), ["2026-03-08T00:00:00Z"]);
    // The firing time itself is not after itself.
    assert_eq!(firings("cron(15 10 * * ? *)", "2026-03-06T10:15:00Z", 1), ["2026-03-07T10:15:00Z"]);
    assert_eq!(
        firings("cron(0/20 8 1 1 ? 2027)", "2026-03-06T00:00:00Z", 9),
        ["2027-01-01T08:00:00Z", "2027-01-01T08:20:00Z", "2027-01-01T08:40:00Z"]
    );
    // The last day of the month, over a leap year.
    assert_eq!(
        firings("cron(0 12 L * ? *)", "2028-01-31T12:00:00Z", 2),
        ["2028-02-29T12:00:00Z", "2028-03-31T12:00:00Z"]
    );
    // The workday nearest to the 1st: 1 August 2026 is a Saturday, the 3rd is taken.
    assert_eq!(firings("cron(0 9 1W * ? *)", "2026-07-31T00:00:00Z", 1), ["2026-08-03T09:00:00Z"]);
    // The workday nearest to the 15th: 15 February 2026 is a Sunday.
    assert_eq!(firings("cron(0 9 15W * ? *)", "2026-02-01T00:00:00Z", 1), ["2026-02-16T09:00:00Z"]);
    // The last workday: 31 May 2026 is a Sunday.
    assert_eq!(firings("cron(0 9 LW * ? *)", "2026-05-02T00:00:00Z", 1), ["2026-05-29T09:00:00Z"]);
    // The third Friday (option expiry) and the last Thursday.
    assert_eq!(
        firings("cron(30 20 ? * 6#3 *)", "2026-03-01T00:00:00Z", 2),
        ["2026-03-20T20:30:00Z", "2026-04-17T20:30:00Z"]
    );
    assert_eq!(firings("cron(0 0 ? * THUL *)", "2026-03-01T00:00:00Z", 1), ["2026-03-26T00:00:00Z"]);
    assert_eq!(firings("cron(0 0 ? * L *)", "2026-03-01T00:00:00Z", 1), ["2026-03-07T00:00:00Z"]);
    // 30 February never comes.
    assert!(firings("cron(0 0 30 2 ? *)", "2026-03-01T00:00:00Z", 1).is_empty());
    assert!(firings("cron(0 0 1 1 ? 2020)", "2026-03-01T00:00:00Z", 1).is_empty());
}

#[test]
fn bad_cron_fields_are_named() {
    for (expression, field) in [
        ("cron(60 0 * * ? *)", "minute"),
        ("cron(0 24 * * ? *)", "hour"),
        ("cron(0 0 32 * ? *)", "day of month"),
        ("cron(0 0 0 * ? *)", "day of month"),
        ("cron(0 0 * 13 ? *)", "month"),
        ("cron(0 0 * FOO ? *)", "month"),
        ("cron(0 0 ? * 8 *)", "day of week"),
        ("cron(0 0 ? * MON#6 *)", "day of week"),
        ("cron(0 0 * * ? 1969)", "year"),
        ("cron(0 0 * * ? 2200)", "year"),
        ("cron(0 0 * * * *)", "exactly one"),
        ("cron(0 0 ? * ? *)", "exactly one"),
        ("cron(5-1 0 * * ? *)", "minute"),
        ("cron(*/0 0 * * ? *)", "minute"),
        ("cron(+5 0 * * ? *)", "minute"),
    ] {
        let parsed: ScheduleExpression = expression.parse().unwrap();
        let error = parsed.check().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Invalid, "{expression}");
        assert!(error.to_string().contains(field), "{expression}: {error}");
    }
}
