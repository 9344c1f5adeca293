use super::*;

#[test]
fn shapes_of_an_open_batch_fold_away() {
    // What PyTorch writes for `x.view(x.size(0), -1)` with a dynamic batch.
    let model = OnnxModel::new(17)
        .input("x", DType::F32, &[None, Some(2), Some(3)])
        .constant("zero", &[], &i64s(&[0]))
        .constant("axis", &[1], &i64s(&[0]))
        .constant("rest", &[1], &i64s(&[-1]))
        .node("Shape", &["x"], &["shape"], &[])
        .node("Gather", &["shape", "zero"], &["n"], &[])
        .node("Unsqueeze", &["n", "axis"], &["n1"], &[])
        .node("Concat", &["n1", "rest"], &["flat"], &[("axis", Attr::Int(0))])
        .node("Reshape", &["x", "flat"], &["y"], &[])
        .output("y");
    let imported = import(&model.bytes(), &Options::default()).expect("imports");
    assert!(imported.interface.has_rows);
    assert_eq!(imported.interface.outputs[0].shape, [6]);
    for (rows, graph) in &imported.graphs {
        assert_eq!(graph.nodes.len(), 1, "{graph:?}");
        assert_eq!(graph.value(graph.outputs[0].1).shape, [*rows, 6]);
    }
}

#[test]
fn a_chain_of_constants_is_one() {
    let model = OnnxModel::new(17)
        .input("x", DType::F32, &[Some(1), Some(4)])
        .constant("shape", &[2], &i64s(&[1, 4]))
        .constant("two", &[], &i64s(&[2]))
        .constant("limit", &[], &i64s(&[8]))
        .constant("start", &[], &i64s(&[0]))
        .node("Range", &["start", "limit", "two"], &["range"], &[])
        .node("Cast", &["range"], &["floats"], &[("to", Attr::Int(1))])
        .node("ConstantOfShape", &["shape"], &["zeros"], &[])
        .node("Add", &["zeros", "floats"], &["sum"], &[])
        .node("Equal", &["range", "two"], &["is_two"], &[])
        .node("Where", &["is_two", "sum", "zeros"], &["picked"], &[])
        .node("Mul", &["x", "picked"], &["y"], &[])
        .output("y");
    let imported = import(&model.bytes(), &Options::default()).expect("imports");
    let graph = &imported.graphs[0].1;
    assert_eq!(graph.nodes.len(), 1, "{graph:?}");
    assert_eq!(crate::eval::graph(graph, &[f32s(&[1.0; 4])]), [f32s(&[0.0, 2.0, 0.0, 0.0])]);
}

#[test]
fn what_no_output_needs_is_not_read() {
    let model = OnnxModel::new(17)
        .input("x", DType::F32, &[Some(1)])
        .input("unused", DType::F32, &[Some(7)])
        .node("FromTheFuture", &["x"], &["z"], &[])
        .node("Add", &["z", "x"], &["zz"], &[])
        .node("Neg", &["x"], &["y"], &[])
        .output("y");
    assert_eq!(run(model, &[f32s(&[1.0]), f32s(&[0.0; 7])]), [f32s(&[-1.0])]);
}

#[test]
fn outputs_may_be_inputs_and_constants_and_twice() {
    let model = OnnxModel::new(17)
        .input("x", DType::F32, &[Some(1), Some(2)])
        .constant("c", &[1, 2], &f32s(&[3.0, 4.0]))
        .node("Transpose", &["x"], &["t"], &[])
        .node("Neg", &["x"], &["n"], &[])
        .output("x")
        .output("c")
        .output("n")
        .output("n");
    let results = run(model, &[f32s(&[1.0, 2.0])]);
    assert_eq!(results, [f32s(&[1.0, 2.0]), f32s(&[3.0, 4.0]), f32s(&[-1.0, -2.0]), f32s(&[-1.0, -2.0])]);
}

#[test]
fn inputs_with_initialisers_are_constants() {
    let model = OnnxModel::new(8)
        .input("x", DType::F32, &[Some(2)])
        .input("w", DType::F32, &[Some(2)])
        .constant("w", &[2], &f32s(&[3.0, 4.0]))
        .node("Mul", &["x", "w"], &["y"], &[])
        .output("y");
    assert_eq!(run(model, &[f32s(&[1.0, 2.0])]), [f32s(&[3.0, 8.0])]);
}

