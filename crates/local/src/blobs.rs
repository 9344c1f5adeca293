use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind as Io, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use moola_core::ports::checks::{check_blob_key, check_limit, check_range};
use moola_core::ports::{BlobMeta, BlobPage, Blobs, PresignMethod, PutMode};
use moola_core::{Error, ErrorKind, Result};

use crate::{blocking, io_error, sync_dir};

/// Where files are written before they get their name. No key contains `~`.
const TEMP_DIR: &str = "~tmp";
/// Added to the name of a directory whose plain name is that of a blob.
const DIR_SUFFIX: &str = "~d";
/// Added to the name of a blob whose plain name is that of a directory.
const BLOB_SUFFIX: &str = "~b";
/// How often a write starts anew because another one changed the directories meanwhile.
const MAX_TRIES: u32 = 8;

/// Blobs as files of a directory on a file system with hard links.
///
/// The blob `a/b` is the file `a/b`, so that people and jobs find it. Where a key is also the start of another (`a` and
/// `a/b`), whichever comes second gets a suffix that no key can have: the directory `a~d` or the file `a~b`. A write goes
/// to a file in `~tmp`, is flushed to the disk and then linked ([`PutMode::Create`]) or renamed to its name; what a
/// crash leaves in `~tmp` is deleted by the next [`DirectoryBlobs::open`]. Several processes may use one directory.
/// Directories stay when their last blob goes.
#[derive(Clone)]
pub struct DirectoryBlobs {
    root: Arc<PathBuf>,
}

impl fmt::Debug for DirectoryBlobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryBlobs").field("root", &self.root).finish()
    }
}

impl DirectoryBlobs {
    /// Opens the directory, or creates it. Blocks.
    ///
    /// # Errors
    /// `Unavailable`.
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        let open = |root: &Path| -> io::Result<_> {
            fs::create_dir_all(root.join(TEMP_DIR))?;
            let root = root.canonicalize()?;
            delete_abandoned(&root.join(TEMP_DIR))?;
            Ok(root)
        };
        let root = root.as_ref();
        let root = open(root).map_err(|error| io_error("open the directory", root, error))?;
        Ok(Self { root: Arc::new(root) })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that holds the blob, or would hold it.
    fn path(&self, key: &str) -> PathBuf {
        let mut dir = self.root.as_ref().clone();
        let mut segments = key.split('/').peekable();
        while let Some(segment) = segments.next() {
            let plain = dir.join(segment);
            let is_blob = segments.peek().is_none();
            let suffixed = with_suffix(&plain, if is_blob { BLOB_SUFFIX } else { DIR_SUFFIX });
            let is_suffixed = if is_blob { plain.is_dir() } else { !plain.is_dir() && suffixed.is_dir() };
            dir = if is_suffixed { suffixed } else { plain };
        }
        dir
    }

    /// Creates the directories for `key`.
    fn make_dirs(&self, key: &str) -> io::Result<()> {
        let mut dir = self.root.as_ref().clone();
        let Some((segments, _)) = key.rsplit_once('/') else { return Ok(()) };
        for segment in segments.split('/') {
            let plain = dir.join(segment);
            let suffixed = with_suffix(&plain, DIR_SUFFIX);
            let next = if plain.is_dir() {
                plain
            } else if suffixed.is_dir() {
                suffixed
            } else {
                let next = if plain.exists() { suffixed } else { plain };
                match fs::create_dir(&next) {
                    Err(error) if error.kind() != Io::AlreadyExists || !next.is_dir() => return Err(error),
                    _ => sync_dir(&dir)?,
                }
                next
            };
            dir = next;
        }
        Ok(())
    }

