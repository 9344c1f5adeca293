use crate::ir::{DType, Data, Expr, Graph, Node, Op, Operand, Packing};

/// A graph of products of a row with each of the views of one constant.
fn products(shape: &[usize], views: &[&dyn Fn(Operand) -> Operand]) -> Graph {
    let mut graph = Graph::default();
    let len = shape.iter().product::<usize>();
    let data = Data::F32((0..len).map(|i| i as f32).collect());
    let w = graph.add_constant("w", shape, data).expect("a constant");
    for view in views {
        let b = view(graph.whole(w));
        let x = graph.add_value("x", DType::F32, &[1, b.shape[0]]).expect("a value");
        graph.inputs.push(x);
        let y = graph.add_value("y", DType::F32, &[1, b.shape[1]]).expect("a value");
        let op = Op::MatMul { epilogue: Expr::Result, packing: Packing::None };
        let inputs = vec![graph.whole(x), b];
        graph.nodes.push(Node { name: "node".into(), op, inputs, outputs: vec![Some(y)] });
        graph.outputs.push(("y".into(), y));
    }
    graph
}

fn packed(graph: &Graph, node: usize) -> (Packing, Vec<f32>) {
    let node = &graph.nodes[node];
    let Op::MatMul { packing, .. } = node.op else { panic!("a matrix product") };
    match graph.value(node.inputs[1].value).data.as_deref() {
        Some(Data::F32(data)) => (packing, data.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_narrow_transposed_matrix_becomes_one_panel_with_zeros() {
    let mut graph = products(&[3, 2], &[&|w| w.transposed(&[1, 0])]);
    super::run(&mut graph).expect("packs");
    let expected = vec![0.0, 2.0, 4.0, 0.0, 1.0, 3.0, 5.0, 0.0];
    assert_eq!(packed(&graph, 0), (Packing::Panels { width: 4 }, expected));
}

#[test]
fn a_wide_matrix_becomes_panels_of_eight() {
    let mut graph = products(&[2, 9], &[&|w| w]);
    super::run(&mut graph).expect("packs");
    let (packing, data) = packed(&graph, 0);
    assert_eq!((packing, data.len()), (Packing::Panels { width: 8 }, 32));
    assert_eq!(data[..16], std::array::from_fn::<f32, 16, _>(|i| (i / 8 * 9 + i % 8) as f32));
    assert_eq!((data[16], data[24]), (8.0, 17.0));
    assert_eq!(data[17..24], [0.0; 7]);
}

#[test]
fn equal_views_share_a_constant() {
    let mut graph = products(&[4, 4], &[&|w| w, &|w| w, &|w| w.transposed(&[1, 0])]);
    super::run(&mut graph).expect("packs");
    let id = |node: usize| graph.nodes[node].inputs[1].value;
    assert_eq!(id(0), id(1));
    assert_ne!(id(0), id(2));
}
