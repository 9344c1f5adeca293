use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::read::{ReadOptions, read_csv};

const HOUR: i64 = 3_600_000;

/// Hourly bars from Monday 2020-01-06 with small moves.
fn series(len: usize) -> Vec<Bar> {
    (0..len)
        .map(|i| {
            let price = 100.0 + (i as f64 * 0.7).sin();
            let (open, close) = (price, price + 0.1);
            let time_ms = 1_578_268_800_000 + i as i64 * HOUR;
            Bar { time_ms, open, high: close + 0.2, low: open - 0.2, close, volume: Some(10.0) }
        })
        .collect()
}

fn raw(bars: impl IntoIterator<Item = Bar>) -> RawBars {
    let mut columns = Bars::default();
    bars.into_iter().for_each(|bar| columns.push(bar));
    RawBars::from_bars(columns)
}

fn check(bars: impl IntoIterator<Item = Bar>) -> Validation {
    validate(&raw(bars), &ValidationConfig::default()).unwrap()
}

pub(crate) fn shared(name: &str) -> Option<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    let bytes = std::fs::read(&path).ok();
    if bytes.is_none() {
        eprintln!("skipped: {} is not there", path.display());
    }
    bytes
}

#[test]
fn good_bars_pass_without_a_finding() {
    let found = check(series(300));
    assert_eq!(found.report.rules, BTreeMap::new());
    assert_eq!(found.accepted, (0..300).collect::<Vec<_>>());
    assert_eq!(found.report.interval, Some("1h".parse().unwrap()));
    assert!(found.report.sorted && found.report.has_volume && found.rejected.is_empty());
}

#[test]
fn every_rule_of_a_row_is_named() {
    type Change = fn(&mut Bar);
    let cases: [(Rule, &str, Change); 9] = [
        (Rule::Finite, "open", |bar| bar.open = f64::NAN),
        (Rule::Finite, "high", |bar| bar.high = f64::INFINITY),
        (Rule::Finite, "volume", |bar| bar.volume = Some(f64::INFINITY)),
        (Rule::Positive, "low", |bar| bar.low = 0.0),
        (Rule::HighBound, "high", |bar| bar.high = bar.close - 0.01),
        (Rule::HighBound, "high", |bar| bar.high = bar.low - 0.01),
        (Rule::LowBound, "low", |bar| bar.low = bar.open + 0.01),
        (Rule::LowBound, "low", |bar| bar.low = bar.close + 0.01),
        (Rule::Volume, "volume", |bar| bar.volume = Some(-1.0)),
    ];
    for (rule, field, change) in cases {
        let mut bars = series(100);
        change(&mut bars[40]);
        let found = check(bars);
        let first = &found.report.findings[0];
        assert_eq!((first.rule, first.field.as_str(), first.line), (rule, field, 41));
        assert_eq!(found.rejected.len(), 1, "{rule:?}");
        assert!(found.rejected[0].rules.contains(&rule));
        assert_eq!(found.report.num_accepted, 99);
        assert_eq!(found.report.count(Rule::Gap), 1, "the rejected row leaves a gap");
    }
}

#[test]
fn duplicates_and_conflicts_are_told_apart() {
    let mut bars = series(50);
    bars.insert(11, bars[10]);
    let mut other = bars[30];
    other.close += 0.01;
    bars.insert(31, other);
    let found = check(bars);
    assert_eq!((found.report.count(Rule::Duplicate), found.report.count(Rule::Conflict)), (1, 2));
    assert_eq!(found.rejected.iter().map(|row| row.line).collect::<Vec<_>>(), [12, 31, 32]);
    assert!(found.rejected[0].reason.contains("11, 12"), "{}", found.rejected[0].reason);
    assert_eq!(found.report.num_accepted, 49);
}

#[test]
fn an_unsorted_file_is_reported_and_sorted() {
    let mut bars = series(50);
    bars.swap(10, 20);
    let clean = clean(raw(bars), &ValidationConfig::default(), Mode::Strict).unwrap();
    assert!(!clean.report.sorted);
    assert_eq!(clean.report.rules[&Rule::Order].first_line, 12);
    assert!(clean.bars.time_ms().is_sorted());
    assert_eq!((clean.lines[10], clean.lines[20], clean.lines[30]), (21, 11, 31));
    assert_eq!(clean.bars, raw(series(50)).bars);
}