    fn put_blocking(&self, key: &str, data: &[u8], mode: PutMode) -> Result<()> {
        let exists = || Error::new(ErrorKind::AlreadyExists, format!("blob `{key}` exists already"));
        let mut last = None;
        for _ in 0..MAX_TRIES {
            if mode == PutMode::Create && self.path(key).is_file() {
                return Err(exists());
            }
            match self.try_put(key, data, mode) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == Io::AlreadyExists && self.path(key).is_file() => return Err(exists()),
                // A directory took the name meanwhile, or the temporary file was taken for an abandoned one.
                Err(error)
                    if matches!(
                        error.kind(),
                        Io::AlreadyExists | Io::IsADirectory | Io::NotADirectory | Io::NotFound
                    ) =>
                {
                    last = Some(error);
                }
                Err(error) => return Err(io_error("write", &self.path(key), error)),
            }
        }
        Err(io_error("write", &self.path(key), last.unwrap_or_else(|| Io::Other.into())))
    }

    fn try_put(&self, key: &str, data: &[u8], mode: PutMode) -> io::Result<()> {
        self.make_dirs(key)?;
        let temp = TempFile::create(&self.root.join(TEMP_DIR))?;
        (&temp.file).write_all(data)?;
        temp.file.sync_all()?;
        let path = self.path(key);
        match mode {
            PutMode::Create => fs::hard_link(&temp.path, &path)?,
            PutMode::Overwrite => fs::rename(&temp.path, &path)?,
        }
        path.parent().map_or(Ok(()), sync_dir)
    }

    fn open_file(&self, key: &str) -> Result<(File, u64, i64)> {
        let path = self.path(key);
        let open = || -> io::Result<_> {
            let file = File::open(&path)?;
            let metadata = file.metadata()?;
            Ok((metadata.is_file(), metadata.len(), modified_ms(&metadata), file))
        };
        match open() {
            Ok((true, size_bytes, modified_ms, file)) => Ok((file, size_bytes, modified_ms)),
            Ok((false, ..)) => Err(Error::not_found("blob", key)),
            Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => {
                Err(Error::not_found("blob", key))
            }
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    fn read(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes> {
        let (mut file, size_bytes, _) = self.open_file(key)?;
        let range = match range {
            Some(range) => check_range(key, &range, size_bytes)?,
            None => 0..size_bytes,
        };
        let mut read = || -> io::Result<_> {
            if range.start > 0 {
                file.seek(SeekFrom::Start(range.start))?;
            }
            let num_bytes = range.end - range.start;
            let mut data = Vec::with_capacity(usize::try_from(num_bytes).unwrap_or(0));
            (&file).take(num_bytes).read_to_end(&mut data)?;
            Ok(data)
        };
        read().map(Bytes::from).map_err(|error| io_error("read", &self.path(key), error))
    }

    fn delete_blocking(&self, key: &str) -> Result<()> {
        let path = self.path(key);
        let delete = || -> io::Result<_> {
            fs::remove_file(&path)?;
            path.parent().map_or(Ok(()), sync_dir)
        };
        match delete() {
            Err(error) if !matches!(error.kind(), Io::NotFound | Io::NotADirectory) => {
                Err(io_error("delete", &path, error))
            }
            _ => Ok(()),
        }
    }

    fn list_blocking(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage> {
        let mut listing = Listing { prefix, after, limit, blobs: Vec::new() };
        listing.walk(&self.root, "").map_err(|error| io_error("list", &self.root, error))?;
        let mut blobs = listing.blobs;
        let next = (blobs.len() > limit).then(|| blobs[limit - 1].key.clone());
        blobs.truncate(limit);
        Ok(BlobPage { blobs, next })
    }
}

/// A walk in the order of keys that stops one blob past the page.
struct Listing<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
    blobs: Vec<BlobMeta>,
}

impl Listing<'_> {
    fn walk(&mut self, dir: &Path, dir_key: &str) -> io::Result<()> {
        // A directory sorts as its name with the `/` that follows in the keys.
        let mut entries = Vec::new();
        let read = match fs::read_dir(dir) {
            Err(error) if error.kind() == Io::NotFound => return Ok(()),
            read => read?,
        };
        for entry in read {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let name = name.strip_suffix(if is_dir { DIR_SUFFIX } else { BLOB_SUFFIX }).unwrap_or(name);
            if name.contains('~') {
                continue;
            }
            let key = format!("{dir_key}{name}{}", if is_dir { "/" } else { "" });
            if self.wants(&key, is_dir) {
                entries.push((key, is_dir, entry.path()));
            }
        }
        entries.sort();
        for (key, is_dir, path) in entries {
            if self.blobs.len() > self.limit {
                break;
            }
            if is_dir {
                self.walk(&path, &key)?;
                continue;
            }
            match fs::metadata(&path) {
                Ok(metadata) => {
                    let modified_ms = modified_ms(&metadata);
                    self.blobs.push(BlobMeta { key, size_bytes: metadata.len(), modified_ms });
                }
                Err(error) if error.kind() == Io::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the blob, or something in the directory, belongs to the page.
    fn wants(&self, key: &str, is_dir: bool) -> bool {
        if is_dir {
            (key.starts_with(self.prefix) || self.prefix.starts_with(key))
                && self.after.is_none_or(|after| after < key || after.starts_with(key))
        } else {
            key.starts_with(self.prefix) && self.after.is_none_or(|after| after < key)
        }
    }
}

/// A file without a final name. It is locked while its writer lives; its name goes with it.
struct TempFile {
    path: PathBuf,
    file: File,
}

impl TempFile {
    fn create(dir: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = dir.join(name);
            match File::create_new(&path) {
                Ok(file) => {
                    let temp = Self { path, file };
                    temp.file.try_lock()?;
                    return Ok(temp);
                }
                // Left by a process that had the same number.
                Err(error) if error.kind() == Io::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // After a rename there is nothing left to delete.
        let _ = fs::remove_file(&self.path);
    }
}

/// Deletes the temporary files whose writers are gone.
fn delete_abandoned(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != Io::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn modified_ms(metadata: &fs::Metadata) -> i64 {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    i64::try_from(modified.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Blobs for DirectoryBlobs {
    async fn put(&self, key: &str, data: Bytes, mode: PutMode) -> Result<()> {
        check_blob_key(key)?;
        let (this, key) = (self.clone(), key.to_owned());
        blocking(move || this.put_blocking(&key, &data, mode)).await
    }

    async fn get(&self, key: &str) -> Result<Bytes> {
        check_blob_key(key)?;
        let (this, key) = (self.clone(), key.to_owned());
        blocking(move || this.read(&key, None)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        check_blob_key(key)?;
        let (this, key) = (self.clone(), key.to_owned());
        blocking(move || this.read(&key, Some(range))).await
    }

    async fn head(&self, key: &str) -> Result<BlobMeta> {
        check_blob_key(key)?;
        let (this, key) = (self.clone(), key.to_owned());
        blocking(move || {
            let (_, size_bytes, modified_ms) = this.open_file(&key)?;
            Ok(BlobMeta { key, size_bytes, modified_ms })
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<BlobPage> {
        check_limit(limit)?;
        let (this, prefix, after) = (self.clone(), prefix.to_owned(), after.map(str::to_owned));
        blocking(move || this.list_blocking(&prefix, after.as_deref(), limit)).await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_blob_key(key)?;
        let (this, key) = (self.clone(), key.to_owned());
        blocking(move || this.delete_blocking(&key)).await
    }

    async fn presign(&self, key: &str, _method: PresignMethod, _expires: Duration) -> Result<String> {
        check_blob_key(key)?;
        Err(Error::new(ErrorKind::Refused, format!("blob `{key}` has no presigned URL: it is a file"))
            .with_hint("read it through the platform's API"))
    }

    fn url(&self, key: &str) -> String {
        let path = if check_blob_key(key).is_ok() { self.path(key) } else { self.root.join(key) };
        let mut url = String::from("file://");
        for &byte in path.as_os_str().as_encoded_bytes() {
            if byte.is_ascii_alphanumeric() || b"/-_.=+@~".contains(&byte) {
                url.push(char::from(byte));
            } else {
                url.push_str(&format!("%{byte:02X}"));
            }
        }
        url
    }
}
