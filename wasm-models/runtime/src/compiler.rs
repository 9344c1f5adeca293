//! Machine code of modules, and modules of ONNX.

use moola_core::{Error, Result};
use wasmparser::{Parser, Payload};

use crate::settings::Target;
use crate::{container, invalid};

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
