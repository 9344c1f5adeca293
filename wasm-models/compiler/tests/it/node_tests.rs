//! Node tests of the public ONNX backend suite: `tests/fixtures/node_tests` holds a part of them; `cargo xtask oracle` makes
//! all of them, runs them, and writes docs/wasm-operators.md.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::cases::{Cases, Count, assert_none_failed, check_all};

/// Largest difference, relative to the largest number of the output.
const TOLERANCE: f64 = 1e-5;
/// Where it is larger, and why.
const WIDER: [(&str, f64, &str); 0] = [];

/// Tests of the fixture that pass at least.
const MIN_PASSED: usize = 590;

fn tolerance(operator: &str) -> f64 {
    WIDER.iter().find(|(name, ..)| *name == operator).map_or(TOLERANCE, |(_, tolerance, _)| *tolerance)
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn those_of_the_fixture_pass_or_are_refused() {
    let cases = Cases::read(&here("tests/fixtures/node_tests"));
    let counts = check_all(&cases, tolerance);
    let passed: usize = counts.values().map(|count| count.passed).sum();
    println!("{passed} of {} passed ({})", cases.cases.len(), cases.source);
    assert_none_failed(&counts);
    assert!(passed >= MIN_PASSED, "{passed} passed, expected at least {MIN_PASSED}: something is refused that was not");
}

#[test]
fn all_pass_or_are_refused() {
    let Some(folder) = std::env::var_os("MOOLA_NODE_TESTS") else {
        return println!("SKIPPED: MOOLA_NODE_TESTS names no folder; `cargo xtask oracle` makes one");
    };
    let cases = Cases::read(Path::new(&folder));
    let counts = check_all(&cases, tolerance);
    let page = page(&cases.source, &counts);
    let path = here("../../docs/wasm-operators.md");
    if std::env::var_os("MOOLA_BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page");
    }
    println!("{page}");
    assert_none_failed(&counts);
    let written = std::fs::read_to_string(&path).expect("docs/wasm-operators.md");
    assert_eq!(written, page, "docs/wasm-operators.md is old: run again with MOOLA_BLESS=1");
}

/// docs/wasm-operators.md.
fn page(source: &str, counts: &BTreeMap<String, Count>) -> String {
    let sum = |of: fn(&Count) -> usize| counts.values().map(of).sum::<usize>();
    let (passed, constants) = (sum(|it| it.passed), sum(|it| it.with_constants));
    let (unsupported, failed) = (sum(Count::num_unsupported), sum(|it| it.failed.len()));
    let mut page = format!(
        "# What the WASM compiler lowers\n\nWritten by `MOOLA_BLESS=1 cargo xtask oracle`. The node tests of the public ONNX backend \
         suite ({source}) whose operators are all in the list of `tests/oracle/onnx_node_tests.py`, compiled, run with wasmtime, and \
         compared with the suite's answers: to {TOLERANCE:e} of the largest number of an output, integers and truth values exactly.\n\n\
         **{passed} passed** ({constants} of them with shapes, axes, bounds or weights as constants, which the suite gives at run \
         time), **{unsupported} unsupported**: the compiler refuses the model and says why. **{failed} failed**.\n\n"
    );
    for (operator, tolerance, why) in WIDER {
        let _ = writeln!(page, "`{operator}` is compared to {tolerance:e}: {why}.");
    }
    page.push_str("| operator | passed | with constants | unsupported | failed |\n|---|---|---|---|---|\n");
    for (operator, count) in counts {
        let Count { passed, with_constants, failed, .. } = count;
        let _ = writeln!(
            page,
            "| {operator} | {passed} | {with_constants} | {} | {} |",
            count.num_unsupported(),
            failed.len()
        );
    }
    page.push_str("\n## Unsupported, by reason\n\n| operator | reason | tests |\n|---|---|---|\n");
    for (operator, count) in counts {
        for (reason, names) in &count.unsupported {
            let mut shown: Vec<String> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
            if names.len() > shown.len() {
                shown.push(format!("{} more", names.len() - shown.len()));
            }
            let reason = reason.replace('|', "\\|").replace('\n', " ");
            let _ = writeln!(page, "| {operator} | {reason} | {} |", shown.join(", "));
        }
    }
    if failed > 0 {
        page.push_str("\n## Failed\n\n");
        for (name, reason) in counts.values().flat_map(|count| &count.failed) {
            let _ = writeln!(page, "- `{name}`: {}", reason.replace('\n', " "));
        }
    }
    page
}
