//! For tests: builds IR or ONNX, compiles it, runs the module with wasmtime.

use prost::Message as _;
use serde_json::Value as Json;
use wasmtime::{Config, Engine, Instance, Module, Store};

use crate::import::{Interface, Port};
use crate::ir::{DType, Data, Graph};
use crate::{Options, onnx};

/// A module that runs.
pub(crate) struct Running {
    store: Store<()>,
    instance: Instance,
    descriptor: Json,
}

impl Running {
    pub(crate) fn new(wasm: &[u8]) -> Self {
        let mut config = Config::new();
        config.wasm_relaxed_simd(true).relaxed_simd_deterministic(false);
        let engine = Engine::new(&config).expect("an engine");
        let module = Module::new(&engine, wasm).expect("a module");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("an instance");
        let mut global = |name: &str| instance.get_global(&mut store, name).expect(name).get(&mut store).unwrap_i32();
        assert_eq!(global("abi"), 1);
        let (at, len) = (global("descriptor") as usize, global("descriptor_len") as usize);
        let memory = instance.get_memory(&mut store, "memory").expect("the memory");
        let descriptor = serde_json::from_slice(&memory.data(&store)[at..at + len]).expect("a descriptor");
        Self { store, instance, descriptor }
    }

    /// Runs some rows (1 where the shapes are fixed); inputs and outputs in the order of the descriptor.
    pub(crate) fn run(&mut self, rows: usize, inputs: &[Data]) -> Vec<Data> {
        let (status, outputs) = self.try_run(rows, inputs);
        assert_eq!(status, 0);
        outputs
    }

    /// Runs some rows of the inputs that are there.
    pub(crate) fn call(&mut self, rows: i32) {
        let run = self.instance.get_typed_func::<i32, i32>(&mut self.store, "run").expect("run");
        run.call(&mut self.store, rows).expect("no trap");
    }

    pub(crate) fn try_run(&mut self, rows: usize, inputs: &[Data]) -> (i32, Vec<Data>) {
        let memory = self.instance.get_memory(&mut self.store, "memory").expect("the memory");
        let number = |port: &Json, key: &str| port[key].as_u64().expect(key) as usize;
        let ports = |side: &str| self.descriptor[side].as_array().expect(side).clone();
        for (port, data) in ports("inputs").iter().zip(inputs) {
            let bytes = data.to_bytes();
            assert_eq!(bytes.len(), rows * number(port, "row_bytes"), "bytes of {port}");
            memory.write(&mut self.store, number(port, "offset"), &bytes).expect("inside");
        }
        let run = self.instance.get_typed_func::<i32, i32>(&mut self.store, "run").expect("run");
        let status = run.call(&mut self.store, rows as i32).expect("no trap");
        let outputs = ports("outputs").into_iter().map(|port| {
            let (at, len) = (number(&port, "offset"), rows * number(&port, "row_bytes"));
            data(port["type"].as_str().expect("type"), &memory.data(&self.store)[at..at + len])
        });
        let outputs = outputs.collect();
        (status, outputs)
    }
}

fn data(kind: &str, bytes: &[u8]) -> Data {
    match kind {
        "float32" => Data::F32(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        "float64" => Data::F64(bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()),
        "int32" => Data::I32(bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()),
        "int64" => Data::I64(bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        _ => Data::Bool(bytes.iter().map(|b| *b != 0).collect()),
    }
}

/// Compiles a graph without rows: all passes, then code.
pub(crate) fn compile_graph(graph: &Graph, options: &Options) -> Vec<u8> {
    let graph = crate::passes::run(graph.clone(), options, |_, _| {}).expect("the passes");
    compile_as_it_is(&graph, options)
}

/// Compiles a graph without rows and without any pass.
pub(crate) fn compile_as_it_is(graph: &Graph, options: &Options) -> Vec<u8> {
    let port = |name: &str, id| {
        let value = graph.value(id);
        Port { name: name.to_owned(), dtype: value.dtype, shape: value.shape.clone(), labels: Vec::new() }
    };
    let interface = Interface {
        inputs: graph.inputs.iter().map(|id| port(&graph.value(*id).name, *id)).collect(),
        outputs: graph.outputs.iter().map(|(name, id)| port(name, *id)).collect(),
        has_rows: false,
    };
    crate::module::assemble(&[], &[(1, graph.clone())], &interface, options).expect("a module").wasm
}

/// Asserts that numbers agree: to `tolerance` times the largest of `expected` (at least 1e-30).
pub(crate) fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(1e-30f32, |scale, x| scale.max(x.abs()));
    for (index, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * scale, "number {index}: {a} for {e} (scale {scale})");
    }
}

/// Writes ONNX models.
#[derive(Default)]
pub(crate) struct OnnxModel {
    graph: onnx::Graph,
    opsets: Vec<onnx::OperatorSet>,
}

