use wasmtime::component::{Component, Instance, Linker, Val};
use wasmtime::{Engine, Store};

use super::wrap;
use crate::Options;
use crate::ir::{DType, Data};
use crate::testkit::{OnnxModel, Running};

const NAME: &str = "moola:model/inference@1.0.0";

struct Host {
    store: Store<()>,
    instance: Instance,
}

impl Host {
    fn new(component: &[u8]) -> Self {
        let engine = Engine::default();
        let component = Component::new(&engine, component).expect("a component");
        assert_eq!(component.component_type().imports(&engine).len(), 0);
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate(&mut store, &component).expect("an instance");
        Self { store, instance }
    }

    fn call(&mut self, function: &str, params: &[Val]) -> Val {
        let interface = self.instance.get_export_index(&mut self.store, None, NAME).expect("the interface");
        let index = self.instance.get_export_index(&mut self.store, Some(&interface), function).expect("the function");
        let function = self.instance.get_func(&mut self.store, index).expect("a function");
        let mut results = [Val::Bool(false)];
        function.call(&mut self.store, params, &mut results).expect("no trap");
        let [result] = results;
        result
    }

    fn predict(&mut self, inputs: Vec<Val>) -> Result<Vec<Val>, String> {
        match self.call("predict", &[Val::List(inputs)]) {
            Val::Result(Ok(Some(list))) => match *list {
                Val::List(list) => Ok(list),
                other => panic!("{other:?}"),
            },
            Val::Result(Err(Some(error))) => match *error {
                Val::Enum(name) => Err(name),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

fn tensor(name: &str, shape: &[u32], data: &[f32]) -> Val {
    Val::Record(vec![
        ("name".into(), Val::String(name.into())),
        ("shape".into(), Val::List(shape.iter().copied().map(Val::U32).collect())),
        ("data".into(), Val::List(data.iter().copied().map(Val::Float32).collect())),
    ])
}

/// y = 2 a + b.
fn module() -> Vec<u8> {
    let model = OnnxModel::new(17)
        .input("a", DType::F32, &[None, Some(3)])
        .input("b", DType::F32, &[None, Some(3)])
        .constant("two", &[1], &Data::F32(vec![2.0]))
        .node("Mul", &["a", "two"], &["a2"], &[])
        .node("Add", &["a2", "b"], &["y"], &[])
        .output("y")
        .bytes();
    crate::compile(&model, &Options { max_rows: 9, ..Options::default() }).expect("compiles").wasm
}

#[test]
fn a_component_answers_as_its_module_does() {
    let module = module();
    let mut host = Host::new(&wrap(&module).expect("a component"));
    let mut running = Running::new(&module);
    // Twice, so that memory given back is used again.
    for rows in (1..=9).chain(1..=9) {
        let a = (0..rows * 3).map(|it| it as f32 / 8.0).collect::<Vec<_>>();
        let b = (0..rows * 3).map(|it| 100.0 - it as f32).collect::<Vec<_>>();
        let Data::F32(expected) = running.run(rows, &[Data::F32(a.clone()), Data::F32(b.clone())]).remove(0) else {
            panic!("floats")
        };
        let shape = [rows as u32, 3];
        let outputs = host.predict(vec![tensor("a", &shape, &a), tensor("b", &shape, &b)]).expect("outputs");
        assert_eq!(outputs, [tensor("y", &shape, &expected)]);
    }
}

#[test]
fn a_component_describes_itself() {
    let mut host = Host::new(&wrap(&module()).expect("a component"));
    let Val::String(text) = host.call("describe", &[]) else { panic!("a text") };
    let descriptor = serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
    assert_eq!(descriptor["max_rows"], 9);
    assert_eq!(descriptor["inputs"][1]["name"], "b");
}

#[test]
fn a_component_refuses_inputs_that_do_not_fit() {
    let mut host = Host::new(&wrap(&module()).expect("a component"));
    let (a, b) = (tensor("a", &[1, 3], &[1.0; 3]), tensor("b", &[1, 3], &[1.0; 3]));
    for (inputs, error) in [
        (vec![], "inputs"),
        (vec![a.clone()], "inputs"),
        (vec![b.clone(), a.clone()], "inputs"),
        (vec![a.clone(), tensor("bb", &[1, 3], &[1.0; 3])], "inputs"),
        (vec![a.clone(), tensor("b", &[1, 4], &[1.0; 4])], "shape"),
        (vec![a.clone(), tensor("b", &[3], &[1.0; 3])], "shape"),
        (vec![a.clone(), tensor("b", &[1, 3], &[1.0; 4])], "shape"),
        (vec![a.clone(), tensor("b", &[2, 3], &[1.0; 6])], "rows"),
        (vec![tensor("a", &[10, 3], &[1.0; 30]), tensor("b", &[10, 3], &[1.0; 30])], "rows"),
        (vec![tensor("a", &[0, 3], &[]), tensor("b", &[0, 3], &[])], "rows"),
        (vec![tensor("a", &[u32::MAX, 3], &[]), tensor("b", &[u32::MAX, 3], &[])], "rows"),
        (vec![a.clone(), tensor("b", &[1, 3], &[1.0, f32::NAN, 1.0])], "not-finite"),
        (vec![a.clone(), tensor("b", &[1, 3], &[1.0, 1.0, f32::NEG_INFINITY])], "not-finite"),
    ] {
        assert_eq!(host.predict(inputs), Err(error.to_owned()));
    }
    // More than the memory had room for.
    let many = vec![1.0; 1 << 20];
    let large = [1 << 20, 1].map(|size| size / 3 * 3);
    assert_eq!(host.predict(vec![tensor("a", &large, &many), b.clone()]), Err("shape".to_owned()));
    assert_eq!(host.predict(vec![a, b]).expect("outputs"), [tensor("y", &[1, 3], &[3.0; 3])]);
}

#[test]
fn the_same_module_gives_the_same_component() {
    let module = module();
    assert_eq!(wrap(&module), wrap(&module));
}

#[test]
fn what_is_no_compiled_model_is_refused() {
    let module = module();
    for at in 0..module.len() {
        let _ = wrap(&module[..at]);
        let mut altered = module.clone();
        altered[at] ^= 0xff;
        let _ = wrap(&altered);
    }
    for bytes in [&b""[..], b"\0asm\x01\0\0\0", b"moola"] {
        assert!(wrap(bytes).is_err());
    }
}

#[test]
fn a_component_converts_other_types() {
    let types = [("float32", 4), ("float64", 8), ("int32", 4), ("int64", 8), ("bool", 1)];
    let port = |(index, &(kind, size)): (usize, &(&str, usize)), start: usize| {
        let (offset, row_bytes) = (start + index * 64, 2 * size);
        format!(r#"{{"name":"{kind}","type":"{kind}","shape":[null,2],"offset":{offset},"row_bytes":{row_bytes}}}"#)
    };
    let ports = |start| types.iter().enumerate().map(|it| port(it, start)).collect::<Vec<_>>().join(",");
    let descriptor = format!(r#"{{"abi":1,"max_rows":4,"inputs":[{}],"outputs":[{}]}}"#, ports(2048), ports(4096));
    // Its outputs are its inputs, and one text of the memory is not at its beginning.
    let text = format!(
        r#"(module (memory (export "memory") 1 1) (data (i32.const 8) "12345678{}")
          (global (export "abi") i32 (i32.const 1)) (global (export "descriptor") i32 (i32.const 16))
          (global (export "descriptor_len") i32 (i32.const {}))
          (func (export "run") (param i32) (result i32)
            (memory.copy (i32.const 4096) (i32.const 2048) (i32.const 512))
            (if (f32.eq (f32.load (i32.const 2048)) (f32.const 99)) (then (return (i32.const 2))))
            (i32.const 0)))"#,
        descriptor.replace('"', "\\22"),
        descriptor.len()
    );
    let mut host = Host::new(&wrap(&wat::parse_str(text).expect("a module")).expect("a component"));
    let inputs = [
        tensor("float32", &[2, 2], &[0.1, -2.5, 3.0, 1e30]),
        tensor("float64", &[2, 2], &[0.1, -2.5, 3.0, 1e30]),
        tensor("int32", &[2, 2], &[-7.0, 3.0, 16_777_216.0, 0.0]),
        tensor("int64", &[2, 2], &[-7.0, 3.0, 1_099_511_627_776.0, 0.0]),
        tensor("bool", &[2, 2], &[0.0, 1.0, 1.0, 0.0]),
    ];
    for _ in 0..3 {
        assert_eq!(host.predict(inputs.to_vec()).expect("outputs"), inputs);
    }
    let mut inputs = inputs.to_vec();
    inputs[0] = tensor("float32", &[2, 2], &[99.0; 4]);
    assert_eq!(host.predict(inputs), Err("index".to_owned()));
}
