//! `kill -9` under load at random moments: what was acknowledged is there, and nothing is there by half.
//!
//! `MOOLA_CRASH_ROUNDS` says how often, `MOOLA_CRASH_SEED` from which seed. Even rounds write the prediction log through;
//! odd rounds flush it every [`FLUSH_MS`]. A kill leaves what the kernel has not written yet; that of a power failure is
//! not tested here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moola_tests::graphs::{constant, constant_manifest};
use moola_tests::{Answer, Api, Server, bars, run, until};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use reqwest::Method;
use serde_json::{Value, json};

use crate::serving::{ADVISORY, served, window, with_two_versions};

const PREDICT: &str = "/api/v2/inference/predict";
const FLUSH_MS: u64 = 200;
/// What a batch may take from the flush to the disk, on a machine that does much else.
const WRITE: Duration = Duration::from_secs(1);
/// The list of predictions has at most 1,000 entries.
const MAX_PREDICTIONS: usize = 450;
const NUM_BARS: usize = 40;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("`{name}` is `{text}`")))
}

/// What the clients of all rounds were told.
#[derive(Default)]
struct Acknowledged {
    /// Imported datasets.
    datasets: BTreeSet<String>,
    /// Registered versions of `many`, with the probability that each answers.
    versions: BTreeMap<u64, f64>,
    /// What the alias `a` of `m` may name: the last value that was acknowledged, and one that may have been on its way.
    alias: (Option<u64>, Option<u64>),
    /// Versions of `m` that entered production.
    promotions: Vec<u64>,
    /// Predictions of this round.
    predictions: Vec<(String, Instant)>,
    /// Requests that were answered.
    num_answers: usize,
    /// When the server was found to be gone.
    gone: Vec<Instant>,
}

type Shared = Arc<Mutex<Acknowledged>>;

/// A call that ends the client where the server is gone. Any answer but a success is a failure of the test.
macro_rules! call {
    ($shared:expr, $answer:expr) => {
        match $answer.await {
            Ok(answer) => {
                let answer: Answer = answer;
                $shared.lock().unwrap().num_answers += 1;
                answer.ok()
            }
            Err(_) => return $shared.lock().unwrap().gone.push(Instant::now()),
        }
    };
}

async fn import(api: Api, shared: Shared, round: u64) {
    for place in 0.. {
        let name = format!("d{round}-{place}");
        let file = bars::csv(&bars::simulated(round * 10_000 + place, NUM_BARS));
        call!(shared, api.import(&name, file));
        shared.lock().unwrap().datasets.insert(name);
    }
}

async fn register(api: Api, shared: Shared, round: u64, mut random: ChaCha8Rng) {
    for place in 0_u64.. {
        // No two alike, or they would be one version.
        let share = (0.1 + 0.8 * random.random::<f64>() + (round * 1000 + place) as f64 * 1e-5).min(0.99);
        let share = f64::from(share as f32);
        let onnx = constant(&[1.0 - share as f32, share as f32]);
        let version = call!(shared, api.register("many", &constant_manifest(), &onnx));
        shared.lock().unwrap().versions.insert(version["version"].as_u64().unwrap(), share);
    }
}

async fn move_alias(api: Api, shared: Shared) {
    for turn in 0_u64.. {
        let version = 1 + turn % 2;
        shared.lock().unwrap().alias.1 = Some(version);
        let body = json!({"version": version});
        call!(shared, api.try_json(Method::PUT, "/api/v2/models/m/aliases/a", &body));
        shared.lock().unwrap().alias = (Some(version), None);
    }
}

async fn promote(api: Api, shared: Shared, serving: u64) {
    for turn in 0_u64.. {
        let version = if turn % 2 == 0 { 3 - serving } else { serving };
        call!(shared, api.promote("m", version));
        shared.lock().unwrap().promotions.push(version);
    }
}

async fn predict(api: Api, shared: Shared, pause: Duration) {
    let request = bars::request("m", &[window()]);
    for _ in 0..MAX_PREDICTIONS {
        let answer = call!(shared, api.try_json(Method::POST, PREDICT, &request));
        let answered = Instant::now();
        let id = answer["predictions"][0]["prediction_id"].as_str().unwrap().to_owned();
        shared.lock().unwrap().predictions.push((id, answered));
        tokio::time::sleep(pause).await;
    }
}

