//! Puts a module together: memory, descriptor, code.

use std::collections::HashMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, CustomSection, DataSection, ExportKind, ExportSection, FunctionSection,
    GlobalSection, GlobalType, MemorySection, MemoryType, Module, TypeSection, ValType,
};
use wasmparser::{Validator, WasmFeatures};

use crate::emit::{Func, I32, Local as _};
use crate::error::{CompileError, Result};
use crate::import::{Interface, Port};
use crate::ir::{Graph, ValueId};
use crate::plan::{Constants, Plan, plan};
use crate::{Compiled, Computed, Options, Variant, kernels};

/// Version of the interface in docs/wasm-abi.md.
const ABI: i32 = 1;
const PAGE: usize = 1 << 16;

/// Number of the global that holds what `run` answers.
pub(crate) const STATUS: u32 = 0;

#[derive(Serialize)]
struct Descriptor<'a> {
    abi: i32,
    max_rows: usize,
    inputs: Vec<Tensor<'a>>,
    outputs: Vec<Tensor<'a>>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    r#type: &'static str,
    shape: Vec<Option<usize>>,
    offset: usize,
    row_bytes: usize,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    labels: &'a [String],
}

#[derive(Serialize)]
struct About<'a> {
    compiler: &'static str,
    variant: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    onnx_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    feature_set_hash: Option<&'a str>,
}

/// A graph for a number of rows, with its memory and the numbers of its functions.
struct Program<'a> {
    rows: usize,
    graph: &'a Graph,
    plan: Plan,
}

/// Makes the module of the programs, largest number of rows first.
pub(crate) fn assemble(
    onnx: &[u8],
    programs: &[(usize, Graph)],
    interface: &Interface,
    options: &Options,
) -> Result<Compiled> {
    let mut constants = Constants::default();
    let mut addresses = Vec::new();
    for (_, graph) in programs {
        addresses.push(place_constants(graph, &mut constants)?);
    }
    let max_rows = if interface.has_rows { options.max_rows.max(1) } else { 1 };
    let mut end = constants.end();
    let mut tensor = |port: &'_ Port| -> Result<(usize, usize)> {
        let offset = end;
        let row_bytes = port.shape.iter().product::<usize>() * port.dtype.size();
        let bytes = row_bytes.checked_mul(max_rows).filter(|bytes| *bytes <= crate::plan::MAX_MEMORY - end);
        let Some(bytes) = bytes else {
            return Err(CompileError::model(format!("{max_rows} rows of `{}` take too much memory", port.name)));
        };
        end = (offset + bytes).next_multiple_of(64);
        Ok((offset, row_bytes))
    };
    let inputs: Vec<(usize, usize)> = interface.inputs.iter().map(&mut tensor).collect::<Result<_>>()?;
    let outputs: Vec<(usize, usize)> = interface.outputs.iter().map(&mut tensor).collect::<Result<_>>()?;
    let descriptor = Descriptor {
        abi: ABI,
        max_rows,
        inputs: describe(interface.has_rows, &interface.inputs, &inputs),
        outputs: describe(interface.has_rows, &interface.outputs, &outputs),
    };
    let descriptor = to_json(&descriptor)?;
    let descriptor_at = end;
    let scratch_start = (end + descriptor.len()).next_multiple_of(64);
    let mut compiled = Vec::new();
    let mut scratch_bytes = 0;
    for ((rows, graph), addresses) in programs.iter().zip(&addresses) {
        let plan = plan(graph, addresses, scratch_start)?;
        scratch_bytes = scratch_bytes.max(plan.size);
        compiled.push(Program { rows: *rows, graph, plan });
    }
    let pages = (scratch_start + scratch_bytes).div_ceil(PAGE) as u64;

    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function([], []);
    let mut functions = FunctionSection::new();
    let mut code = CodeSection::new();
    functions.function(0);
    code.function(&run(&compiled, &inputs, &outputs, max_rows, options.variant));
    for program in &compiled {
        functions.function(1);
        let first = 1 + compiled.len() as u32;
        let before: usize =
            compiled.iter().take_while(|it| it.rows != program.rows).map(|it| it.graph.nodes.len()).sum();
        let mut body = Func::new(&[], options.variant);
        for index in 0..program.graph.nodes.len() {
            body.sink().call(first + (before + index) as u32);
        }
        code.function(&body.finish());
    }
    for program in &compiled {
        for (index, node) in program.graph.nodes.iter().enumerate() {
            functions.function(1);
            let mut body = Func::new(&[], options.variant);
            let cx = kernels::Cx { graph: program.graph, plan: &program.plan, index };
            kernels::emit(&mut body, &cx, node).map_err(|error| error.at(&node.name, "code generation"))?;
            code.function(&body.finish());
        }
    }

    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: pages,
        maximum: Some(pages),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut globals = GlobalSection::new();
    let constant = GlobalType { val_type: ValType::I32, mutable: false, shared: false };
    globals.global(GlobalType { mutable: true, ..constant }, &ConstExpr::i32_const(0));
    for value in [ABI, descriptor_at as i32, descriptor.len() as i32] {
        globals.global(constant, &ConstExpr::i32_const(value));
    }
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export("abi", ExportKind::Global, 1);
    exports.export("descriptor", ExportKind::Global, 2);
    exports.export("descriptor_len", ExportKind::Global, 3);
    exports.export("run", ExportKind::Func, 0);
    let mut data = DataSection::new();
    if !constants.bytes.is_empty() {
        data.active(0, &ConstExpr::i32_const(Constants::START as i32), constants.bytes.iter().copied());
    }
    data.active(0, &ConstExpr::i32_const(descriptor_at as i32), descriptor.iter().copied());
    let about = to_json(&About {
        compiler: env!("CARGO_PKG_VERSION"),
        variant: options.variant.name(),
        model: options.model.as_deref(),
        version: options.version,
        onnx_sha256: Sha256::digest(onnx).iter().map(|byte| format!("{byte:02x}")).collect(),
        feature_set_hash: options.feature_set_hash.as_deref(),
    })?;
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&globals).section(&exports);
    module.section(&code).section(&data);
    module.section(&CustomSection { name: "moola".into(), data: about.into() });
    let wasm = module.finish();
    validate(&wasm, options.variant)?;
    Ok(Compiled {
        wasm,
        descriptor: String::from_utf8_lossy(&descriptor).into_owned(),
        constant_bytes: constants.bytes.len(),
        scratch_bytes,
        computed: Computed::default(),
        dumps: Vec::new(),
    })
}

