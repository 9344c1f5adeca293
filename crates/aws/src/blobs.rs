//! Blobs in S3.

mod multipart;

use std::env;
use std::fmt::Display;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::operation::head_object::{HeadObjectError, HeadObjectOutput};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::http::Response;
use bytes::Bytes;
use moola_core::ports::checks::{check_blob_key, check_limit, check_range};
use moola_core::ports::{BlobMeta, BlobPage, Blobs, PresignMethod, PutMode};
use moola_core::{Error, ErrorKind, Result};

use crate::error::unexpected;
use crate::retry::{Attempts, token};

/// Larger blobs are written in parts.
const MAX_SINGLE_PUT_BYTES: usize = 16 << 20;
/// The metadata that tells one writer's object from another's: after a lost answer, was it this write that came first?
const WRITE_TOKEN: &str = "write";
/// More than any object holds; larger numbers than that are not understood in a range.
const MAX_OBJECT_BYTES: u64 = 1 << 50;
/// What one listing returns at most.
const MAX_LIST: usize = 1_000;

/// Blobs as the objects of one bucket.
///
/// Uploads carry checksums that S3 verifies; what is read is verified against them.
#[derive(Debug, Clone)]
pub struct S3Blobs {
    client: Client,
    bucket: String,
}

/// Why an object was not written.
#[derive(Debug)]
enum NotPut {
    /// There is one, perhaps of an earlier attempt of the same write.
    Taken,
    /// The upload is gone: an earlier attempt completed it, or somebody aborted it.
    UploadGone,
    /// Another write to the key is going on.
    Busy,
    Failed(Error),
}

impl NotPut {
    fn new<E>(what: &str, error: SdkError<E, Response>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match (error.as_service_error().and_then(ProvideErrorMetadata::code), status) {
            (_, Some(412)) => Self::Taken,
            (_, Some(409)) => Self::Busy,
            (Some("NoSuchUpload"), _) => Self::UploadGone,
            _ => Self::Failed(unexpected(what, error)),
        }
    }
}

impl S3Blobs {
    /// Blobs in `bucket`, which exists.
    #[must_use]
    pub fn new(config: &SdkConfig, bucket: impl Into<String>) -> Self {
        // An emulator has no host name for each bucket.
        let is_emulator = config.endpoint_url().is_some() || env::var_os("AWS_ENDPOINT_URL_S3").is_some();
        let config = Builder::from(config).force_path_style(is_emulator).build();
        Self { client: Client::from_conf(config), bucket: bucket.into() }
    }

    async fn put_once(&self, key: &str, data: &Bytes, mode: PutMode, token: &str) -> Result<(), NotPut> {
        if data.len() > MAX_SINGLE_PUT_BYTES {
            return self.put_parts(key, data, mode, token).await;
        }
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .metadata(WRITE_TOKEN, token)
            .set_if_none_match(if_none_match(mode))
            .body(ByteStream::from(data.clone()));
        put.send().await.map(drop).map_err(|error| NotPut::new(&self.what("put", key), error))
    }

    async fn head_object(&self, key: &str) -> Result<Option<HeadObjectOutput>> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(head) => Ok(Some(head)),
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(None),
            Err(error) => Err(unexpected(&self.what("head", key), error)),
        }
    }

    /// Reads an object, or a range of it; with its length where the answer tells it. `None` where the range is none of
    /// the object's.
    async fn read(&self, key: &str, range: Option<String>) -> Result<Option<(Bytes, Option<u64>)>> {
        let mut attempts = Attempts::default();
        loop {
            let request = self.client.get_object().bucket(&self.bucket).key(key).set_range(range.clone());
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => {
                    return Err(Error::not_found("blob", key));
                }
                Err(error) if error.raw_response().is_some_and(|it| it.status().as_u16() == 416) => return Ok(None),
                Err(error) => return Err(unexpected(&self.what("get", key), error)),
            };
            let size_bytes = answer.content_range().and_then(|text| text.rsplit('/').next()?.parse().ok());
            let num_bytes = answer.content_length().and_then(|length| usize::try_from(length).ok());
            // The SDK hands the body over unread: what happens on its way is ours to repeat.
            let failure = match answer.body.collect().await {
                Ok(body) => {
                    let body = body.into_bytes();
                    if num_bytes.is_none_or(|expected| expected == body.len()) {
                        return Ok(Some((body, size_bytes)));
                    }
                    format!("{} bytes came", body.len()).into()
                }
                Err(error) => Box::<dyn std::error::Error + Send + Sync>::from(error),
            };
            if !attempts.again().await {
                let message = format!("{} was cut off every time", self.what("get", key));
                return Err(Error::unavailable(message).with_source(failure));
            }
        }
    }

    fn what(&self, verb: &str, key: impl Display) -> String {
        format!("{verb} of `s3://{}/{key}`", self.bucket)
    }
}

fn if_none_match(mode: PutMode) -> Option<String> {
    (mode == PutMode::Create).then(|| "*".to_owned())
}