fn settings(is_write_through: bool) -> String {
    format!("{ADVISORY}[serving.log]\nwrite_through = {is_write_through}\nflush_ms = {FLUSH_MS}\n")
}

/// The moves of `m`, the oldest first.
async fn history(api: &Api) -> Vec<Value> {
    let mut history = api.get("/api/v2/models/m/history?limit=10000").await.ok()["history"].as_array().unwrap().clone();
    history.reverse();
    history
}

/// Every version stands where its moves led, one is in production, and that one answers.
async fn check_stages(api: &Api) -> u64 {
    let mut stages = BTreeMap::from([(1, "None".to_owned()), (2, "None".to_owned())]);
    for entry in history(api).await {
        let stage = stages.get_mut(&entry["version"].as_u64().unwrap()).unwrap();
        assert_eq!(entry["from"], *stage, "the history does not follow: {entry}");
        *stage = entry["to"].as_str().unwrap().to_owned();
    }
    let versions = api.get("/api/v2/models/m/versions").await.ok();
    for version in versions["versions"].as_array().unwrap() {
        assert_eq!(version["stage"], stages[&version["version"].as_u64().unwrap()], "another stage than the history's");
    }
    let production: Vec<u64> = stages.iter().filter(|(_, stage)| *stage == "Production").map(|(v, _)| *v).collect();
    assert_eq!(production.len(), 1, "{stages:?}");
    assert_eq!(api.get("/api/v2/models/m").await.ok()["production_version"], production[0]);
    served(api, production[0]).await;
    production[0]
}

async fn check_datasets(api: &Api, acknowledged: &BTreeSet<String>, seen: &mut BTreeSet<String>) {
    let listed = api.get("/api/v2/datasets").await.ok();
    let listed = listed["datasets"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned());
    let listed: BTreeSet<String> = listed.collect();
    let lost: Vec<_> = acknowledged.difference(&listed).collect();
    assert!(lost.is_empty(), "acknowledged datasets are lost: {lost:?}");
    for name in listed {
        if seen.insert(name.clone()) {
            let path = format!("/api/v2/features/compute?dataset={name}");
            let features = api.send(Method::POST, &path, None, Vec::new()).await.unwrap();
            assert_eq!(features.status, 200, "{name}: {}", features.text);
            assert_eq!(features.text.lines().count(), NUM_BARS + 1, "the bars of {name}");
        }
    }
}

async fn check_versions(api: &Api, acknowledged: &BTreeMap<u64, f64>, seen: &mut BTreeSet<u64>) {
    let answer = api.get("/api/v2/models/many/versions").await;
    if answer.status == 404 && acknowledged.is_empty() {
        return;
    }
    let listed = answer.ok();
    let listed = listed["versions"].as_array().unwrap().iter().map(|it| it["version"].as_u64().unwrap());
    let listed: BTreeSet<u64> = listed.collect();
    let lost: Vec<_> = acknowledged.keys().filter(|version| !listed.contains(version)).collect();
    assert!(lost.is_empty(), "acknowledged versions are lost: {lost:?}");
    for version in listed {
        if seen.insert(version) {
            // Showing it verifies manifest and signature, predicting the model's digest.
            let shown = api.get(&format!("/api/v2/models/many/versions/{version}")).await.ok();
            assert_eq!(shown["manifest"]["version"], version);
            let answer = api.post(PREDICT, &bars::request(&format!("many/{version}"), &[window()])).await.ok();
            let share = answer["predictions"][0]["probabilities"]["up"].as_f64().unwrap();
            if let Some(expected) = acknowledged.get(&version) {
                assert!((share - expected).abs() < 1e-6, "version {version} answers {share} in place of {expected}");
            }
        }
    }
}

