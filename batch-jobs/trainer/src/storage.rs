//! Where a run's files are.

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use moola_core::contract::paths;
use moola_core::ports::{Blobs, PutMode};
use moola_core::{Error, ErrorKind, Result};
use moola_local::DirectoryBlobs;
use tokio::runtime::Handle;

/// The blobs of one run, for code that computes: calls block until they are done.
#[derive(Clone)]
pub struct Storage {
    blobs: Arc<dyn Blobs>,
    runtime: Handle,
    run_id: String,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").field("run_id", &self.run_id).finish_non_exhaustive()
    }
}

impl Storage {
    /// The run `run_id` in `blobs`.
    #[must_use]
    pub fn new(blobs: Arc<dyn Blobs>, runtime: Handle, run_id: impl Into<String>) -> Self {
        Self { blobs, runtime, run_id: run_id.into() }
    }

    /// Opens the place of a spec by its URL: `file:///<directory>/runs/<run>/spec.json`, and with the feature `aws`
    /// `s3://<bucket>/runs/<run>/spec.json`.
    ///
    /// # Errors
    /// `Invalid` for another scheme or another place; those of opening the directory.
    pub fn open(url: &str, runtime: Handle) -> Result<Self> {
        let expected = "`file:///<directory>/runs/<run>/spec.json` or `s3://<bucket>/runs/<run>/spec.json`";
        let error = || Error::invalid("spec", url, expected);
        let (scheme, path) = url.split_once("://").ok_or_else(error)?;
        let path = decode(path).ok_or_else(error)?;
        let rest = path.strip_suffix(&format!("/{}", paths::SPEC)).ok_or_else(error)?;
        let (rest, run_id) = rest.rsplit_once('/').ok_or_else(error)?;
        let root = rest.strip_suffix("/runs").filter(|_| !run_id.is_empty()).ok_or_else(error)?;
        let blobs: Arc<dyn Blobs> = match scheme {
            "file" => {
                let root = PathBuf::from(if root.is_empty() { "/" } else { root });
                if !root.is_absolute() || !root.is_dir() {
                    return Err(error().with_hint("the directory before `runs/` must exist"));
                }
                Arc::new(DirectoryBlobs::open(root)?)
            }
            #[cfg(feature = "aws")]
            "s3" if !root.is_empty() && !root.contains('/') => {
                Arc::new(moola_aws::S3Blobs::new(&runtime.block_on(moola_aws::sdk_config()), root))
            }
            "s3" if cfg!(not(feature = "aws")) => {
                return Err(error().with_hint("this trainer was built without the feature `aws`"));
            }
            _ => return Err(error()),
        };
        Ok(Self::new(blobs, runtime, run_id))
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// Reads any blob.
    ///
    /// # Errors
    /// Those of [`Blobs::get`].
    pub fn get_key(&self, key: &str) -> Result<Bytes> {
        self.runtime.block_on(self.blobs.get(key))
    }

    /// Reads a file of the run; `None` where it does not exist.
    ///
    /// # Errors
    /// Those of [`Blobs::get`], without `NotFound`.
    pub fn get(&self, file: &str) -> Result<Option<Bytes>> {
        match self.get_key(&paths::run(&self.run_id, file)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file of the run.
    ///
    /// # Errors
    /// Those of [`Blobs::put`].
    pub fn put(&self, file: &str, data: impl Into<Bytes>) -> Result<()> {
        let key = paths::run(&self.run_id, file);
        self.runtime.block_on(self.blobs.put(&key, data.into(), PutMode::Overwrite))
    }

    /// Deletes a file of the run.
    ///
    /// # Errors
    /// Those of [`Blobs::delete`].
    pub fn delete(&self, file: &str) -> Result<()> {
        self.runtime.block_on(self.blobs.delete(&paths::run(&self.run_id, file)))
    }

    /// The run's files below `folder`, in order.
    ///
    /// # Errors
    /// Those of [`Blobs::list`].
    pub fn list(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = paths::run(&self.run_id, folder);
        let start = prefix.len() - folder.len();
        let mut files = Vec::new();
        let mut after = None;
        loop {
            let page = self.runtime.block_on(self.blobs.list(&prefix, after.as_deref(), 1000))?;
            files.extend(page.blobs.into_iter().map(|blob| blob.key[start..].to_owned()));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(files),
            }
        }
    }
}

/// Undoes percent-encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}
