//! What every adapter checks in the same way, so that a request that one refuses is refused by all.

use std::collections::BTreeSet;
use std::ops::Bound;

use serde_json::Value;

use super::{Condition, JobRequest, Key, MAX_WRITES, Query, Schedule, Write, is_valid_job_name};
use crate::error::{Error, Result};

/// Most bytes of a blob's key.
pub const MAX_BLOB_KEY_BYTES: usize = 1_024;
/// Most bytes of one segment of a blob's key: what a file name holds, with room for a suffix.
pub const MAX_BLOB_SEGMENT_BYTES: usize = 200;
/// Most bytes of a partition or of a sort key.
pub const MAX_KEY_BYTES: usize = 1_024;
/// Most bytes of an item's value as JSON.
pub const MAX_ITEM_BYTES: usize = 400_000;
/// Most bytes of all values of one transaction together, as JSON.
pub const MAX_TRANSACTION_BYTES: usize = 4_000_000;
/// Most events in one call of `publish`.
pub const MAX_EVENTS: usize = 10;

/// Checks the key of a blob.
///
/// # Errors
/// `Invalid`.
pub fn check_blob_key(key: &str) -> Result<()> {
    let expected = "segments of ASCII letters, digits and `-_.=+@` joined by `/`, none of them empty, `.` or `..`, \
                    at most 1024 bytes, 200 for a segment";
    let is_valid = (1..=MAX_BLOB_KEY_BYTES).contains(&key.len())
        && key.split('/').all(|segment| {
            (1..=MAX_BLOB_SEGMENT_BYTES).contains(&segment.len())
                && segment != "."
                && segment != ".."
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.=+@".contains(&byte))
        });
    if is_valid { Ok(()) } else { Err(Error::invalid("key", shortened(key), expected)) }
}

/// Cuts a range to a blob of `size_bytes`.
///
/// # Errors
/// `Invalid` where it is empty or starts at or past the end.
pub fn check_range(key: &str, range: &std::ops::Range<u64>, size_bytes: u64) -> Result<std::ops::Range<u64>> {
    if range.is_empty() || range.start >= size_bytes {
        let expected = format!("a range that starts within the {size_bytes} bytes of `{key}` and is not empty");
        return Err(Error::invalid("range", format!("{}..{}", range.start, range.end), expected));
    }
    Ok(range.start..range.end.min(size_bytes))
}

/// Checks that a page's limit is not zero.
///
/// # Errors
/// `Invalid`.
pub fn check_limit(limit: usize) -> Result<()> {
    if limit == 0 { Err(Error::invalid("limit", limit, "at least 1")) } else { Ok(()) }
}

/// Checks the number of events of one call.
///
/// # Errors
/// `Invalid`.
pub fn check_events(num_events: usize) -> Result<()> {
    if (1..=MAX_EVENTS).contains(&num_events) {
        Ok(())
    } else {
        Err(Error::invalid("events", num_events, format!("1 to {MAX_EVENTS}")))
    }
}

/// Checks a transaction and serialises its values: one text for each put, in order.
///
/// # Errors
/// `Invalid` where there are none or too many writes, two for one key, a bad key, or values that are too large.
pub fn check_writes(writes: &[Write]) -> Result<Vec<String>> {
    if writes.is_empty() || writes.len() > MAX_WRITES {
        return Err(Error::invalid("writes", writes.len(), format!("1 to {MAX_WRITES}")));
    }
    let mut keys = BTreeSet::new();
    let mut texts = Vec::new();
    for write in writes {
        let key = write.key();
        key.check()?;
        if !keys.insert(key) {
            let name = format!("{}/{}", key.partition, key.sort);
            return Err(Error::invalid("writes", shortened(&name), "one write for each key"));
        }
        if let Write::Put { value, .. } = write {
            texts.push(check_value(key, value)?);
        }
    }
    let num_bytes: usize = texts.iter().map(String::len).sum();
    if num_bytes > MAX_TRANSACTION_BYTES {
        let expected = format!("values of at most {MAX_TRANSACTION_BYTES} bytes of JSON together");
        return Err(Error::invalid("writes", format!("{num_bytes} bytes"), expected));
    }
    Ok(texts)
}

fn check_value(key: &Key, value: &Value) -> Result<String> {
    let text = value.to_string();
    if text.len() > MAX_ITEM_BYTES {
        let field = format!("value of {}/{}", key.partition, key.sort);
        let expected = format!("at most {MAX_ITEM_BYTES} bytes of JSON");
        return Err(Error::invalid(&field, format!("{} bytes", text.len()), expected));
    }
    Ok(text)
}

impl Key {
    /// Checks the lengths.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<()> {
        check_key_part("partition", &self.partition, 1)?;
        check_key_part("sort", &self.sort, 1)
    }
}

