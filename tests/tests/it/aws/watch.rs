//! The functions under `cargo lambda watch`, on the routes that Cargo.toml gives them.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use moola_tests::emulator::{Emulator, installed};
use moola_tests::graphs::{constant, constant_manifest};
use moola_tests::{Api, bars, program, until};
use serde_json::json;
use tokio::process::{Child, Command};

use super::platform::Platform;
use crate::r#loop::LIMIT;
use crate::serving::{ADVISORY, served, window};

/// A bootstrap that takes its invocations from `watch`, as one that `cargo lambda watch` started itself would.
fn bootstrap(name: &str, port: u16, platform: &Platform) -> Child {
    Command::new(program(name))
        .env_clear()
        .envs(&platform.made.environment)
        .env("AWS_ENDPOINT_URL_LAMBDA", format!("http://127.0.0.1:{port}"))
        .env("MOOLA_PREDICT_NATIVE", "predict_native")
        .env("AWS_LAMBDA_RUNTIME_API", format!("http://127.0.0.1:{port}/.rt/{name}"))
        .env("AWS_LAMBDA_FUNCTION_NAME", name)
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "4096")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn register_promote_and_predict_under_cargo_lambda_watch() {
    let (Some(emulator), Some(cargo_lambda)) = (Emulator::shared(), installed("cargo-lambda", "cargo-lambda==1.9.2"))
    else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(emulator, ADVISORY, dir.path(), false).await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // The programs are there: the watcher serves its routes and leaves starting them to us.
    let _watch = Command::new(cargo_lambda)
        .args(["lambda", "watch", "--only-lambda-apis", "--invoke-address", "127.0.0.1", "--invoke-port"])
        .arg(port.to_string())
        .current_dir(workspace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("the watcher", Duration::from_secs(60), || async {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(|_| ())
    })
    .await;
    let _functions: Vec<Child> =
        ["predict", "predict_native", "registry", "compile"].map(|name| bootstrap(name, port, &platform)).into();
    let api = Api::new(format!("http://127.0.0.1:{port}"));
    for (version, share) in [(1, 0.25), (2, 0.75)] {
        let registered = api.register("m", &constant_manifest(), &constant(&[1.0 - share, share])).await.unwrap();
        assert_eq!(registered.ok()["version"], version);
        assert_eq!(api.promote("m", version).await.unwrap().ok()["stage"], "Production");
        served(&api, version).await;
    }
    // What is not to be served compiled is handed on through the watcher.
    let build = json!({ "engine": "native", "reason": "a test" });
    api.post("/api/v2/models/m/versions/2/build", &build).await.ok();
    let handed_on = || async {
        let answer = api.post("/api/v2/inference/predict", &bars::request("m", &[window()])).await;
        (answer.status == 200 && answer.json["model_metadata"]["engine"] == "native").then_some(())
    };
    until("the other function", LIMIT, handed_on).await;
    let history = api.get("/api/v2/models/m/history").await.ok();
    let versions: Vec<u64> =
        history["history"].as_array().unwrap().iter().map(|entry| entry["version"].as_u64().unwrap()).collect();
    assert!(versions.contains(&1) && versions.contains(&2), "{history}");
    platform.batch.shutdown().await;
}
