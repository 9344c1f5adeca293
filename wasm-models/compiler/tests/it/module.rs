//! Runs compiled modules with wasmtime.

use serde::Deserialize;
use wasmtime::{Config, Engine, Instance, Module, OptLevel, Store};

/// What a module says about itself; see docs/wasm-abi.md.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Descriptor {
    pub(crate) max_rows: usize,
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
}

/// An input or output.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) r#type: String,
    pub(crate) shape: Vec<Option<usize>>,
    pub(crate) offset: usize,
    pub(crate) row_bytes: usize,
    #[serde(default)]
    pub(crate) labels: Vec<String>,
}

/// Instructions that a call may take: far more than any model here needs.
const FUEL: u64 = 1 << 26;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With these bytes of every output.
    Answered(Vec<Vec<u8>>),
    /// With a status that is not 0.
    Refused(i32),
    /// It took more instructions than a test may take.
    TooLong,
}

/// A module that is ready to run.
pub(crate) struct Running {
    store: Store<()>,
    instance: Instance,
    pub(crate) descriptor: Descriptor,
}

impl Running {
    /// Makes it ready, or says what is wrong with the module.
    pub(crate) fn new(wasm: &[u8]) -> Result<Self, String> {
        let mut config = Config::new();
        config.wasm_relaxed_simd(true).consume_fuel(true).cranelift_opt_level(OptLevel::None);
        let engine = Engine::new(&config).map_err(|error| error.to_string())?;
        let module = Module::new(&engine, wasm).map_err(|error| format!("the module is not valid: {error:#}"))?;
        if module.imports().len() > 0 {
            return Err("the module imports something".into());
        }
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).map_err(|error| format!("no instance: {error:#}"))?;
        let mut global = |name: &str| {
            let value = instance.get_global(&mut store, name).map(|global| global.get(&mut store));
            value.and_then(|value| value.i32()).ok_or_else(|| format!("no global `{name}`"))
        };
        let (abi, at, len) = (global("abi")?, global("descriptor")? as usize, global("descriptor_len")? as usize);
        if abi != 1 {
            return Err(format!("abi {abi}"));
        }
        let memory = instance.get_memory(&mut store, "memory").ok_or("no memory")?;
        let kind = memory.ty(&store);
        if kind.maximum() != Some(kind.minimum()) {
            return Err("the memory can grow".into());
        }
        let text = memory.data(&store).get(at..at + len).ok_or("the descriptor lies outside of the memory")?;
        let descriptor: Descriptor = serde_json::from_slice(text).map_err(|error| format!("descriptor: {error}"))?;
        Ok(Self { store, instance, descriptor })
    }

    /// Runs some rows; the inputs in the order of the descriptor.
    ///
    /// # Errors
    /// Where it traps, or the bytes do not fit the descriptor.
    pub(crate) fn run(&mut self, rows: usize, inputs: &[Vec<u8>]) -> Result<Outcome, String> {
        let memory = self.instance.get_memory(&mut self.store, "memory").ok_or("no memory")?;
        let Descriptor { inputs: ports, outputs, .. } = self.descriptor.clone();
        if ports.len() != inputs.len() {
            return Err(format!("{} inputs for {} of the descriptor", inputs.len(), ports.len()));
        }
        for (port, bytes) in ports.iter().zip(inputs) {
            if bytes.len() != rows * port.row_bytes {
                return Err(format!(
                    "input `{}` takes {} bytes per row, given {}",
                    port.name,
                    port.row_bytes,
                    bytes.len()
                ));
            }
            memory.write(&mut self.store, port.offset, bytes).map_err(|error| format!("`{}`: {error}", port.name))?;
        }
        self.store.set_fuel(FUEL).map_err(|error| error.to_string())?;
        let run =
            self.instance.get_typed_func::<i32, i32>(&mut self.store, "run").map_err(|error| error.to_string())?;
        match run.call(&mut self.store, rows as i32) {
            Ok(0) => {}
            Ok(status) => return Ok(Outcome::Refused(status)),
            Err(error) if error.downcast_ref() == Some(&wasmtime::Trap::OutOfFuel) => return Ok(Outcome::TooLong),
            Err(error) => return Err(format!("trap: {error:#}")),
        }
        let data = memory.data(&self.store);
        let bytes = outputs.iter().map(|port| {
            let bytes = data.get(port.offset..port.offset + rows * port.row_bytes);
            bytes.map(<[u8]>::to_vec).ok_or_else(|| format!("output `{}` lies outside of the memory", port.name))
        });
        Ok(Outcome::Answered(bytes.collect::<Result<_, _>>()?))
    }
}
