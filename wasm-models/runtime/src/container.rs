//! The file of machine code: a header that says what it is for, then what wasmtime made.
//!
//! wasmtime checks little of what it loads, so that the header is compared byte by byte with the one that this crate
//! would have written for the rest of the file.

use moola_core::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::invalid;
use crate::settings::{RUNTIME, Target};

const MAGIC: &[u8; 8] = b"moolacw1";
/// More than any header has.
const MAX_HEADER_BYTES: usize = 4096;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    runtime: String,
    target: String,
    flags: String,
    compatibility: String,
    payload_bytes: usize,
    payload_sha256: String,
}

impl Header {
    fn of(target: &Target, payload: &[u8]) -> Self {
        Self {
            runtime: RUNTIME.to_owned(),
            target: target.name().to_owned(),
            flags: target.flags(),
            compatibility: target.compatibility(),
            payload_bytes: payload.len(),
            payload_sha256: hex::encode(Sha256::digest(payload)),
        }
    }

    fn text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::internal("cannot write a header").with_source(error))
    }
}

/// Puts the header before machine code for `target`.
#[cfg(feature = "compiler")]
pub(crate) fn seal(target: &Target, payload: &[u8]) -> Result<Vec<u8>> {
    let text = Header::of(target, payload).text()?;
    let len = u32::try_from(text.len()).map_err(|_| Error::internal("the header is too long"))?;
    Ok([MAGIC, &len.to_le_bytes()[..], text.as_bytes(), payload].concat())
}

/// What follows the header, which must be that of a whole, unaltered file for `target`, made by this version.
///
/// # Errors
/// `Corrupt` where bytes are missing or altered; `Invalid` where the file is for another target, version of wasmtime or
/// setting.
pub(crate) fn open<'a>(target: &Target, bytes: &'a [u8]) -> Result<&'a [u8]> {
    let Some((len, rest)) = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk()) else {
        return Err(Error::corrupt("the file does not begin as machine code of a model does"));
    };
    let len = u32::from_le_bytes(*len) as usize;
    if len > MAX_HEADER_BYTES || len > rest.len() {
        return Err(Error::corrupt(format!("the header has {len} bytes, expected at most {MAX_HEADER_BYTES}")));
    }
    let (text, payload) = rest.split_at(len);
    let expected = Header::of(target, payload);
    if text == expected.text()?.as_bytes() {
        return Ok(payload);
    }
    let found = serde_json::from_slice::<Header>(text)
        .map_err(|error| Error::corrupt("the header of machine code cannot be read").with_source(error))?;
    if found.payload_bytes != expected.payload_bytes {
        let (given, wanted) = (expected.payload_bytes, found.payload_bytes);
        return Err(Error::corrupt(format!("there are {given} bytes of machine code, expected {wanted}")));
    }
    if found.payload_sha256 != expected.payload_sha256 {
        return Err(Error::corrupt("the machine code does not have the digest that its header names"));
    }
    for (field, found, expected) in [
        ("runtime", &found.runtime, &expected.runtime),
        ("target", &found.target, &expected.target),
        ("flags", &found.flags, &expected.flags),
        ("compatibility", &found.compatibility, &expected.compatibility),
    ] {
        if found != expected {
            return Err(invalid(format!("machine code has `{field}` = `{found}`, expected `{expected}`")));
        }
    }
    Err(Error::corrupt("the header of machine code is not written as this version writes it"))
}