#[test]
fn closures_that_recur_are_no_gaps() {
    // Four weeks of hours without weekends, one hour missing on a Wednesday, two on a Thursday.
    let open = |i: &usize| i / 24 % 7 < 5 && *i != 60 && !(250..252).contains(i);
    let bars: Vec<Bar> = series(24 * 28).into_iter().enumerate().filter(|(i, _)| open(i)).map(|(_, bar)| bar).collect();
    for calendar in [Calendar::Auto, Calendar::Weekdays, Calendar::Continuous] {
        let config = ValidationConfig { calendar, ..ValidationConfig::default() };
        let gaps = validate(&raw(bars.clone()), &config).unwrap().report.gaps;
        let expected = if calendar == Calendar::Continuous { (5, 3 + 3 * 48, 48) } else { (2, 3, 2) };
        assert_eq!((gaps.count, gaps.missing_bars, gaps.longest_bars), expected, "{calendar:?}");
        assert_eq!(gaps.num_closures, if calendar == Calendar::Continuous { 0 } else { 3 });
    }
}

#[test]
fn a_gap_of_millennia_is_counted_at_once() {
    let mut bars = series(24 * 20);
    bars[24 * 20 - 1].time_ms = 253_402_300_000_000;
    let gaps = check(bars).report.gaps;
    assert_eq!(gaps.count, 1);
    assert!(gaps.missing_bars > 60_000_000);
}

#[test]
fn jumps_and_standstill_warn_and_keep_the_row() {
    let mut bars = series(400);
    for bar in &mut bars[200..] {
        for price in [&mut bar.open, &mut bar.high, &mut bar.low, &mut bar.close] {
            *price /= 2.0;
        }
    }
    let flat = bars[300].close;
    for bar in &mut bars[301..311] {
        (bar.open, bar.high, bar.low, bar.close) = (flat, flat, flat, flat);
    }
    let found = check(bars);
    assert_eq!(found.report.num_rejected, 0);
    for (rule, line) in [(Rule::Outlier, 201), (Rule::Split, 201), (Rule::Stale, 302)] {
        let count = found.report.rules[&rule];
        assert_eq!((count.count, count.first_line), (1, line), "{rule:?}");
    }
    assert!(found.report.findings.iter().any(|finding| finding.expected.contains("2:1")));
}

#[test]
fn an_interval_that_contradicts_the_bars_is_refused() {
    let config = ValidationConfig { interval: Some("1d".parse().unwrap()), ..ValidationConfig::default() };
    let error = validate(&raw(series(50)), &config).unwrap_err().to_string();
    assert!(error.contains("`1d`") && error.contains("`1h`"), "{error}");
}

#[test]
fn settings_out_of_range_are_refused() {
    for config in [
        ValidationConfig { outlier_mads: f64::NAN, ..ValidationConfig::default() },
        ValidationConfig { outlier_block_bars: 0, ..ValidationConfig::default() },
        ValidationConfig { split_min_jump: -1.0, ..ValidationConfig::default() },
        ValidationConfig { stale_bars: 1, ..ValidationConfig::default() },
    ] {
        assert!(validate(&raw(series(50)), &config).is_err(), "{config:?}");
    }
    assert_eq!(check([]).report.num_rows, 0);
    assert_eq!(check(series(1)).report.interval, None);
}

#[test]
fn details_are_limited_and_rejected_rows_are_not() {
    let mut bars = series(100);
    bars.iter_mut().for_each(|bar| bar.high = 0.5);
    let config = ValidationConfig { max_findings: 10, ..ValidationConfig::default() };
    let found = validate(&raw(bars), &config).unwrap();
    assert_eq!((found.report.findings.len(), found.report.num_findings_left_out), (10, 90));
    assert_eq!((found.rejected.len(), found.report.count(Rule::HighBound)), (100, 100));
}

#[test]
fn a_report_survives_json() {
    let mut bars = series(100);
    bars[3].low = f64::NAN;
    let report = check(bars).report;
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<ValidationReport>(&text).unwrap(), report);
}

