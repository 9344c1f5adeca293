//! Well-behaved modules.

use std::sync::Barrier;

use moola_core::ErrorKind;
use moola_core::ports::{Engine, Tensor};
use moola_wasm_runtime::{Instances, Target, WasmConfig, WasmEngine, precompile};

use crate::support::{Text, assert_affine, cwasm_artifact, engine, load, rows, wasm_artifact};

#[test]
fn answers_with_the_shapes_of_the_descriptor() {
    let model = load(&Text::default()).expect("a model");
    assert_eq!(model.inputs(), [("x".to_owned(), vec![Some(3)])]);
    assert_eq!(model.outputs(), [("y".to_owned(), vec![Some(3)])]);
    assert_affine(&*model, &[1.0, -2.0, 0.5]);
}

#[test]
fn runs_more_rows_than_a_call_takes_in_chunks() {
    let model = load(&Text::default()).expect("a model");
    for num_rows in [1, 7, 8, 9, 16, 61] {
        assert_affine(&*model, &(0..num_rows * 3).map(|it| it as f32 / 4.0).collect::<Vec<_>>());
    }
}

#[test]
fn machine_code_answers_as_the_module_does() {
    let Some(target) = Target::host() else {
        return eprintln!("SKIPPED: there is no target for this machine");
    };
    let code = precompile(&Text::default().wasm(), target).expect("machine code");
    for instances in [Instances::OnDemand, Instances::Pooled(4)] {
        let engine = WasmEngine::new(WasmConfig { instances, ..WasmConfig::default() }).expect("an engine");
        let model = engine.load(&cwasm_artifact(target), &code).expect("a model");
        assert_affine(&*model, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}

#[test]
fn refuses_inputs_that_do_not_fit() {
    let model = load(&Text::default()).expect("a model");
    let tensor = |shape: &[usize]| Tensor::new(shape.to_vec(), vec![0.0; shape.iter().product()]).expect("a tensor");
    let refused = |inputs| {
        let error = model.run(inputs).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.to_string()
    };
    assert_eq!(refused(vec![]), r#"0 inputs given, expected 1 (["x"])"#);
    let expected = "expected [batch, 3] with the same batch of at least 1 in all inputs";
    for shape in [&[2, 4][..], &[0, 3], &[3], &[1, 3, 1], &[]] {
        assert_eq!(refused(vec![tensor(shape)]), format!("input `x` has shape {shape:?}, {expected}"));
    }
}

#[test]
fn refuses_numbers_that_are_not_finite() {
    let model = load(&Text::default()).expect("a model");
    for (bad, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let mut data = [0.0; 9];
        data[5] = bad;
        let error = model.run(rows(&data)).expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), format!("input `x` has {name} at [1, 2], expected a finite number"));
    }
    assert_affine(&*model, &[0.0, f32::MIN_POSITIVE, -0.0]);
}

#[test]
fn converts_inputs_and_outputs_of_other_types() {
    let descriptor = r#"{"abi": 1, "max_rows": 1,
      "inputs": [{"name": "i", "type": "int64", "shape": [1, 2], "offset": 1024, "row_bytes": 16},
                 {"name": "b", "type": "bool", "shape": [1, 2], "offset": 1040, "row_bytes": 2}],
      "outputs": [{"name": "label", "type": "int64", "shape": [1], "offset": 2048, "row_bytes": 8, "labels": ["up"]},
                  {"name": "y", "type": "float64", "shape": [1, 2], "offset": 2064, "row_bytes": 16}]}"#;
    // y[k] = i[k] + b[k] / 2
    let element = |k: u32| {
        let (i, b, y) = (1024 + 8 * k, 1040 + k, 2064 + 8 * k);
        format!(
            "(f64.store offset={y} (i32.const 0) (f64.add (f64.convert_i64_s (i64.load offset={i} (i32.const 0)))
              (f64.mul (f64.const 0.5) (f64.convert_i32_u (i32.load8_u offset={b} (i32.const 0))))))"
        )
    };
    let run = format!(r#"(func (export "run") (param i32) (result i32) {} {} (i32.const 0))"#, element(0), element(1));
    let text = Text { descriptor: descriptor.to_owned(), run, ..Text::default() };
    let model = load(&text).expect("a model");
    assert_eq!(model.outputs(), [("y".to_owned(), vec![Some(2)])], "labels stay inside, as in the native engine");
    let tensor = |data: &[f32]| Tensor::new(vec![data.len() / 2, 2], data.to_vec()).expect("a tensor");
    let outputs = model.run(vec![tensor(&[-3.0, 4.0, 7.0, 0.0]), tensor(&[1.0, 0.0, 0.0, 1.0])]).expect("outputs");
    assert_eq!(outputs[0].data(), [-2.5, 4.0, 7.0, 0.5]);
    for (ints, bools, message) in [
        ([0.5, 0.0], [0.0, 0.0], "input `i` has 0.5 at [0, 0], expected an integer of 64 bits"),
        ([0.0, 1e19], [0.0, 0.0], "input `i` has 10000000000000000000 at [0, 1], expected an integer of 64 bits"),
        ([0.0, 0.0], [0.0, 2.0], "input `b` has 2 at [0, 1], expected 0 or 1"),
    ] {
        let error = model.run(vec![tensor(&ints), tensor(&bools)]).expect_err("a refusal");
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn sixteen_threads_get_their_own_answers() {
    for instances in [Instances::OnDemand, Instances::Pooled(16)] {
        let engine = WasmEngine::new(WasmConfig { instances, ..WasmConfig::default() }).expect("an engine");
        let model = engine.load(&wasm_artifact(), &Text::default().wasm()).expect("a model");
        let start = Barrier::new(16);
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (model, start) = (&model, &start);
                scope.spawn(move || {
                    start.wait();
                    for call in 0..100 {
                        let num_rows = 1 + (thread + call) % 11;
                        let data = (0..num_rows * 3).map(|it| (thread * 1000 + call * 10 + it) as f32);
                        assert_affine(&**model, &data.collect::<Vec<_>>());
                    }
                });
            }
        });
    }
}

