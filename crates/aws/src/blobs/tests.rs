use moola_core::ErrorKind::{AlreadyExists, Forbidden, Internal, Invalid, NotFound, Unavailable};

use super::*;
use crate::canned::{Answer, Asked, Canned, answer};

fn error_body(code: &str) -> String {
    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>")
}

fn refusal(status: u16, code: &str) -> Answer {
    answer(status, &error_body(code))
}

async fn blobs(answering: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> (S3Blobs, Canned) {
    let canned = Canned::new(answering);
    (S3Blobs::new(&canned.config().await, "bucket"), canned)
}

/// The answer to a HEAD of an object that the write with `token` made.
fn object(token: &str) -> Answer {
    let headers = vec![
        ("content-length", "1".to_owned()),
        ("last-modified", "Sat, 21 Nov 2026 10:00:00 GMT".to_owned()),
        ("x-amz-meta-write", token.to_owned()),
    ];
    (200, headers, String::new())
}

async fn create(blobs: &S3Blobs) -> Result<()> {
    blobs.put("k", Bytes::from_static(b"1"), PutMode::Create).await
}

#[tokio::test]
async fn a_create_whose_answer_was_lost_knows_its_own_object() {
    let token = std::sync::Mutex::new(String::new());
    let (blobs, canned) = blobs(move |number, asked| match number {
        0 => {
            *token.lock().unwrap() = asked.header("x-amz-meta-write").unwrap().to_owned();
            refusal(412, "PreconditionFailed")
        }
        _ => object(&token.lock().unwrap()),
    })
    .await;
    create(&blobs).await.unwrap();
    assert_eq!(canned.asked()[0].header("if-none-match"), Some("*"));
    assert_eq!(canned.lines(), ["PUT /bucket/k?x-id=PutObject", "HEAD /bucket/k"]);
}

#[tokio::test]
async fn a_create_after_another_is_told_so() {
    for other in ["another", ""] {
        let (blobs, _) = blobs(move |number, _| match number {
            0 => refusal(412, "PreconditionFailed"),
            _ => object(other),
        })
        .await;
        assert_eq!(create(&blobs).await.unwrap_err().kind(), AlreadyExists);
    }
}

#[tokio::test]
async fn a_create_that_meets_another_write_tries_again_with_the_same_token() {
    let (blobs, canned) = blobs(|number, _| match number {
        0 | 1 => refusal(409, "ConditionalRequestConflict"),
        // Deleted before it could be looked at.
        2 => refusal(412, "PreconditionFailed"),
        3 => answer(404, ""),
        _ => answer(200, ""),
    })
    .await;
    create(&blobs).await.unwrap();
    let tokens: Vec<Option<String>> = canned
        .asked()
        .iter()
        .filter(|asked| asked.line.starts_with("PUT"))
        .map(|asked| asked.header("x-amz-meta-write").map(str::to_owned))
        .collect();
    assert_eq!(tokens.len(), 4);
    assert!(tokens[0].is_some() && tokens.iter().all(|token| *token == tokens[0]));
}

#[tokio::test]
async fn refusals_of_reads_are_told_apart() {
    let cases = [
        (404, "NoSuchKey", NotFound),
        // A bucket that is not there is no blob that is not there.
        (404, "NoSuchBucket", Internal),
        (403, "AccessDenied", Forbidden),
        (503, "SlowDown", Unavailable),
        (500, "InternalError", Unavailable),
    ];
    for (status, code, kind) in cases {
        let (blobs, _) = blobs(move |_, _| refusal(status, code)).await;
        assert_eq!(blobs.get("k").await.unwrap_err().kind(), kind, "{code}");
        assert_eq!(blobs.get_range("k", 0..1).await.unwrap_err().kind(), kind, "{code}");
    }
    let (blobs, _) = blobs(|_, _| answer(404, "")).await;
    assert_eq!(blobs.head("k").await.unwrap_err().kind(), NotFound);
}

#[tokio::test]
async fn what_comes_back_otherwise_than_promised_is_read_again() {
    let (blobs, canned) = blobs(|number, _| match number {
        0 => (200, vec![("content-length", "4".to_owned())], "on".to_owned()),
        // CRC-32 of other bytes.
        1 => (200, vec![("x-amz-checksum-crc32", "AAAAAA==".to_owned())], "onex".to_owned()),
        _ => (200, vec![("content-length", "4".to_owned())], "once".to_owned()),
    })
    .await;
    assert_eq!(&blobs.get("k").await.unwrap()[..], b"once");
    assert_eq!(canned.asked().len(), 3);
    assert_eq!(canned.asked()[0].header("x-amz-checksum-mode"), Some("ENABLED"));
}

#[tokio::test]
async fn a_range_that_was_ignored_is_not_taken_for_it() {
    let (blobs, _) = blobs(|_, _| answer(200, "0123456789")).await;
    assert_eq!(blobs.get_range("k", 2..4).await.unwrap_err().kind(), Internal);
}

/// Answers a multipart upload up to its completion.
fn parts(asked: &Asked) -> Option<Answer> {
    let upload = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
    if asked.line.starts_with("POST /bucket/k?uploads") {
        return Some(answer(200, upload));
    }
    asked.line.starts_with("PUT").then(|| (200, vec![("etag", "\"e\"".to_owned())], String::new()))
}

fn large() -> Bytes {
    vec![7; MAX_SINGLE_PUT_BYTES + 1].into()
}

#[tokio::test]
async fn an_upload_that_cannot_be_completed_is_aborted() {
    let (blobs, canned) = blobs(|_, asked| match parts(asked) {
        Some(answer) => answer,
        // S3 may have sent the status before it knew.
        None if asked.line.starts_with("POST") => answer(200, &error_body("InternalError")),
        None => answer(204, ""),
    })
    .await;
    let error = blobs.put("k", large(), PutMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), Unavailable, "{}", error.chain());
    let lines = canned.lines();
    assert!(lines.last().unwrap().starts_with("DELETE /bucket/k?"), "{lines:?}");
    let complete = canned.asked().into_iter().rev().nth(1).unwrap();
    assert_eq!(complete.header("if-none-match"), Some("*"));
    assert_eq!(complete.body.matches("<Part>").count(), 3, "{}", complete.body);
}

