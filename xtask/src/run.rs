//! Verbs that run other programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn run(program: &str, args: &[&str], environment: &[(&str, &str)]) -> Result<()> {
    eprintln!("$ {program} {}", args.join(" "));
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).envs(environment.iter().copied());
    let status = command.status().with_context(|| format!("starting `{program}`"))?;
    if !status.success() {
        bail!("`{program} {}` ended with {status}", args.join(" "));
    }
    Ok(())
}

fn cargo(args: &[&str]) -> Result<()> {
    run(env!("CARGO"), args, &[])
}

/// A virtual environment of Python under the user's cache, with what `requirements` names; made once for each wording of it.
fn python_environment(name: &str, requirements: &str) -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    let dir = cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("moola").join(name);
    let wanted = std::fs::read_to_string(root().join(requirements)).with_context(|| requirements.to_owned())?;
    let stamp = dir.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(dir);
    }
    let python = dir.join("bin/python");
    // A half made environment has no pip.
    if !dir.join("bin/pip").exists() {
        run("python3", &["-m", "venv", "--clear", &dir.to_string_lossy()], &[])?;
    }
    run(&python.to_string_lossy(), &["-m", "pip", "install", "--quiet", "--requirement", requirements], &[])?;
    std::fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())?;
    Ok(dir)
}

pub(crate) fn ci() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    crate::lint::run()?;
    terraform()?;
    let emulators = python_environment("emulators", "tests/emulator/requirements.txt")?;
    let node_tests = node_tests()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    // What was installed must be used: no test may skip for want of it.
    let environment = [
        ("MOOLA_EMULATORS", &*emulators.to_string_lossy()),
        ("MOOLA_REQUIRE_EMULATOR", "1"),
        ("MOOLA_NODE_TESTS", &*node_tests.to_string_lossy()),
    ];
    run(env!("CARGO"), &["test", "--workspace", "--locked"], &environment)
}

/// Format and security of `terraform/`; what else of it can be checked here.
pub(crate) fn terraform() -> Result<()> {
    let checkov = python_environment("checkov", "tests/terraform/requirements.txt")?.join("bin/checkov");
    run("bash", &["tests/terraform/check.sh"], &[("CHECKOV", &checkov.to_string_lossy())])
}

/// All benchmarks; `MOOLA_BENCH_PYTHON` names a Python with tests/benches/requirements.txt, which is made where it is not set.
pub(crate) fn bench() -> Result<()> {
    let python = match std::env::var_os("MOOLA_BENCH_PYTHON") {
        Some(python) => PathBuf::from(python),
        None => python_environment("bench", "tests/benches/requirements.txt")?.join("bin/python"),
    };
    let environment = [("MOOLA_BENCH_PYTHON", &*python.to_string_lossy())];
    run(env!("CARGO"), &["bench", "--workspace", "--benches"], &environment)
}

/// Compares ONNX files, and modules that are compiled of them, with what Python packages answer.
pub(crate) fn oracle() -> Result<()> {
    let python = python_environment("oracle-onnx", "tests/oracle/requirements-onnx.txt")?.join("bin/python");
    let mut models = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/fixtures/onnx"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "onnx") && path.with_extension("json").exists() {
            models.push(path);
        }
    }
    models.sort();
    for model in models {
        let cases = model.with_extension("json");
        let arguments = ["tests/oracle/onnx_oracle.py", &*model.to_string_lossy(), &*cases.to_string_lossy()];
        run(&python.to_string_lossy(), &arguments, &[])?;
    }
    let node_tests = node_tests()?;
    let environment = python_environment("oracle-models", "tests/oracle/requirements-models.txt")?;
    let cases = environment.join("cases");
    let arguments = ["tests/oracle/exported_models.py", &*cases.to_string_lossy()];
    run(&environment.join("bin/python").to_string_lossy(), &arguments, &[])?;
    let environment =
        [("MOOLA_NODE_TESTS", &*node_tests.to_string_lossy()), ("MOOLA_EXPORTED_MODELS", &*cases.to_string_lossy())];
    let arguments = ["test", "--package", "moola-wasm-compiler", "--test", "it", "_tests::", "--", "--nocapture"];
    run(env!("CARGO"), &arguments, &environment)
}

/// The node tests of the ONNX backend suite, as tests of the compiler read them: the folder.
fn node_tests() -> Result<PathBuf> {
    let environment = python_environment("oracle-onnx", "tests/oracle/requirements-onnx.txt")?;
    let folder = environment.join("node_tests");
    let arguments = ["tests/oracle/onnx_node_tests.py", &*folder.to_string_lossy()];
    run(&environment.join("bin/python").to_string_lossy(), &arguments, &[])?;
    Ok(folder)
}