/// An attribute of [`OnnxModel::node`].
pub(crate) enum Attr<'a> {
    Int(i64),
    Float(f32),
    Ints(&'a [i64]),
    Floats(&'a [f32]),
    Text(&'a str),
    Texts(&'a [&'a str]),
    Tensor(Box<onnx::Tensor>),
}

impl OnnxModel {
    pub(crate) fn new(opset: i64) -> Self {
        let sets = [("", opset), ("ai.onnx.ml", 3)];
        let opsets = sets.map(|(domain, version)| onnx::OperatorSet { domain: domain.into(), version });
        Self { opsets: opsets.into(), ..Self::default() }
    }

    /// Declares an input; `None` leaves the dimension open.
    pub(crate) fn input(mut self, name: &str, dtype: DType, shape: &[Option<usize>]) -> Self {
        self.graph.input.push(value_info(name, dtype, shape));
        self
    }

    pub(crate) fn output(mut self, name: &str) -> Self {
        self.graph.output.push(onnx::ValueInfo { name: name.into(), r#type: None });
        self
    }

    pub(crate) fn constant(mut self, name: &str, shape: &[usize], data: &Data) -> Self {
        self.graph.initializer.push(onnx::Tensor {
            dims: shape.iter().map(|size| *size as i64).collect(),
            data_type: code(data.dtype()),
            name: name.into(),
            raw_data: data.to_bytes(),
            ..Default::default()
        });
        self
    }

    /// Appends a node; `ml:` before the operator stands for the domain `ai.onnx.ml`.
    pub(crate) fn node(mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Attr<'_>)]) -> Self {
        let (domain, op_type) = op.strip_prefix("ml:").map_or(("", op), |op| ("ai.onnx.ml", op));
        let attribute = attributes.iter().map(|(name, value)| {
            let mut attribute = onnx::Attribute { name: (*name).into(), ..Default::default() };
            match value {
                Attr::Int(i) => attribute.i = *i,
                Attr::Float(f) => attribute.f = *f,
                Attr::Ints(ints) => attribute.ints = ints.to_vec(),
                Attr::Floats(floats) => attribute.floats = floats.to_vec(),
                Attr::Text(text) => attribute.s = text.as_bytes().to_vec(),
                Attr::Tensor(tensor) => attribute.t = Some((**tensor).clone()),
                Attr::Texts(texts) => attribute.strings = texts.iter().map(|text| text.as_bytes().to_vec()).collect(),
            }
            attribute
        });
        self.graph.node.push(onnx::Node {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: outputs.iter().map(ToString::to_string).collect(),
            op_type: op_type.into(),
            domain: domain.into(),
            attribute: attribute.collect(),
            ..Default::default()
        });
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        let model =
            onnx::Model { ir_version: 8, graph: Some(self.graph), opset_import: self.opsets, ..Default::default() };
        model.encode_to_vec()
    }
}

fn code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::I8 => 3,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F64 => 11,
    }
}

fn value_info(name: &str, dtype: DType, shape: &[Option<usize>]) -> onnx::ValueInfo {
    let dim =
        shape.iter().map(|size| onnx::Dimension { value: size.map(|size| onnx::DimensionValue::Size(size as i64)) });
    let shape = onnx::Shape { dim: dim.collect() };
    let tensor_type = onnx::TensorType { elem_type: code(dtype), shape: Some(shape) };
    onnx::ValueInfo { name: name.into(), r#type: Some(onnx::Type { tensor_type: Some(tensor_type) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dense_layer_answers_for_any_number_of_rows() {
        let model = OnnxModel::new(17)
            .input("x", DType::F32, &[None, Some(2)])
            .constant("w", &[2, 3], &Data::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
            .constant("b", &[3], &Data::F32(vec![0.5, -100.0, 0.25]))
            .node("MatMul", &["x", "w"], &["xw"], &[])
            .node("Add", &["xw", "b"], &["sum"], &[])
            .node("Relu", &["sum"], &["y"], &[])
            .output("y")
            .bytes();
        let compiled =
            crate::compile(&model, &Options { max_rows: 9, dump: true, ..Options::default() }).expect("compiles");
        println!("{}", compiled.dumps[0].1);
        let mut running = Running::new(&compiled.wasm);
        for rows in 1..=9 {
            let x: Vec<f32> = (0..rows * 2).map(|i| i as f32).collect();
            let expected = (0..rows).flat_map(|row| {
                let (a, b) = (x[row * 2], x[row * 2 + 1]);
                [a + 4.0 * b + 0.5, (2.0 * a + 5.0 * b - 100.0).max(0.0), 3.0 * a + 6.0 * b + 0.25]
            });
            let expected = Data::F32(expected.collect());
            assert_eq!(running.run(rows, &[Data::F32(x.clone())]), [expected]);
        }
        assert_eq!(running.try_run(0, &[Data::F32(vec![])]).0, 1);
        assert_eq!(running.try_run(10, &[]).0, 1);
    }
}
