//! Automation of this workspace: `cargo xtask <verb>`.

mod lint;
mod run;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask <verb>

verbs:
  ci         what .ci/run does: fmt, lint, terraform, clippy, test
  lint       checks the arrows between packages and the heavy dependencies of each
  terraform  checks terraform/: format, checkov, and with a provider more
  oracle     compares ONNX files and compiled modules with onnx, onnxruntime and exporters from PyPI, in virtual environments
  bench      runs all benchmarks and prints their tables; other engines from PyPI, in a virtual environment
";

fn main() -> ExitCode {
    let verb = std::env::args().nth(1).unwrap_or_default();
    let outcome = match verb.as_str() {
        "ci" => run::ci(),
        "lint" => lint::run(),
        "terraform" => run::terraform(),
        "oracle" => run::oracle(),
        "bench" => run::bench(),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("error: `{verb}` is no verb\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
