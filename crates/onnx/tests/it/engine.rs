use std::sync::Arc;

use moola_core::ErrorKind;
use moola_core::ports::{Artifact, Engine, LoadedModel};
use moola_onnx::writer::{Attribute, Dim, Direction, GraphBuilder, Value};
use moola_onnx::{TractEngine, check};

use crate::{assert_close, numbers, tensor};

fn model(shape: &[Dim], build: impl Fn(&mut GraphBuilder, Value) -> Value) -> moola_core::Result<Arc<dyn LoadedModel>> {
    let mut graph = GraphBuilder::new("test");
    let x = graph.input("x", shape);
    let y = build(&mut graph, x);
    graph.output(y, "y", shape);
    TractEngine.load(&Artifact::onnx(), &graph.finish().unwrap())
}

fn relu() -> Arc<dyn LoadedModel> {
    model(&[Dim::Batch, Dim::Fixed(2)], GraphBuilder::relu).unwrap()
}

#[test]
fn is_named_native() {
    assert_eq!(TractEngine.name(), "native");
}

#[test]
fn a_fixed_batch_of_one_is_run_row_by_row() {
    let model = model(&[Dim::Fixed(1), Dim::Fixed(3)], |g, x| g.softmax(x, -1)).unwrap();
    let rows = numbers(1, 12);
    let all = model.run(vec![tensor(&[4, 3], rows.clone())]).unwrap();
    assert_eq!(all[0].shape(), [4, 3]);
    for (row, result) in rows.chunks(3).zip(all[0].data().chunks(3)) {
        assert_close(result, model.run(vec![tensor(&[1, 3], row.to_vec())]).unwrap()[0].data(), 0.0);
    }
}

#[test]
fn a_graph_with_the_batch_built_in_is_run_row_by_row() {
    let model = model(&[Dim::Batch, Dim::Fixed(2), Dim::Fixed(3)], |g, x| g.reshape(x, &[1, 3, 2])).unwrap();
    let results = model.run(vec![tensor(&[2, 2, 3], numbers(1, 12))]).unwrap();
    assert_eq!(results[0].shape(), [2, 3, 2]);
    assert_eq!(results[0].data(), numbers(1, 12));
}

#[test]
fn other_open_sizes_stay_open() {
    let mut graph = GraphBuilder::new("test");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(0), Dim::Fixed(2)]);
    let y = graph.reduce_mean(x, &[1], false);
    graph.output(y, "y", &[Dim::Batch, Dim::Fixed(2)]);
    let model = TractEngine.load(&Artifact::onnx(), &graph.finish().unwrap()).unwrap();
    assert_eq!(model.inputs()[0].1, [None, Some(2)]);
    for (batch, steps) in [(1, 4), (2, 3)] {
        let results = model.run(vec![tensor(&[batch, steps, 2], vec![2.5; batch * steps * 2])]).unwrap();
        assert_close(results[0].data(), &vec![2.5; batch * 2], 1e-6);
    }
}

#[test]
fn a_fixed_batch_above_one_is_refused() {
    let error = model(&[Dim::Fixed(8), Dim::Fixed(3)], GraphBuilder::relu).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "input `x` has a fixed batch of 8, expected a dynamic batch or 1");
}

