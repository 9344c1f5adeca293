use super::*;

#[tokio::test]
async fn the_key_stays_and_others_are_trusted_by_their_public_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys/signing.pem");
    let signature = KeyFileSigner::open_or_create(&path).unwrap().sign(b"message").await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let again = KeyFileSigner::open_or_create(&path).unwrap();
    again.verify(b"message", &signature).await.unwrap();
    assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 1, "no temporary file is left");

    let other = KeyFileSigner::open_or_create(dir.path().join("other.pem")).unwrap();
    assert_eq!(other.verify(b"message", &signature).await.unwrap_err().kind(), ErrorKind::Forbidden);
    let trusted = dir.path().join("trusted");
    fs::create_dir(&trusted).unwrap();
    fs::write(trusted.join("first.pem"), again.public_key().await.unwrap()).unwrap();
    other.with_trusted_dir(&trusted).unwrap().verify(b"message", &signature).await.unwrap();
}

#[test]
fn a_key_that_others_may_read_or_that_is_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signing.pem");
    drop(KeyFileSigner::open_or_create(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = KeyFileSigner::open_or_create(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.hint().unwrap().contains("chmod 600"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "nonsense").unwrap();
    assert_eq!(KeyFileSigner::open_or_create(&path).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn processes_that_create_the_key_at_once_get_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signing.pem");
    let ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| KeyFileSigner::open_or_create(&path).unwrap().key_id)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
}
