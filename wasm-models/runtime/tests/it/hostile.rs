//! Modules that misbehave: each costs its own request, or is not loaded.

use moola_core::ErrorKind;
use moola_core::ports::Engine;
use moola_wasm_runtime::{Instances, WasmConfig, WasmEngine};

use crate::support::{DESCRIPTOR, Text, assert_affine, engine, load, rows, wasm_artifact};

/// Misbehaves as the first number of the input says.
fn moody() -> Text {
    let moods = [
        "(loop $forever (br $forever))",
        "(drop (memory.grow (i32.const 1)))",
        "unreachable",
        "(drop (f32.load (i32.const 0x7fffffff)))",
        "(drop (call $run (local.get $rows)))",
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        "(return (i32.const 77))",
        "(memory.fill (i32.const 65000) (i32.const 1) (i32.const 1000))",
    ];
    let cases = moods.iter().enumerate().map(|(index, mood)| {
        format!("(if (f32.eq (f32.load (i32.const 1024)) (f32.const {})) (then {mood}))", index + 1)
    });
    Text::doing(&cases.collect::<String>())
}

#[test]
fn a_request_that_fails_costs_only_itself() {
    for instances in [Instances::OnDemand, Instances::Pooled(1)] {
        let config = WasmConfig { deadline_ms: 50, instances, ..WasmConfig::default() };
        let engine = WasmEngine::new(config).expect("an engine");
        let model = engine.load(&wasm_artifact(), &moody().wasm()).expect("a model");
        for (mood, message) in [
            (1.0, "the model did not answer within 50 ms"),
            (2.0, "growing memory to 131072 bytes"),
            (3.0, "`unreachable` instruction executed"),
            (4.0, "out of bounds memory access"),
            (5.0, "call stack exhausted"),
            (6.0, "integer divide by zero"),
            (7.0, "the model answered status 77 to 1 rows, expected 0"),
            (8.0, "out of bounds memory access"),
        ] {
            let error = model.run(rows(&[mood, 0.0, 0.0])).expect_err("a failure");
            // What took too long may be faster on a machine that is less busy.
            let kind = if mood == 1.0 { ErrorKind::Unavailable } else { ErrorKind::Internal };
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(message), "{error}");
            assert_affine(&*model, &[0.0, mood, 9.0]);
        }
    }
}

#[test]
fn a_loop_ends_also_when_nothing_has_run_for_long() {
    let model = load(&moody()).expect("a model");
    // Longer than the clock of deadlines stays awake.
    std::thread::sleep(std::time::Duration::from_millis(1300));
    for _ in 0..2 {
        let error = model.run(rows(&[1.0; 3])).expect_err("a failure");
        assert_eq!(error.to_string(), "the model did not answer within 50 ms");
    }
}

#[test]
fn a_pool_that_is_used_up_refuses_and_recovers() {
    let config = WasmConfig { deadline_ms: 2000, instances: Instances::Pooled(1), ..WasmConfig::default() };
    let engine = WasmEngine::new(config).expect("an engine");
    let model = engine.load(&wasm_artifact(), &moody().wasm()).expect("a model");
    std::thread::scope(|scope| {
        // May itself be refused by a request of the other thread: then it asks again.
        let looping = scope.spawn(|| {
            loop {
                let text = model.run(rows(&[1.0; 3])).expect_err("a failure").to_string();
                if !text.contains("no place for an instance") {
                    return text;
                }
            }
        });
        let mut num_refused = 0;
        while !looping.is_finished() {
            if let Err(error) = model.run(rows(&[0.0; 3])) {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                num_refused += 1;
            }
            std::thread::yield_now();
        }
        assert!(num_refused > 0);
        assert_eq!(looping.join().expect("no panic"), "the model did not answer within 2000 ms");
    });
    assert_affine(&*model, &[0.0; 3]);
}

#[test]
fn a_model_is_loaded_while_the_pool_is_used_up() {
    let config = WasmConfig { deadline_ms: 300, instances: Instances::Pooled(1), ..WasmConfig::default() };
    let engine = WasmEngine::new(config).expect("an engine");
    let model = engine.load(&wasm_artifact(), &moody().wasm()).expect("a model");
    std::thread::scope(|scope| {
        let looping = scope.spawn(|| model.run(rows(&[1.0; 3])).expect_err("a failure").to_string());
        let mut loaded = Vec::new();
        while loaded.is_empty() || !looping.is_finished() {
            loaded.push(engine.load(&wasm_artifact(), &Text::default().wasm()).expect("a model"));
        }
        assert_affine(&**loaded.last().expect("a model"), &[1.0; 3]);
    });
}

