//! What a dataset version is and where it came from.

use moola_market::Interval;
use moola_market::validate::ValidationReport;
use serde::{Deserialize, Serialize};

/// A file as it was handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSource {
    /// Its name.
    pub file_name: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its length.
    pub size_bytes: u64,
}

/// How the bars of a version were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Transformation {
    /// Read from the file.
    Import,
    /// The file's bars added to those of the parent, whose bars are kept where both have one.
    Append {
        /// Bars that the parent did not have.
        num_added: u64,
        /// Bars of the file that equal one of the parent.
        num_known: u64,
        /// Bars of the file that contradict one of the parent; they are in quarantine.
        num_conflicts: u64,
        /// Added bars that are older than the parent's last one.
        num_late: u64,
    },
}

/// A version of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetManifest {
    /// Layout of this document.
    pub format_version: u32,
    /// Name of the dataset.
    pub name: String,
    /// The version: the start of a hash of bars, symbol and interval.
    pub version: String,
    /// Instrument.
    pub symbol: String,
    /// Length of a bar.
    pub interval: Interval,
    /// The file that was imported; of several with the same bars, the first.
    pub source: FileSource,
    /// Number of bars.
    pub num_rows: u64,
    /// Start of the first bar.
    pub start_ms: i64,
    /// Start of the last bar.
    pub end_ms: i64,
    /// Columns of the bars.
    pub columns: Vec<String>,
    /// Whether any bar has volume.
    pub has_volume: bool,
    /// The report of the file's validation, without the findings in detail.
    pub quality: ValidationReport,
    /// Rows of the file that were rejected and are kept beside the bars.
    pub num_quarantined: u64,
    /// SHA-256 of the bars as they are stored, in hex.
    pub sha256: String,
    /// The version that this one goes on from.
    pub parent: Option<String>,
    /// How the bars were made.
    pub transformation: Transformation,
    /// Version of the program.
    pub code_version: String,
    /// When it was imported.
    pub created_ms: i64,
}

impl DatasetManifest {
    /// `<name>@<version>`.
    #[must_use]
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}