/// Returns how old, at the kill, the oldest prediction was that is not in the log.
async fn check_log(api: &Api, predictions: &[(String, Instant)], killed: Instant) -> Option<Duration> {
    let logged = api.get("/api/v2/inference/predictions?model=m&limit=1000").await.ok();
    let logged =
        logged["predictions"].as_array().unwrap().iter().map(|it| it["prediction_id"].as_str().unwrap().to_owned());
    let logged: BTreeSet<String> = logged.collect();
    let lost = predictions.iter().filter(|(id, _)| !logged.contains(id));
    lost.map(|(_, answered)| killed.saturating_duration_since(*answered)).max()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kills() {
    let (rounds, seed) = (number("MOOLA_CRASH_ROUNDS", 3), number("MOOLA_CRASH_SEED", 1337));
    eprintln!("{rounds} rounds from seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut server = with_two_versions(dir.path(), &settings(true)).await;
    let shared = Shared::default();
    let (mut seen_datasets, mut seen_versions) = (BTreeSet::new(), BTreeSet::new());
    let (mut num_predictions, mut worst_loss, mut slowest_start) = (0, Duration::ZERO, Duration::ZERO);
    let mut num_entered = 0;
    for round in 0..rounds {
        let mut random = ChaCha8Rng::seed_from_u64(seed.wrapping_add(round));
        let is_write_through = round % 2 == 0;
        let serving = check_stages(server.api()).await;
        num_entered = entered(server.api()).await.len().max(num_entered);
        {
            let mut acknowledged = shared.lock().unwrap();
            acknowledged.predictions.clear();
            acknowledged.promotions.clear();
        }
        let (api, pause) = (server.api(), Duration::from_millis(if is_write_through { 0 } else { 4 }));
        let clients = [
            tokio::spawn(import(api.clone(), shared.clone(), round)),
            tokio::spawn(register(api.clone(), shared.clone(), round, random.clone())),
            tokio::spawn(move_alias(api.clone(), shared.clone())),
            tokio::spawn(promote(api.clone(), shared.clone(), serving)),
            tokio::spawn(predict(api.clone(), shared.clone(), pause)),
            tokio::spawn(predict(api.clone(), shared.clone(), pause)),
        ];
        let moment = random.random_range(if is_write_through { 50..1200 } else { 1300..2000 });
        tokio::time::sleep(Duration::from_millis(moment)).await;
        let killing = Instant::now();
        server.kill9();
        let killed = Instant::now();
        for client in clients {
            client.await.expect("every answer was a success");
        }

        let started = Instant::now();
        server = Server::start(dir.path(), &settings(!is_write_through)).await;
        slowest_start = slowest_start.max(started.elapsed());
        let api = server.api();
        let acknowledged = std::mem::take(&mut *shared.lock().unwrap());
        assert!(acknowledged.gone.iter().all(|at| *at >= killing), "a request failed before the kill");
        let lost = check_log(api, &acknowledged.predictions, killed).await;
        check_datasets(api, &acknowledged.datasets, &mut seen_datasets).await;
        check_versions(api, &acknowledged.versions, &mut seen_versions).await;
        let alias = api.get("/api/v2/models/m").await.ok()["aliases"]["a"].as_u64();
        let (told, under_way) = acknowledged.alias;
        assert!(
            alias == told || alias.is_some() && alias == under_way,
            "alias {alias:?}, told {:?}",
            acknowledged.alias
        );
        check_stages(api).await;
        // Those that were told, in their order, and at most one that was under way.
        let all = entered(api).await;
        let new = &all[num_entered..];
        assert!(new.starts_with(&acknowledged.promotions), "told {:?}, found {new:?}", acknowledged.promotions);
        assert!(new.len() <= acknowledged.promotions.len() + 1, "told {:?}, found {new:?}", acknowledged.promotions);
        num_entered = all.len();
        if let Some(age) = lost {
            assert!(!is_write_through, "a prediction that was written through is lost");
            let limit = Duration::from_millis(FLUSH_MS) + WRITE;
            assert!(age <= limit, "a prediction answered {age:?} before the kill is lost");
            worst_loss = worst_loss.max(age);
        }
        num_predictions += acknowledged.predictions.len();
        eprintln!(
            "round {round}: killed after {moment} ms and {} answers, {} predictions ({}), oldest loss {lost:?}",
            acknowledged.num_answers,
            acknowledged.predictions.len(),
            if is_write_through { "written through" } else { "flushed" },
        );
        // What was told stays told; the alias may be either value from here on.
        *shared.lock().unwrap() =
            Acknowledged { alias: (alias, None), num_answers: 0, gone: Vec::new(), ..acknowledged };
    }
    let acknowledged = std::mem::take(&mut *shared.lock().unwrap());
    eprintln!(
        "{rounds} kills, {} datasets, {} versions, {num_predictions} predictions; flush every {FLUSH_MS} ms: oldest loss \
         {} ms; slowest start {} ms",
        acknowledged.datasets.len(),
        acknowledged.versions.len(),
        worst_loss.as_millis(),
        slowest_start.as_millis(),
    );
    assert!(!acknowledged.datasets.is_empty() && !acknowledged.versions.is_empty() && num_predictions > 0, "no load");
    server.terminate().await;
}

/// The versions of `m` that entered production, in order.
async fn entered(api: &Api) -> Vec<u64> {
    let moves = history(api).await;
    moves.iter().filter(|entry| entry["to"] == "Production").map(|entry| entry["version"].as_u64().unwrap()).collect()
}

/// The training of the smallest model that still takes a while.
pub(crate) fn training(model: &str, dataset: &str, epochs: usize) -> Value {
    json!({
        "model_name": model, "dataset": dataset, "label": {"kind": "expansion", "horizon": 10, "multiple": 0.9},
        "window": {"bars": 24, "stride": 3, "feature_set": "core"},
        "model": {"hidden_size": 8, "num_heads": 2, "dropout": 0.0},
        "optimizer": {"epochs": epochs, "batch_size": 64, "patience": 0, "checkpoint_steps": 5},
    })
}

pub(crate) async fn ended(api: &Api, run_id: &str, limit: Duration) -> Value {
    let path = format!("/api/v2/training/jobs/{run_id}");
    let final_run = || async {
        let run = api.get(&path).await.ok()["run"].take();
        let is_final = ["completed", "failed", "cancelled"].contains(&run["status"].as_str().unwrap());
        is_final.then_some(run)
    };
    until("the end of the run", limit, final_run).await
}

async fn num_reported(api: &Api, run_id: &str) -> usize {
    let progress = api.get(&format!("/api/v2/training/jobs/{run_id}/progress")).await.ok();
    progress["progress"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_after_a_kill_and_completes_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "").await;
    let api = server.api();
    api.import("d", bars::csv(&bars::simulated(1, 2000))).await.unwrap().ok();
    let started = api.post("/api/v2/training/jobs", &training("m", "d", 60)).await.ok();
    let run_id = started["run_id"].as_str().unwrap();
    let reported = || async { Some(num_reported(api, run_id).await).filter(|count| *count > 5) };
    let before = until("progress of the run", Duration::from_secs(60), reported).await;
    assert_ne!(api.get(&format!("/api/v2/training/jobs/{run_id}")).await.ok()["run"]["status"], "completed");
    server.kill9();
    // Its address is still written down; the command line finds that nobody is there.
    let listed = run(dir.path(), &["--json", "runs", "list"]);
    let runs: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(runs["runs"][0]["run_id"], run_id);

    let server = Server::start(dir.path(), "").await;
    let api = server.api();
    let done = ended(api, run_id, Duration::from_secs(120)).await;
    assert_eq!((&done["status"], &done["model_version"]), (&json!("completed"), &json!(1)), "{done}");
    let view = api.get(&format!("/api/v2/training/jobs/{run_id}")).await.ok();
    assert_eq!(view["result"]["epochs"], 60);
    // No step is told twice, and none is missing.
    let progress = api.get(&format!("/api/v2/training/jobs/{run_id}/progress")).await.ok();
    let progress = progress["progress"].as_array().unwrap();
    let steps: Vec<u64> =
        progress.iter().filter(|it| it["kind"] == "step").map(|it| it["step"].as_u64().unwrap()).collect();
    let all: Vec<u64> = (1..=view["result"]["steps"].as_u64().unwrap()).collect();
    assert_eq!(steps, all, "the steps that were reported");
    eprintln!("killed after {before} reports, {} in the end, {} attempts", progress.len(), view["result"]["attempts"]);
    server.terminate().await;

    // Once more from the start: what is done stays done.
    let server = Server::start(dir.path(), "").await;
    let api = server.api();
    let versions = api.get("/api/v2/models/m/versions").await.ok();
    assert_eq!(versions["versions"].as_array().unwrap().len(), 1, "{versions}");
    let runs = api.get("/api/v2/training/jobs").await.ok();
    assert_eq!(runs["runs"].as_array().unwrap().len(), 1, "{runs}");
    server.terminate().await;
}
