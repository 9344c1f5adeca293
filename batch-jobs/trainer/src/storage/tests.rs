use super::*;

#[test]
fn percent_encoding_is_undone() {
    assert_eq!(decode("/a%20b/%c3%A9").as_deref(), Some("/a b/é"));
    assert_eq!(decode("/plain").as_deref(), Some("/plain"));
    for bad in ["/a%2", "/a%zz", "/%ff"] {
        assert_eq!(decode(bad), None);
    }
}

#[test]
fn files_of_a_run_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let open = |run: &str| {
        let url = format!("file://{}/runs/{run}/spec.json", dir.path().display());
        Storage::open(&url, runtime.handle().clone()).unwrap()
    };
    let (one, two) = (open("r1"), open("r10"));
    assert_eq!(one.run_id(), "r1");
    one.put("progress/0.jsonl", "a").unwrap();
    two.put("progress/0.jsonl", "b").unwrap();
    two.put("progress/1.jsonl", "c").unwrap();
    assert_eq!(one.list("progress/").unwrap(), ["progress/0.jsonl"]);
    assert_eq!(two.list("progress/").unwrap(), ["progress/0.jsonl", "progress/1.jsonl"]);
    two.delete("progress/0.jsonl").unwrap();
    assert_eq!(two.get("progress/0.jsonl").unwrap(), None);
    assert_eq!(one.get("progress/0.jsonl").unwrap().unwrap(), "a");
}
