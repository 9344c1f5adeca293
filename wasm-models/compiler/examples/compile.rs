//! Compiles an ONNX file: `compile model.onnx model.wasm [max rows]`.

use std::error::Error;

use moola_wasm_compiler::{Options, compile};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, rest @ ..] = arguments.as_slice() else {
        return Err("usage: compile model.onnx model.wasm [max rows]".into());
    };
    let mut options = Options::default();
    if let Some(max_rows) = rest.first() {
        options.max_rows = max_rows.parse()?;
    }
    let compiled = compile(&std::fs::read(from)?, &options)?;
    println!("{} bytes, {} of them constants", compiled.wasm.len(), compiled.constant_bytes);
    std::fs::write(to, compiled.wasm)?;
    Ok(())
}
