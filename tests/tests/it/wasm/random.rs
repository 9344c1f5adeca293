//! Random graphs: compiled modules against tract, and their bits against each other.
//!
//! `PROPTEST_CASES=20000 cargo test --workspace --test it wasm::random` runs more.

use std::process::{Command, Stdio};

use moola_wasm_compiler::Variant;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngSeed, TestCaseError, TestRunner};

use super::generator::{recipe, write};
use super::support::{check_against, difference, inputs, load_module, load_native, module, run};

fn cases(default: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(default)
}

/// The same graphs every time, so that CI tries what passed before; others where somebody asks for a number of cases.
fn seed() -> RngSeed {
    if std::env::var_os("PROPTEST_CASES").is_some() { RngSeed::Random } else { RngSeed::Fixed(4) }
}

/// Inputs that differ in their last bits may change the outputs by so much of their scale, and no more: a graph that
/// amplifies them compares nothing.
const AMPLIFICATION: f32 = 3e-6;

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(150), failure_persistence: None, rng_seed: seed(), ..ProptestConfig::default() })]

    #[test]
    fn graphs_agree_with_tract(recipe in recipe(), seed in 0_u64..1000) {
        let onnx = write(&recipe);
        let given = inputs(seed, recipe.rows, &recipe.inputs);
        // What tract does not take is no finding about the compiler.
        let native = load_native(&onnx).map_err(TestCaseError::reject)?;
        let expected = run(&*native, &given).map_err(TestCaseError::reject)?;
        let nearby: Vec<_> = given
            .iter()
            .map(|tensor| {
                let data = tensor.data().iter().enumerate();
                let data = data.map(|(index, it)| f32::from_bits(it.to_bits() ^ (index as u32 % 2)));
                moola_core::ports::Tensor::new(tensor.shape().to_vec(), data.collect()).expect("a tensor")
            })
            .collect();
        let moved = difference(&run(&*native, &nearby).map_err(TestCaseError::reject)?, &expected);
        prop_assume!(moved <= AMPLIFICATION);
        let tolerance = super::support::TOLERANCE;
        check_against(&onnx, &given, &expected, tolerance).map_err(TestCaseError::fail)?;
    }
}

/// Reads `[{"wasm": FILE, "rows": N, "inputs": [HEX]}]`, prints the outputs as `[[HEX]]`.
const NODE: &str = r#"
const fs = require("fs");
const answers = JSON.parse(fs.readFileSync(process.argv[1])).map(({ wasm, rows, inputs }) => {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(wasm)));
  const bytes = new Uint8Array(exports.memory.buffer);
  const at = exports.descriptor.value;
  const text = new TextDecoder().decode(bytes.subarray(at, at + exports.descriptor_len.value));
  const descriptor = JSON.parse(text);
  descriptor.inputs.forEach((port, index) => bytes.set(Buffer.from(inputs[index], "hex"), port.offset));
  if (exports.run(rows) !== 0) throw new Error("status of " + wasm);
  return descriptor.outputs.map((port) =>
    Buffer.from(bytes.subarray(port.offset, port.offset + rows * port.row_bytes)).toString("hex"));
});
console.log(JSON.stringify(answers));
"#;

#[test]
fn node_and_wasmtime_answer_with_the_same_bits() {
    if Command::new("node").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("SKIPPED: there is no `node`");
        assert!(std::env::var_os("MOOLA_REQUIRE_EMULATOR").is_none(), "MOOLA_REQUIRE_EMULATOR is set");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut runner = TestRunner::deterministic();
    let hex = |data: &[f32]| -> String {
        data.iter().flat_map(|it| it.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
    };
    let (mut calls, mut expected) = (Vec::new(), Vec::new());
    for number in 0..cases(40) {
        let recipe = recipe().new_tree(&mut runner).unwrap().current();
        let wasm = module(&write(&recipe), Variant::Simd128).unwrap_or_else(|error| panic!("{recipe:?}: {error}"));
        let given = inputs(u64::from(number), recipe.rows, &recipe.inputs);
        let answer = run(&*load_module(&wasm).unwrap(), &given).unwrap();
        let path = dir.path().join(format!("{number}.wasm"));
        std::fs::write(&path, &wasm).unwrap();
        let given: Vec<_> = given.iter().map(|tensor| hex(tensor.data())).collect();
        calls.push(serde_json::json!({"wasm": path, "rows": recipe.rows, "inputs": given}));
        expected.push((recipe, answer.iter().map(|tensor| hex(tensor.data())).collect::<Vec<_>>()));
    }
    let file = dir.path().join("calls.json");
    std::fs::write(&file, serde_json::to_vec(&calls).unwrap()).unwrap();
    let output = Command::new("node").args(["-e", NODE]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Vec<String>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), expected.len());
    for (answer, (recipe, expected)) in answers.iter().zip(&expected) {
        assert_eq!(answer, expected, "{recipe:?}");
    }
}
