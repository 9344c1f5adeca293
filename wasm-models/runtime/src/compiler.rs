//! Machine code of modules, and modules of ONNX.

use moola_core::ports::{Artifact, CompileRequest, CompiledFile, Compiler, ModelFormat};
use moola_core::{Error, Result};
use moola_wasm_compiler::{Options, REVISION, Variant};
use wasmparser::{Parser, Payload};

use crate::settings::{RUNTIME, TARGETS, Target};
use crate::{container, invalid};

/// Compiles ONNX models to a module and to machine code for every target.
#[derive(Debug)]
pub struct WasmCompiler {
    variant: Variant,
    fingerprint: String,
}

impl WasmCompiler {
    /// A compiler to modules of `variant`: `Simd128` answers the same on every machine.
    #[must_use]
    pub fn new(variant: Variant) -> Self {
        let mut fingerprint =
            format!("moola {} revision {REVISION} {}, {RUNTIME}", env!("CARGO_PKG_VERSION"), variant.name());
        for target in &TARGETS {
            fingerprint.push_str(&format!(", {} {}", target.name(), target.compatibility()));
        }
        Self { variant, fingerprint }
    }
}

impl Default for WasmCompiler {
    fn default() -> Self {
        Self::new(Variant::default())
    }
}

impl Compiler for WasmCompiler {
    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn compile(&self, request: &CompileRequest<'_>) -> Result<Vec<CompiledFile>> {
        let options = Options {
            model: Some(request.model.to_owned()),
            version: Some(request.version),
            feature_set_hash: request.feature_set_hash.map(str::to_owned),
            variant: self.variant,
            ..Options::default()
        };
        let compiled = moola_wasm_compiler::compile(request.onnx, &options)
            .map_err(|error| invalid(format!("the model is not compiled: {error}")))?;
        let portable = Artifact {
            file: "model.wasm".to_owned(),
            format: ModelFormat::Wasm,
            target: None,
            runtime: None,
            compatibility: None,
        };
        let mut files = Vec::with_capacity(1 + TARGETS.len());
        for target in &TARGETS {
            let artifact = Artifact {
                file: format!("{}.cwasm", target.name()),
                format: ModelFormat::Cwasm,
                target: Some(target.name().to_owned()),
                runtime: Some(RUNTIME.to_owned()),
                compatibility: Some(target.compatibility()),
            };
            files.push(CompiledFile { artifact, bytes: precompile(&compiled.wasm, target)? });
        }
        files.insert(0, CompiledFile { artifact: portable, bytes: compiled.wasm });
        Ok(files)
    }
}

/// Makes machine code for `target` of a module, wherever this runs. The same module gives the same bytes.
///
/// # Errors
/// `Invalid` where the bytes are no module, or one that uses what no compiled model does.
pub fn precompile(wasm: &[u8], target: &Target) -> Result<Vec<u8>> {
    check(wasm)?;
    let engine = wasmtime::Engine::new(&target.compiling()?)
        .map_err(|error| Error::internal(format!("cannot compile for `{}`: {error:#}", target.name())))?;
    let code = engine.precompile_module(wasm).map_err(|error| invalid(format!("the module is refused: {error:#}")))?;
    container::seal(target, &code)
}

/// Refuses a module that does anything when it is instantiated, or that is a text.
pub(crate) fn check(wasm: &[u8]) -> Result<()> {
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|error| invalid(format!("the file is no module: {error}")))? {
            Payload::StartSection { .. } => {
                return Err(invalid("the module has a start function, expected none"));
            }
            Payload::ImportSection(imports) if imports.count() > 0 => {
                return Err(invalid(format!("the module has {} imports, expected none", imports.count())));
            }
            _ => {}
        }
    }
    Ok(())
}
