//! What was acknowledged before a kill is there after it.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use moola_core::ports::{Blobs, Query, Table};
use moola_local::{DirectoryBlobs, RedbTable};

/// The example `crash_writer`, which cargo builds along with the tests.
fn crash_writer() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples/crash_writer");
    assert!(program.exists(), "{} is missing: build the examples too", program.display());
    program
}

async fn sorts(table: &RedbTable, partition: &str) -> BTreeSet<String> {
    let mut query = Query::prefix(partition, "");
    let mut sorts = BTreeSet::new();
    loop {
        let page = table.query(&query).await.unwrap();
        sorts.extend(page.items.into_iter().map(|item| item.key.sort));
        query.after = page.next;
        if query.after.is_none() {
            return sorts;
        }
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        let mut child =
            Command::new(crash_writer()).arg(dir.path()).arg(round.to_string()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed in the midst of its work, at another moment each time.
        acknowledged.extend(lines.by_ref().take(3 + 17 * round).map(Result::unwrap));
        std::thread::sleep(Duration::from_micros(700 * round as u64));
        child.kill().unwrap();
        acknowledged.extend(lines.map_while(Result::ok).filter(|line| line.len() == 10));
        child.wait().unwrap();

        let table = RedbTable::open(dir.path().join("table.redb")).unwrap();
        let (left, right) = (sorts(&table, "left").await, sorts(&table, "right").await);
        assert!(left.is_superset(&acknowledged), "an acknowledged item is missing in round {round}");
        assert_eq!(left, right, "half of a transaction in round {round}");

        let blobs = DirectoryBlobs::open(dir.path().join("blobs")).unwrap();
        assert_eq!(std::fs::read_dir(dir.path().join("blobs/~tmp")).unwrap().count(), 0);
        for name in &acknowledged {
            let data = blobs.get(&format!("blobs/{name}")).await.unwrap();
            assert!(data == name.repeat(1_000), "blob `{name}` is damaged");
        }
        for blob in blobs.list("", None, 100_000).await.unwrap().blobs {
            assert_eq!(blob.size_bytes, 10_000, "blob `{}` is there in part", blob.key);
        }
    }
    assert!(acknowledged.len() >= 5 * 3);
}
