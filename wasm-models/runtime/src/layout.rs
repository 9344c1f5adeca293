//! The descriptor of a module: where inputs and outputs lie in its memory.

use std::ops::Range;

use moola_core::Result;
use serde::Deserialize;

use crate::invalid;

/// The version of the interface that this crate knows.
pub(crate) const ABI: i32 = 1;
/// More than any descriptor has.
pub(crate) const MAX_DESCRIPTOR_BYTES: usize = 1 << 20;
const ALIGNMENT: usize = 16;

#[derive(Debug, Deserialize)]
struct Descriptor {
    abi: i32,
    max_rows: usize,
    inputs: Vec<Entry>,
    outputs: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    r#type: Kind,
    shape: Vec<Option<usize>>,
    offset: usize,
    row_bytes: usize,
}

/// Type of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Float32,
    Float64,
    Int32,
    Int64,
    Bool,
}

/// Inputs and outputs, checked against the memory.
#[derive(Debug)]
pub(crate) struct Layout {
    /// At least 1.
    pub(crate) max_rows: usize,
    pub(crate) inputs: Vec<Port>,
    /// Those of floats, at least one. As the native engine has it: labels and the like stay inside.
    pub(crate) outputs: Vec<Port>,
}

/// An input or output; `offset + max_rows * row_bytes` lies within the memory.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Without the rows.
    pub(crate) shape: Vec<usize>,
    pub(crate) offset: usize,
    pub(crate) row_bytes: usize,
}

impl Kind {
    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::Float32 | Self::Float64)
    }

    pub(crate) fn size(self) -> usize {
        match self {
            Self::Float64 | Self::Int64 => 8,
            Self::Float32 | Self::Int32 => 4,
            Self::Bool => 1,
        }
    }
}

impl Port {
    /// Where the first `num_rows` rows lie; at most `max_rows`.
    pub(crate) fn bytes(&self, num_rows: usize) -> Range<usize> {
        self.offset..self.offset + num_rows * self.row_bytes
    }

    /// Number of elements of a row.
    pub(crate) fn row_len(&self) -> usize {
        self.row_bytes / self.kind.size()
    }
}

impl Layout {
    /// Reads the descriptor that lies in `memory` at `descriptor`, `len` bytes long.
    ///
    /// # Errors
    /// `Invalid` where it does not follow the interface; the message names the field.
    pub(crate) fn read(memory: &[u8], descriptor: i32, len: i32) -> Result<Self> {
        // Addresses are unsigned.
        let (start, len) = (descriptor as u32 as usize, len as u32 as usize);
        if len > MAX_DESCRIPTOR_BYTES {
            return Err(invalid(format!("`descriptor_len` is {len}, expected at most {MAX_DESCRIPTOR_BYTES}")));
        }
        let range = start..start.saturating_add(len);
        let Some(text) = memory.get(range.clone()) else {
            let size = memory.len();
            return Err(invalid(format!(
                "the descriptor lies at {range:?}, expected within the memory of {size} bytes"
            )));
        };
        let descriptor = serde_json::from_slice::<Descriptor>(text)
            .map_err(|error| invalid("the descriptor cannot be read").with_source(error))?;
        if descriptor.abi != ABI {
            return Err(invalid(format!("`abi` of the descriptor is {}, expected {ABI}", descriptor.abi)));
        }
        if descriptor.max_rows == 0 {
            return Err(invalid("`max_rows` is 0, expected at least 1"));
        }
        let has_outputs = !descriptor.outputs.is_empty();
        let outputs: Vec<Entry> = descriptor.outputs.into_iter().filter(|entry| entry.r#type.is_float()).collect();
        if has_outputs && outputs.is_empty() {
            return Err(invalid("the model has no output of type `float32` or `float64`, expected at least one"));
        }
        let layout = Self {
            max_rows: descriptor.max_rows,
            inputs: ports("input", descriptor.inputs, descriptor.max_rows, memory.len())?,
            outputs: ports("output", outputs, descriptor.max_rows, memory.len())?,
        };
        layout.check_overlap(range)?;
        Ok(layout)
    }

    fn check_overlap(&self, descriptor: Range<usize>) -> Result<()> {
        let all = self.inputs.iter().chain(&self.outputs);
        let ports = all.map(|port| (port.bytes(self.max_rows), port.name.as_str()));
        let mut ranges = ports.chain([(descriptor, "descriptor")]).collect::<Vec<_>>();
        ranges.sort_by_key(|(range, _)| range.start);
        for pair in ranges.windows(2) {
            let [(first, name), (second, other)] = pair else { continue };
            if first.end > second.start {
                return Err(invalid(format!(
                    "`{name}` at {first:?} and `{other}` at {second:?} overlap, expected places of their own"
                )));
            }
        }
        Ok(())
    }
}

fn ports(what: &str, entries: Vec<Entry>, max_rows: usize, memory_bytes: usize) -> Result<Vec<Port>> {
    if entries.is_empty() {
        return Err(invalid(format!("the descriptor has no {what}, expected at least one")));
    }
    let mut ports = Vec::<Port>::with_capacity(entries.len());
    for entry in entries {
        if ports.iter().any(|port| port.name == entry.name) {
            return Err(invalid(format!("{what} `{}` is there twice, expected names of their own", entry.name)));
        }
        ports.push(port(what, entry, max_rows, memory_bytes)?);
    }
    Ok(ports)
}

fn port(what: &str, entry: Entry, max_rows: usize, memory_bytes: usize) -> Result<Port> {
    let Entry { name, r#type: kind, shape, offset, row_bytes } = entry;
    let refused = |field: &str, value: String, expected: String| {
        Err(invalid(format!("`{field}` of {what} `{name}` is {value}, expected {expected}")))
    };
    let sizes = match shape.split_first() {
        Some((None, rest)) => rest,
        // Shapes are fixed: a first dimension of 1 counts as the row.
        Some((Some(1), rest)) if max_rows == 1 => rest,
        _ => return refused("shape", format!("{shape:?}"), "the rows first".to_owned()),
    };
    let Some(sizes) = sizes.iter().copied().collect::<Option<Vec<_>>>() else {
        return refused("shape", format!("{shape:?}"), "fixed sizes after the rows".to_owned());
    };
    let bytes = sizes.iter().try_fold(kind.size(), |product, &size| product.checked_mul(size));
    let Some(bytes) = bytes.filter(|&bytes| bytes > 0) else {
        return refused("shape", format!("{shape:?}"), "sizes of at least 1 that fit into memory".to_owned());
    };
    if row_bytes != bytes {
        return refused("row_bytes", row_bytes.to_string(), format!("{bytes} for shape {shape:?}"));
    }
    let end = row_bytes.checked_mul(max_rows).and_then(|bytes| bytes.checked_add(offset));
    if !offset.is_multiple_of(ALIGNMENT) || end.is_none_or(|end| end > memory_bytes) {
        let expected = format!(
            "a multiple of {ALIGNMENT} so that {max_rows} rows of {row_bytes} bytes lie within the memory of {memory_bytes} bytes"
        );
        return refused("offset", offset.to_string(), expected);
    }
    Ok(Port { name, kind, shape: sizes, offset, row_bytes })
}
