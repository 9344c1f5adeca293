//! A model that is ready to answer.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moola_core::ports::{LoadedModel, Tensor};
use moola_core::{Error, ErrorKind, Result};
use wasmtime::{
    ExternType, InstancePre, Linker, Memory, Module, ModuleExport, Mutability, PoolConcurrencyLimitError, Store,
    StoreLimits, StoreLimitsBuilder, Trap, TypedFunc, ValType,
};

use crate::convert;
use crate::engine::WasmConfig;
use crate::invalid;
use crate::layout::{ABI, Layout};
use crate::ticker::Ticker;

/// Numbers of the largest input of a request, as for the native engine, and of its outputs together.
const MAX_ELEMENTS: usize = 1 << 26;
/// Between two looks for a place of the pool while a model is loaded.
const PLACE_WAIT: Duration = Duration::from_millis(5);
/// More than any compiled model has: it has none.
const MAX_TABLE_ELEMENTS: usize = 1 << 16;

type Ports = Vec<(String, Vec<Option<usize>>)>;

pub(crate) struct WasmModel {
    instances: InstancePre<StoreLimits>,
    memory: ModuleExport,
    run: ModuleExport,
    layout: Layout,
    inputs: Ports,
    outputs: Ports,
    max_memory_bytes: usize,
    deadline_ms: u64,
    deadline_ticks: u64,
    request_ms: u64,
    ticker: Arc<Ticker>,
}

