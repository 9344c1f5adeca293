use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{at_once, ok, refused};
use crate::error::ErrorKind;
use crate::ports::{Blobs, PresignMethod, PutMode};

/// Checks [`Blobs`]; `make` makes an empty store.
///
/// # Panics
/// Where a promise is broken.
pub async fn blobs<T: Blobs + 'static>(make: impl AsyncFn() -> Arc<T>) {
    writes_and_reads(&*make().await).await;
    bad_keys(&*make().await).await;
    keys_within_keys(&*make().await).await;
    listings(&*make().await).await;
    one_creator(make().await).await;
    no_mixture(make().await).await;
    concurrent_neighbours(make().await).await;
}

async fn put(blobs: &dyn Blobs, key: &str, data: &'static [u8]) {
    ok(blobs.put(key, Bytes::from_static(data), PutMode::Overwrite).await, key);
}

async fn writes_and_reads(blobs: &dyn Blobs) {
    refused(blobs.get("a/b").await, ErrorKind::NotFound, "get of nothing");
    refused(blobs.head("a/b").await, ErrorKind::NotFound, "head of nothing");
    refused(blobs.get_range("a/b", 0..1).await, ErrorKind::NotFound, "range of nothing");
    ok(blobs.delete("a/b").await, "delete of nothing");

    ok(blobs.put("a/b", Bytes::from_static(b"0123456789"), PutMode::Create).await, "create");
    refused(blobs.put("a/b", Bytes::new(), PutMode::Create).await, ErrorKind::AlreadyExists, "second create");
    assert_eq!(&ok(blobs.get("a/b").await, "get")[..], b"0123456789");
    for (range, expected) in [(0..10, "0123456789"), (0..1, "0"), (3..5, "34"), (8..99, "89"), (9..u64::MAX, "9")] {
        assert_eq!(&ok(blobs.get_range("a/b", range.clone()).await, "range")[..], expected.as_bytes(), "{range:?}");
    }
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    for range in [0..0, 5..5, 5..4, 10..11, 99..100] {
        refused(blobs.get_range("a/b", range.clone()).await, ErrorKind::Invalid, &format!("range {range:?}"));
    }
    let meta = ok(blobs.head("a/b").await, "head");
    assert_eq!((meta.key.as_str(), meta.size_bytes), ("a/b", 10));
    assert!(meta.modified_ms > 1_500_000_000_000, "modified at {}", meta.modified_ms);

    ok(blobs.put("a/b", Bytes::from_static(b"new"), PutMode::Overwrite).await, "overwrite");
    assert_eq!(&ok(blobs.get("a/b").await, "get")[..], b"new");
    ok(blobs.put("empty", Bytes::new(), PutMode::Create).await, "empty");
    assert!(ok(blobs.get("empty").await, "get").is_empty());
    refused(blobs.get_range("empty", 0..1).await, ErrorKind::Invalid, "range of an empty blob");
    let big: Bytes = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    ok(blobs.put("big", big.clone(), PutMode::Create).await, "big");
    assert!(ok(blobs.get("big").await, "get") == big, "a big blob comes back otherwise");
    assert!(ok(blobs.get_range("big", 1_234_567..2_345_678).await, "range") == big.slice(1_234_567..2_345_678));

    ok(blobs.delete("a/b").await, "delete");
    refused(blobs.get("a/b").await, ErrorKind::NotFound, "get of the deleted");
    ok(blobs.put("a/b", Bytes::from_static(b"again"), PutMode::Create).await, "create after delete");

    assert!(blobs.url("a/b").ends_with("a/b") && blobs.url("a/b").contains("://"), "{}", blobs.url("a/b"));
    match blobs.presign("a/b", PresignMethod::Get, Duration::from_secs(60)).await {
        Ok(url) => assert!(url.starts_with("http"), "{url}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Refused),
    }
}

async fn bad_keys(blobs: &dyn Blobs) {
    let too_long = vec!["a".repeat(200); 6].join("/");
    let long_segment = "a".repeat(201);
    let bad = [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/..",
        "../a",
        "a/./b",
        "a b",
        "a\\b",
        "a\0b",
        "ä",
        "a~",
        "a:b",
        "a%2e",
        "a\n",
        &too_long,
        &long_segment,
    ];
    for key in bad {
        let what = format!("key {key:?}");
        refused(blobs.put(key, Bytes::new(), PutMode::Overwrite).await, ErrorKind::Invalid, &what);
        refused(blobs.put(key, Bytes::new(), PutMode::Create).await, ErrorKind::Invalid, &what);
        refused(blobs.get(key).await, ErrorKind::Invalid, &what);
        refused(blobs.get_range(key, 0..1).await, ErrorKind::Invalid, &what);
        refused(blobs.head(key).await, ErrorKind::Invalid, &what);
        refused(blobs.delete(key).await, ErrorKind::Invalid, &what);
        refused(blobs.presign(key, PresignMethod::Put, Duration::from_secs(1)).await, ErrorKind::Invalid, &what);
    }
    let longest = vec!["a".repeat(200); 5].join("/") + "/" + &"b".repeat(19);
    assert_eq!(longest.len(), 1_024);
    for key in ["a", "...", ".a", "A-_.=+@9", "a/..b/c..", &longest] {
        put(blobs, key, b"good").await;
        assert_eq!(&ok(blobs.get(key).await, key)[..], b"good");
    }
    assert_eq!(ok(blobs.list("", None, 100).await, "list").blobs.len(), 6, "a refused key left something");
}

async fn keys_within_keys(blobs: &dyn Blobs) {
    for (key, data) in [("a", &b"1"[..]), ("a/b", b"2"), ("a/b/c", b"3"), ("x/y/z", b"4"), ("x/y", b"5"), ("x", b"6")] {
        ok(blobs.put(key, Bytes::copy_from_slice(data), PutMode::Create).await, key);
    }
    for (key, data) in [("a", b"1"), ("a/b", b"2"), ("a/b/c", b"3"), ("x/y/z", b"4"), ("x/y", b"5"), ("x", b"6")] {
        assert_eq!(&ok(blobs.get(key).await, key)[..], data, "{key}");
        refused(blobs.put(key, Bytes::new(), PutMode::Create).await, ErrorKind::AlreadyExists, key);
    }
    assert_eq!(all_keys(blobs, "", 2).await, ["a", "a/b", "a/b/c", "x", "x/y", "x/y/z"]);
    ok(blobs.delete("a").await, "delete");
    refused(blobs.get("a").await, ErrorKind::NotFound, "get of the deleted");
    put(blobs, "a/b/d", b"7").await;
    put(blobs, "a", b"8").await;
    assert_eq!(&ok(blobs.get("a/b/c").await, "get")[..], b"3");
    ok(blobs.delete("x").await, "delete");
    assert_eq!(all_keys(blobs, "", 100).await, ["a", "a/b", "a/b/c", "a/b/d", "x/y", "x/y/z"]);
}

async fn all_keys(blobs: &dyn Blobs, prefix: &str, limit: usize) -> Vec<String> {
    let mut keys = Vec::new();
    let mut after = None;
    for _ in 0..1_000 {
        let page = ok(blobs.list(prefix, after.as_deref(), limit).await, "list");
        assert!(page.blobs.len() <= limit, "a page of {} blobs, the limit is {limit}", page.blobs.len());
        keys.extend(page.blobs.into_iter().map(|blob| blob.key));
        after = page.next;
        if after.is_none() {
            return keys;
        }
    }
    panic!("the listing of `{prefix}` does not end");
}

async fn listings(blobs: &dyn Blobs) {
    assert_eq!(ok(blobs.list("", None, 10).await, "list of nothing").blobs, []);
    refused(blobs.list("", None, 0).await, ErrorKind::Invalid, "limit zero");
    // `-` and `.` sort before `/`, digits and letters after it.
    let mut keys =
        ["run/1", "run/10", "run/2", "run-1/x", "run.x", "run", "runs/1", "run0", "Run", "r", "run/1/a/b/c", "run/1-a"];
    for key in keys {
        ok(blobs.put(key, Bytes::copy_from_slice(key.as_bytes()), PutMode::Create).await, key);
    }
    keys.sort_unstable();
    let starting = |prefix: &str| -> Vec<&str> { keys.into_iter().filter(|key| key.starts_with(prefix)).collect() };
    for prefix in
        ["", "r", "run", "run/", "run/1", "run/1/", "run/1/a", "run-", "runs/1", "nothing", "run//", "%", "ru/"]
    {
        for limit in [1, 2, 3, 100] {
            assert_eq!(all_keys(blobs, prefix, limit).await, starting(prefix), "prefix `{prefix}`, limit {limit}");
        }
        for after in ["", "a", "run", "run/", "run/1", "run/1/a", "run/1/a/b/c/d", "run/5", "run.", "zzz", "%"] {
            let page = ok(blobs.list(prefix, Some(after), 100).await, "list");
            let found: Vec<&str> = page.blobs.iter().map(|blob| blob.key.as_str()).collect();
            let expected: Vec<&str> = starting(prefix).into_iter().filter(|key| *key > after).collect();
            assert_eq!(found, expected, "prefix `{prefix}`, after `{after}`");
            assert!(page.blobs.iter().all(|blob| blob.size_bytes == blob.key.len() as u64));
        }
    }
}

async fn one_creator(blobs: Arc<dyn Blobs>) {
    for round in 0..4 {
        let results = at_once(32, |index| {
            let blobs = blobs.clone();
            async move { blobs.put(&format!("race/{round}"), vec![index as u8; 1_000].into(), PutMode::Create).await }
        })
        .await;
        let winners: Vec<usize> = (0..32).filter(|index| results[*index].is_ok()).collect();
        assert_eq!(winners.len(), 1, "winners of a concurrent create: {winners:?}");
        for result in results.into_iter().filter(|result| result.is_err()) {
            refused(result, ErrorKind::AlreadyExists, "a loser of a concurrent create");
        }
        let data = ok(blobs.get(&format!("race/{round}")).await, "get");
        assert!(data == vec![winners[0] as u8; 1_000], "the blob is not the winner's");
    }
}

async fn no_mixture(blobs: Arc<dyn Blobs>) {
    ok(blobs.put("mixed", vec![0; 100_000].into(), PutMode::Create).await, "put");
    let results = at_once(16, |index| {
        let blobs = blobs.clone();
        async move {
            for round in 0..8 {
                if index % 2 == 0 {
                    let data = vec![(index * 8 + round) as u8; 100_000 + index];
                    ok(blobs.put("mixed", data.into(), PutMode::Overwrite).await, "overwrite");
                } else {
                    let data = ok(blobs.get("mixed").await, "get");
                    if data.len() < 100_000 || data.iter().any(|byte| *byte != data[0]) {
                        return false;
                    }
                }
            }
            true
        }
    })
    .await;
    assert!(results.into_iter().all(|is_whole| is_whole), "a reader saw a mixture of two writes");
}

async fn concurrent_neighbours(blobs: Arc<dyn Blobs>) {
    let key = |index: usize| ["n", "n/a", "n/a/b", "n/a/b/c"][index % 4].to_owned() + &"/d".repeat(index / 4);
    at_once(16, |index| {
        let (blobs, key) = (blobs.clone(), key(index));
        async move { ok(blobs.put(&key, key.clone().into(), PutMode::Overwrite).await, &key) }
    })
    .await;
    for index in 0..16 {
        let key = key(index);
        assert!(ok(blobs.get(&key).await, &key) == key.as_bytes(), "{key}");
    }
}
