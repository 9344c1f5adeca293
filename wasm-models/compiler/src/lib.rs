//! Compiles ONNX models to small stand-alone WebAssembly modules.
//!
//! ```text
//! ONNX bytes -> import -> canonical IR -> passes::{simplify, demand, fuse, layout, quantize, pack} -> plan -> kernels -> module -> validation
//! ```
//!
//! [`compile`] does all of it. The model is imported twice, with static shapes: for a block of [`ROWS_PER_BLOCK`] rows and for a
//! single row; `run` of the module walks over blocks, then over what is left. What a caller has to know of the result stands in
//! docs/wasm-abi.md.

#[cfg(feature = "component")]
pub mod component;
mod emit;
mod error;
mod eval;
mod import;
pub mod ir;
mod kernels;
mod module;
mod onnx;
mod passes;
mod plan;
#[cfg(test)]
mod random;
#[cfg(test)]
mod testkit;

use std::collections::BTreeMap;

pub use error::{CompileError, Result};

/// Counts the changes of what the compiler makes of a model: what another revision made is to be made anew.
pub const REVISION: u32 = 1;

/// Rows that are computed together where there are so many.
pub const ROWS_PER_BLOCK: usize = 4;

/// Which instructions a module uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Variant {
    /// The fixed-width SIMD of WebAssembly: the same bits everywhere.
    #[default]
    Simd128,
    /// Relaxed SIMD as well: multiply and add may be one instruction with one rounding, or two.
    RelaxedSimd,
}

impl Variant {
    /// Its name in the custom section.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Simd128 => "simd128",
            Self::RelaxedSimd => "relaxed-simd",
        }
    }
}

/// How to compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Name of the model, for the custom section.
    pub model: Option<String>,
    /// Its version, for the custom section.
    pub version: Option<u32>,
    /// Hash of the feature set that it was trained on, for the custom section.
    pub feature_set_hash: Option<String>,
    /// Which instructions may be used.
    pub variant: Variant,
    /// Most rows of a call, where the model leaves their number open: at least 1.
    pub max_rows: usize,
    /// Sizes of inputs that the file leaves open, batch included, by name of the input.
    pub input_shapes: BTreeMap<String, Vec<usize>>,
    /// Stores the weights of matrix products and recurrent layers as 8-bit integers with a scale per column.
    pub int8_weights: bool,
    /// Keeps the textual IR after every pass.
    pub dump: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: None,
            version: None,
            feature_set_hash: None,
            variant: Variant::default(),
            max_rows: 32,
            input_shapes: BTreeMap::new(),
            int8_weights: false,
            dump: false,
        }
    }
}

/// A compiled model.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The module.
    pub wasm: Vec<u8>,
    /// Its descriptor: JSON, see docs/wasm-abi.md.
    pub descriptor: String,
    /// Bytes of its constants.
    pub constant_bytes: usize,
    /// Bytes of its memory that change.
    pub scratch_bytes: usize,
    /// What demand pruning cut.
    pub computed: Computed,
    /// The IR after every pass, where [`Options::dump`] asked for it: `(name of the pass, text)`.
    pub dumps: Vec<(String, String)>,
}

/// Elements that the nodes of a graph compute for one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Computed {
    /// In the graph as it was imported.
    pub imported: usize,
    /// In what the outputs need of it.
    pub needed: usize,
}

/// Compiles an ONNX file.
///
/// # Errors
/// Where the bytes are no ONNX model, or use an operator, type or shape that is not lowered; the error names the node.
pub fn compile(onnx: &[u8], options: &Options) -> Result<Compiled> {
    let imported = import::import(onnx, options)?;
    let mut dumps = Vec::new();
    let mut programs = Vec::new();
    let mut computed = Computed::default();
    for (rows, graph) in imported.graphs {
        let graph = passes::run(graph, options, |pass, graph| {
            match pass {
                "import" => computed.imported = num_computed(graph),
                "demand" => computed.needed = num_computed(graph),
                _ => {}
            }
            if options.dump {
                dumps.push((format!("{pass}, {rows} rows"), passes::dump::text(graph)));
            }
        })?;
        programs.push((rows, graph));
    }
    let mut compiled = module::assemble(onnx, &programs, &imported.interface, options)?;
    compiled.computed = computed;
    compiled.dumps = dumps;
    Ok(compiled)
}

fn num_computed(graph: &ir::Graph) -> usize {
    let outputs = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
    outputs.map(|id| graph.value(*id).shape.iter().product::<usize>()).sum()
}
