//! `moola predict`.

use std::path::Path;

use anyhow::Context as _;
use moola_api::control::VersionView;
use moola_api::predict::PredictAnswerV2;
use moola_market::Bars;
use moola_market::read::{self, ReadOptions};
use serde_json::{Value, json};

use super::{read_input, show, split_model};
use crate::args::{Global, PredictArgs};
use crate::client::{Call, Client};
use crate::output::{Hint as _, Table, line, number};

/// The bars that a prediction at the bar `end` needs, as the API takes them.
pub(crate) fn input(bars: &Bars, end: usize, window_bars: usize, history_bars: usize) -> Value {
    let start = (end + 1).saturating_sub(history_bars.max(window_bars));
    let window = (end + 1).saturating_sub(window_bars);
    let rows = |range: std::ops::Range<usize>| -> Vec<[f64; 4]> {
        range.map(|i| [bars.open()[i], bars.high()[i], bars.low()[i], bars.close()[i]]).collect()
    };
    let mut input = json!({
        "ohlc_data": [rows(window..end + 1)],
        "timestamps": [&bars.time_ms()[start..=end]],
    });
    if window > start {
        input["history"] = json!([rows(start..window)]);
    }
    if bars.has_volume() {
        let volume: Vec<Option<f64>> =
            bars.volume()[start..=end].iter().map(|volume| volume.is_finite().then_some(*volume)).collect();
        input["volume"] = json!([volume]);
    }
    input
}

/// Runs the command.
pub(super) async fn run(global: &Global, client: &Client, args: PredictArgs) -> anyhow::Result<()> {
    let (name, version) = split_model(&args.model);
    let reference = version.unwrap_or("production");
    let input = match &args.symbol {
        Some(symbol) => json!({"symbol": symbol}),
        None => {
            let call = Call::get(&["models", name, "versions", reference]);
            let view: VersionView = client.call(call).await?;
            let path = args.file.as_deref().unwrap_or(Path::new("-"));
            let bars = read::read(&read_input(path)?, &ReadOptions::default());
            let bars = bars.with_context(|| format!("`{}`", path.display()))?.bars;
            let manifest = &view.manifest;
            if bars.len() < manifest.window_bars {
                let short: anyhow::Result<()> = Err(anyhow::anyhow!(
                    "`{}` has {} bars, the model needs {}",
                    path.display(),
                    bars.len(),
                    manifest.history_bars
                ));
                return short
                    .hint(format!("a window has {} bars; features may need more before it", manifest.window_bars));
            }
            input(&bars, bars.len() - 1, manifest.window_bars, manifest.history_bars)
        }
    };
    let body = json!({"model": name, "model_version": reference, "input_data": input});
    let call = Call::post(&["inference", "predict"]).json(&body)?;
    show(global, client, call, |answer: PredictAnswerV2| {
        let mut table = Table::new(&["prediction", "confidence", "probabilities", "version", "id"]);
        for prediction in answer.predictions {
            let probabilities = prediction.probabilities.unwrap_or_default();
            let probabilities: Vec<String> =
                probabilities.iter().map(|(class, value)| format!("{class} {value:.4}")).collect();
            table.row([
                prediction.class.unwrap_or_else(|| number(prediction.value, 6)),
                number(prediction.confidence, 4),
                probabilities.join(", "),
                answer.model_metadata.model_version.clone(),
                prediction.prediction_id,
            ]);
        }
        table.print()?;
        if let (Some(source), Some(last)) = (answer.model_metadata.bars_from, answer.model_metadata.last_bar) {
            line(format!("\nfrom the bars of {source}, the last of {last}"))?;
        }
        Ok(())
    })
    .await
}
