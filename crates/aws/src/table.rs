//! Not written yet.

/// Not written yet.
#[derive(Debug)]
pub struct DynamoTable;
