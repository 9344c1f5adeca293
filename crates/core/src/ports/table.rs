use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Result;

/// Most writes in one transaction (DynamoDB's limit).
pub const MAX_WRITES: usize = 100;

/// Where an item is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Items of one partition are read together; 1 to 1,024 bytes.
    pub partition: String,
    /// Orders the items of a partition by its UTF-8 bytes; 1 to 1,024 bytes.
    pub sort: String,
}

impl Key {
    /// Makes a key.
    pub fn new(partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self { partition: partition.into(), sort: sort.into() }
    }
}

/// A stored item.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Where it is.
    pub key: Key,
    /// 1 when it was created, one more with every later put; starts anew after a delete.
    pub revision: u64,
    /// What it holds; at most 400 kB as JSON.
    pub value: Value,
}

/// What must hold for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Anything.
    Always,
    /// The item does not exist.
    Absent,
    /// The item exists.
    Exists,
    /// The item exists in exactly this revision.
    Revision(u64),
}

/// One write of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Creates or replaces the item.
    Put {
        /// Where.
        key: Key,
        /// What.
        value: Value,
        /// If.
        condition: Condition,
    },
    /// Removes the item; removing what does not exist succeeds unless the condition forbids it.
    Delete {
        /// Where.
        key: Key,
        /// If.
        condition: Condition,
    },
    /// Writes nothing, only checks.
    Check {
        /// Where.
        key: Key,
        /// If.
        condition: Condition,
    },
}

impl Write {
    /// The key that this write concerns.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Check { key, .. } => key,
        }
    }
}

/// Which items of a partition to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The partition.
    pub partition: String,
    /// Only sort keys that start with this.
    pub prefix: String,
    /// Only sort keys beyond this one, in the direction of reading.
    pub after: Option<String>,
    /// At most this many items, at least 1.
    pub limit: usize,
    /// From the last sort key to the first.
    pub descending: bool,
}

impl Query {
    /// All items of `partition` whose sort key starts with `prefix`, ascending, 1,000 at a time.
    pub fn prefix(partition: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self { partition: partition.into(), prefix: prefix.into(), after: None, limit: 1000, descending: false }
    }
}

/// One page of a query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryPage {
    /// The items, in order.
    pub items: Vec<Item>,
    /// Pass as `after` to go on; `None` at the end.
    pub next: Option<String>,
}

/// Small items under (partition, sort), with conditional and atomic writes.
#[async_trait]
pub trait Table: Send + Sync {
    /// Reads an item; sees every write that was acknowledged before.
    ///
    /// # Errors
    /// `Invalid` for an empty or overlong key, `Unavailable`, `Corrupt`.
    async fn get(&self, key: &Key) -> Result<Option<Item>>;

    /// Reads a page of a partition.
    ///
    /// # Errors
    /// `Invalid` where `limit` is zero or a key is bad, `Unavailable`, `Corrupt`.
    async fn query(&self, query: &Query) -> Result<QueryPage>;

    /// Applies all writes or none; durable when it returns. The writes concern different keys.
    ///
    /// # Errors
    /// `Conflict`, naming the key, where a condition does not hold; `Invalid` where there are no writes, more than
    /// [`MAX_WRITES`], two for one key, values over 400 kB each or 4 MB
    /// together; `Unavailable` (then it may have happened).
    async fn write(&self, writes: Vec<Write>) -> Result<()>;
}