fn describe<'a>(has_rows: bool, ports: &'a [Port], places: &[(usize, usize)]) -> Vec<Tensor<'a>> {
    let tensors = ports.iter().zip(places).map(|(port, &(offset, row_bytes))| Tensor {
        name: &port.name,
        r#type: port.dtype.name(),
        shape: has_rows.then_some(None).into_iter().chain(port.shape.iter().map(|size| Some(*size))).collect(),
        offset,
        row_bytes,
        labels: &port.labels,
    });
    tensors.collect()
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| CompileError::model(format!("writing a descriptor: {error}")))
}

fn validate(wasm: &[u8], variant: Variant) -> Result<()> {
    let mut features = WasmFeatures::WASM2;
    features.set(WasmFeatures::RELAXED_SIMD, variant == Variant::RelaxedSimd);
    Validator::new_with_features(features).validate_all(wasm).map(|_| ()).map_err(|error| {
        CompileError::model(format!("a fault of the compiler: its module is not valid: {error}")).as_fault()
    })
}

fn place_constants(graph: &Graph, constants: &mut Constants) -> Result<HashMap<ValueId, u32>> {
    let mut places = HashMap::new();
    for operand in graph.nodes.iter().flat_map(|node| &node.inputs) {
        if let Some(data) = &graph.value(operand.value).data
            && !places.contains_key(&operand.value)
        {
            places.insert(operand.value, constants.add(&data.to_bytes())?);
        }
    }
    Ok(places)
}

/// `run(rows)`: checks the number, then copies the inputs of a block, computes it and copies its outputs, block by block.
fn run(
    programs: &[Program<'_>],
    inputs: &[(usize, usize)],
    outputs: &[(usize, usize)],
    max_rows: usize,
    variant: Variant,
) -> wasm_encoder::Function {
    let mut f = Func::new(&[ValType::I32], variant);
    let rows: I32 = f.param(0);
    f.sink().local_get(rows.index()).i32_const(1).i32_sub().i32_const(max_rows as i32).i32_ge_u();
    f.sink().if_(BlockType::Empty).i32_const(1).return_().end();
    f.sink().i32_const(0).global_set(STATUS);
    let mut pointers = |places: &[(usize, usize)]| -> Vec<I32> {
        places.iter().map(|(offset, _)| f.address(*offset as u32)).collect()
    };
    let (sources, targets) = (pointers(inputs), pointers(outputs));
    for (number, program) in programs.iter().enumerate() {
        f.sink().block(BlockType::Empty).loop_(BlockType::Empty);
        f.sink().local_get(rows.index()).i32_const(program.rows as i32).i32_lt_u().br_if(1);
        for ((&source, &(_, row_bytes)), &value) in sources.iter().zip(inputs).zip(&program.graph.inputs) {
            // What was pruned away is not read.
            if program.plan.has(value) {
                f.scope(|f| {
                    let to = f.address(program.plan.address(value));
                    f.copy_memory(to, source, (program.rows * row_bytes) as u32);
                });
            }
            f.advance(source, (program.rows * row_bytes) as i32);
        }
        f.sink().call(1 + number as u32);
        for ((&target, &(_, row_bytes)), (_, value)) in targets.iter().zip(outputs).zip(&program.graph.outputs) {
            f.scope(|f| {
                let from = f.address(program.plan.address(*value));
                f.copy_memory(target, from, (program.rows * row_bytes) as u32);
            });
            f.advance(target, (program.rows * row_bytes) as i32);
        }
        f.advance(rows, -(program.rows as i32));
        f.sink().br(0).end().end();
    }
    f.sink().global_get(STATUS);
    f.finish()
}