#[test]
fn unknown_operators_are_named() {
    let error = model(&[Dim::Batch, Dim::Fixed(3)], |g, x| g.node("Wavelet", &[x], 1, &[])[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("node `Wavelet_0` uses operator `Wavelet`"), "{error}");
}

#[test]
fn a_graph_that_does_not_fit_together_is_refused() {
    let error = model(&[Dim::Batch, Dim::Fixed(3)], |g, x| {
        let w = g.initializer_f32("w", &[4, 2], &[0.0; 8]);
        g.matmul(x, w)
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("MatMul_0"), "{error}");
}

#[test]
fn an_output_without_the_batch_is_refused() {
    let error = model(&[Dim::Batch, Dim::Fixed(3)], |g, x| g.transpose(x, &[1, 0])).unwrap_err();
    assert!(error.to_string().contains("output `y` has no batch dimension"), "{error}");
}

#[test]
fn huge_sizes_are_refused_before_they_are_allocated() {
    let error = model(&[Dim::Batch, Dim::Fixed(1 << 40)], GraphBuilder::relu).unwrap_err();
    assert!(error.to_string().contains("input `x`"), "{error}");
    let error = model(&[Dim::Batch, Dim::Fixed(2)], |g, x| {
        let shape = g.initializer_i64("shape", &[2], &[1 << 30, 1 << 30]);
        let zeros = g.node("ConstantOfShape", &[shape], 1, &[])[0];
        g.add(x, zeros)
    })
    .unwrap_err();
    assert!(error.to_string().contains("ConstantOfShape"), "{error}");
    let error = model(&[Dim::Batch, Dim::Fixed(2), Dim::Fixed(2)], |g, x| {
        let w = g.initializer_f32("w", &[1, 2, 2], &[0.0; 4]);
        g.node("Conv", &[x, w], 1, &[("pads", Attribute::Ints(vec![1 << 50, 0]))])[0]
    })
    .unwrap_err();
    assert!(error.to_string().contains("pads"), "{error}");
}

#[test]
fn wrong_inputs_are_refused_with_their_name() {
    let model = relu();
    for inputs in [
        vec![],
        vec![tensor(&[1, 2], vec![0.0; 2]), tensor(&[1, 2], vec![0.0; 2])],
        vec![tensor(&[1, 3], vec![0.0; 3])],
        vec![tensor(&[2], vec![0.0; 2])],
        vec![tensor(&[0, 2], vec![])],
        vec![tensor(&[], vec![0.0])],
    ] {
        let error = model.run(inputs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains('x'), "{error}");
    }
    let mut graph = GraphBuilder::new("two");
    let (a, b) = (graph.input("a", &[Dim::Batch, Dim::Fixed(1)]), graph.input("b", &[Dim::Batch, Dim::Fixed(1)]));
    let sum = graph.add(a, b);
    graph.output(sum, "sum", &[Dim::Batch, Dim::Fixed(1)]);
    let model = TractEngine.load(&Artifact::onnx(), &graph.finish().unwrap()).unwrap();
    let results = model.run(vec![tensor(&[2, 1], vec![1.0, 2.0]), tensor(&[2, 1], vec![10.0, 20.0])]).unwrap();
    assert_eq!(results[0].data(), [11.0, 22.0]);
    let error = model.run(vec![tensor(&[2, 1], vec![0.0; 2]), tensor(&[1, 1], vec![0.0])]).unwrap_err();
    assert!(error.to_string().contains("input `b`"), "{error}");
}

#[test]
fn threads_share_a_model() {
    let mut graph = GraphBuilder::new("lstm");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(8), Dim::Fixed(2)]);
    let x = graph.transpose(x, &[1, 0, 2]);
    let w = graph.initializer_f32("w", &[1, 12, 2], &numbers(1, 24));
    let r = graph.initializer_f32("r", &[1, 12, 3], &numbers(2, 36));
    let y = graph.lstm(x, w, r, None, 3, Direction::Forward).y_h;
    let y = graph.squeeze(y, &[0]);
    graph.output(y, "y", &[Dim::Batch, Dim::Fixed(3)]);
    let bytes = graph.finish().unwrap();
    assert_eq!(check(&bytes).unwrap().num_parameters, 60);
    let model = TractEngine.load(&Artifact::onnx(), &bytes).unwrap();
    let inputs = (0..6).map(|seed| tensor(&[1 + seed % 3, 8, 2], numbers(seed as u64, (1 + seed % 3) * 16)));
    let inputs = inputs.collect::<Vec<_>>();
    let expected = inputs.iter().map(|x| model.run(vec![x.clone()]).unwrap()).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    for (x, expected) in inputs.iter().zip(&expected) {
                        assert_eq!(&model.run(vec![x.clone()]).unwrap(), expected);
                    }
                }
            });
        }
    });
}
