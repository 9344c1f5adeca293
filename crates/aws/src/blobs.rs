//! Not written yet.

/// Not written yet.
#[derive(Debug)]
pub struct S3Blobs;
