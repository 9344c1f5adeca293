use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moola_core::ports::Ports;
use moola_core::system::{SystemClock, TimeIds};
use moola_core::{Error, Result};

use crate::{
    CommandTemplate, DirectoryBlobs, EventsConfig, KeyFileSigner, LocalEvents, LocalSchedules, ProcessJobs,
    ProcessJobsConfig, RedbTable, blocking, io_error,
};

/// Settings of [`Local`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// What each job definition runs.
    pub definitions: BTreeMap<String, CommandTemplate>,
    /// Most jobs at a time.
    pub max_concurrent_jobs: usize,
    /// Numbers of the events.
    pub events: EventsConfig,
}

impl LocalConfig {
    /// No definitions, one job at a time.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            definitions: BTreeMap::new(),
            max_concurrent_jobs: 1,
            events: EventsConfig::default(),
        }
    }
}

/// All embedded adapters, wired together in one data directory; see the crate's documentation for its layout.
///
/// Open it, subscribe to the events, then [`Local::start`]; in the end [`Local::shutdown`].
#[derive(Debug)]
pub struct Local {
    /// Blobs.
    pub blobs: Arc<DirectoryBlobs>,
    /// Items.
    pub table: Arc<RedbTable>,
    /// Jobs.
    pub jobs: Arc<ProcessJobs>,
    /// Events.
    pub events: Arc<LocalEvents>,
    /// Schedules.
    pub schedules: Arc<LocalSchedules>,
    /// Signer.
    pub signer: Arc<KeyFileSigner>,
    /// The time.
    pub clock: Arc<SystemClock>,
    /// Identifiers.
    pub ids: Arc<TimeIds>,
    /// Held for as long as this lives.
    _lock: File,
}

impl Local {
    /// Opens the data directory, or creates it. Nothing runs before [`Local::start`].
    ///
    /// # Errors
    /// `Unavailable` where another process uses the directory or it cannot be written, `Refused` where others may read
    /// the signing key, `Corrupt`.
    pub async fn open(config: LocalConfig) -> Result<Self> {
        let data_dir = config.data_dir.clone();
        let (lock, blobs, table, signer) = blocking(move || {
            let lock = lock_dir(&data_dir)?;
            let blobs = DirectoryBlobs::open(data_dir.join("blobs"))?;
            let table = RedbTable::open(data_dir.join("table.redb"))?;
            let keys = data_dir.join("keys");
            let signer =
                KeyFileSigner::open_or_create(keys.join("signing.pem"))?.with_trusted_dir(keys.join("trusted"))?;
            Ok((lock, Arc::new(blobs), Arc::new(table), Arc::new(signer)))
        })
        .await?;
        let clock = Arc::new(SystemClock);
        let ids = Arc::new(TimeIds::new(clock.clone())?);
        let events = Arc::new(LocalEvents::open(table.clone(), ids.clone(), config.events).await?);
        let jobs = ProcessJobsConfig {
            max_concurrent: config.max_concurrent_jobs,
            ..ProcessJobsConfig::new(config.definitions, config.data_dir.join("logs"))
        };
        let jobs = ProcessJobs::new(table.clone(), events.clone(), clock.clone(), ids.clone(), jobs)?;
        let schedules = LocalSchedules::new(table.clone(), events.clone(), clock.clone());
        Ok(Self {
            blobs,
            table,
            jobs: Arc::new(jobs),
            events,
            schedules: Arc::new(schedules),
            signer,
            clock,
            ids,
            _lock: lock,
        })
    }

    /// The adapters as the domain takes them.
    #[must_use]
    pub fn ports(&self) -> Ports {
        Ports {
            blobs: self.blobs.clone(),
            table: self.table.clone(),
            jobs: self.jobs.clone(),
            events: self.events.clone(),
            schedules: self.schedules.clone(),
            signer: self.signer.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
        }
    }

    /// Starts jobs and schedules, after the subscribers of the events are there.
    ///
    /// # Errors
    /// Those of the table.
    pub async fn start(&self) -> Result<()> {
        self.jobs.start().await?;
        self.schedules.start();
        Ok(())
    }

    /// Stops everything. Running jobs go on after the next start ([`ProcessJobs::shutdown`]), and so do deliveries.
    pub async fn shutdown(&self) {
        self.schedules.shutdown().await;
        self.jobs.shutdown().await;
        self.events.shutdown().await;
    }
}

fn lock_dir(data_dir: &Path) -> Result<File> {
    let path = data_dir.join("lock");
    let open = || -> std::io::Result<File> {
        fs::create_dir_all(data_dir)?;
        OpenOptions::new().create(true).truncate(false).write(true).open(&path)
    };
    let file = open().map_err(|error| io_error("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::unavailable(format!("`{}` is in use", data_dir.display()))
            .with_hint("another moola process has it open: stop it, or choose another data directory")),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path, error)),
    }
}
