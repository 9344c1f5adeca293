use std::fmt::Write as _;

use moola_market::simulate::{SimulationConfig, simulate};
use moola_market::validate::Rule;

use super::*;
use crate::memory::Memory;
use crate::ports::{Blobs as _, Item, QueryPage, Table, Write};

fn csv(range: std::ops::Range<usize>, change: impl Fn(usize, &mut moola_market::Bar)) -> String {
    let bars = simulate(&SimulationConfig { num_bars: 400, ..SimulationConfig::default() }).unwrap().bars;
    let mut text = String::from("timestamp,open,high,low,close,volume\n");
    for row in range {
        let mut bar = bars.get(row).unwrap();
        change(row, &mut bar);
        let (time, volume) = (bar.time_ms, bar.volume.unwrap_or(0.0));
        writeln!(text, "{time},{},{},{},{},{volume}", bar.open, bar.high, bar.low, bar.close).unwrap();
    }
    text
}

fn good(range: std::ops::Range<usize>) -> String {
    csv(range, |_, _| {})
}

fn request(text: String) -> ImportRequest {
    ImportRequest::new("eurusd-h1", "EURUSD", "eurusd.csv", text)
}

fn setup() -> (Memory, Datasets) {
    let memory = Memory::new();
    let datasets = Datasets::new(memory.ports());
    (memory, datasets)
}

#[tokio::test]
async fn the_same_file_makes_one_version() {
    let (_, datasets) = setup();
    let first = datasets.import(request(good(0..300))).await.unwrap();
    assert!(first.created);
    let again = datasets.import(request(good(0..300))).await.unwrap();
    assert!(!again.created);
    assert_eq!(first.manifest, again.manifest);
    assert_eq!(datasets.list().await.unwrap().len(), 1);
    assert_eq!(datasets.versions("eurusd-h1", 10).await.unwrap(), std::slice::from_ref(&first.manifest));
    let manifest = datasets.get("eurusd-h1", None).await.unwrap();
    assert_eq!(manifest, first.manifest);
    assert_eq!((manifest.num_rows, manifest.interval.to_string().as_str()), (300, "1h"));
    assert_eq!(manifest.columns.len(), 6);
    assert!(manifest.has_volume && manifest.parent.is_none());
    // Another symbol over the same bars is another thing.
    let other = ImportRequest { symbol: "GBPUSD".into(), ..request(good(0..300)) };
    assert_ne!(datasets.import(other).await.unwrap().manifest.version, manifest.version);
}

#[tokio::test]
async fn versions_stand_in_the_order_of_import() {
    let (_, datasets) = setup();
    let mut versions = Vec::new();
    for end in [100, 300, 200] {
        versions.push(datasets.import(request(good(0..end))).await.unwrap().manifest.version);
    }
    assert_eq!(datasets.get("eurusd-h1", Some("latest")).await.unwrap().version, versions[2]);
    versions.reverse();
    let listed = datasets.versions("eurusd-h1", 10).await.unwrap();
    assert_eq!(listed.iter().map(|manifest| manifest.version.clone()).collect::<Vec<_>>(), versions);
    assert_eq!(datasets.versions("eurusd-h1", 2).await.unwrap().len(), 2);
    assert_eq!(datasets.get("eurusd-h1", Some(&versions[1])).await.unwrap().num_rows, 300);
}

