//! The examples predict with the same file as the host, to the last bit.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use moola_core::ports::{Engine, Tensor};
use serde_json::Value;

use crate::support::{Text, compile, dense, engine, wasm_artifact};

#[path = "../../../examples/wasmtime.rs"]
#[allow(dead_code, reason = "`main` is for the command line")]
mod wasmtime_example;

/// A model with one input, numbers for two rows of it, and what the host answers.
struct Case {
    wasm: Vec<u8>,
    numbers: Vec<f32>,
    outputs: Vec<(String, Vec<f32>)>,
}

fn cases() -> Vec<Case> {
    let compiled = compile(&dense()).expect("files").swap_remove(0).bytes;
    [Text::default().wasm(), compiled].into_iter().map(case).collect()
}

fn case(wasm: Vec<u8>) -> Case {
    let model = engine().load(&wasm_artifact(), &wasm).expect("a model");
    let sizes = model.inputs()[0].1.iter().map(|size| size.expect("a fixed size"));
    let shape = std::iter::once(2).chain(sizes).collect::<Vec<_>>();
    let numbers = (0..shape.iter().product()).map(|it| (it as f32 * 0.37).sin()).collect::<Vec<_>>();
    let outputs = model.run(vec![Tensor::new(shape, numbers.clone()).expect("a tensor")]).expect("outputs");
    let names = model.outputs().iter().map(|(name, _)| name.clone());
    Case { wasm, numbers, outputs: names.zip(outputs.into_iter().map(Tensor::into_data)).collect() }
}

fn assert_answer(case: &Case, answer: &Value) {
    assert_eq!(answer.as_object().expect("outputs by name").len(), case.outputs.len(), "{answer}");
    for (name, numbers) in &case.outputs {
        let given = answer[name].as_array().expect("numbers").iter().map(|it| it.as_f64().expect("a number") as f32);
        let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(given.collect()), bits(numbers.clone()), "`{name}`: {answer}, expected {numbers:?}");
    }
}

/// A program of the path; `None`, said aloud, where it is not installed.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|it| it.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: `{program}` is not installed");
    }
    found
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn wasmtime_alone_predicts_the_same() {
    for case in cases() {
        assert_answer(&case, &wasmtime_example::predict(&case.wasm, &case.numbers).expect("outputs"));
    }
}

#[test]
fn node_predicts_the_same() {
    let Some(node) = installed("node") else {
        assert!(std::env::var_os("MOOLA_REQUIRE_EMULATOR").is_none(), "MOOLA_REQUIRE_EMULATOR is set");
        return;
    };
    for case in cases() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&case.wasm).expect("to write it");
        let numbers = case.numbers.iter().map(ToString::to_string);
        let mut command = Command::new(&node);
        let output =
            command.arg(examples().join("node.mjs")).arg(file.path()).args(numbers).output().expect("to run node");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_answer(&case, &serde_json::from_slice(&output.stdout).expect("JSON"));
    }
}

#[test]
fn a_browser_predicts_the_same() {
    let Some(browser) = installed("chromium") else { return };
    for case in cases() {
        let page = std::fs::read(examples().join("browser.html")).expect("the page");
        let address = serve(page, case.wasm.clone());
        let profile = tempfile::tempdir().expect("a folder");
        let numbers = case.numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut child = Command::new(&browser)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--virtual-time-budget=10000",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("--dump-dom")
            .arg(format!("http://{address}/?model=model.wasm&numbers={numbers}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("to run the browser");
        let started = Instant::now();
        while child.try_wait().expect("a child").is_none() {
            if started.elapsed() > Duration::from_secs(120) {
                child.kill().expect("to end it");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut page = String::new();
        child.stdout.take().expect("its output").read_to_string(&mut page).expect("text");
        let answer = page.split(r#"<pre id="answer">"#).nth(1).and_then(|rest| rest.split("</pre>").next());
        let answer = answer.unwrap_or_else(|| panic!("no answer in {page}"));
        assert_answer(&case, &serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer}")));
    }
}

/// Serves a page and the model beside it until this process ends.
fn serve(page: Vec<u8>, wasm: Vec<u8>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let len = stream.read(&mut request).unwrap_or(0);
            let (kind, body) = match request[..len].starts_with(b"GET /model.wasm") {
                true => ("application/wasm", &wasm),
                false => ("text/html", &page),
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            drop(stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)));
        }
    });
    address
}