impl fmt::Debug for WasmModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmModel").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl WasmModel {
    /// Checks a module against the interface.
    pub(crate) fn load(module: &Module, config: &WasmConfig, deadline_ticks: u64, ticker: Arc<Ticker>) -> Result<Self> {
        check(module, config.max_memory_bytes)?;
        let export =
            |name| module.get_export_index(name).ok_or_else(|| invalid(format!("the module has no export `{name}`")));
        let linker = Linker::<StoreLimits>::new(module.engine());
        let instances = linker.instantiate_pre(module).map_err(|error| invalid(format!("{error:#}")))?;
        let mut model = Self {
            instances,
            memory: export("memory")?,
            run: export("run")?,
            layout: Layout { max_rows: 1, inputs: Vec::new(), outputs: Vec::new() },
            inputs: Vec::new(),
            outputs: Vec::new(),
            max_memory_bytes: config.max_memory_bytes,
            deadline_ms: config.deadline_ms,
            deadline_ticks,
            request_ms: config.request_ms,
            ticker,
        };
        let layout = model.read_layout(export)?;
        let describe = |ports: &[crate::layout::Port]| {
            ports.iter().map(|port| (port.name.clone(), port.shape.iter().copied().map(Some).collect())).collect()
        };
        (model.inputs, model.outputs) = (describe(&layout.inputs), describe(&layout.outputs));
        model.layout = layout;
        Ok(model)
    }

    fn read_layout(&self, export: impl Fn(&'static str) -> Result<ModuleExport>) -> Result<Layout> {
        let _call = self.ticker.begin();
        let mut instance = self.awaited_instance().map_err(|error| match error.kind() {
            ErrorKind::Internal => invalid("the module cannot be instantiated").with_source(error),
            _ => error,
        })?;
        let mut global = |name| -> Result<i32> {
            let value = instance.instance.get_module_export(&mut instance.store, &export(name)?);
            let value = value.and_then(wasmtime::Extern::into_global).map(|global| global.get(&mut instance.store));
            value.and_then(|value| value.i32()).ok_or_else(|| invalid(format!("export `{name}` is no i32")))
        };
        let (abi, descriptor, len) = (global("abi")?, global("descriptor")?, global("descriptor_len")?);
        if abi != ABI {
            return Err(Error::invalid("abi", abi, ABI));
        }
        Layout::read(instance.memory.data(&instance.store), descriptor, len)
    }

    /// An instance while requests may have all places of the pool: waits for one as long as a request may take.
    fn awaited_instance(&self) -> Result<Instance> {
        let started = Instant::now();
        loop {
            match self.instance() {
                Err(error) if error.kind() == ErrorKind::Unavailable && !self.is_over(started) => {
                    std::thread::sleep(PLACE_WAIT);
                }
                instance => return instance,
            }
        }
    }

    fn is_over(&self, started: Instant) -> bool {
        started.elapsed() >= Duration::from_millis(self.request_ms)
    }

    fn instance(&self) -> Result<Instance> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.max_memory_bytes)
            .table_elements(MAX_TABLE_ELEMENTS)
            .instances(1)
            .memories(1)
            .tables(1)
            .trap_on_grow_failure(true)
            .build();
        let mut store = Store::new(self.instances.module().engine(), limits);
        store.limiter(|limits| limits);
        store.set_epoch_deadline(self.deadline_ticks);
        store.epoch_deadline_trap();
        let instance = self.instances.instantiate(&mut store).map_err(|error| self.failure(&error))?;
        let export = |store: &mut _, export| instance.get_module_export(store, export);
        let memory = export(&mut store, &self.memory).and_then(wasmtime::Extern::into_memory);
        let run = export(&mut store, &self.run).and_then(wasmtime::Extern::into_func);
        let run = run.and_then(|run| run.typed::<i32, i32>(&store).ok());
        let (Some(memory), Some(run)) = (memory, run) else {
            return Err(Error::internal("the module has not the exports that were checked"));
        };
        Ok(Instance { store, instance, memory, run })
    }

    fn failure(&self, error: &wasmtime::Error) -> Error {
        if error.is::<PoolConcurrencyLimitError>() {
            return Error::unavailable(format!("no place for an instance: {error:#}"));
        }
        if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) {
            // Mostly the machine is busy.
            return Error::unavailable(format!("the model did not answer within {} ms", self.deadline_ms));
        }
        Error::internal(format!("the model failed: {error:#}"))
    }

    /// Checks the inputs and returns their batch size.
    fn batch_of(&self, inputs: &[Tensor]) -> Result<usize> {
        if inputs.len() != self.inputs.len() {
            let names = self.inputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
            return Err(invalid(format!("{} inputs given, expected {} ({names:?})", inputs.len(), names.len())));
        }
        let batch = inputs.first().map_or(0, Tensor::num_rows);
        for (tensor, port) in inputs.iter().zip(&self.layout.inputs) {
            let (name, given) = (&port.name, tensor.shape());
            if batch == 0 || tensor.num_rows() != batch || given.get(1..) != Some(&port.shape) {
                let sizes = port.shape.iter().map(|size| format!(", {size}")).collect::<String>();
                return Err(invalid(format!(
                    "input `{name}` has shape {given:?}, expected [batch{sizes}] with the same batch of at least 1 in all inputs"
                )));
            }
            let len = tensor.data().len();
            if len > MAX_ELEMENTS {
                return Err(invalid(format!("input `{name}` has {len} numbers, expected at most {MAX_ELEMENTS}")));
            }
            convert::check(port, tensor)?;
        }
        let row_len = self.layout.outputs.iter().try_fold(0_usize, |sum, port| sum.checked_add(port.row_len()));
        let len = row_len.and_then(|row_len| row_len.checked_mul(batch));
        if len.is_none_or(|len| len > MAX_ELEMENTS) {
            return Err(invalid(format!(
                "a batch of {batch} has outputs of more than {MAX_ELEMENTS} numbers together, expected at most so many"
            )));
        }
        Ok(batch)
    }

    fn call(&self, instance: &mut Instance, num_rows: usize) -> Result<()> {
        instance.store.set_epoch_deadline(self.deadline_ticks);
        let rows = i32::try_from(num_rows).map_err(|_| Error::internal(format!("{num_rows} rows are too many")))?;
        match instance.run.call(&mut instance.store, rows).map_err(|error| self.failure(&error))? {
            0 => Ok(()),
            2 => Err(invalid("an index in the inputs is out of range")),
            status => {
                Err(Error::internal(format!("the model answered status {status} to {num_rows} rows, expected 0")))
            }
        }
    }
}

/// A module with memory of its own.
struct Instance {
    store: Store<StoreLimits>,
    instance: wasmtime::Instance,
    memory: Memory,
    run: TypedFunc<i32, i32>,
}

