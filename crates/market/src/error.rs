//! The error of this crate.

use crate::validate::{RejectedRow, ValidationReport};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was wrong with the input.
///
/// Every message names the field, the value and what would be accepted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value that is not accepted.
    #[error("`{field}` is `{value}`, expected {expected}")]
    Invalid {
        /// Name of the field or parameter.
        field: String,
        /// The value as it was given.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// Something named that does not exist.
    #[error("{what} `{name}` does not exist{hint}")]
    Unknown {
        /// Kind of the thing, such as `feature`.
        what: &'static str,
        /// Its name.
        name: String,
        /// Empty, or a suggestion that starts with a semicolon.
        hint: String,
    },
    /// Too few bars for what was asked.
    #[error("{what} needs {needed} bars, got {got}")]
    TooShort {
        /// What needed them.
        what: String,
        /// Bars needed.
        needed: usize,
        /// Bars given.
        got: usize,
    },
    /// Rows that broke a rule, in strict mode.
    #[error(
        "`bars` has {} of {} rows that break a rule, expected none in strict mode; the first is line {}: {}",
        rejected.len(), report.num_rows, rejected.first().map_or(0, |row| row.line),
        rejected.first().map_or("", |row| row.reason.as_str())
    )]
    Rejected {
        /// Everything that was found.
        report: Box<ValidationReport>,
        /// Every row that was rejected.
        rejected: Vec<RejectedRow>,
    },
}

impl Error {
    /// Makes an [`Error::Invalid`].
    pub fn invalid(field: impl Into<String>, value: impl std::fmt::Display, expected: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), value: value.to_string(), expected: expected.into() }
    }
}
