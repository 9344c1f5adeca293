use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// What to do where the key exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Refuse with `AlreadyExists`; of several concurrent writers exactly one succeeds.
    Create,
    /// Replace it; a reader sees the old bytes or the new ones, never a mixture.
    Overwrite,
}

/// What is known about a blob without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobMeta {
    /// Its key.
    pub key: String,
    /// Its length.
    pub size_bytes: u64,
    /// When it was last written, milliseconds since the epoch.
    pub modified_ms: i64,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlobPage {
    /// Blobs in ascending order of their keys' bytes.
    pub blobs: Vec<BlobMeta>,
    /// Pass as `after` to go on; `None` at the end.
    pub next: Option<String>,
}

/// What a presigned URL allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresignMethod {
    /// To read the blob.
    Get,
    /// To write it.
    Put,
}

/// Named immutable bytes.
///
/// Keys are segments joined by `/`: 1 to 1,024 bytes of ASCII letters, digits and `-_.=+@`, no empty segment, no `.` or
/// `..`, no segment over 200 bytes. Every method refuses another key with `Invalid`.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Writes a blob; it is durable and visible in full when this returns, or not visible at all.
    ///
    /// # Errors
    /// `AlreadyExists` with [`PutMode::Create`] where the key exists, `Invalid` for a bad key, `Unavailable`.
    async fn put(&self, key: &str, data: Bytes, mode: PutMode) -> Result<()>;

    /// Reads a blob.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Unavailable`.
    async fn get(&self, key: &str) -> Result<Bytes>;

    /// Reads the bytes in `range`, cut off at the blob's end.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` where the range is empty or starts at or past the end; `Unavailable`.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes>;

    /// What is known about a blob.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Unavailable`.
    async fn head(&self, key: &str) -> Result<BlobMeta>;

    /// Lists at most `limit` blobs whose key starts with `prefix` (any text, not only whole segments) and comes after
    /// `after`, in ascending order.
    ///
    /// # Errors
    /// `Invalid` where `limit` is zero, `Unavailable`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage>;

    /// Deletes a blob; deleting what does not exist succeeds.
    ///
    /// # Errors
    /// `Invalid`, `Unavailable`.
    async fn delete(&self, key: &str) -> Result<()>;

    /// A URL that lets its holder read or write the blob for a while without further permission.
    ///
    /// # Errors
    /// `Refused` where this adapter has no such thing, `Invalid`, `Unavailable`.
    async fn presign(&self, key: &str, method: PresignMethod, expires: Duration) -> Result<String>;

    /// The URL of `key` as another process (a job) names it: `file:///...`, `s3://bucket/...`.
    fn url(&self, key: &str) -> String;
}
