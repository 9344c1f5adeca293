//! Predicts with a compiled model and nothing but wasmtime: `wasmtime <model.wasm> <number> ...`.

use wasmtime::{Engine, Error, Instance, Module, Store, Val};

fn main() -> wasmtime::Result<()> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or_else(|| Error::msg("usage: wasmtime <model.wasm> <number> ..."))?;
    let numbers = args.map(|it| it.parse::<f32>()).collect::<Result<Vec<_>, _>>()?;

    let engine = Engine::default();
    let module = Module::new(&engine, std::fs::read(file)?)?;
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[])?;
    let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| Error::msg("no memory"))?;
    let mut address = |name| match instance.get_global(&mut store, name).map(|it| it.get(&mut store)) {
        Some(Val::I32(address)) => Ok(address as u32 as usize),
        _ => Err(Error::msg("no descriptor")),
    };
    let (start, len) = (address("descriptor")?, address("descriptor_len")?);
    let descriptor: serde_json::Value = serde_json::from_slice(&memory.data(&store)[start..start + len])?;
    let number = |port: &serde_json::Value, field: &str| port[field].as_u64().unwrap_or(0) as usize;

    // A row of the first input; it stays all zero where fewer numbers are given.
    let input = &descriptor["inputs"][0];
    let bytes = numbers.iter().flat_map(|it| it.to_le_bytes()).take(number(input, "row_bytes")).collect::<Vec<_>>();
    memory.write(&mut store, number(input, "offset"), &bytes)?;
    let status = instance.get_typed_func::<i32, i32>(&mut store, "run")?.call(&mut store, 1)?;
    assert_eq!(status, 0, "see docs/wasm-abi.md");
    for output in descriptor["outputs"].as_array().into_iter().flatten() {
        let (start, len) = (number(output, "offset"), number(output, "row_bytes"));
        let row = memory.data(&store)[start..start + len].chunks_exact(4);
        let row = row.map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]]));
        println!("{}: {:?}", output["name"].as_str().unwrap_or(""), row.collect::<Vec<_>>());
    }
    Ok(())
}