impl Query {
    /// Checks limit and lengths.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<()> {
        check_limit(self.limit)?;
        check_key_part("partition", &self.partition, 1)?;
        check_key_part("prefix", &self.prefix, 0)?;
        check_key_part("after", self.after.as_deref().unwrap_or(""), 0)
    }

    /// The sort keys that this query may return, as bounds that are in order; `None` where there cannot be any.
    #[must_use]
    pub fn sort_range(&self) -> Option<(Bound<String>, Bound<String>)> {
        let mut low = Bound::Included(self.prefix.clone());
        let mut high = prefix_end(&self.prefix).map_or(Bound::Unbounded, Bound::Excluded);
        if let Some(after) = &self.after {
            if self.descending {
                if !matches!(&high, Bound::Excluded(end) if end < after) {
                    high = Bound::Excluded(after.clone());
                }
            } else if *after >= self.prefix {
                low = Bound::Excluded(after.clone());
            }
        }
        let is_empty = match (&low, &high) {
            (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) => low >= high,
            _ => false,
        };
        (!is_empty).then_some((low, high))
    }
}

/// The smallest text that sorts after every text that starts with `prefix`; `None` where there is none.
fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // The range of `char` skips the surrogates, as UTF-8 does.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

fn check_key_part(field: &str, text: &str, min: usize) -> Result<()> {
    if (min..=MAX_KEY_BYTES).contains(&text.len()) {
        Ok(())
    } else {
        Err(Error::invalid(field, shortened(text), format!("{min} to {MAX_KEY_BYTES} bytes")))
    }
}

impl Write {
    /// The condition of this write.
    #[must_use]
    pub fn condition(&self) -> Condition {
        match self {
            Self::Put { condition, .. } | Self::Delete { condition, .. } | Self::Check { condition, .. } => *condition,
        }
    }
}

impl Condition {
    /// Checks this against an item that is there in `revision`, or is not.
    ///
    /// # Errors
    /// `Conflict`, naming the key.
    pub fn check(self, key: &Key, revision: Option<u64>) -> Result<()> {
        let name = || format!("item `{}/{}`", key.partition, key.sort);
        match (self, revision) {
            (Self::Always, _) | (Self::Absent, None) | (Self::Exists, Some(_)) => Ok(()),
            (Self::Revision(wanted), Some(revision)) if wanted == revision => Ok(()),
            (Self::Absent, Some(_)) => Err(Error::conflict(format!("{} exists already", name()))),
            (Self::Exists | Self::Revision(_), None) => Err(Error::conflict(format!("{} does not exist", name()))),
            (Self::Revision(wanted), Some(revision)) => {
                Err(Error::conflict(format!("{} is in revision {revision}, expected {wanted}", name())))
            }
        }
    }
}

impl JobRequest {
    /// Checks everything but whether the adapter knows the definition.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        for (field, text) in [("name", &self.name), ("definition", &self.definition), ("queue", &self.queue)] {
            if !is_valid_job_name(text) {
                let expected = "1 to 128 letters, digits, `-` and `_`, the first a letter or digit";
                return Err(Error::invalid(field, shortened(text), expected));
            }
        }
        if !(1..=10).contains(&self.attempts) {
            return Err(Error::invalid("attempts", self.attempts, "1 to 10"));
        }
        if let Some(size) = self.array_size.filter(|size| !(2..=10_000).contains(size)) {
            return Err(Error::invalid("array_size", size, "2 to 10000"));
        }
        if self.timeout_secs == Some(0) {
            return Err(Error::invalid("timeout_secs", 0, "at least 1"));
        }
        for name in self.environment.keys() {
            if name.is_empty() || name.contains(['=', '\0']) || name.starts_with("AWS_BATCH") {
                let expected = "names without `=` that do not start with `AWS_BATCH`";
                return Err(Error::invalid("environment", shortened(name), expected));
            }
        }
        let has_nul = self.args.iter().chain(self.environment.values()).any(|text| text.contains('\0'));
        if has_nul { Err(Error::invalid("args", "\\0", "text without NUL")) } else { Ok(()) }
    }
}

impl Schedule {
    /// Checks name and expression.
    ///
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn check(&self) -> Result<()> {
        let is_valid = (1..=64).contains(&self.name.len())
            && self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !is_valid {
            return Err(Error::invalid("name", shortened(&self.name), "1 to 64 letters, digits and `-_.`"));
        }
        self.expression.check()
    }
}

/// `text`, short enough for a message.
fn shortened(text: &str) -> String {
    if text.chars().count() <= 80 {
        return text.to_owned();
    }
    let start: String = text.chars().take(60).collect();
    format!("{start}... ({} bytes)", text.len())
}
