use serde::{Deserialize, Serialize};

/// Limits of serving.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServingConfig {
    /// How often changes of what serves are looked for.
    pub refresh_ms: u64,
    /// Most bytes of model files in memory. Versions that are not in production give way, the least recently used first.
    pub max_loaded_bytes: u64,
    /// Most windows of a request.
    pub max_batch_rows: usize,
    /// Most bytes of a request's body.
    pub max_body_bytes: usize,
    /// Requests that compute at the same time; 0 for the number of cores.
    pub max_concurrent: usize,
    /// Requests that may wait for them; more are refused for now.
    pub max_queued: usize,
    /// The prediction log.
    pub log: LogConfig,
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self {
            refresh_ms: 250,
            max_loaded_bytes: 512 << 20,
            max_batch_rows: 1024,
            max_body_bytes: 8 << 20,
            max_concurrent: 0,
            max_queued: 1024,
            log: LogConfig::default(),
        }
    }
}

/// How predictions are logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Whether an answer waits until its log record is durable. Otherwise a crash loses at most what was answered within
    /// the last `flush_ms`.
    pub write_through: bool,
    /// How long a record may wait for others to be written with.
    pub flush_ms: u64,
    /// Most records that are written together.
    pub max_batch_rows: usize,
    /// Most records in memory; while there is no room, requests wait, then are refused for now.
    pub max_pending_rows: usize,
    /// How long a request waits for room.
    pub max_wait_ms: u64,
    /// Whether the bars of the window are logged.
    pub inputs: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            write_through: false,
            flush_ms: 1000,
            max_batch_rows: 4096,
            max_pending_rows: 16_384,
            max_wait_ms: 2000,
            inputs: true,
        }
    }
}
