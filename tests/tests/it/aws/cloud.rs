//! The whole loop in an emulated AWS: from bars to a prediction of a version that drift made.

use std::time::Duration;

use moola_aws::decode_event;
use moola_core::react::RETRAIN_DUE;
use moola_tests::emulator::{Emulator, unique_name};
use moola_tests::graphs::{constant, constant_manifest};
use moola_tests::setup::Setup;
use moola_tests::{bars, until};
use reqwest::Method;
use serde_json::{Value, json};

use super::platform::Platform;
use super::redelivery::all_events_again_change_nothing;
use crate::r#loop::{LIMIT, SETTINGS, drift_to_retrain, event, event_of, in_production};

/// Publishes what EventBridge Scheduler publishes, as Terraform tells it to.
async fn fire(emulator: &Emulator, bus: &str, detail_type: &str, id: &str, detail: &Value) {
    let mut detail = detail.clone();
    detail["version"] = json!(1);
    detail["moola"] = json!({ "id": id });
    let entry = aws_sdk_eventbridge::types::PutEventsRequestEntry::builder()
        .event_bus_name(bus)
        .source("moola.schedule")
        .detail_type(detail_type)
        .detail(detail.to_string())
        .build();
    let client = aws_sdk_eventbridge::Client::new(&emulator.sdk_config().await);
    let put = client.put_events().entries(entry).send().await.unwrap();
    assert_eq!(put.failed_entry_count(), 0, "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_leads_to_a_new_version_by_itself_in_aws() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(emulator, SETTINGS, dir.path(), true).await;
    let api = &platform.api;
    drift_to_retrain(api).await;

    // A schedule of the model finds the drift that is left, and its turn to be retrained comes, both told twice.
    let bus = &platform.made.environment["MOOLA_BUS"];
    for _ in 0..2 {
        fire(emulator, bus, "Drift Check Due", "drift.m@1", &json!({ "model": "m" })).await;
    }
    let drift = json!("drift.m@1");
    let found = || async { event_of(api, &drift, "Drift Detected", "model", &json!("m")).await.then_some(()) };
    until("the scheduled check", LIMIT, found).await;
    fire(emulator, bus, RETRAIN_DUE, "retrain.m@1", &json!({ "model": "m" })).await;
    let skipped = event(api, "Retrain Skipped", "reason", &json!("no newer version of the dataset")).await;
    assert_eq!(skipped["correlation_id"], "retrain.m@1");

    // With new bars it is retrained, once, and all that follows belongs to the firing.
    api.import("d", bars::csv(&bars::shifted(3, 3000))).await.unwrap().ok();
    for _ in 0..2 {
        fire(emulator, bus, RETRAIN_DUE, "retrain.m@2", &json!({ "model": "m" })).await;
    }
    in_production(api, 3).await;
    for (kind, field, value) in [
        (RETRAIN_DUE, "model", json!("m")),
        ("Retrain Requested", "model_version", json!(2)),
        ("Run Requested", "trigger", json!("schedule")),
        ("Model Version Registered", "model_version", json!(3)),
        ("Gates Judged", "model_version", json!(3)),
        ("Stage Changed", "to", json!("Production")),
    ] {
        let chain = json!("retrain.m@2");
        let told = || async { event_of(api, &chain, kind, field, &value).await.then_some(()) };
        until(kind, LIMIT, told).await;
    }
    let runs = api.get("/api/v2/training/jobs").await.ok();
    let scheduled = runs["runs"].as_array().unwrap().iter().filter(|run| run["trigger"] == "schedule").count();
    assert_eq!(scheduled, 1, "{runs}");
    all_events_again_change_nothing(emulator, &platform).await;
    platform.batch.shutdown().await;
}

/// API Gateway takes 10 MB, Lambda 6.
#[tokio::test(flavor = "multi_thread")]
async fn files_larger_than_a_request_come_by_upload() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(emulator, "", dir.path(), true).await;
    let api = &platform.api;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let upload = async |file: Vec<u8>| {
        let made = api.post("/api/v2/uploads", &Value::Null).await.ok();
        let answer = http.put(made["url"].as_str().unwrap()).body(file).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        made["upload_id"].as_str().unwrap().to_owned()
    };
    let simulated = bars::simulated(1, 200_000);
    let file = bars::csv(&simulated);
    assert!(file.len() > 10 << 20, "{} bytes", file.len());
    let num_bytes = file.len();
    let id = upload(file.into_bytes()).await;
    let import = async |upload_id: &str| {
        let path = format!("/api/v2/datasets?name=d&symbol=d&interval=1h&upload={upload_id}");
        api.send(Method::POST, &path, None, Vec::new()).await.unwrap()
    };
    let imported = import(&id).await.ok();
    assert_eq!(imported["dataset"]["num_rows"], simulated.len(), "{}", imported["dataset"]);
    eprintln!("{num_bytes} bytes in one upload");

    let id = upload(constant(&[0.25, 0.75])).await;
    let body = json!({ "manifest": constant_manifest(), "model_upload": id });
    let version = api.post("/api/v2/models/m/versions", &body).await.ok();
    assert_eq!((&version["model"], &version["version"]), (&json!("m"), &json!(1)));

    // Made, but nothing was sent.
    let made = api.post("/api/v2/uploads", &Value::Null).await.ok();
    let unsent = made["upload_id"].as_str().unwrap();
    let message = import(unsent).await.refused(404);
    assert!(message.contains("`upload`") && message.contains(unsent), "{message}");
    let body = json!({ "manifest": constant_manifest(), "model_upload": unsent });
    let message = api.post("/api/v2/models/m/versions", &body).await.refused(404);
    assert!(message.contains("`model_upload`") && message.contains(unsent), "{message}");
    platform.batch.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the emulator looks every 10 s, and a rate is at least a minute"]
async fn schedules_of_a_model_reach_its_functions() {
    let Some(emulator) = Emulator::shared() else { return };
    let config = emulator.sdk_config().await;
    let mut setup = Setup::new(config.clone(), unique_name("firing"));
    setup.retrain_schedules = [("m".to_owned(), "rate(1 minute)".to_owned())].into();
    let made = setup.make().await.unwrap();
    let sqs = aws_sdk_sqs::Client::new(&config);
    let receive = || async {
        let received = sqs.receive_message().queue_url(&made.queues["react"]).send().await.unwrap();
        let body = received.messages?.pop()?.body?;
        decode_event(&serde_json::from_str(&body).unwrap()).ok()
    };
    let fired = until("the firing", Duration::from_secs(150), receive).await;
    assert_eq!((fired.source.as_str(), fired.detail_type.as_str()), ("moola.schedule", RETRAIN_DUE));
    assert_eq!((&fired.detail["model"], &fired.correlation_id), (&json!("m"), &fired.id));
}
