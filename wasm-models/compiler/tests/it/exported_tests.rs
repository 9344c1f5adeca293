//! Models that scikit-learn, XGBoost, LightGBM and PyTorch export, against onnxruntime: `cargo xtask oracle` makes and runs them.

use std::path::Path;

use crate::cases::{Cases, assert_none_failed, check_all};

/// Largest difference, relative to the largest number of the output.
const TOLERANCE: f64 = 1e-5;

/// Models of each exporter that passed when this was written.
const MEASURED: [(&str, usize); 3] = [("LightGBM", 9), ("XGBoost", 9), ("scikit-learn", 129)];

#[test]
fn models_of_exporters_answer_as_in_onnxruntime() {
    let Some(folder) = std::env::var_os("MOOLA_EXPORTED_MODELS") else {
        return println!("SKIPPED: MOOLA_EXPORTED_MODELS names no folder; `cargo xtask oracle` makes one");
    };
    let cases = Cases::read(Path::new(&folder));
    let counts = check_all(&cases, |_| TOLERANCE);
    println!("{}: passed, unsupported, failed", cases.source);
    for (exporter, count) in &counts {
        println!("{exporter:<16} {:>4} {:>4} {:>4}", count.passed, count.num_unsupported(), count.failed.len());
        for (reason, names) in &count.unsupported {
            println!("  unsupported: {}: {reason}", names.join("; "));
        }
    }
    assert_none_failed(&counts);
    for (exporter, expected) in MEASURED {
        let passed = counts.get(exporter).map_or(0, |count| count.passed);
        assert!(passed >= expected, "{passed} models of {exporter} passed, expected at least {expected}");
    }
}