impl LoadedModel for WasmModel {
    fn inputs(&self) -> &[(String, Vec<Option<usize>>)] {
        &self.inputs
    }

    fn outputs(&self) -> &[(String, Vec<Option<usize>>)] {
        &self.outputs
    }

    fn run(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let batch = self.batch_of(&inputs)?;
        let started = Instant::now();
        let _call = self.ticker.begin();
        let mut instance = self.instance()?;
        let outputs = &self.layout.outputs;
        let first = batch.min(self.layout.max_rows);
        let mut data = outputs.iter().map(|port| Vec::with_capacity(first * port.row_len())).collect::<Vec<_>>();
        for row in (0..batch).step_by(self.layout.max_rows) {
            if row > 0 && self.is_over(started) {
                return Err(Error::unavailable(format!(
                    "the model answered {row} of {batch} rows within {} ms",
                    self.request_ms
                )));
            }
            let num_rows = self.layout.max_rows.min(batch - row);
            let memory = instance.memory.data_mut(&mut instance.store);
            for (tensor, port) in inputs.iter().zip(&self.layout.inputs) {
                let len = port.row_len();
                let numbers = &tensor.data()[row * len..(row + num_rows) * len];
                convert::write(port.kind, numbers, &mut memory[port.bytes(num_rows)]);
            }
            self.call(&mut instance, num_rows)?;
            let memory = instance.memory.data(&instance.store);
            for (port, numbers) in outputs.iter().zip(&mut data) {
                convert::read(port.kind, &memory[port.bytes(num_rows)], numbers);
            }
        }
        let shapes = outputs.iter().map(|port| [&[batch], port.shape.as_slice()].concat());
        shapes.zip(data).map(|(shape, data)| Tensor::new(shape, data)).collect()
    }
}

/// Whether a module may be instantiated: nothing imported, exactly the exports of the interface, and a memory of fixed size.
fn check(module: &Module, max_memory_bytes: usize) -> Result<()> {
    if let Some(import) = module.imports().next() {
        let (from, name) = (import.module(), import.name());
        return Err(invalid(format!("the module imports `{name}` of `{from}`, expected no imports")));
    }
    for (name, expected) in EXPORTS {
        let export = module.get_export(name);
        let fits = match (&export, expected) {
            (Some(ExternType::Global(global)), "immutable global i32") => {
                global.mutability() == Mutability::Const && matches!(global.content(), ValType::I32)
            }
            (Some(ExternType::Memory(_)), "memory") => true,
            (Some(ExternType::Func(run)), "function (i32) -> i32") => {
                let is_i32 = |mut types: Box<dyn Iterator<Item = ValType> + '_>| {
                    matches!((types.next(), types.next()), (Some(ValType::I32), None))
                };
                is_i32(Box::new(run.params())) && is_i32(Box::new(run.results()))
            }
            _ => false,
        };
        if !fits {
            return Err(invalid(format!("the module has no export `{name}` that is a {expected}")));
        }
    }
    if let Some(export) = module.exports().find(|export| EXPORTS.iter().all(|(name, _)| *name != export.name())) {
        return Err(invalid(format!("the module exports `{}`, which is not of the interface", export.name())));
    }
    if let Some(ExternType::Memory(memory)) = module.get_export("memory") {
        let (min, max) = (memory.minimum(), memory.maximum());
        let bytes = min.checked_mul(memory.page_size()).filter(|&bytes| bytes <= max_memory_bytes as u64);
        if max != Some(min) || bytes.is_none() || memory.is_64() || memory.is_shared() {
            return Err(invalid(format!(
                "the memory has {min} to {max:?} pages, expected a fixed number and at most {max_memory_bytes} bytes"
            )));
        }
    }
    Ok(())
}

const EXPORTS: [(&str, &str); 5] = [
    ("abi", "immutable global i32"),
    ("memory", "memory"),
    ("descriptor", "immutable global i32"),
    ("descriptor_len", "immutable global i32"),
    ("run", "function (i32) -> i32"),
];