#[tokio::test]
async fn strict_mode_refuses_with_the_report_and_stores_nothing() {
    let (memory, datasets) = setup();
    let bad = csv(0..100, |row, bar| {
        if row == 7 {
            bar.high = bar.low / 2.0
        }
    });
    let error = datasets.import(request(bad)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let (report, rejected) = refusal(&error).unwrap();
    assert_eq!((report.num_rejected, rejected[0].line), (1, 9));
    assert!(error.chain().contains("line 9"), "{}", error.chain());
    assert!(memory.blobs.list("", None, 10).await.unwrap().blobs.is_empty());
    assert_eq!(datasets.get("eurusd-h1", None).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn quarantine_keeps_the_good_rows_and_stores_the_bad_ones() {
    let (_, datasets) = setup();
    let mut bad = csv(0..100, |row, bar| {
        if row == 7 {
            bar.high = bar.low / 2.0
        }
    });
    bad.push_str("never,1,2,3\n");
    let outcome = datasets.import(ImportRequest { mode: Mode::Quarantine, ..request(bad) }).await.unwrap();
    assert_eq!((outcome.manifest.num_rows, outcome.manifest.num_quarantined), (99, 2));
    assert_eq!(outcome.manifest.quality.count(Rule::HighBound), 1);
    assert!(outcome.manifest.quality.findings.is_empty());
    let rejected = datasets.rejected("eurusd-h1", None).await.unwrap();
    assert_eq!(rejected, outcome.rejected);
    assert_eq!(rejected.iter().map(|row| row.line).collect::<Vec<_>>(), [9, 102]);
    assert_eq!(datasets.report("eurusd-h1", None).await.unwrap(), outcome.report);
    let nothing = "timestamp,open,high,low,close\n2020-01-01,0,0,0,0\n";
    let request = ImportRequest { mode: Mode::Quarantine, ..request(nothing.into()) };
    assert_eq!(refusal(&datasets.import(request).await.unwrap_err()).unwrap().1.len(), 1);
}

#[tokio::test]
async fn bars_come_back_as_they_went_in_or_not_at_all() {
    let (memory, datasets) = setup();
    let manifest = datasets.import(request(good(0..100))).await.unwrap().manifest;
    let bars = datasets.load_bars("eurusd-h1", Some(&manifest.version)).await.unwrap();
    let raw = read::read_csv(good(0..100).as_bytes(), &ReadOptions::default()).unwrap();
    assert_eq!(bars, raw.bars);
    let key = paths::dataset("eurusd-h1", &manifest.version, BARS);
    let mut bytes = memory.blobs.get(&key).await.unwrap().to_vec();
    bytes[50] ^= 1;
    memory.blobs.put(&key, bytes.into(), PutMode::Overwrite).await.unwrap();
    let error = datasets.load_bars("eurusd-h1", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&manifest.sha256), "{error}");
    memory.blobs.delete(&key).await.unwrap();
    assert_eq!(datasets.load_bars("eurusd-h1", None).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_later_file_is_appended() {
    let (_, datasets) = setup();
    let append = |text| ImportRequest { append: true, ..request(text) };
    assert_eq!(datasets.import(append(good(0..10))).await.unwrap_err().kind(), ErrorKind::NotFound);
    let first = datasets.import(request(good(0..200))).await.unwrap().manifest;
    let second = datasets.import(append(good(150..300))).await.unwrap();
    assert!(second.created);
    assert_eq!(second.manifest.parent.as_deref(), Some(first.version.as_str()));
    let expected = Transformation::Append { num_added: 100, num_known: 50, num_conflicts: 0, num_late: 0 };
    assert_eq!(second.manifest.transformation, expected);
    // The bars are those of the whole file, so the version is too.
    let whole = datasets.import(request(good(0..300))).await.unwrap();
    assert_eq!((whole.created, &whole.manifest.version), (false, &second.manifest.version));
    // What is there already adds nothing.
    let nothing = datasets.import(append(good(100..250))).await.unwrap();
    assert_eq!((nothing.created, &nothing.manifest.version), (false, &second.manifest.version));
    let wrong = ImportRequest { symbol: "GBPUSD".into(), ..append(good(300..310)) };
    assert_eq!(datasets.import(wrong).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn late_bars_fill_gaps_and_conflicts_are_reported() {
    let (_, datasets) = setup();
    let with_hole = csv(0..200, |_, _| {})
        .lines()
        .enumerate()
        .filter(|(line, _)| *line != 50)
        .fold(String::new(), |text, (_, line)| text + line + "\n");
    datasets.import(request(with_hole)).await.unwrap();
    let other = csv(40..210, |row, bar| {
        if row == 60 {
            bar.close = (bar.open + bar.low) / 2.0
        }
    });
    let append = ImportRequest { append: true, ..request(other) };
    let error = datasets.import(append.clone()).await.unwrap_err();
    let (_, rejected) = refusal(&error).unwrap();
    assert_eq!((rejected.len(), rejected[0].rules.as_slice()), (1, [Rule::Conflict].as_slice()));
    assert_eq!(rejected[0].line, 22);
    let outcome = datasets.import(ImportRequest { mode: Mode::Quarantine, ..append }).await.unwrap();
    let expected = Transformation::Append { num_added: 11, num_known: 158, num_conflicts: 1, num_late: 1 };
    assert_eq!(outcome.manifest.transformation, expected);
    assert_eq!((outcome.manifest.num_rows, outcome.manifest.num_quarantined), (210, 1));
    let whole = datasets.import(request(good(0..210))).await.unwrap();
    assert_eq!(whole.manifest.version, outcome.manifest.version, "the bar of the dataset was kept");
}

#[tokio::test]
async fn a_crash_between_blobs_and_table_is_made_good() {
    let (memory, datasets) = setup();
    let manifest = datasets.import(request(good(0..100))).await.unwrap().manifest;
    let other = Memory::new();
    for meta in memory.blobs.list("datasets/", None, 100).await.unwrap().blobs {
        let bytes = memory.blobs.get(&meta.key).await.unwrap();
        other.blobs.put(&meta.key, bytes, PutMode::Create).await.unwrap();
    }
    let datasets = Datasets::new(other.ports());
    assert_eq!(datasets.get("eurusd-h1", Some(&manifest.version)).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(datasets.import(request(good(0..100))).await.unwrap().created);
    assert_eq!(datasets.get("eurusd-h1", None).await.unwrap().version, manifest.version);
}

#[tokio::test]
async fn imports_at_once_are_all_kept() {
    let (_, datasets) = setup();
    let imports = (50..60).map(|end| datasets.import(request(good(0..end))));
    let outcomes = futures::future::join_all(imports).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|outcome| outcome.created)), "{outcomes:?}");
    assert_eq!(datasets.list().await.unwrap()[0].num_versions, 10);
    assert_eq!(datasets.versions("eurusd-h1", 100).await.unwrap().len(), 10);
}

/// A table that lets others run before every call, so that imports at once interleave.
struct Yielding(std::sync::Arc<dyn Table>);

#[async_trait::async_trait]
impl Table for Yielding {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        tokio::task::yield_now().await;
        self.0.get(key).await
    }

    async fn query(&self, query: &Query) -> Result<QueryPage> {
        tokio::task::yield_now().await;
        self.0.query(query).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        tokio::task::yield_now().await;
        self.0.write(writes).await
    }
}

#[tokio::test]
async fn appends_at_once_lose_no_bars() {
    let memory = Memory::new();
    let mut ports = memory.ports();
    ports.table = std::sync::Arc::new(Yielding(ports.table.clone()));
    let datasets = Datasets::new(ports.clone());
    datasets.import(request(good(0..100))).await.unwrap();
    let append = |part: usize| {
        let rows = 100 + part * 10..110 + part * 10;
        datasets.import(ImportRequest { append: true, ..request(good(rows)) })
    };
    let outcomes = futures::future::join_all((0..8).map(append)).await;
    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_ok_and(|outcome| outcome.created)), "{outcomes:?}");
    let whole = read::read_csv(good(0..180).as_bytes(), &ReadOptions::default()).unwrap().bars;
    assert_eq!(datasets.load_bars("eurusd-h1", None).await.unwrap(), whole);
    assert_eq!(datasets.list().await.unwrap()[0].num_versions, 9);
    let latest = datasets.get("eurusd-h1", None).await.unwrap().version;
    assert_eq!(recent::read(&ports, "EURUSD", None).await.unwrap().version, latest);
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let (_, datasets) = setup();
    for change in [
        |request: &mut ImportRequest| request.name = "EURUSD".into(),
        |request: &mut ImportRequest| request.name = "../x".into(),
        |request: &mut ImportRequest| request.symbol = String::new(),
        |request: &mut ImportRequest| request.symbol = "a\nb".into(),
        |request: &mut ImportRequest| request.bytes = Bytes::new(),
        |request: &mut ImportRequest| request.interval = Some(Interval::DAY),
        |request: &mut ImportRequest| request.format = Format::Parquet,
    ] {
        let mut request = request(good(0..50));
        change(&mut request);
        assert_eq!(datasets.import(request).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    for version in ["nothing", "0123456789abcdef", "../../etc"] {
        assert_eq!(datasets.get("eurusd-h1", Some(version)).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn json_and_parquet_make_the_version_that_csv_makes() {
    let (_, datasets) = setup();
    let csv = datasets.import(request(good(0..100))).await.unwrap().manifest;
    let bars = datasets.load_bars("eurusd-h1", None).await.unwrap();
    let mut json = String::new();
    bars.iter().for_each(|bar| writeln!(json, "{}", serde_json::to_string(&bar).unwrap()).unwrap());
    for bytes in [Bytes::from(json), encode(&bars).unwrap()] {
        let outcome = datasets.import(ImportRequest { bytes, ..request(String::new()) }).await.unwrap();
        assert_eq!((outcome.created, outcome.manifest.version), (false, csv.version.clone()));
    }
}
