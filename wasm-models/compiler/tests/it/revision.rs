//! Builds of other revisions of the compiler are made anew; so the revision must change with what the compiler makes.

use std::path::Path;

use moola_wasm_compiler::{Options, REVISION, Variant, compile};
use sha2::{Digest as _, Sha256};

use crate::cases::Cases;

/// The revision, and SHA-256 over the modules of all models below.
const PINNED: (u32, &str) = (1, "ad8e19f15664e4f60a5479bfa70db99c746c76b569e232c0b14df23f6435e35b");

#[test]
fn other_modules_are_another_revision() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = Cases::read(&here.join("tests/fixtures/node_tests"));
    let mut models: Vec<Vec<u8>> = cases.cases.iter().map(|case| cases.model(case).to_vec()).collect();
    let files = std::fs::read_dir(here.join("../../tests/fixtures/onnx")).expect("the fixtures");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    models.extend(files.iter().map(|file| std::fs::read(file).expect("a model")));
    let mut hash = Sha256::new();
    let mut num_modules = 0;
    for (variant, int8_weights) in [(Variant::Simd128, false), (Variant::RelaxedSimd, true)] {
        for model in &models {
            if let Ok(compiled) = compile(model, &Options { variant, int8_weights, ..Options::default() }) {
                hash.update(&compiled.wasm);
                num_modules += 1;
            }
        }
    }
    assert!(num_modules > 800, "{num_modules} modules of {} models", models.len());
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let (revision, pinned) = PINNED;
    assert_eq!(
        (REVISION, hash.as_str()),
        (revision, pinned),
        "the compiler makes other modules of the same models: raise REVISION in src/lib.rs, and write both here"
    );
}
