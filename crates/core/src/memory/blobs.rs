use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::lock;
use crate::error::{Error, ErrorKind, Result};
use crate::ports::checks::{check_blob_key, check_limit, check_range};
use crate::ports::{BlobMeta, BlobPage, Blobs, Clock, PresignMethod, PutMode};

/// Blobs in memory. Presigns nothing.
#[derive(Debug)]
pub struct MemoryBlobs {
    blobs: Mutex<BTreeMap<String, (Bytes, i64)>>,
    clock: Arc<dyn Clock>,
}

impl MemoryBlobs {
    /// Makes an empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { blobs: Mutex::default(), clock }
    }

    /// Replaces a blob's bytes behind the back of everybody, to test what damage does.
    pub fn damage(&self, key: &str, data: impl Into<Bytes>) {
        lock(&self.blobs).insert(key.to_owned(), (data.into(), self.clock.now_ms()));
    }
}

fn meta(key: &str, (data, modified_ms): &(Bytes, i64)) -> BlobMeta {
    BlobMeta { key: key.to_owned(), size_bytes: data.len() as u64, modified_ms: *modified_ms }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, key: &str, data: Bytes, mode: PutMode) -> Result<()> {
        check_blob_key(key)?;
        let mut blobs = lock(&self.blobs);
        if mode == PutMode::Create && blobs.contains_key(key) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("blob `{key}` exists already")));
        }
        blobs.insert(key.to_owned(), (data, self.clock.now_ms()));
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        check_blob_key(key)?;
        lock(&self.blobs).get(key).map(|(data, _)| data.clone()).ok_or_else(|| Error::not_found("blob", key))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        let data = self.get(key).await?;
        let range = check_range(key, &range, data.len() as u64)?;
        // Within the data's length, so it fits.
        Ok(data.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &str) -> Result<BlobMeta> {
        check_blob_key(key)?;
        lock(&self.blobs).get(key).map(|blob| meta(key, blob)).ok_or_else(|| Error::not_found("blob", key))
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage> {
        check_limit(limit)?;
        let low = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let blobs = lock(&self.blobs);
        let mut found =
            blobs.range::<str, _>((low, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix)).peekable();
        let page: Vec<BlobMeta> = found.by_ref().take(limit).map(|(key, blob)| meta(key, blob)).collect();
        let next = found.peek().and(page.last()).map(|last| last.key.clone());
        Ok(BlobPage { blobs: page, next })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_blob_key(key)?;
        lock(&self.blobs).remove(key);
        Ok(())
    }

    async fn presign(&self, key: &str, _method: PresignMethod, _expires: Duration) -> Result<String> {
        check_blob_key(key)?;
        Err(Error::new(ErrorKind::Refused, format!("blob `{key}` has no presigned URL: it is in memory")))
    }

    fn url(&self, key: &str) -> String {
        format!("memory:///{key}")
    }
}
