//! What only files can get wrong.

use std::fs;
use std::sync::Arc;

use moola_core::ErrorKind;
use moola_core::ports::{Blobs, Condition, Key, PutMode, Table, Write};
use moola_local::{DirectoryBlobs, RedbTable};
use serde_json::json;

#[tokio::test]
async fn blobs_are_files_under_their_keys_and_abandoned_ones_go() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("with space");
    let blobs = DirectoryBlobs::open(&root).unwrap();
    blobs.put("runs/7/spec.json", b"{}".as_slice().into(), PutMode::Create).await.unwrap();
    assert_eq!(fs::read(root.join("runs/7/spec.json")).unwrap(), b"{}");
    assert_eq!(fs::read_dir(root.join("~tmp")).unwrap().count(), 0, "a temporary file is left");
    let url = blobs.url("runs/7/spec.json");
    assert!(url.starts_with("file:///") && url.ends_with("/with%20space/runs/7/spec.json"), "{url}");

    fs::write(root.join("~tmp/999-1"), "abandoned").unwrap();
    let busy = fs::File::create(root.join("~tmp/999-2")).unwrap();
    busy.try_lock().unwrap();
    let again = DirectoryBlobs::open(&root).unwrap();
    let left: Vec<_> = fs::read_dir(root.join("~tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["999-2"], "only what nobody writes any more is deleted");
    let keys: Vec<String> = again.list("", None, 10).await.unwrap().blobs.into_iter().map(|blob| blob.key).collect();
    assert_eq!(keys, ["runs/7/spec.json"], "temporary files are no blobs");
}

#[tokio::test]
async fn a_table_is_open_once_and_keeps_its_items() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.redb");
    let key = Key::new("p", "s");
    {
        let table = RedbTable::open(&path).unwrap();
        let error = RedbTable::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.hint().unwrap().contains("another moola process"), "{error:?}");
        let put = Write::Put { key: key.clone(), value: json!({ "a": 1 }), condition: Condition::Absent };
        table.write(vec![put]).await.unwrap();
    }
    let item = RedbTable::open(&path).unwrap().get(&key).await.unwrap().unwrap();
    assert_eq!((item.revision, item.value), (1, json!({ "a": 1 })));
}

#[tokio::test]
async fn a_file_that_is_no_table_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("table.redb");
    fs::write(&path, vec![7; 100_000]).unwrap();
    assert!(RedbTable::open(&path).is_err());
    assert_eq!(fs::read(&path).unwrap(), vec![7; 100_000], "somebody's file was overwritten");
}

/// Concurrent writers share commits: many writes take less than one flush each would.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let table = Arc::new(RedbTable::open(dir.path().join("table.redb")).unwrap());
    let started = std::time::Instant::now();
    for index in 0..50 {
        let put =
            Write::Put { key: Key::new("one", index.to_string()), value: json!(index), condition: Condition::Absent };
        table.write(vec![put]).await.unwrap();
    }
    let single = started.elapsed() / 50;
    let started = std::time::Instant::now();
    let tasks: Vec<_> = (0..2_000)
        .map(|index| {
            let table = table.clone();
            tokio::spawn(async move {
                let key = Key::new(format!("p{}", index % 7), format!("{index:05}"));
                table.write(vec![Write::Put { key, value: json!(index), condition: Condition::Absent }]).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let shared = started.elapsed() / 2_000;
    eprintln!("one write alone: {single:?}, one of 2,000 at once: {shared:?}");
    let mut num_items = 0;
    for partition in 0..7 {
        let query = moola_core::ports::Query::prefix(format!("p{partition}"), "");
        num_items += table.query(&query).await.unwrap().items.len();
    }
    assert_eq!(num_items, 2_000);
}
