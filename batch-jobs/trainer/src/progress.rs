//! Progress as it happens: lines of [`Progress`] in `progress/<chunk>.jsonl`.
//!
//! A chunk holds the records of [`CHUNK_STEPS`] steps and is written anew as it grows, at most once a second. Which step is
//! in which chunk is fixed, so a run that starts again from a checkpoint writes the same chunks anew: a reader that joins
//! the chunks in the order of their names never sees a step twice.

use std::time::{Duration, Instant};

use moola_core::contract::Progress;
use moola_core::{Error, Result};

use crate::storage::Storage;

/// Steps of a chunk.
const CHUNK_STEPS: u64 = 200;
const FLUSH_EVERY: Duration = Duration::from_secs(1);
const FOLDER: &str = "progress/";

/// Writes progress.
#[derive(Debug)]
pub struct ProgressWriter {
    storage: Storage,
    chunk: u64,
    lines: Vec<u8>,
    is_dirty: bool,
    flushed: Instant,
}

fn file(chunk: u64) -> String {
    format!("{FOLDER}{chunk:08}.jsonl")
}

impl ProgressWriter {
    /// Continues after `step` steps and `epochs` whole epochs: what was written of later ones goes.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn open(storage: Storage, step: u64, epochs: usize) -> Result<Self> {
        let chunk = step.saturating_sub(1) / CHUNK_STEPS;
        let keep = file(chunk);
        for later in storage.list(FOLDER)?.into_iter().filter(|file| *file > keep) {
            storage.delete(&later)?;
        }
        let mut lines = Vec::new();
        let old = storage.get(&keep)?.unwrap_or_default();
        for line in old.split(|byte| *byte == b'\n') {
            let is_kept = match serde_json::from_slice::<Progress>(line) {
                Ok(Progress::Step(record)) => record.step <= step,
                Ok(Progress::Epoch(record)) => record.epoch <= epochs,
                Err(_) => false,
            };
            if is_kept {
                lines.extend_from_slice(line);
                lines.push(b'\n');
            }
        }
        let is_dirty = lines != *old;
        let mut writer = Self { storage, chunk, lines, is_dirty, flushed: Instant::now() };
        writer.flush()?;
        Ok(writer)
    }

    /// Adds a record that belongs to `step`.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn push(&mut self, step: u64, record: &Progress) -> Result<()> {
        let chunk = step.saturating_sub(1) / CHUNK_STEPS;
        if chunk != self.chunk {
            self.flush()?;
            self.chunk = chunk;
            self.lines.clear();
        }
        serde_json::to_writer(&mut self.lines, record).map_err(|e| Error::internal("progress").with_source(e))?;
        self.lines.push(b'\n');
        self.is_dirty = true;
        if self.flushed.elapsed() >= FLUSH_EVERY { self.flush() } else { Ok(()) }
    }

    /// Writes what was not written yet.
    ///
    /// # Errors
    /// Those of the storage.
    pub fn flush(&mut self) -> Result<()> {
        if self.is_dirty {
            self.storage.put(&file(self.chunk), self.lines.clone())?;
            self.is_dirty = false;
        }
        self.flushed = Instant::now();
        Ok(())
    }
}