#[test]
fn a_request_of_many_calls_ends_at_its_own_limit() {
    let config = WasmConfig { request_ms: 0, ..WasmConfig::default() };
    let model = WasmEngine::new(config).expect("an engine").load(&wasm_artifact(), &Text::default().wasm());
    let model = model.expect("a model");
    // A call takes up to 8 rows.
    assert_affine(&*model, &[1.0; 24]);
    let error = model.run(rows(&[1.0; 27])).expect_err("a failure");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "the model answered 8 of 9 rows within 0 ms");
}

#[test]
fn outputs_are_limited_together() {
    // One row gives 2^24 numbers, so that 5 rows give more than a request may have.
    let descriptor = DESCRIPTOR
        .replace(r#""max_rows": 8"#, r#""max_rows": 1"#)
        .replace(r#""offset": 2048, "row_bytes": 12"#, r#""offset": 2048, "row_bytes": 67108864"#);
    let (head, outputs) = descriptor.split_once(r#""outputs""#).expect("outputs");
    let descriptor = format!("{head}\"outputs\"{}", outputs.replace("[null, 3]", "[null, 16777216]"));
    let text = Text { descriptor, memory: "1025 1025".to_owned(), ..Text::default() };
    let model = load(&text).expect("a model");
    let error = model.run(rows(&[1.0; 15])).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("a batch of 5 has outputs of more than 67108864 numbers"), "{error}");
    let outputs = model.run(rows(&[1.0; 3])).expect("outputs");
    assert_eq!(outputs[0].shape(), [1, 1 << 24]);
}

/// Labels may have a shape that only floats must not have.
#[test]
fn outputs_of_other_types_are_left_out_whatever_their_shape() {
    let labels = r#""outputs": [{"name": "labels", "type": "int64", "shape": [], "offset": 4096, "row_bytes": 8}, "#;
    let descriptor = DESCRIPTOR.replace(r#""outputs": ["#, labels);
    assert_ne!(descriptor, DESCRIPTOR);
    assert_affine(&*load(&Text { descriptor, ..Text::default() }).expect("a model"), &[1.0; 3]);
}

fn refused(text: &Text) -> String {
    let error = load(text).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    error.chain()
}

#[test]
fn modules_that_import_start_or_grow_are_not_loaded() {
    let more = |more: &str| Text { more: more.to_owned(), ..Text::default() };
    let memory = |memory: &str| Text { memory: memory.to_owned(), ..Text::default() };
    for (text, message) in [
        (more(r#"(import "env" "log" (func (param i32)))"#), "has 1 imports, expected none"),
        (more("(func $boot (loop $l (br $l))) (start $boot)"), "has a start function, expected none"),
        (more(r#"(func (export "more"))"#), "exports `more`, which is not of the interface"),
        (more("(memory 1)"), "not a module that can run"),
        (memory("1"), "1 to None pages, expected a fixed number"),
        (memory("1 2"), "1 to Some(2) pages, expected a fixed number"),
        (memory("4097 4097"), "expected a fixed number and at most 268435456 bytes"),
        (memory("65536 65536"), "expected a fixed number and at most 268435456 bytes"),
        (memory("0 0"), "out of bounds memory access"),
        (memory("i64 1 1"), "not a module that can run"),
        (memory("1 1 shared"), "not a module that can run"),
    ] {
        let given = refused(&text);
        assert!(given.contains(message), "{given}, expected {message}");
    }
    assert_affine(&*load(&memory("4096 4096")).expect("a model"), &[1.0; 3]);
}

#[test]
fn modules_without_the_exports_are_not_loaded() {
    let with = |abi: &str, run: &str| {
        let text = Text::default();
        Text { abi: if abi.is_empty() { text.abi } else { abi.to_owned() }, run: run.to_owned(), ..Text::default() }
    };
    let run = Text::default().run;
    for (text, message) in [
        (with("(global i32 (i32.const 1))", &run), "no export `abi` that is a immutable global i32"),
        (with(r#"(global (export "abi") (mut i32) (i32.const 1))"#, &run), "no export `abi`"),
        (with(r#"(global (export "abi") i64 (i64.const 1))"#, &run), "no export `abi`"),
        (with(r#"(global (export "abi") i32 (i32.const 2))"#, &run), "`abi` is `2`, expected 1"),
        (with("", ""), "no export `run` that is a function (i32) -> i32"),
        (with("", r#"(func (export "run") (result i32) (i32.const 0))"#), "no export `run`"),
        (with("", r#"(func (export "run") (param i64) (result i32) (i32.const 0))"#), "no export `run`"),
        (with("", r#"(func (export "run") (param i32))"#), "no export `run`"),
        (with("", r#"(global (export "run") i32 (i32.const 0))"#), "no export `run`"),
    ] {
        let given = refused(&text);
        assert!(given.contains(message), "{given}");
    }
}

#[test]
fn descriptors_that_lie_are_not_believed() {
    let with = |from: &str, to: &str| {
        assert!(DESCRIPTOR.contains(from));
        Text { descriptor: DESCRIPTOR.replace(from, to), ..Text::default() }
    };
    let len = |len| Text { descriptor_len: Some(len), ..Text::default() };
    for (text, message) in [
        (len(70_000), "expected within the memory of 65536 bytes"),
        (len(u32::MAX), "`descriptor_len` is 4294967295"),
        (len(0), "the descriptor cannot be read"),
        (len(100), "the descriptor cannot be read"),
        (with(r#""abi": 1"#, r#""abi": 2"#), "`abi` of the descriptor is 2, expected 1"),
        (with(r#""max_rows": 8"#, r#""max_rows": 0"#), "`max_rows` is 0"),
        (with(r#""max_rows": 8"#, r#""max_rows": -8"#), "the descriptor cannot be read"),
        (with(r#""max_rows": 8"#, r#""max_rows": 18446744073709551615"#), "`offset` of input `x` is 1024"),
        (with(r#""max_rows": 8"#, r#""max_rows": 99999"#), "`offset` of input `x` is 1024"),
        (with(r#""max_rows": 8"#, r#""max_rows": 200"#), "`x` at 1024..3424 and `y` at 2048..4448 overlap"),
        (with("1024", "65536"), "`offset` of input `x` is 65536"),
        (with("1024", "18446744073709551600"), "`offset` of input `x` is 18446744073709551600"),
        (with("1024", "1028"), "`offset` of input `x` is 1028, expected a multiple of 16"),
        (with("1024", "16"), "`descriptor` at"),
        (with("2048", "1024"), "overlap"),
        (with("[null, 3]", "[null, 4]"), "`row_bytes` of input `x` is 12, expected 16"),
        (with("[null, 3]", "[null, 9223372036854775807, 8]"), "sizes of at least 1 that fit into memory"),
        (with("[null, 3]", "[null, 0]"), "sizes of at least 1"),
        (with("[null, 3]", "[null, null]"), "fixed sizes after the rows"),
        (with("[null, 3]", "[3]"), "expected the rows first"),
        (with("[null, 3]", "[]"), "expected the rows first"),
        (with("float32", "float16"), "unknown variant `float16`"),
        (with(r#""name": "y", "type": "float32""#, r#""name": "y", "type": "int32""#), "no output of type"),
        (with(r#""inputs": ["#, r#""inputs": [], "others": ["#), "has no input"),
        (with(r#""outputs": ["#, r#""outputs": [], "others": ["#), "has no output"),
    ] {
        let given = refused(&text);
        assert!(given.contains(message), "{given}, expected {message}");
    }
    let twice = r#"{"name": "x", "type": "float32", "shape": [null, 1], "offset": 512, "row_bytes": 4}, {"name": "x""#;
    let given = refused(&with(r#"{"name": "x""#, twice));
    assert!(given.contains("input `x` is there twice"), "{given}");
}

#[test]
fn a_limit_of_memory_is_kept() {
    let config = WasmConfig { max_memory_bytes: 1 << 16, ..WasmConfig::default() };
    let engine = WasmEngine::new(config).expect("an engine");
    let model = engine.load(&wasm_artifact(), &Text::default().wasm()).expect("a model");
    assert_affine(&*model, &[1.0; 3]);
    let larger = Text { memory: "2 2".to_owned(), ..Text::default() };
    let error = engine.load(&wasm_artifact(), &larger.wasm()).expect_err("a refusal");
    assert!(error.to_string().contains("at most 65536 bytes"), "{error}");
}

#[test]
fn onnx_is_not_for_this_engine() {
    let onnx = moola_core::ports::Artifact::onnx();
    assert!(engine().choose(std::slice::from_ref(&onnx)).is_none());
    assert_eq!(engine().load(&onnx, b"").expect_err("a refusal").kind(), ErrorKind::Invalid);
}
