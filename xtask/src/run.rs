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
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])?;
    // What was installed must be used: no test may skip for want of it.
    let environment = [("MOOLA_EMULATORS", &*emulators.to_string_lossy()), ("MOOLA_REQUIRE_EMULATOR", "1")];
    run(env!("CARGO"), &["test", "--workspace", "--locked"], &environment)
}

/// Format and security of `terraform/`; what else of it can be checked here.
pub(crate) fn terraform() -> Result<()> {
    let checkov = python_environment("checkov", "tests/terraform/requirements.txt")?.join("bin/checkov");
    run("bash", &["tests/terraform/check.sh"], &[("CHECKOV", &checkov.to_string_lossy())])
}

pub(crate) fn bench() -> Result<()> {
    cargo(&["bench", "--workspace", "--benches"])
}

/// Makes a virtual environment under the target directory and runs every script of `tests/oracle` in it.
pub(crate) fn oracle() -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let venv = target.join("oracle-venv");
    let python = venv.join("bin/python");
    let python = python.to_string_lossy();
    if !Path::new(&*python).exists() {
        run("python3", &["-m", "venv", &venv.to_string_lossy()], &[])?;
    }
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/oracle"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.starts_with("requirements") {
            run(&python, &["-m", "pip", "install", "--quiet", "--requirement", &path.to_string_lossy()], &[])?;
        } else if name.ends_with("_oracle.py") {
            scripts.push(path);
        }
    }
    scripts.sort();
    for script in scripts {
        run(&python, &[&script.to_string_lossy()], &[("CARGO", env!("CARGO"))])?;
    }
    Ok(())
}
