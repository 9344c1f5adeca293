//! Not written yet.

/// Not written yet.
#[derive(Debug)]
pub struct TrustedKeys;
/// Not written yet.
#[derive(Debug)]
#[cfg(feature = "kms")]
pub struct KmsSigner;
