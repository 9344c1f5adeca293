//! `moola compile`, on files of `tests/fixtures/onnx`.

use std::path::{Path, PathBuf};

use moola_onnx::writer::{Attribute, Dim, GraphBuilder};

use super::{directory, fails, json, ok};

fn fixture(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/onnx").join(name).display().to_string()
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_file_becomes_a_module_and_machine_code() {
    let (dir, data) = directory();
    let module = dir.path().join("mlp.wasm");
    let out = module.display().to_string();
    let model = fixture("torch_style_mlp.onnx");
    let dumps = dir.path().join("ir");
    let args = ["compile", &model, "--out", &out, "--target", "x86_64-avx2,aarch64", "--component", "--dump"];
    let shown = ok(&data, &[&args[..], &[&dumps.display().to_string()]].concat());
    for text in ["input", "float32", "[rows, 6]", "output", "[rows, 3]", "at most 32", "pruned:", "mlp.aarch64.cwasm"] {
        assert!(shown.contains(text), "{text} in {shown}");
    }
    let wasm = bytes(&module);
    assert_eq!(wasm[..8], *b"\0asm\x01\0\0\0");
    assert_eq!(bytes(&module.with_extension("component.wasm"))[..4], *b"\0asm");
    assert!(bytes(&module.with_extension("x86_64-avx2.cwasm")).len() > wasm.len());
    let first = std::fs::read_dir(&dumps).expect("dumps").count();
    assert!(first >= 8, "{first} dumps");

    let again = dir.path().join("again.wasm");
    let report = json(&data, &["compile", &model, "--out", &again.display().to_string(), "--max-rows", "32"]);
    assert_eq!(report["files"][again.display().to_string()], wasm.len());
    assert_eq!(report["descriptor"]["inputs"][0]["shape"], serde_json::json!([null, 6]));
    assert_eq!(bytes(&again), wasm, "the same file and options give the same bytes");
    json(
        &data,
        &["compile", &model, "--out", &again.display().to_string(), "--variant", "relaxed-simd", "--max-rows", "5"],
    );
    assert_ne!(bytes(&again), wasm);
}

#[test]
fn what_is_not_compiled_is_named() {
    let (dir, data) = directory();
    let out = dir.path().join("out.wasm").display().to_string();
    let model = dir.path().join("einsum.onnx");
    let mut graph = GraphBuilder::new("einsum");
    let x = graph.input("x", &[Dim::Batch, Dim::Fixed(2)]);
    let y = graph.node("Einsum", &[x], 1, &[("equation", Attribute::Str("bi->b".into()))])[0];
    graph.output(y, "y", &[Dim::Batch]);
    std::fs::write(&model, graph.finish().expect("a graph")).expect("a file");
    let (code, err) = fails(&data, &["compile", &model.display().to_string(), "--out", &out]);
    assert_eq!(code, 1);
    assert!(err.contains("einsum.onnx") && err.contains("`Einsum_0` (`Einsum`)"), "{err}");
    let (code, err) = fails(&data, &["compile", &fixture("README.md"), "--out", &out]);
    assert_eq!((code, err.contains("ONNX")), (1, true), "{err}");
    assert!(!Path::new(&out).exists(), "nothing is written");
    let mlp = fixture("torch_style_mlp.onnx");
    let (code, err) = fails(&data, &["compile", &mlp, "--out", &out, "--target", "z80"]);
    assert_eq!((code, err.contains("z80") && err.contains("x86_64-avx2")), (1, true), "{err}");
    let (code, err) = fails(&data, &["compile", &mlp, "--out", &out, "--input", "x"]);
    assert_eq!((code, err.contains("hint: write `--input name=1,105,4`")), (2, true), "{err}");
    let (code, err) = fails(&data, &["compile", "-", "--target", "aarch64"]);
    assert_eq!((code, err.contains("--out")), (2, true), "{err}");
}