#[test]
fn scalars_come_in_and_out() {
    let model = OnnxModel::new(17)
        .input("x", DType::I64, &[])
        .constant("one", &[], &i64s(&[1]))
        .node("Add", &["x", "one"], &["y"], &[])
        .output("y");
    let bytes = model.bytes();
    let imported = import(&bytes, &Options::default()).expect("imports");
    assert!(!imported.interface.has_rows);
    assert_eq!(imported.interface.outputs[0].shape, [0usize; 0]);
    assert_eq!(crate::eval::graph(&imported.graphs[0].1, &[i64s(&[41])]), [i64s(&[42])]);
}

#[test]
fn broken_graphs_are_refused() {
    let x = |model: OnnxModel| model.input("x", DType::F32, &[Some(1)]);
    let unsorted = x(OnnxModel::new(17)).node("Neg", &["b"], &["y"], &[]).node("Neg", &["x"], &["b"], &[]).output("y");
    assert_eq!(refusal(unsorted), "node `y` (`Neg`): value `b` is read before it is defined");
    let cycle = x(OnnxModel::new(17)).node("Neg", &["b"], &["y"], &[]).node("Neg", &["y"], &["b"], &[]).output("y");
    assert!(refusal(cycle).contains("before it is defined"));
    let twice = x(OnnxModel::new(17)).node("Neg", &["x"], &["y"], &[]).node("Abs", &["x"], &["y"], &[]).output("y");
    assert!(refusal(twice).contains("`y` is defined twice"));
    let missing = x(OnnxModel::new(17)).output("y");
    assert!(refusal(missing).contains("`y` is read before"));
    assert_eq!(refusal(x(OnnxModel::new(17))), "the model has no output");
    let unknown = x(OnnxModel::new(17)).node("Neg", &["x"], &["a"], &[]).node("Odd", &["a"], &["y"], &[]).output("y");
    assert_eq!(refusal(unknown), "node `y` (`Odd`): operator of domain `ai.onnx` is not lowered");
    let left_out = x(OnnxModel::new(17)).node("Add", &["x", ""], &["y"], &[]).output("y");
    assert_eq!(refusal(left_out), "node `y` (`Add`): input 1 is missing");
    let too_many = x(OnnxModel::new(17)).node("Neg", &["x"], &["y", "z"], &[]).output("z");
    assert_eq!(refusal(too_many), "node `y` (`Neg`): output 1 is not lowered");
    assert!(import(b"garbage", &Options::default()).is_err());
    assert!(import(b"", &Options::default()).is_err());
}

#[test]
fn given_shapes_must_fit() {
    let model = || {
        OnnxModel::new(17)
            .input("x", DType::F32, &[None, None, Some(2)])
            .node("Neg", &["x"], &["y"], &[])
            .output("y")
            .bytes()
    };
    let with = |name: &str, shape: &[usize]| {
        let input_shapes = [(name.to_owned(), shape.to_vec())].into();
        import(&model(), &Options { input_shapes, ..Options::default() })
    };
    let imported = with("x", &[1, 5, 2]).expect("imports");
    assert_eq!(imported.interface.inputs[0].shape, [5, 2]);
    assert!(with("x", &[1, 5, 3]).is_err());
    assert!(with("x", &[1, 5]).is_err());
    assert!(with("x", &[1 << 40, 1 << 40, 2]).is_err());
    assert!(with("y", &[1]).is_err());
    let error = import(&model(), &Options::default()).expect_err("an open dimension").to_string();
    assert!(error.contains("as dimension 1"), "{error}");
}

/// A tensor as a file has it.
fn tensor(code: i32, raw: &[u8], dims: &[i64]) -> onnx::Tensor {
    onnx::Tensor { data_type: code, raw_data: raw.to_vec(), dims: dims.to_vec(), ..Default::default() }
}

