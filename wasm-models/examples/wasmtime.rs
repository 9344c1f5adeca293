//! Predicts with a compiled model and nothing but wasmtime: `wasmtime <model.wasm> <number> ...`.

use wasmtime::{Engine, Error, Instance, Module, Result, Store, Val};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or_else(|| Error::msg("usage: wasmtime <model.wasm> <number> ..."))?;
    let numbers = args.map(|it| it.parse()).collect::<Result<Vec<f32>, _>>()?;
    println!("{}", predict(&std::fs::read(file)?, &numbers)?);
    Ok(())
}

/// Computes the outputs for the rows of the first input, which is of floats, as all outputs are; further inputs stay zero.
pub(crate) fn predict(wasm: &[u8], numbers: &[f32]) -> Result<serde_json::Value> {
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &Module::new(&engine, wasm)?, &[])?;
    let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| Error::msg("no memory"))?;
    let mut global = |name| match instance.get_global(&mut store, name).map(|it| it.get(&mut store)) {
        Some(Val::I32(value)) => Ok(value as u32 as usize),
        _ => Err(Error::msg(format!("no global `{name}`"))),
    };
    let (start, len) = (global("descriptor")?, global("descriptor_len")?);
    let descriptor: serde_json::Value = serde_json::from_slice(&memory.data(&store)[start..start + len])?;
    let place = |port: &serde_json::Value| {
        let number = |field: &str| port[field].as_u64().unwrap_or(0) as usize;
        (number("offset"), number("row_bytes"))
    };

    let (offset, row_bytes) = place(&descriptor["inputs"][0]);
    let bytes = numbers.iter().flat_map(|it| it.to_le_bytes()).collect::<Vec<_>>();
    let rows = bytes.len() / row_bytes;
    memory.write(&mut store, offset, &bytes)?;
    let status = instance.get_typed_func::<i32, i32>(&mut store, "run")?.call(&mut store, rows as i32)?;
    assert_eq!(status, 0, "docs/wasm-abi.md says what a status means");
    let outputs = descriptor["outputs"].as_array().into_iter().flatten().map(|port| {
        let (offset, row_bytes) = place(port);
        let bytes = memory.data(&store)[offset..offset + rows * row_bytes].as_chunks().0;
        let numbers = bytes.iter().map(|it| f32::from_le_bytes(*it)).collect::<Vec<_>>();
        (port["name"].as_str().unwrap_or("").to_owned(), numbers.into())
    });
    Ok(serde_json::Value::Object(outputs.collect()))
}