#[async_trait]
impl Blobs for S3Blobs {
    async fn put(&self, key: &str, data: Bytes, mode: PutMode) -> Result<()> {
        check_blob_key(key)?;
        let token = token()?;
        let mut attempts = Attempts::default();
        loop {
            let refusal = match self.put_once(key, &data, mode, &token).await {
                Ok(()) => return Ok(()),
                Err(NotPut::Failed(error)) => return Err(error),
                Err(refusal) => refusal,
            };
            if !matches!(refusal, NotPut::Busy) {
                let head = self.head_object(key).await?;
                let is_ours = |head: &HeadObjectOutput| head.metadata()?.get(WRITE_TOKEN).map(|it| *it == token);
                match (head, refusal) {
                    (Some(head), _) if is_ours(&head) == Some(true) => return Ok(()),
                    (Some(_), NotPut::Taken) => {
                        return Err(Error::new(ErrorKind::AlreadyExists, format!("blob `{key}` exists already")));
                    }
                    // Deleted since, or the upload is gone: once more from the start.
                    _ => {}
                }
            }
            if !attempts.again().await {
                return Err(Error::unavailable(format!("{} met other writes every time", self.what("put", key))));
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        check_blob_key(key)?;
        let read = self.read(key, None).await?;
        read.map(|(body, _)| body).ok_or_else(|| Error::internal(format!("{}: no range", self.what("get", key))))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        check_blob_key(key)?;
        if !range.is_empty() && range.start < MAX_OBJECT_BYTES {
            let last = range.end.min(MAX_OBJECT_BYTES) - 1;
            if let Some((body, size_bytes)) = self.read(key, Some(format!("bytes={}-{last}", range.start))).await? {
                let size_bytes = size_bytes
                    .ok_or_else(|| Error::internal(format!("{} ignored the range", self.what("get", key))))?;
                let range = check_range(key, &range, size_bytes)?;
                if body.len() as u64 == range.end - range.start {
                    return Ok(body);
                }
                return Err(Error::unavailable(format!("{} returned {} bytes", self.what("get", key), body.len())));
            }
        }
        let size_bytes = self.head(key).await?.size_bytes;
        check_range(key, &range, size_bytes)?;
        Err(Error::unavailable(format!("blob `{key}` was replaced while it was read")))
    }

    async fn head(&self, key: &str) -> Result<BlobMeta> {
        check_blob_key(key)?;
        let head = self.head_object(key).await?.ok_or_else(|| Error::not_found("blob", key))?;
        meta(key, head.content_length(), head.last_modified())
            .ok_or_else(|| Error::internal(format!("{} tells no size or time", self.what("head", key))))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage> {
        check_limit(limit)?;
        let mut after = after.filter(|after| !after.is_empty()).map(str::to_owned);
        let mut blobs = Vec::new();
        loop {
            let max_keys = (limit - blobs.len()).min(MAX_LIST);
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(prefix)
                .set_start_after(after)
                .max_keys(i32::try_from(max_keys).unwrap_or(i32::MAX));
            let page = request.send().await.map_err(|error| unexpected(&self.what("list", prefix), error))?;
            let is_truncated = page.is_truncated().unwrap_or_default();
            let last = page.contents().last().and_then(|object| object.key()).map(str::to_owned);
            for object in page.contents() {
                // Consoles and others leave objects that no moola could have written.
                let key = object.key().filter(|key| check_blob_key(key).is_ok());
                let found = key.and_then(|key| meta(key, object.size(), object.last_modified()));
                blobs.extend(found);
            }
            after = last.filter(|_| is_truncated);
            if after.is_none() || blobs.len() == limit {
                return Ok(BlobPage { blobs, next: after });
            }
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_blob_key(key)?;
        let delete = self.client.delete_object().bucket(&self.bucket).key(key);
        delete.send().await.map(drop).map_err(|error| unexpected(&self.what("delete", key), error))
    }

    async fn presign(&self, key: &str, method: PresignMethod, expires: Duration) -> Result<String> {
        check_blob_key(key)?;
        let config = PresigningConfig::expires_in(expires).map_err(|error| {
            Error::invalid("expires", format!("{} s", expires.as_secs()), "at most 7 days").with_source(error)
        })?;
        let what = || self.what("presigning", key);
        let request = match method {
            PresignMethod::Get => {
                let get = self.client.get_object().bucket(&self.bucket).key(key);
                get.presigned(config).await.map_err(|error| unexpected(&what(), error))?
            }
            PresignMethod::Put => {
                let put = self.client.put_object().bucket(&self.bucket).key(key);
                put.presigned(config).await.map_err(|error| unexpected(&what(), error))?
            }
        };
        Ok(request.uri().to_owned())
    }

    fn url(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }
}

fn meta(key: &str, size: Option<i64>, modified: Option<&aws_sdk_s3::primitives::DateTime>) -> Option<BlobMeta> {
    Some(BlobMeta {
        key: key.to_owned(),
        size_bytes: u64::try_from(size?).ok()?,
        modified_ms: modified?.to_millis().ok()?,
    })
}

#[cfg(test)]
mod tests;
