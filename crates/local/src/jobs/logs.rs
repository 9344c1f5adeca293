//! What jobs print: one file for each attempt, read from its end.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use moola_core::Result;
use moola_core::ports::{JobId, LogLine};

use super::child_index;
use crate::io_error;

const BLOCK_BYTES: u64 = 64 * 1_024;

pub(super) fn path(log_dir: &Path, id: &JobId, attempt: u32) -> PathBuf {
    let dir = match child_index(id) {
        Some((parent, index)) => log_dir.join(parent).join(index.to_string()),
        None => log_dir.join(&id.0),
    };
    dir.join(format!("{attempt}.log"))
}

/// The last `limit` lines of all attempts, the oldest first.
pub(super) fn read(log_dir: &Path, id: &JobId, attempts: u32, limit: usize) -> Result<Vec<LogLine>> {
    let mut lines = Vec::new();
    for attempt in (1..=attempts).rev() {
        let path = path(log_dir, id, attempt);
        let mut last = tail(&path, limit - lines.len()).map_err(|error| io_error("read the log", &path, error))?;
        last.reverse();
        lines.extend(last.into_iter().map(|text| LogLine { attempt, text }));
        if lines.len() == limit {
            break;
        }
    }
    lines.reverse();
    Ok(lines)
}

/// The last `limit` lines of a file, the oldest first.
fn tail(path: &Path, limit: usize) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    let mut start = file.metadata()?.len();
    let mut data: Vec<u8> = Vec::new();
    // One line end more than lines: the one before the first of them.
    while start > 0 && data.iter().filter(|byte| **byte == b'\n').count() <= limit {
        let num_bytes = start.min(BLOCK_BYTES);
        start -= num_bytes;
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        (&file).take(num_bytes).read_to_end(&mut block)?;
        block.extend_from_slice(&data);
        data = block;
    }
    let text = String::from_utf8_lossy(&data);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(limit)..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests;
