//! Files of machine code.

use moola_core::ErrorKind;
use moola_core::ports::{Artifact, Engine};
use moola_wasm_runtime::{TARGETS, Target, precompile};

use crate::support::{Text, assert_affine, cwasm_artifact, engine, wasm_artifact};

#[test]
fn the_same_module_gives_the_same_machine_code() {
    let wasm = Text::default().wasm();
    for target in &TARGETS {
        let first = precompile(&wasm, target).expect("machine code");
        for _ in 0..3 {
            assert!(first == precompile(&wasm, target).expect("machine code"), "{}", target.name());
        }
    }
}

#[test]
fn targets_are_found_by_name() {
    for target in &TARGETS {
        assert_eq!(Target::named(target.name()).expect("a target"), target);
    }
    let error = Target::named("riscv").expect_err("a refusal");
    assert_eq!(error.to_string(), r#"`target` is `riscv`, expected one of ["x86_64-avx2", "aarch64"]"#);
}

#[test]
fn what_is_no_module_is_not_compiled() {
    let with_start = Text { more: "(func $boot) (start $boot)".to_owned(), ..Text::default() }.wasm();
    let with_threads = Text { memory: "1 1 shared".to_owned(), ..Text::default() }.wasm();
    for bytes in [&b""[..], b"(module)", b"\0asm", &with_start, &with_threads] {
        assert_eq!(precompile(bytes, &TARGETS[0]).expect_err("a refusal").kind(), ErrorKind::Invalid);
    }
}

#[test]
fn chooses_machine_code_for_this_machine_and_version_before_the_module() {
    let Some(host) = Target::host() else {
        return eprintln!("SKIPPED: there is no target for this machine");
    };
    let engine = engine();
    let other = TARGETS.iter().find(|target| *target != host).expect("another target");
    let mine = cwasm_artifact(host);
    let all = [Artifact::onnx(), wasm_artifact(), cwasm_artifact(other), mine.clone()];
    assert_eq!(engine.choose(&all), Some(&mine));
    assert_eq!(engine.choose(&all[..3]), Some(&wasm_artifact()));
    assert_eq!(engine.choose(&all[..1]), None);
    let code = precompile(&Text::default().wasm(), host).expect("machine code");
    for wrong in [
        Artifact { runtime: Some("wasmtime 48.0.7".to_owned()), ..mine.clone() },
        Artifact { compatibility: Some("00".repeat(32)), ..mine.clone() },
        Artifact { target: Some("x86_64".to_owned()), ..mine.clone() },
        Artifact { compatibility: None, ..mine.clone() },
        cwasm_artifact(other),
    ] {
        assert_eq!(engine.choose(std::slice::from_ref(&wrong)), None);
        assert_eq!(engine.load(&wrong, &code).expect_err("a refusal").kind(), ErrorKind::Invalid);
    }
}

#[test]
fn machine_code_of_another_target_is_not_loaded() {
    let Some(host) = Target::host() else {
        return eprintln!("SKIPPED: there is no target for this machine");
    };
    let other = TARGETS.iter().find(|target| *target != host).expect("another target");
    let code = precompile(&Text::default().wasm(), other).expect("machine code");
    // Its artifact says that it is for this machine.
    let error = engine().load(&cwasm_artifact(host), &code).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let message = format!("machine code has `target` = `{}`, expected `{}`", other.name(), host.name());
    assert_eq!(error.to_string(), message);
}

#[test]
fn altered_or_truncated_machine_code_is_not_loaded() {
    let Some(host) = Target::host() else {
        return eprintln!("SKIPPED: there is no target for this machine");
    };
    let engine = engine();
    let artifact = cwasm_artifact(host);
    let code = precompile(&Text::default().wasm(), host).expect("machine code");
    assert_affine(&*engine.load(&artifact, &code).expect("a model"), &[1.0; 3]);
    let refused = |bytes: &[u8], what: &str, at: usize| {
        let error = engine.load(&artifact, bytes).expect_err(&format!("{what} at {at}"));
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Invalid), "{what} at {at}: {error}");
    };
    // Every byte of the header, and of the rest every seventh, which meets every page of it.
    let places = (0..1024).chain((1024..code.len()).step_by(7)).chain(code.len() - 16..code.len());
    let mut altered = code.clone();
    for at in places {
        refused(&code[..at], "truncated", at);
        for bit in [0x01, 0x80] {
            altered[at] ^= bit;
            refused(&altered, "altered", at);
            altered[at] ^= bit;
        }
    }
    refused(&[&code[..], &[0]].concat(), "one byte more", code.len());
    refused(&code[1..], "the first byte missing", 0);
    assert_affine(&*engine.load(&artifact, &altered).expect("a model"), &[1.0; 3]);
}
