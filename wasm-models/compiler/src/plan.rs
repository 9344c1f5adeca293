//! Where values lie in memory: constants once for the whole module, everything else by its lifetime.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use crate::error::{CompileError, Result};
use crate::ir::{Graph, ValueId};
use crate::kernels;

/// Addresses of values are multiples of this: a cache line.
const ALIGN: usize = 64;

/// Most bytes of a module's memory.
pub(crate) const MAX_MEMORY: usize = 1 << 30;

fn aligned(address: usize) -> usize {
    address.next_multiple_of(ALIGN)
}

/// Constants of all programs of a module. Equal bytes are kept once.
#[derive(Debug, Default)]
pub(crate) struct Constants {
    /// The bytes, from address [`Constants::START`] on.
    pub(crate) bytes: Vec<u8>,
    known: HashMap<[u8; 32], u32>,
}

impl Constants {
    /// The address of the first. Nothing lies at 0.
    pub(crate) const START: usize = ALIGN;

    /// The address of some bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<u32> {
        let digest = Sha256::digest(bytes).into();
        if let Some(&address) = self.known.get(&digest) {
            return Ok(address);
        }
        let start = aligned(self.bytes.len());
        if start + bytes.len() > MAX_MEMORY {
            return Err(CompileError::model(format!("the weights take more than {MAX_MEMORY} bytes")));
        }
        self.bytes.resize(start, 0);
        self.bytes.extend(bytes);
        let address = (Self::START + start) as u32;
        self.known.insert(digest, address);
        Ok(address)
    }

    /// The first address behind them.
    pub(crate) fn end(&self) -> usize {
        aligned(Self::START + self.bytes.len())
    }
}

/// The memory of one program, inputs and outputs included.
#[derive(Debug)]
pub(crate) struct Plan {
    addresses: Vec<Option<u32>>,
    scratch: Vec<u32>,
    /// Bytes from the start of the program's memory.
    pub(crate) size: usize,
}

impl Plan {
    /// The address of a value.
    ///
    /// # Panics
    /// Where nothing reads or writes it.
    pub(crate) fn address(&self, value: ValueId) -> u32 {
        self.addresses[value.0].unwrap_or_else(|| panic!("value {value} has no address"))
    }

    /// Whether anything reads or writes a value.
    pub(crate) fn has(&self, value: ValueId) -> bool {
        self.addresses[value.0].is_some()
    }

    /// The address of a node's scratch memory.
    pub(crate) fn scratch(&self, node: usize) -> u32 {
        self.scratch[node]
    }
}

/// A piece of memory that is in use from one node to another.
struct Piece {
    bytes: usize,
    first: usize,
    last: usize,
    address: usize,
}

/// Places the values of a graph from `start` on. Values whose lifetimes do not meet share memory.
pub(crate) fn plan(graph: &Graph, constants: &HashMap<ValueId, u32>, start: usize) -> Result<Plan> {
    let mut lifetimes = vec![None::<(usize, usize)>; graph.values.len()];
    let mut live = |value: ValueId, at: usize| {
        let lifetime = lifetimes[value.0].get_or_insert((at, at));
        *lifetime = (lifetime.0.min(at), lifetime.1.max(at));
    };
    for (index, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            live(input.value, index);
        }
        for output in node.outputs.iter().flatten() {
            live(*output, index);
        }
    }
    for (_, output) in &graph.outputs {
        live(*output, graph.nodes.len());
    }
    // Inputs are there before the first node; those that nobody reads take no memory.
    for &input in &graph.inputs {
        if let Some(lifetime) = &mut lifetimes[input.0] {
            lifetime.0 = 0;
        }
    }
    let mut pieces = Vec::new();
    let mut owners = Vec::new();
    for (index, lifetime) in lifetimes.iter().enumerate() {
        let id = ValueId(index);
        if let Some((first, last)) = *lifetime
            && !constants.contains_key(&id)
        {
            // Kernels may read a few bytes past the end of a row; see `kernels::SLACK`.
            pieces.push(Piece { bytes: graph.value(id).bytes() + kernels::SLACK, first, last, address: 0 });
            owners.push(id);
        }
    }
    let num_values = pieces.len();
    let mut scratch_owners = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let bytes = kernels::scratch_bytes(graph, node);
        if bytes > 0 {
            pieces.push(Piece { bytes, first: index, last: index, address: 0 });
            scratch_owners.push(index);
        }
    }
    let size = place(&mut pieces)?;
    let address = |piece: &Piece| {
        let address = start + piece.address;
        if address + piece.bytes > MAX_MEMORY {
            return Err(CompileError::model(format!("the model takes more than {MAX_MEMORY} bytes of memory")));
        }
        Ok(address as u32)
    };
    let mut addresses = vec![None; graph.values.len()];
    for (id, &constant) in constants {
        addresses[id.0] = Some(constant);
    }
    for (id, piece) in owners.iter().zip(&pieces) {
        addresses[id.0] = Some(address(piece)?);
    }
    // A node without scratch memory has an address that it does not use.
    let mut scratch = vec![start as u32; graph.nodes.len()];
    for (index, piece) in scratch_owners.iter().zip(&pieces[num_values..]) {
        scratch[*index] = address(piece)?;
    }
    Ok(Plan { addresses, scratch, size })
}

/// Gives addresses, large pieces first, each the lowest place that no piece of its time takes; returns the bytes needed.
fn place(pieces: &mut [Piece]) -> Result<usize> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&index| (usize::MAX - pieces[index].bytes, index));
    let mut placed = Vec::<usize>::new();
    let mut size = 0;
    for index in order {
        let piece = &pieces[index];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .map(|&other| &pieces[other])
            .filter(|other| other.first <= piece.last && piece.first <= other.last)
            .map(|other| (other.address, other.address + other.bytes))
            .collect();
        taken.sort_unstable();
        let mut address = 0;
        for (from, to) in taken {
            if address + piece.bytes <= from {
                break;
            }
            address = address.max(aligned(to));
        }
        pieces[index].address = address;
        size = size.max(address + pieces[index].bytes);
        placed.push(index);
    }
    Ok(aligned(size))
}