#[test]
fn constants_of_other_types_become_wider() {
    let read = |code, raw: &[u8]| tensor::read(&tensor(code, raw, &[2])).map(|(_, data)| data);
    assert_eq!(read(10, &[0x00, 0x3c, 0x01, 0x80]), Ok(f32s(&[1.0, -(2f32.powi(-24))])));
    assert_eq!(read(10, &[0x00, 0x7c, 0xff, 0x7b]), Ok(f32s(&[f32::INFINITY, 65504.0])));
    assert_eq!(read(16, &[0x80, 0x3f, 0x20, 0xc0]), Ok(f32s(&[1.0, -2.5])));
    assert_eq!(read(2, &[1, 255]), Ok(Data::I32(vec![1, 255])));
    assert_eq!(read(3, &[1, 255]), Ok(Data::I8(vec![1, -1])));
    assert_eq!(read(5, &[1, 0, 255, 255]), Ok(Data::I32(vec![1, -1])));
    assert_eq!(read(12, &[1, 0, 0, 0, 255, 255, 255, 255]), Ok(i64s(&[1, 4_294_967_295])));
    assert!(read(13, &[255; 16]).is_err());
    assert!(read(8, &[1, 2]).is_err());
    assert!(read(1, &[0; 7]).is_err());
    assert!(tensor::read(&tensor(1, &[], &[i64::MAX, i64::MAX])).is_err());
    assert!(tensor::read(&tensor(1, &[], &[-1])).is_err());
    assert!(tensor::read(&tensor(1, &[], &[0, i64::MAX, i64::MAX])).is_err());
}

