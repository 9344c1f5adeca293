//! Wraps a module as a component of the world in `wit/model.wit`.
//!
//! The functions of the interface are added to the module itself, so that the canonical ABI reads and writes the module's own
//! memory: [`adapter`] writes them, this file puts them into the module, wit-component makes the component of it. What a host
//! passes in lies behind the module's memory, which may grow for it.

mod adapter;

use serde::Deserialize;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, ConstExpr, CustomSection, DataCountSection, DataSection, ElementSection, ExportKind, ExportSection,
    FunctionSection, GlobalSection, GlobalType, MemorySection, MemoryType, Module, TableSection, TypeSection, ValType,
};
use wasmparser::{DataKind, Operator, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::error::{CompileError, Result};

const WIT: &str = include_str!("../wit/model.wit");
const PAGE: u32 = 1 << 16;

/// The descriptor of a module; see docs/wasm-abi.md.
#[derive(Debug, Deserialize)]
struct Descriptor {
    max_rows: u32,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

#[derive(Debug, Deserialize)]
struct Port {
    name: String,
    r#type: Kind,
    shape: Vec<Option<u32>>,
    offset: u32,
    row_bytes: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Float32,
    Float64,
    Int32,
    Int64,
    Bool,
}

impl Kind {
    fn size(self) -> u32 {
        match self {
            Self::Float64 | Self::Int64 => 8,
            Self::Float32 | Self::Int32 => 4,
            Self::Bool => 1,
        }
    }
}

/// Makes a component of a compiled module. The same module gives the same bytes.
///
/// # Errors
/// Where the bytes are no module that [`compile`](crate::compile) made.
pub fn wrap(module: &[u8]) -> Result<Vec<u8>> {
    let mut parts = Parts::read(module)?;
    let descriptor = parts.descriptor()?;
    parts.adapt(&descriptor)?;
    let mut adapted = parts.finish();
    let failed = |error: anyhow::Error| CompileError::model(format!("wrapping the module: {error:#}"));
    let mut resolve = Resolve::default();
    let package = resolve.push_source("model.wit", WIT).map_err(failed)?;
    let world = resolve.select_world(&[package], None).map_err(failed)?;
    embed_component_metadata(&mut adapted, &resolve, world, StringEncoding::UTF8).map_err(failed)?;
    ComponentEncoder::default().validate(true).module(&adapted).and_then(|mut it| it.encode()).map_err(failed)
}

/// The sections of a module, to be added to.
#[derive(Default)]
struct Parts<'a> {
    types: TypeSection,
    functions: FunctionSection,
    tables: TableSection,
    memory: Option<MemoryType>,
    globals: GlobalSection,
    /// Values of the constant globals, by number.
    constants: Vec<Option<u32>>,
    /// What the module exports: name, kind, number.
    exports: Vec<(&'a str, wasmparser::ExternalKind, u32)>,
    exported: ExportSection,
    elements: ElementSection,
    code: CodeSection,
    data: DataSection,
    /// The same data, with addresses.
    segments: Vec<(u32, &'a [u8])>,
    custom: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn read(module: &'a [u8]) -> Result<Self> {
        let mut parts = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload.map_err(|error| CompileError::model(format!("no module: {error}")))?;
            parts.add(payload).map_err(|error| CompileError::model(format!("no compiled model: {error}")))?;
        }
        Ok(parts)
    }

    fn add(&mut self, payload: Payload<'a>) -> Result<(), wasm_encoder::reencode::Error> {
        let mut copy = RoundtripReencoder;
        match payload {
            Payload::TypeSection(section) => copy.parse_type_section(&mut self.types, section)?,
            Payload::FunctionSection(section) => copy.parse_function_section(&mut self.functions, section)?,
            Payload::TableSection(section) => copy.parse_table_section(&mut self.tables, section)?,
            Payload::ElementSection(section) => copy.parse_element_section(&mut self.elements, section)?,
            Payload::CodeSectionEntry(body) => {
                self.code.raw(body.as_bytes());
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.memory = Some(copy.memory_type(memory?)?);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section.clone() {
                    self.constants.push(constant(&global?.init_expr));
                }
                copy.parse_global_section(&mut self.globals, section)?;
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.exports.push((export.name, export.kind, export.index));
                }
            }
            Payload::DataSection(section) => {
                for segment in section.clone() {
                    let segment = segment?;
                    if let DataKind::Active { offset_expr, .. } = &segment.kind
                        && let Some(address) = constant(offset_expr)
                    {
                        self.segments.push((address, segment.data));
                    }
                }
                copy.parse_data_section(&mut self.data, section)?;
            }
            Payload::CustomSection(section) if section.name() == "moola" => self.custom = Some(section.data()),
            _ => {}
        }
        Ok(())
    }

    fn export(&self, name: &str) -> Result<u32> {
        let found = self.exports.iter().find(|(export, ..)| *export == name);
        found.map(|(.., index)| *index).ok_or_else(|| CompileError::model(format!("the module has no export `{name}`")))
    }

    /// The value of an exported constant.
    fn value(&self, name: &str) -> Result<u32> {
        let value = self.constants.get(self.export(name)? as usize).copied().flatten();
        value.ok_or_else(|| CompileError::model(format!("export `{name}` is no constant")))
    }

    fn descriptor(&self) -> Result<Descriptor> {
        let (at, len) = (self.value("descriptor")?, self.value("descriptor_len")? as usize);
        let bytes = self.segments.iter().find_map(|(address, data)| {
            let start = at.checked_sub(*address)? as usize;
            data.get(start..start.checked_add(len)?)
        });
        let bytes = bytes.ok_or_else(|| CompileError::model("the descriptor is not in the data of the module"))?;
        serde_json::from_slice(bytes).map_err(|error| CompileError::model(format!("the descriptor: {error}")))
    }

    /// Adds the functions of the interface, names and the start of what hosts pass in.
    fn adapt(&mut self, descriptor: &Descriptor) -> Result<()> {
        let too_large = || CompileError::model("the module leaves no memory for what hosts pass in");
        let memory = self.memory.as_mut().ok_or_else(|| CompileError::model("the module has no memory"))?;
        let names_at = u32::try_from(memory.minimum).ok().and_then(|pages| pages.checked_mul(PAGE));
        let names_at = names_at.ok_or_else(too_large)?;
        let names = descriptor.inputs.iter().chain(&descriptor.outputs).map(|port| port.name.as_str());
        let names = names.collect::<String>().into_bytes();
        memory.minimum += names.len().div_ceil(PAGE as usize) as u64;
        memory.maximum = None;
        let free =
            u32::try_from(memory.minimum).ok().and_then(|pages| pages.checked_mul(PAGE)).ok_or_else(too_large)?;
        self.data.active(0, &ConstExpr::i32_const(names_at as i32), names);

        let global = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        self.globals.global(global, &ConstExpr::i32_const(free as i32));
        let context = adapter::Context {
            descriptor,
            names_at,
            free,
            next: self.globals.len() - 1,
            run: self.export("run")?,
            descriptor_at: self.value("descriptor")?,
            descriptor_len: self.value("descriptor_len")?,
            first: self.functions.len(),
        };
        for function in adapter::functions(&context) {
            let index = self.functions.len();
            self.functions.function(self.types.len());
            self.types
                .ty()
                .function(vec![ValType::I32; function.num_params], function.has_result.then_some(ValType::I32));
            self.code.function(&function.body);
            for name in function.exports {
                self.exported.export(name, ExportKind::Func, index);
            }
        }
        self.exported.export("memory", ExportKind::Memory, 0);
        Ok(())
    }

    fn finish(&self) -> Vec<u8> {
        let mut module = Module::new();
        module.section(&self.types).section(&self.functions);
        if !self.tables.is_empty() {
            module.section(&self.tables);
        }
        let mut memories = MemorySection::new();
        memories.memory(self.memory.unwrap_or(MemoryType {
            minimum: 0,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        }));
        module.section(&memories).section(&self.globals).section(&self.exported);
        if !self.elements.is_empty() {
            module.section(&self.elements);
        }
        module.section(&DataCountSection { count: self.data.len() }).section(&self.code).section(&self.data);
        if let Some(about) = self.custom {
            module.section(&CustomSection { name: "moola".into(), data: about.into() });
        }
        module.finish()
    }
}

/// The value of `i32.const`.
fn constant(expression: &wasmparser::ConstExpr<'_>) -> Option<u32> {
    let mut operators = expression.get_operators_reader();
    match operators.read() {
        Ok(Operator::I32Const { value }) => Some(value as u32),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
