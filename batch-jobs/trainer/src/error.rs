use std::fmt;

use moola_core::ports::EXIT_RETRY;
use moola_core::{Error, ErrorKind};

/// Exit code of a run that is done, or was before.
pub const EXIT_DONE: i32 = 0;
/// Exit code of a run that cannot succeed by being tried again; `result.json` says why where it could be written.
pub const EXIT_FAILED: i32 = 1;
/// Exit code of a wrong command line.
pub const EXIT_USAGE: i32 = 2;

/// Why a run did not end with a model.
#[derive(Debug)]
pub enum Stop {
    /// The command line is wrong.
    Usage(Error),
    /// It was asked to stop; a checkpoint was written.
    Interrupted,
    /// It cannot succeed, or the storage is not available.
    Error(Error),
}

impl Stop {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Interrupted => EXIT_RETRY,
            Self::Error(error) if error.is_retryable() => EXIT_RETRY,
            Self::Error(_) => EXIT_FAILED,
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(error) | Self::Error(error) => {
                f.write_str(&error.chain())?;
                error.hint().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
            }
            Self::Interrupted => f.write_str("interrupted; a checkpoint was written"),
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Makes the error of a run whose training went wrong.
pub(crate) fn diverged(what: &str, value: f64, step: u64, epoch: usize) -> Error {
    Error::new(ErrorKind::Refused, format!("{what} is {value} at step {step} of epoch {epoch}: training diverged"))
        .with_hint("lower `optimizer.learning_rate`, or set `optimizer.max_gradient_norm`")
}
