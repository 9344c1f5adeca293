//! Names that users choose.

use crate::error::{Error, Result};

/// Checks the name of a model, dataset, alias or run.
///
/// Accepted: 1 to 63 of lowercase letters, digits, `-`, `_` and `.`, the first a letter or digit. So a name is safe in a
/// path, a URL, a blob key and a job's tag alike.
///
/// # Errors
/// `Invalid`, naming `field`.
pub fn check_name(field: &str, name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = (1..=63).contains(&name.len())
        && name.starts_with(is_plain)
        && name.chars().all(|c| is_plain(c) || matches!(c, '-' | '_' | '.'))
        && !name.contains("..");
    if fits {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::invalid(
        field,
        shown,
        "1 to 63 of lowercase letters, digits, `-`, `_` and `.`, starting with a letter or digit",
    ))
}