/// A model whose output is an `If` on `condition`: the negated input, or the constant 7 plus the input.
fn branches(condition: &str) -> Vec<u8> {
    let node = |op: &str, inputs: &[&str], outputs: &[&str]| {
        let graph = OnnxModel::new(17).node(op, inputs, outputs, &[]).bytes();
        onnx::Model::decode(graph.as_slice()).expect("a model").graph.expect("a graph").node.remove(0)
    };
    let output = || onnx::ValueInfo { name: "inner".into(), r#type: None };
    let then_graph =
        onnx::Graph { node: vec![node("Neg", &["x"], &["inner"])], output: vec![output()], ..Default::default() };
    let seven =
        onnx::Tensor { name: "seven".into(), data_type: 1, float_data: vec![7.0], dims: vec![1], ..Default::default() };
    let else_graph = onnx::Graph {
        node: vec![node("Odd", &["x"], &["unused"]), node("Add", &["x", "seven"], &["inner"])],
        initializer: vec![seven],
        output: vec![output()],
        ..Default::default()
    };
    let branch = |name: &str, graph| onnx::Attribute { name: name.into(), g: Some(graph), ..Default::default() };
    let mut node = node("If", &[condition], &["y"]);
    node.attribute = vec![branch("then_branch", then_graph), branch("else_branch", else_graph)];
    let model = OnnxModel::new(17)
        .input("x", DType::F32, &[Some(1)])
        .input("given", DType::Bool, &[Some(1)])
        .constant("yes", &[], &Data::Bool(vec![true]))
        .node("Not", &["yes"], &["no"], &[])
        .output("y")
        .bytes();
    let mut model = onnx::Model::decode(model.as_slice()).expect("a model");
    model.graph.as_mut().expect("a graph").node.push(node);
    model.encode_to_vec()
}

#[test]
fn a_known_condition_chooses_a_branch() {
    let run = |condition| {
        let imported = import(&branches(condition), &Options::default()).unwrap_or_else(|error| panic!("{error}"));
        crate::eval::graph(&imported.graphs[0].1, &[f32s(&[2.0]), Data::Bool(vec![true])])
    };
    assert_eq!(run("yes"), [f32s(&[-2.0])]);
    assert_eq!(run("no"), [f32s(&[9.0])]);
    let error = import(&branches("given"), &Options::default()).expect_err("a computed condition").to_string();
    assert_eq!(error, "node `y` (`If`): the condition is computed, expected a constant");
}

#[test]
fn a_small_file_cannot_ask_for_endless_constants() {
    let mut model = OnnxModel::new(17)
        .input("x", DType::F32, &[Some(1)])
        .constant("zero", &[], &i64s(&[0]))
        .constant("one", &[], &i64s(&[1]))
        .constant("many", &[], &i64s(&[1 << 24]));
    for index in 0..9 {
        let name = format!("range{index}");
        model = model.node("Range", &["zero", "many", "one"], &[&name], &[]).output(&name);
    }
    assert!(refusal(model).contains("computed constants"));
    // An index of as many elements as a tensor may have, again and again, as views.
    let model = OnnxModel::new(17)
        .input("x", DType::F32, &[Some(1 << 14)])
        .constant("zero", &[], &i64s(&[0]))
        .constant("many", &[1], &i64s(&[1 << 26]))
        .node("Expand", &["zero", "many"], &["indices"], &[])
        .node("Reshape", &["x", "indices"], &["y"], &[])
        .output("y");
    assert!(refusal(model).contains("67108864 numbers"));
}

/// `x` of open rows by 2 numbers, and the number of rows as `n`.
fn with_rows() -> OnnxModel {
    OnnxModel::new(17)
        .input("x", DType::F32, &[None, Some(2)])
        .constant("zero", &[], &i64s(&[0]))
        .node("Shape", &["x"], &["shape"], &[])
        .node("Gather", &["shape", "zero"], &["n"], &[])
}

#[test]
fn the_number_of_rows_is_no_number_to_compute_with() {
    let divided = with_rows()
        .node("Cast", &["n"], &["float"], &[("to", Attr::Int(1))])
        .node("Div", &["x", "float"], &["y"], &[])
        .output("y");
    assert!(refusal(divided).starts_with("node `y`: the number of rows reaches the numbers of this node"));
    // The weights are as many rows of a table as `x` has.
    let chosen = with_rows()
        .constant("table", &[5], &f32s(&[1.0, 2.0, 3.0, 4.0, 5.0]))
        .node("Gather", &["table", "n"], &["factor"], &[])
        .node("Mul", &["x", "factor"], &["y"], &[])
        .output("y");
    assert!(refusal(chosen).contains("the number of rows reaches"));
    let repeated = with_rows()
        .constant("one", &[1], &i64s(&[1]))
        .constant("axis", &[1], &i64s(&[0]))
        .node("Unsqueeze", &["n", "axis"], &["n1"], &[])
        .node("Concat", &["one", "n1"], &["repeats"], &[("axis", Attr::Int(0))])
        .node("Tile", &["x", "repeats"], &["y"], &[])
        .output("y");
    assert!(refusal(repeated).contains("has shape [4, 8] for 4 rows, expected [4, 2]"));
    let constant = with_rows()
        .node("Neg", &["x"], &["y"], &[])
        .node("Expand", &["n", "shape"], &["rows"], &[])
        .output("y")
        .output("rows");
    assert!(refusal(constant).contains("the number of rows reaches"));
}

#[test]
fn constants_may_be_as_many_as_the_rows() {
    let model = with_rows()
        .node("ConstantOfShape", &["shape"], &["zeros"], &[])
        .constant("one", &[], &f32s(&[1.0]))
        .node("Expand", &["one", "shape"], &["ones"], &[])
        .constant("bias", &[2], &f32s(&[3.0, 4.0]))
        .node("Expand", &["bias", "shape"], &["biases"], &[])
        .node("Add", &["x", "zeros"], &["a"], &[])
        .node("Mul", &["a", "ones"], &["b"], &[])
        .node("Add", &["b", "biases"], &["y"], &[])
        .output("y");
    let imported = import(&model.bytes(), &Options::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(imported.graphs.len(), 2);
}

#[test]
fn inputs_are_all_open_or_none() {
    let model = |second: &[Option<usize>]| {
        OnnxModel::new(17)
            .input("x", DType::F32, &[None, Some(2)])
            .input("z", DType::F32, second)
            .node("Add", &["x", "z"], &["y"], &[])
            .output("y")
    };
    let reason = refusal(model(&[Some(3), Some(2)]));
    assert!(
        reason.contains("`x` leaves its first dimension open, but input `z` has the fixed shape [3, 2]"),
        "{reason}"
    );
    assert!(refusal(model(&[])).contains("input `z`"));
    assert!(import(&model(&[Some(1), Some(2)]).bytes(), &Options::default()).is_ok());
    let input_shapes = [("x".to_owned(), vec![3, 2])].into();
    let options = Options { input_shapes, ..Options::default() };
    assert!(import(&model(&[Some(3), Some(2)]).bytes(), &options).is_ok());
}

#[test]
fn nodes_of_branches_count() {
    let mut model = onnx::Model::decode(branches("yes").as_slice()).expect("a model");
    let graph = model.graph.as_mut().expect("a graph");
    let branch = graph.node.iter_mut().find(|node| node.op_type == "If").expect("an `If`");
    let inner = branch.attribute[0].g.as_mut().expect("a branch");
    let template = inner.node[0].clone();
    inner.node = (0..=MAX_NODES)
        .map(|index| onnx::Node {
            input: vec![if index == 0 { "x".into() } else { format!("n{}", index - 1) }],
            output: vec![if index == MAX_NODES { "inner".into() } else { format!("n{index}") }],
            ..template.clone()
        })
        .collect();
    let error = import(&model.encode_to_vec(), &Options::default()).expect_err("too many").to_string();
    assert!(error.contains("more than 10000 nodes"), "{error}");
}