#[test]
fn sources_are_compared_at_common_times() {
    let first = raw(series(50));
    let mut other = series(50);
    other[20].close *= 1.01;
    other.remove(30);
    other.truncate(45);
    let second = raw(other).bars;
    let found = compare_sources(&first, &second, 0.001).unwrap();
    assert_eq!((found.num_common, found.num_only_first, found.num_only_second), (45, 1, 0));
    assert_eq!((found.num_disagreements, found.findings[0].line), (1, 21));
    assert!((found.max_difference - 0.01 / 1.01).abs() < 1e-12);
    assert!(compare_sources(&first, &second, -1.0).is_err());
}

#[test]
fn vix_has_47_bad_bars() {
    let Some(bytes) = shared("vix_d1.csv") else { return };
    let raw = read_csv(&bytes, &ReadOptions::default()).unwrap();
    assert_eq!((raw.bars.len(), raw.bad_rows.len()), (9235, 0));
    let error = clean(raw.clone(), &ValidationConfig::default(), Mode::Strict).unwrap_err();
    assert!(matches!(&error, Error::Rejected { rejected, .. } if rejected.len() == 47));
    assert!(error.to_string().contains("47 of 9235 rows"), "{error}");
    let clean = clean(raw, &ValidationConfig::default(), Mode::Quarantine).unwrap();
    assert_eq!((clean.bars.len(), clean.rejected.len()), (9188, 47));
    let rules = [Rule::HighBound, Rule::LowBound];
    assert!(clean.rejected.iter().all(|row| row.rules.iter().all(|rule| rules.contains(rule))));
    assert!(!clean.report.has_volume);
}

#[test]
fn real_files_are_read_as_described() {
    // Name, bars, interval, gaps at most, whether volume is there.
    let files = [
        ("eurusd_h1.csv", 74_439, "1h", 700, false),
        ("xauusd_h1.csv", 57_600, "1h", 700, true),
        ("spy_d1.csv", 5_241, "1d", 250, true),
        ("btcusd_d1.csv", 1_318, "1d", 10, true),
    ];
    for (name, num_bars, interval, max_gaps, has_volume) in files {
        let Some(bytes) = shared(name) else { return };
        let raw = read_csv(&bytes, &ReadOptions::default()).unwrap();
        let report = validate(&raw, &ValidationConfig::default()).unwrap().report;
        eprintln!("{name}: {:?} {:?}", report.rules, report.gaps);
        assert_eq!((report.num_rows, report.num_accepted), (num_bars, num_bars), "{name}");
        assert_eq!(report.interval.unwrap().to_string(), interval, "{name}");
        assert_eq!(report.has_volume, has_volume, "{name}");
        assert!(report.gaps.count > 0 && report.gaps.count <= max_gaps, "{name}: {:?}", report.gaps);
    }
}

proptest! {
    /// Whatever the rows are, each is accepted or rejected, and what is accepted obeys the rules.
    #[test]
    fn accepted_rows_obey_the_rules(
        rows in proptest::collection::vec(
            (0_i64..40, [0_u8..8, 0..8, 0..8, 0..8], proptest::option::of(-1_i8..3)), 0..60,
        )
    ) {
        let price = |value: u8| match value { 0 => f64::NAN, 1 => 0.0, 2 => f64::INFINITY, v => f64::from(v) };
        let bars = rows.iter().map(|(hour, [o, h, l, c], volume)| Bar {
            time_ms: hour * HOUR, open: price(*o), high: price(*h), low: price(*l), close: price(*c),
            volume: volume.map(f64::from),
        });
        let clean = clean(raw(bars), &ValidationConfig::default(), Mode::Quarantine).unwrap();
        prop_assert_eq!(clean.bars.len() + clean.rejected.len(), rows.len());
        prop_assert_eq!(clean.report.num_accepted, clean.bars.len());
        prop_assert!(clean.rejected.iter().all(|row| !row.rules.is_empty() && !row.reason.is_empty()));
        prop_assert!(clean.bars.time_ms().windows(2).all(|pair| pair[0] < pair[1]));
        for bar in clean.bars.iter() {
            prop_assert!(bar.low > 0.0 && bar.high.is_finite() && bar.volume.is_none_or(|volume| volume >= 0.0));
            prop_assert!(bar.high >= bar.open.max(bar.close) && bar.low <= bar.open.min(bar.close));
        }
        let again = validate(&RawBars::from_bars(clean.bars), &ValidationConfig::default()).unwrap();
        prop_assert_eq!(again.rejected.len(), 0);
    }
}
