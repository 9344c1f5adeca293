//! The error of this crate and of every port.

use std::error::Error as StdError;
use std::fmt;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The thing does not exist: ask for another one.
    NotFound,
    /// It exists already: use it, or choose another name.
    AlreadyExists,
    /// Somebody else was faster, or the state does not allow it: read again, then decide.
    Conflict,
    /// The request is wrong: correct it.
    Invalid,
    /// The caller may not do this, whatever it sends.
    Forbidden,
    /// A rule (gate, limit, budget) refuses this at present.
    Refused,
    /// Try the same again later.
    Unavailable,
    /// Stored bytes are not what was written: restore them.
    Corrupt,
    /// A defect of this program.
    Internal,
}

/// What went wrong, with what the caller can do ([`Error::kind`]) and why ([`StdError::source`]).
///
/// `Display` is the message alone; print the chain of sources to see it all ([`Error::chain`]).
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { inner: Box::new(Inner { kind, message: message.into(), hint: None, source: None }) }
    }

    /// Makes an [`ErrorKind::NotFound`]: ``{what} `{name}` does not exist``.
    pub fn not_found(what: &str, name: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what} `{name}` does not exist"))
    }

    /// Makes an [`ErrorKind::Invalid`]: ``` `{field}` is `{value}`, expected {expected}```.
    pub fn invalid(field: &str, value: impl fmt::Display, expected: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Invalid, format!("`{field}` is `{value}`, expected {expected}"))
    }

    /// Makes an [`ErrorKind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Makes an [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Makes an [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Makes an [`ErrorKind::Unavailable`].
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Adds what the user could do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// What the user could do next.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.inner.kind == ErrorKind::Unavailable
    }

    /// The message and those of its sources, joined by `: `.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.inner.message.clone();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

impl From<moola_market::Error> for Error {
    fn from(error: moola_market::Error) -> Self {
        let kind = match error {
            moola_market::Error::Unknown { .. } => ErrorKind::NotFound,
            _ => ErrorKind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<crate::stats::StatsError> for Error {
    fn from(error: crate::stats::StatsError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string())
    }
}