#[tokio::test]
async fn a_completion_whose_answer_was_lost_knows_its_own_object() {
    let token = std::sync::Mutex::new(String::new());
    let (blobs, _) = blobs(move |_, asked| {
        if let Some(written) = asked.header("x-amz-meta-write") {
            written.clone_into(&mut token.lock().unwrap());
        }
        match parts(asked) {
            Some(answer) => answer,
            None if asked.line.starts_with("POST") => refusal(404, "NoSuchUpload"),
            None if asked.line.starts_with("HEAD") => object(&token.lock().unwrap()),
            None => answer(404, &error_body("NoSuchUpload")),
        }
    })
    .await;
    blobs.put("k", large(), PutMode::Overwrite).await.unwrap();
}

#[tokio::test]
async fn listings_leave_out_what_no_moola_wrote() {
    let body = |is_truncated: bool, keys: &[&str]| {
        let contents: String = keys
            .iter()
            .map(|key| {
                let modified = "<LastModified>2026-11-21T10:00:00.000Z</LastModified>";
                format!("<Contents><Key>{key}</Key><Size>1</Size>{modified}</Contents>")
            })
            .collect();
        format!("<ListBucketResult><IsTruncated>{is_truncated}</IsTruncated>{contents}</ListBucketResult>")
    };
    let pages = [body(true, &["a", "b/", "c d"]), body(false, &["e", "f"])];
    let (blobs, canned) = blobs(move |number, _| answer(200, &pages[number])).await;
    let page = blobs.list("", None, 3).await.unwrap();
    let keys: Vec<&str> = page.blobs.iter().map(|blob| blob.key.as_str()).collect();
    assert_eq!(keys, ["a", "e", "f"]);
    assert_eq!(page.next, None);
    assert_eq!(page.blobs[0].modified_ms, 1_795_255_200_000);
    assert!(canned.lines()[1].contains("start-after=c%20d"), "{:?}", canned.lines());
}

#[tokio::test]
async fn presigned_urls_sign_nothing_that_their_holder_would_have_to_send() {
    let canned = Canned::new(|_, _| answer(500, ""));
    let config = canned.config().await;
    let hour = Duration::from_secs(3_600);
    let emulated = S3Blobs::new(&config, "bucket");
    let mut real = config.to_builder();
    real.set_endpoint_url(None);
    let real = S3Blobs::new(&real.build(), "bucket");
    for method in [PresignMethod::Get, PresignMethod::Put] {
        let url = emulated.presign("a/b=1", method, hour).await.unwrap();
        assert!(url.starts_with("http://aws.test/bucket/a/b%3D1?"), "{url}");
        let url = real.presign("a/b=1", method, hour).await.unwrap();
        assert!(url.starts_with("https://bucket.s3.us-east-1.amazonaws.com/a/b%3D1?"), "{url}");
        assert!(url.contains("X-Amz-Expires=3600") && url.contains("X-Amz-SignedHeaders=host&"), "{url}");
        assert!(!url.to_lowercase().contains("checksum"), "{url}");
    }
    let error = real.presign("k", PresignMethod::Get, hour * 24 * 8).await.unwrap_err();
    assert_eq!(error.kind(), Invalid);
    assert!(canned.asked().is_empty());
    assert_eq!(real.url("a/b"), "s3://bucket/a/b");
}
