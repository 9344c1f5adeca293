//! Broken files: the compiler refuses or compiles, it never panics; what it compiles is valid and runs without a trap.
//!
//! `PROPTEST_CASES=100000 cargo test -p moola-wasm-compiler --release --test it fuzz` runs more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::LazyLock;

use moola_wasm_compiler::{Options, Variant, compile};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{TestCaseError, TestRunner};

use crate::cases::{Cases, panic_text};
use crate::module::{Outcome, Running};
use crate::protobuf::{Change, alter, read, write};

/// Real models: the fixtures of scikit-learn and PyTorch, and the small node tests.
static MODELS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("../../tests/fixtures/onnx");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is_onnx = |path: &Path| path.extension().is_some_and(|extension| extension == "onnx");
    let mut models: Vec<Vec<u8>> =
        files.iter().filter(|path| is_onnx(path)).map(|path| std::fs::read(path).unwrap()).collect();
    assert!(models.len() > 10);
    let cases = Cases::read(&root.join("tests/fixtures/node_tests"));
    models.extend(cases.cases.iter().map(|case| cases.model(case).to_vec()));
    models
});

/// Bytes of a module's memory that a case may take here.
const MEMORY: usize = 64 << 20;

fn check(onnx: &[u8], options: &Options) -> Result<(), TestCaseError> {
    let caught = catch_unwind(AssertUnwindSafe(|| compile(onnx, options)));
    let compiled = match caught {
        Ok(Ok(compiled)) => compiled,
        Ok(Err(error)) => {
            prop_assert!(!error.reason.is_empty());
            prop_assert!(!error.is_fault, "{error}");
            return Ok(());
        }
        Err(panic) => return Err(TestCaseError::fail(format!("panicked: {}", panic_text(&*panic)))),
    };
    if compiled.constant_bytes + compiled.scratch_bytes > MEMORY {
        return Ok(());
    }
    let mut running = Running::new(&compiled.wasm).map_err(TestCaseError::fail)?;
    let ports = running.descriptor.inputs.clone();
    // 0, and numbers whose bytes are finite as any type.
    for fill in [0, 0x3f] {
        for rows in [1, running.descriptor.max_rows] {
            let inputs: Vec<_> = ports
                .iter()
                .map(|port| vec![if port.r#type == "bool" { fill & 1 } else { fill }; rows * port.row_bytes])
                .collect();
            let outcome = running.run(rows, &inputs).map_err(TestCaseError::fail)?;
            prop_assert!(!matches!(outcome, Outcome::Refused(status) if status != 2), "{outcome:?}");
        }
    }
    let refused = running.run(0, &ports.iter().map(|_| Vec::new()).collect::<Vec<_>>()).map_err(TestCaseError::fail)?;
    prop_assert_eq!(refused, Outcome::Refused(1));
    Ok(())
}

fn options() -> impl Strategy<Value = Options> {
    (any::<bool>(), any::<bool>(), any::<bool>(), 1_usize..9).prop_map(|(relaxed, int8_weights, dump, max_rows)| {
        Options {
            variant: if relaxed { Variant::RelaxedSimd } else { Variant::Simd128 },
            int8_weights,
            dump,
            max_rows,
            ..Options::default()
        }
    })
}

fn change() -> impl Strategy<Value = Change> {
    (any::<usize>(), any::<u8>(), any::<usize>()).prop_map(|(place, kind, pick)| Change { place, kind, pick })
}

/// The changes are small enough that many models are still compiled and run: not only the decoder is tested.
#[test]
fn many_altered_models_still_compile() {
    let mut runner = TestRunner::deterministic();
    let strategy = (any::<Index>(), vec(change(), 1..5));
    let mut compiled = 0;
    for _ in 0..400 {
        let (model, changes) = strategy.new_tree(&mut runner).unwrap().current();
        let model: &Vec<u8> = model.get(&MODELS);
        let mut fields = read(model).unwrap();
        changes.into_iter().for_each(|change| alter(&mut fields, change));
        compiled += usize::from(compile(&write(&fields), &Options::default()).is_ok());
    }
    println!("{compiled} of 400 altered models compile");
    assert!(compiled > 40, "{compiled} of 400");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..400), options in options()) {
        check(&bytes, &options)?;
    }

    #[test]
    fn cut_models(model in any::<Index>(), at in any::<Index>()) {
        let model: &Vec<u8> = model.get(&MODELS);
        check(&model[..at.index(model.len())], &Options::default())?;
    }

    #[test]
    fn models_with_flipped_bits(model in any::<Index>(), bits in vec(any::<Index>(), 1..6), options in options()) {
        let mut model: Vec<u8> = model.get(&MODELS).clone();
        let num_bits = model.len() * 8;
        for bit in bits {
            let bit = bit.index(num_bits);
            model[bit / 8] ^= 1 << (bit % 8);
        }
        check(&model, &options)?;
    }

    #[test]
    fn models_with_altered_structure(model in any::<Index>(), changes in vec(change(), 1..5), options in options()) {
        let model: &Vec<u8> = model.get(&MODELS);
        let mut fields = read(model).unwrap();
        for change in changes {
            alter(&mut fields, change);
        }
        check(&write(&fields), &options)?;
    }
}
