//! Requests, good and bad.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use moola_api::error::NotHere;
use moola_api::predict::{PredictAnswerV1, PredictAnswerV2, PredictedValue, Serving};
use moola_core::ports::{Artifact, Engine as _};
use moola_core::serving::{LogConfig, Predictor, ServingConfig};
use moola_core::{inputs, recent};
use moola_onnx::TractEngine;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::fixture::{App, MODEL, V2, WINDOW, bars, new_version, one_window, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_as_the_training_code_computes_it() {
    let app = App::serving(ServingConfig::default()).await;
    let bars = bars(400);
    let starts = [0, 37, 250];
    let windows: Vec<_> = starts.iter().map(|start| rows(&bars, *start..start + WINDOW)).collect();
    let body = json!({"model_version": MODEL, "input_data": {"ohlc_data": windows}, "metadata": {"desk": "a"}});
    let (status, headers, answer) = app.post(V2, body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let timing = headers["server-timing"].to_str().unwrap();
    for part in ["parse;dur=", "load;dur=", "features;dur=", "infer;dur="] {
        assert!(timing.contains(part), "{timing}");
    }
    assert!(headers.contains_key("x-request-id"));
    let answer: PredictAnswerV2 = serde_json::from_value(answer).unwrap();
    assert_eq!(answer.model_metadata.model, MODEL);
    assert_eq!(answer.model_metadata.model_version, "1");
    assert_eq!(answer.model_metadata.training_data_version.as_deref(), Some("sp500@7"));
    assert_eq!(answer.model_metadata.timestamp, "2026-01-05T00:00:00Z");
    assert_eq!(answer.model_metadata.engine, "native");

    // What training computes from the whole series.
    let new = new_version(MODEL, "core", 1);
    let ends: Vec<usize> = starts.iter().map(|start| start + WINDOW - 1).collect();
    let encoded = inputs::encode(&new.inputs, new.feature_set.as_ref(), WINDOW, &bars, &ends).unwrap();
    let expected = TractEngine.load(&Artifact::onnx(), &new.files["model.onnx"]).unwrap().run(encoded.tensors).unwrap();
    assert_eq!(answer.predictions.len(), 3);
    for (prediction, expected) in answer.predictions.iter().zip(expected[0].data().chunks(2)) {
        let probabilities = prediction.probabilities.as_ref().unwrap();
        assert_eq!(probabilities["consolidation"], f64::from(expected[0]));
        assert_eq!(probabilities["expansion"], f64::from(expected[1]));
        let class = if expected[0] >= expected[1] { "consolidation" } else { "expansion" };
        assert_eq!(prediction.class.as_deref(), Some(class));
        assert_eq!(prediction.confidence, Some(probabilities[class]));
    }
    let ids: std::collections::BTreeSet<_> = answer.predictions.iter().map(|it| &it.prediction_id).collect();
    assert_eq!(ids.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn version_1_answers_and_explains() {
    let app = App::serving(ServingConfig::default()).await;
    let window = one_window()["input_data"]["ohlc_data"][0].clone();
    let path = format!("/api/v1/ml/predict/{MODEL}");
    let body = json!({"features": {"ohlc_data": window}, "requestId": "r-7", "explainPrediction": true});
    let (status, _, answer) = app.post(&path, body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let explained: PredictAnswerV1 = serde_json::from_value(answer).unwrap();
    assert_eq!(explained.request_id, "r-7");
    assert_eq!(explained.model_info.name, MODEL);
    assert_eq!(explained.model_info.version, "1");
    assert!(explained.latency > 0.0);
    let explanation = explained.explanation.unwrap();
    assert_eq!(explanation.method, "occlusion");
    assert_eq!(PredictedValue::Class(explanation.output), explained.prediction);
    let set = moola_market::features::FeatureSet::builtin("core").unwrap();
    assert_eq!(explanation.attributions.len(), set.len() + 1);
    let sizes: Vec<f64> = explanation.attributions.iter().map(|it| it.attribution.abs()).collect();
    assert!(sizes.is_sorted_by(|a, b| a >= b) && sizes[0] > 0.0, "{sizes:?}");
    assert!(explanation.attributions.iter().any(|it| it.name == "bars" && it.value.is_none()));
    let rsi = explanation.attributions.iter().find(|it| it.name == "rsi14").unwrap();
    assert!((0.0..=100.0).contains(&rsi.value.unwrap()));

    // The rows alone, and no explanation unless asked.
    let (status, _, answer) = app.post(&path, json!({"features": window}).to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["explanation"], Value::Null);
    assert_eq!(answer["probabilities"], json!(explained.probabilities));
}

/// One change of a good request and what the answer must name.
async fn refused(app: &App, body: &str, status: u16, parts: &[&str]) {
    let (got, _, answer) = app.post(V2, body.to_owned()).await;
    let message = answer["message"].as_str().unwrap_or_default();
    assert_eq!(got.as_u16(), status, "{answer}");
    assert!(answer["error_code"].is_string(), "{answer}");
    for part in parts {
        assert!(message.contains(part), "{message}: no {part}");
    }
    assert!(message.len() < 600, "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_named_with_field_and_value() {
    let app = App::serving(ServingConfig { max_batch_rows: 4, ..ServingConfig::default() }).await;
    let good = one_window();
    assert_eq!(app.post(V2, good.to_string()).await.0, StatusCode::OK);
    let with = |path: &str, value: Value| {
        let mut body = one_window();
        *body.pointer_mut(path).unwrap() = value;
        body.to_string()
    };
    let row = "/input_data/ohlc_data/0/17";
    let named = "`input_data.ohlc_data[0][17]";
    for (body, parts) in [
        (with(row, json!([1.25, 1.2, 1.1, 1.3])), &[".high` is `1.2`", "at least max(open, close, low) = 1.3"][..]),
        (with(row, json!([1.2, 1.4, 1.25, 1.3])), &[".low` is `1.25`", "at most min(open, close, high) = 1.2"]),
        (with(row, json!([-1.2, 1.4, 1.1, 1.3])), &[".open` is `-1.2`", "a finite price above 0"]),
        (with(row, json!([1.2, 1.4, 0.0, 1.3])), &[".low` is `0`", "a finite price above 0"]),
        (with(row, json!([1.2, 1.4, 1.1])), &["` is `3`", "4 numbers: open, high, low, close"]),
        (with(row, json!([1.2, 1.4, 1.1, 1.3, 5])), &["` is `5`", "4 numbers"]),
        (with(row, json!([1.2, "x", 1.1, 1.3])), &["[1]` is `string \"x\"`", "a number"]),
        (with(row, json!([1.2, null, 1.1, 1.3])), &["[1]` is `null`", "a number"]),
        (with(row, json!("x")), &["` is `string \"x\"`", "4 numbers"]),
    ] {
        let parts: Vec<String> = parts
            .iter()
            .enumerate()
            .map(|(i, part)| if i == 0 { format!("{named}{part}") } else { (*part).to_owned() })
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        refused(&app, &body, 400, &parts).await;
    }
    let nan = one_window().to_string().replacen("[[[", "[[[NaN, 1, 1, 1], [", 1);
    refused(&app, &nan, 400, &["`input_data.ohlc_data[0][0][0]` is `NaN`"]).await;

    let bars = bars(400);
    let window = |len: usize| json!([rows(&bars, 0..len)]);
    refused(&app, &with("/input_data/ohlc_data", window(104)), 400, &["ohlc_data[0]` is `104 bars`", "exactly 105"])
        .await;
    refused(&app, &with("/input_data/ohlc_data", window(106)), 400, &["`106 bars`"]).await;
    refused(&app, &with("/input_data/ohlc_data", json!([])), 400, &["`input_data.ohlc_data` is `[]`"]).await;
    refused(&app, &with("/input_data/ohlc_data", json!(5)), 400, &["`input_data.ohlc_data` is integer `5`"]).await;
    let many = json!(vec![rows(&bars, 0..WINDOW); 5]);
    refused(&app, &with("/input_data/ohlc_data", many), 400, &["`5 windows`", "at most 4"]).await;
    refused(&app, &with("/input_data", json!({})), 400, &["`input_data.ohlc_data` is `missing`"]).await;
    refused(&app, &with("/input_data", json!({"ohcl": []})), 400, &["`input_data", "unknown field `ohcl`"]).await;
    let extra = |name: &str, value: Value| {
        let mut body = one_window();
        body["input_data"][name] = value;
        body.to_string()
    };
    let mut volume = vec![json!(1.0); WINDOW];
    volume[3] = json!(-2.5);
    refused(&app, &extra("volume", json!([volume])), 400, &["`input_data.volume[0][3]` is `-2.5`"]).await;
    refused(&app, &extra("volume", json!([[1.0]])), 400, &["`input_data.volume[0]` is `1 numbers`", "105"]).await;
    refused(&app, &extra("volume", json!([])), 400, &["`input_data.volume` is `0 entries`"]).await;
    let mut times: Vec<i64> = (0..WINDOW as i64).map(|i| i * 3_600_000).collect();
    times[9] = times[8];
    refused(&app, &extra("timestamps", json!([times])), 400, &["`input_data.timestamps[0][9]` is `28800000`"]).await;
    let mut times = vec![json!("2026-01-05T00:00:00Z"); WINDOW];
    times[1] = json!("soon");
    refused(&app, &extra("timestamps", json!([times])), 400, &["`input_data.timestamps[0][1]`", "soon"]).await;

    // Models.
    refused(&app, &with("/model_version", json!("nobody")), 404, &["model `nobody` does not exist"]).await;
    refused(&app, &with("/model_version", json!(format!("{MODEL}/99"))), 404, &["99"]).await;
    refused(&app, &with("/model_version", json!(format!("{MODEL}/champion"))), 404, &["champion"]).await;
    refused(&app, &with("/model_version", json!("../x")), 400, &["`model` is `..`"]).await;
    refused(&app, &with("/model_version", json!(7)), 400, &["`model_version` is", "7"]).await;
    refused(&app, &json!({"input_data": good["input_data"]}).to_string(), 400, &["`model_version` is `missing`"]).await;
    refused(&app, "{", 400, &["`body`"]).await;
    refused(&app, "", 400, &["`body`"]).await;
    refused(&app, &"[".repeat(5000), 400, &["`body[0]` is `sequence`"]).await;
    // 10 MB, more than the limit.
    let huge = format!("{{\"model_version\": \"{}\"}}", "x".repeat(10_000_000));
    refused(&app, &huge, 413, &["`body` is `10000021` bytes", "at most 8388608"]).await;
    let (status, body) = app.get(V2).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{}", String::from_utf8_lossy(&body));
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_served_by_number_stage_and_alias() {
    let app = App::serving(ServingConfig { max_loaded_bytes: 1, ..ServingConfig::default() }).await;
    for number in 2..=3 {
        app.register(new_version(MODEL, "core", number)).await;
    }
    app.registry.set_alias(MODEL, "challenger", Some(2)).await.unwrap();
    for (model, reference, version) in [
        (None, MODEL.to_owned(), "1"),
        (None, format!("{MODEL}/production"), "1"),
        (None, format!("{MODEL}/Production"), "1"),
        (None, format!("{MODEL}/2"), "2"),
        (None, format!("{MODEL}/latest"), "3"),
        (None, format!("{MODEL}/challenger"), "2"),
        (Some(MODEL), "3".to_owned(), "3"),
    ] {
        let mut body = one_window();
        body["model_version"] = json!(reference);
        if let Some(model) = model {
            body["model"] = json!(model);
        }
        let (status, _, answer) = app.post(V2, body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{reference}: {answer}");
        assert_eq!(answer["model_metadata"]["model_version"], version, "{reference}");
    }
    // One byte holds none but the one in production and the one used last.
    assert_eq!(app.predictor.status().num_loaded, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_beyond_the_limit_are_loaded_on_demand() {
    let app = App::serving(ServingConfig { max_loaded_bytes: 1, ..ServingConfig::default() }).await;
    let ask = async |model: &str| {
        let mut body = one_window();
        body["model_version"] = json!(model);
        let (status, _, answer) = app.post(V2, body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{model}: {answer}");
        answer["model_metadata"]["model_version"].as_str().unwrap().to_owned()
    };
    for model in ["second", "third"] {
        for number in 1..=2 {
            app.register(new_version(model, "core", number)).await;
        }
        app.promote(model, 1).await;
    }
    app.predictor.refresh().await.unwrap();
    assert_eq!(app.predictor.status().num_loaded, 1);
    for model in [MODEL, "second", "third", "second"] {
        assert_eq!(ask(model).await, "1");
    }
    let status = app.predictor.status();
    assert_eq!((status.num_loaded, status.models.len(), status.degraded), (2, 1, Vec::new()));

    // They follow promotions too, and outlive the registry.
    app.promote("second", 2).await;
    app.predictor.refresh().await.unwrap();
    assert_eq!(ask("second").await, "2");
    app.table_fails.store(true, Ordering::SeqCst);
    assert_eq!(ask("second").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_sent_or_held() {
    let app = App::new(ServingConfig::default());
    app.register(new_version("deep", "all", 1)).await;
    app.promote("deep", 1).await;
    let all = bars(1000);
    let held = all.slice(0..600);
    recent::write(&app.memory.ports(), "SP500", "sp500", "9", &held).await.unwrap();
    let window = 560..560 + WINDOW;
    let history = window.start - 400..window.start;
    let volume = |range: std::ops::Range<usize>| all.volume()[range].to_vec();
    let times = |range: std::ops::Range<usize>| all.time_ms()[range].to_vec();
    let sent = json!({"model_version": "deep", "input_data": {
        "ohlc_data": [rows(&all, window.clone())], "history": [rows(&all, history.clone())],
        "volume": [volume(history.start..window.end)], "timestamps": [times(history.start..window.end)]}});
    let (status, _, sent) = app.post(V2, sent.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{sent}");
    let body = json!({"model_version": "deep", "input_data": {
        "ohlc_data": [rows(&all, window.clone())], "symbol": "SP500",
        "volume": [volume(window.clone())], "timestamps": [times(window.clone())]}});
    let (status, _, taken) = app.post(V2, body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{taken}");
    assert_eq!(taken["predictions"][0]["probabilities"], sent["predictions"][0]["probabilities"]);
    assert_eq!(taken["model_metadata"]["bars_from"], "sp500@9");

    // The latest bars of the symbol are the window that ends with them.
    let body = json!({"model_version": "deep", "input_data": {"symbol": "SP500"}});
    let (status, _, latest) = app.post(V2, body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{latest}");
    let body = json!({"model_version": "deep", "input_data": {
        "ohlc_data": [rows(&all, 495..600)], "history": [rows(&all, 200..495)],
        "volume": [volume(200..600)], "timestamps": [times(200..600)]}});
    let (_, _, same) = app.post(V2, body.to_string()).await;
    assert_eq!(latest["predictions"][0]["probabilities"], same["predictions"][0]["probabilities"]);

    let change = |change: fn(&mut Value)| {
        let mut body = body.clone();
        change(&mut body["input_data"]);
        body.to_string()
    };
    let bare = change(|data| {
        let data = data.as_object_mut().unwrap();
        data.remove("history");
        for name in ["volume", "timestamps"] {
            data[name] = json!([data[name][0].as_array().unwrap()[295..].to_vec()]);
        }
    });
    refused(&app, &bare, 400, &["`input_data.history[0]` is `0 bars`", "at least 215 bars", "320 bars"]).await;
    refused(
        &app,
        &change(|data| drop(data.as_object_mut().unwrap().remove("volume"))),
        400,
        &["`input_data.volume[0]` is `missing`"],
    )
    .await;
    refused(
        &app,
        &change(|data| drop(data.as_object_mut().unwrap().remove("timestamps"))),
        400,
        &["`input_data.timestamps[0]` is `missing`"],
    )
    .await;
    let body = json!({"model_version": "deep", "input_data": {"symbol": "DAX"}});
    refused(&app, &body.to_string(), 404, &["symbol `DAX` does not exist"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_refused_for_now() {
    let config = ServingConfig { max_concurrent: 1, max_queued: 0, ..ServingConfig::default() };
    let app = Arc::new(App::serving(config).await);
    let bars = bars(400);
    let body =
        json!({"model_version": MODEL, "input_data": {"ohlc_data": vec![rows(&bars, 0..WINDOW); 200]}}).to_string();
    let calls = (0..16).map(|_| {
        let (app, body) = (app.clone(), body.clone());
        tokio::spawn(async move { app.post(V2, body).await })
    });
    let (mut answered, mut refused) = (0, 0);
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            (StatusCode::OK, ..) => answered += 1,
            (StatusCode::SERVICE_UNAVAILABLE, headers, answer) => {
                assert_eq!(answer["error_code"], "TEMPORARILY_UNAVAILABLE");
                assert_eq!(headers["retry-after"], "1");
                refused += 1;
            }
            (status, _, answer) => panic!("{status} {answer}"),
        }
    }
    assert!(answered >= 1 && refused >= 1, "{answered} {refused}");
}

/// What another program answers is counted there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_handed_on_is_not_counted() {
    let app = App::serving(ServingConfig::default()).await;
    for hands_on in [true, false] {
        let predictor = Predictor::start(app.memory.ports(), Vec::new(), ServingConfig::default());
        predictor.refresh().await.unwrap();
        let serving = Serving::new(predictor).handing_on(hands_on);
        let router = moola_api::predict::router(serving.clone()).merge(moola_api::health::router(serving));
        let router = moola_api::finish(router, app.memory.ports().ids);
        let request = Request::post(V2).header("content-type", "application/json");
        let request = request.body(Body::from(one_window().to_string())).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        assert!(response.status() == StatusCode::SERVICE_UNAVAILABLE, "{response:?}");
        assert!(response.extensions().get::<NotHere>().is_some(), "{response:?}");
        let metrics = router.oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
        let metrics = to_bytes(metrics.into_body(), 1 << 20).await.unwrap();
        let metrics = String::from_utf8_lossy(&metrics);
        assert_eq!(metrics.contains("status=\"503\""), !hands_on, "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operation_is_told() {
    let app = App::serving(ServingConfig {
        log: LogConfig { flush_ms: 10, ..LogConfig::default() },
        ..ServingConfig::default()
    })
    .await;
    assert_eq!(app.get("/health").await, (StatusCode::OK, b"OK".to_vec()));
    app.post(V2, one_window().to_string()).await;
    app.post(V2, "{}").await;
    let (status, ready) = app.get_json("/ready").await;
    assert_eq!((status, &ready["status"]), (StatusCode::OK, &json!("ready")), "{ready}");
    assert_eq!(ready["models"][0]["version"], 1);
    let (_, metrics) = app.get("/metrics").await;
    let metrics = String::from_utf8(metrics).unwrap();
    for line in [
        format!("moola_requests_total{{route=\"{V2}\",model=\"{MODEL}\",version=\"1\",status=\"200\"}} 1"),
        format!("moola_requests_total{{route=\"{V2}\",model=\"-\",version=\"-\",status=\"400\"}} 1"),
        "moola_ready 1".to_owned(),
        "moola_models_loaded 1".to_owned(),
        format!("moola_model_age_seconds{{model=\"{MODEL}\",version=\"1\"}} 0"),
    ] {
        assert!(metrics.contains(&line), "{metrics}\nno {line}");
    }
    let (status, document) = app.get_json("/openapi.json").await;
    assert_eq!(status, StatusCode::OK);
    for path in [V2, "/api/v1/ml/predict/{model}", "/api/v2/inference/outcomes", "/ready"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
    // Every reference leads somewhere.
    let text = document.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    let empty = App::over(ServingConfig::default(), true);
    let (status, ready) = empty.get_json("/ready").await;
    assert_eq!((status, &ready["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("starting")));
}
