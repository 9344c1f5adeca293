//! The `moola` command as a user calls it.

mod compile;

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

/// A call of `moola` over a data directory of its own.
fn moola(data_dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::cargo_bin("moola").expect("the program");
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.arg("--data-dir").arg(data_dir).args(args).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Standard output of a call that must succeed.
fn ok(data_dir: &Path, args: &[&str]) -> String {
    let output = moola(data_dir, args);
    assert!(output.status.success(), "moola {}: {}", args.join(" "), text(&output.stderr));
    text(&output.stdout)
}

fn json(data_dir: &Path, args: &[&str]) -> Value {
    let args = [&["--json"], args].concat();
    let out = ok(data_dir, &args);
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("moola {}: {error} in {out}", args.join(" ")))
}

/// Exit code and standard error of a call that must fail.
fn fails(data_dir: &Path, args: &[&str]) -> (i32, String) {
    let output = moola(data_dir, args);
    assert!(!output.status.success(), "moola {} succeeds", args.join(" "));
    (output.status.code().expect("an exit code"), text(&output.stderr))
}

/// A file of simulated hourly bars.
fn bars(dir: &Path, num_bars: usize) -> String {
    use moola_market::simulate::{SimulationConfig, simulate};
    let simulation = simulate(&SimulationConfig { num_bars, ..SimulationConfig::default() }).expect("bars");
    let mut csv = String::from("timestamp,open,high,low,close,volume\n");
    for bar in simulation.bars.iter() {
        let volume = bar.volume.unwrap_or(0.0);
        csv += &format!("{},{},{},{},{},{volume}\n", bar.time_ms, bar.open, bar.high, bar.low, bar.close);
    }
    let path = dir.join("bars.csv");
    std::fs::write(&path, csv).expect("a file");
    path.display().to_string()
}

fn directory() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    (dir, data)
}

#[test]
fn wrong_usage_is_2() {
    let (_dir, data) = directory();
    assert_eq!(fails(&data, &["no-such-command"]).0, 2);
    assert_eq!(fails(&data, &["train"]).0, 2);
    let (code, err) = fails(&data, &["up", "--host", "0.0.0.0"]);
    assert_eq!(code, 2);
    assert!(err.contains("0.0.0.0") && err.contains("hint:") && err.contains("--insecure-no-auth"), "{err}");
    let (code, err) = fails(&data, &["models", "promote", "name-without-version"]);
    assert_eq!(code, 2);
    assert!(err.contains("name/version"), "{err}");
    let (code, err) = fails(&data, &["train", "--dataset", "d", "--model", "m", "--detach"]);
    assert_eq!((code, err.contains("moola up")), (2, true), "{err}");
}