#[test]
fn every_request_sees_fresh_memory_and_globals() {
    // Counts its calls in memory and in a global, and answers x + both.
    let mut text = Text::doing(
        "(global.set $calls (f32.add (global.get $calls) (f32.const 1)))
         (f32.store (i32.const 4096) (f32.add (f32.load (i32.const 4096)) (f32.const 1)))
         (f32.store (i32.const 2048) (f32.add (f32.load (i32.const 4096)) (global.get $calls)))
         (if (i32.eqz (i32.const 0)) (then (return (i32.const 0))))",
    );
    text.more = "(global $calls (mut f32) (f32.const 0))".to_owned();
    for instances in [Instances::OnDemand, Instances::Pooled(1)] {
        let engine = WasmEngine::new(WasmConfig { instances, ..WasmConfig::default() }).expect("an engine");
        let model = engine.load(&wasm_artifact(), &text.wasm()).expect("a model");
        for _ in 0..5 {
            let outputs = model.run(rows(&[0.0; 3])).expect("outputs");
            assert_eq!(outputs[0].data(), [2.0, 0.0, 0.0]);
        }
    }
}

#[test]
fn models_of_one_engine_do_not_disturb_each_other() {
    let engine = engine();
    let first = engine.load(&wasm_artifact(), &Text::default().wasm()).expect("a model");
    let second = engine.load(&wasm_artifact(), &Text::doing("(return (i32.const 2))").wasm()).expect("a model");
    assert_affine(&*first, &[1.0; 3]);
    let error = second.run(rows(&[1.0; 3])).expect_err("a refusal");
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Invalid, "an index in the inputs is out of range")
    );
    drop(second);
    assert_affine(&*first, &[2.0; 3]);
}