#[test]
fn failures_are_1_with_a_hint() {
    let (_dir, data) = directory();
    let (code, err) = fails(&data, &["models", "show", "absent"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("error: model `absent` does not exist"), "{err}");
    assert!(err.contains("hint: "), "{err}");
    let (code, err) = fails(&data, &["data", "import", "no-such-file.csv", "--name", "d", "--symbol", "S"]);
    assert_eq!(code, 1);
    assert!(err.contains("no-such-file.csv"), "{err}");
    std::fs::write(data.join("moola.toml"), "[gates]\nmin_acuracy = 0.6\n").expect("a file");
    let (code, err) = fails(&data, &["models", "list"]);
    assert_eq!(code, 1);
    assert!(err.contains("min_acuracy"), "{err}");
}

#[test]
fn data_goes_in_and_comes_out() {
    let (dir, data) = directory();
    let file = bars(dir.path(), 300);
    let checked = json(&data, &["data", "validate", &file]);
    assert_eq!(checked["report"]["num_rows"], 300);
    let imported = json(&data, &["data", "import", &file, "--name", "sim", "--symbol", "SIM"]);
    assert_eq!(imported["created"], true);
    assert_eq!(imported["dataset"]["num_rows"], 300);
    let again = json(&data, &["data", "import", &file, "--name", "sim", "--symbol", "SIM"]);
    assert_eq!(again["created"], false);
    assert_eq!(again["dataset"]["version"], imported["dataset"]["version"]);
    assert_eq!(json(&data, &["data", "list"])["datasets"][0]["name"], "sim");
    assert!(ok(&data, &["data", "show", "sim"]).contains("300"));
    let (code, err) = fails(&data, &["--json", "features", "compute", "sim"]);
    assert_eq!((code, err.contains("CSV")), (2, true), "{err}");
    let csv = ok(&data, &["features", "compute", "sim"]);
    assert_eq!(csv.lines().count(), 301);
    assert!(csv.starts_with("timestamp,"), "{}", &csv[..80]);
    assert!(json(&data, &["features", "list"])["features"].as_array().expect("a list").len() >= 150);
}

#[test]
fn bad_rows_are_named() {
    let (dir, data) = directory();
    let path = dir.path().join("bad.csv");
    let row = "2024-01-01T0{h}:00:00Z,1.0,1.2,0.9,1.1\n";
    let mut csv = String::from("timestamp,open,high,low,close\n");
    (0..5).for_each(|hour| csv += &row.replace("{h}", &hour.to_string()));
    csv += "2024-01-01T05:00:00Z,1.0,0.5,0.9,1.1\n";
    std::fs::write(&path, csv).expect("a file");
    let file = path.display().to_string();
    let (code, err) = fails(&data, &["data", "validate", &file]);
    assert_eq!((code, err.contains("1 of 6 rows")), (1, true), "{err}");
    let (code, err) = fails(&data, &["data", "import", &file, "--name", "bad", "--symbol", "S"]);
    assert_eq!((code, err.contains("hint:") && err.contains("quarantine")), (1, true), "{err}");
    let import = ["data", "import", &file, "--name", "bad", "--symbol", "S", "--mode", "quarantine"];
    assert_eq!(json(&data, &import)["dataset"]["num_rows"], 5);
    let rejected = json(&data, &["data", "show", "bad", "--rejected"]);
    assert_eq!(rejected["rejected"][0]["line"], 7);
}

#[test]
fn a_model_is_trained_judged_and_asked() {
    let (dir, data) = directory();
    let file = bars(dir.path(), 1500);
    ok(&data, &["data", "import", &file, "--name", "sim", "--symbol", "SIM"]);
    let trained = json(
        &data,
        &[
            "train",
            "--dataset",
            "sim",
            "--model",
            "range",
            "--epochs",
            "1",
            "--hidden-size",
            "4",
            "--heads",
            "2",
            "--stride",
            "4",
            "--batch-size",
            "32",
            "--seed",
            "7",
        ],
    );
    assert_eq!(trained["run"]["run"]["status"], "completed");
    assert_eq!(trained["version"]["version"], 1);
    assert!(trained["gates"]["classification"]["candidate"]["log_loss"].as_f64().expect("a number") > 0.0);
    assert_eq!(json(&data, &["models", "list"])["models"][0]["name"], "range");
    assert_eq!(json(&data, &["runs", "list"])["runs"][0]["model_version"], 1);
    let run_id = trained["run"]["run"]["run_id"].as_str().expect("an id").to_owned();
    assert!(ok(&data, &["runs", "show", &run_id]).contains("baseline prior, test"));
    ok(&data, &["jobs", "logs", &run_id]);
    assert!(ok(&data, &["jobs", "cancel", &run_id]).contains("has already ended (completed)"));
    let job_id = trained["run"]["run"]["job_id"].as_str().expect("an id");
    assert!(ok(&data, &["jobs", "cancel", job_id]).contains("has already ended (SUCCEEDED)"));
    assert!(ok(&data, &["models", "lineage", "range/1"]).contains("file     sha256"));
    // By number, whether or not one epoch was enough for the gates.
    let answer = json(&data, &["predict", "range/1", &file]);
    let probabilities = answer["predictions"][0]["probabilities"].as_object().expect("probabilities");
    let sum: f64 = probabilities.values().filter_map(Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 1e-3, "{answer}");
    let held = json(&data, &["predict", "range/1", "--symbol", "SIM"]);
    assert_eq!(held["predictions"][0]["probabilities"], answer["predictions"][0]["probabilities"]);
    let passed = trained["gates"]["passed"].as_bool().expect("a verdict");
    let promoted = moola(&data, &["models", "promote", "range/1"]);
    assert_eq!(promoted.status.success(), passed, "{}", text(&promoted.stderr));
    let (code, err) = fails(&data, &["drift", "check", "range/1"]);
    assert_eq!((code, err.contains("logged predictions") && err.contains("flush_ms")), (1, true), "{err}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_wait_says_what_becomes_of_the_run() {
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::Stdio;
    let (dir, data) = directory();
    ok(&data, &["data", "import", &bars(dir.path(), 1500), "--name", "sim", "--symbol", "SIM"]);
    let mut train = std::process::Command::new(assert_cmd::cargo::cargo_bin("moola"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .arg("--data-dir")
        .arg(&data)
        .args(["train", "--dataset", "sim", "--model", "range", "--epochs", "1000", "--patience", "0"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut err = BufReader::new(train.stderr.take().expect("standard error"));
    let mut first = String::new();
    err.read_line(&mut first).expect("a line");
    let run_id = first.split_whitespace().nth(1).expect("the id of the run").to_owned();
    let signalled = std::process::Command::new("kill").args(["-INT", &train.id().to_string()]).status();
    assert!(signalled.expect("kill runs").success());
    let mut rest = String::new();
    err.read_to_string(&mut rest).expect("text");
    assert_eq!(train.wait().expect("its end").code(), Some(1), "{first}{rest}");
    let expected =
        format!("it resumes with `moola up` or the next command that runs jobs; `moola jobs cancel {run_id}`");
    assert!(rest.contains("(SIGINT)") && rest.contains(&expected), "{rest}");
    assert!(ok(&data, &["jobs", "cancel", &run_id]).starts_with(&format!("run {run_id} is")));
}
