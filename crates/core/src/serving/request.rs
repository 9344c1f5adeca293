//! What a request brings, checked against what the model needs.

use moola_market::Bars;
use moola_market::windows::NUM_CHANNELS;

use super::PredictRequest;
use crate::contract::{InputKind, ModelManifest};
use crate::error::{Error, Result};
use crate::names::check_name;
use crate::recent::RecentBars;

const DAY_MS: i64 = 24 * 3_600_000;
/// Held bars shorter than a day end at most so long before the window that they continue: markets close from the
/// Thursday before Easter to the Tuesday after it, and hardly ever longer.
const MAX_GAP_MS: i64 = 5 * DAY_MS;
/// The same of daily bars, for the weeks in which some markets close; of longer ones it is two bars.
const MAX_DAILY_GAP_MS: i64 = 10 * DAY_MS;

/// Which version of which model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelReference {
    /// Registered model.
    pub model: String,
    /// `production`, `staging`, `latest`, a number or an alias.
    pub reference: String,
}

impl ModelReference {
    /// Reads `<model>`, `<model>/<reference>`, or, where `model` is given, a reference alone.
    ///
    /// # Errors
    /// `Invalid` where neither names a model, both name different ones, or a name is bad.
    pub fn parse(model: Option<&str>, model_version: Option<&str>) -> Result<Self> {
        const EXPECTED: &str = "`<model>`, `<model>/<version>`, or a version where `model` is given; \
                                a version is a number, `latest`, `production`, `staging` or an alias";
        let invalid =
            |value: &str| Error::invalid("model_version", value.chars().take(80).collect::<String>(), EXPECTED);
        let (model, reference) = match (model, model_version) {
            (None, None) => return Err(invalid("missing")),
            (Some(model), None) => (model, "production"),
            (None, Some(text)) => text.split_once('/').unwrap_or((text, "production")),
            (Some(model), Some(text)) => match text.split_once('/') {
                Some((named, reference)) if named == model => (model, reference),
                Some(_) => return Err(invalid(text)),
                None => (model, text),
            },
        };
        check_name("model", model)?;
        let reference = reference.to_ascii_lowercase();
        check_name("model_version", &reference)?;
        Ok(Self { model: model.into(), reference })
    }
}

/// How the fields of a request are called in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldNames {
    /// What they are in: `input_data`.
    pub root: &'static str,
    /// Whether there is a list of windows.
    pub is_batch: bool,
}

impl FieldNames {
    /// The path of a field that concerns all windows.
    #[must_use]
    pub fn name(&self, field: &str) -> String {
        format!("{}.{field}", self.root)
    }

    /// The path of a field of one window.
    #[must_use]
    pub fn row(&self, field: &str, row: usize) -> String {
        if self.is_batch { format!("{}.{field}[{row}]", self.root) } else { self.name(field) }
    }
}

/// One window with what stands before it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Open, high, low, close of the window's bars.
    pub ohlc: Vec<[f64; NUM_CHANNELS]>,
    /// The same of the bars right before it.
    pub history: Vec<[f64; NUM_CHANNELS]>,
    /// Volumes of history and window.
    pub volume: Option<Vec<Option<f64>>>,
    /// Start times of history and window, milliseconds since the epoch.
    pub time_ms: Option<Vec<i64>>,
}

impl Sample {
    /// Bars of history and window.
    #[must_use]
    pub fn num_bars(&self) -> usize {
        self.history.len() + self.ohlc.len()
    }
}

/// Checked bars, every window with exactly the history that the model computes from.
#[derive(Debug)]
pub(super) struct Prepared {
    /// All windows, one after another.
    pub(super) bars: Bars,
    /// Index of the last bar of each window.
    pub(super) ends: Vec<usize>,
    /// Whether the times are real.
    pub(super) has_times: bool,
    /// Time of the last held bar that is in use.
    pub(super) last_held_ms: Option<i64>,
}

impl Prepared {
    pub(super) fn end_time_ms(&self, row: usize) -> i64 {
        self.bars.time_ms()[self.ends[row]]
    }

    pub(super) fn window(&self, row: usize, window_bars: usize) -> Vec<[f64; NUM_CHANNELS]> {
        let end = self.ends[row];
        let bars = &self.bars;
        (end + 1 - window_bars..=end)
            .map(|index| [bars.open()[index], bars.high()[index], bars.low()[index], bars.close()[index]])
            .collect()
    }
}

/// Columns of all windows while they are gathered.
#[derive(Default)]
struct Columns {
    time_ms: Vec<i64>,
    prices: [Vec<f64>; NUM_CHANNELS],
    volume: Vec<f64>,
}

impl Columns {
    fn push(&mut self, time_ms: i64, prices: [f64; NUM_CHANNELS], volume: Option<f64>) {
        self.time_ms.push(time_ms);
        self.prices.iter_mut().zip(prices).for_each(|(column, price)| column.push(price));
        self.volume.push(volume.unwrap_or(f64::NAN));
    }

    fn held(&mut self, bars: &Bars, range: std::ops::Range<usize>) {
        for index in range {
            let prices = [bars.open()[index], bars.high()[index], bars.low()[index], bars.close()[index]];
            let volume = bars.volume()[index];
            self.push(bars.time_ms()[index], prices, volume.is_finite().then_some(volume));
        }
    }

    fn into_bars(self) -> Result<Bars> {
        let [open, high, low, close] = self.prices;
        Ok(Bars::from_columns(self.time_ms, open, high, low, close, Some(self.volume))?)
    }
}

/// Checks a request against the model and gathers its bars.
///
/// # Errors
/// `Invalid`, naming the field and its value.
pub(super) fn prepare(
    manifest: &ModelManifest,
    request: &PredictRequest,
    held: Option<&RecentBars>,
) -> Result<Prepared> {
    let needed = manifest.history_bars.max(manifest.window_bars);
    let held = held.map(RecentBars::bars).transpose()?;
    let mut columns = Columns::default();
    if request.samples.is_empty() {
        return latest(manifest, request, held.as_ref(), needed);
    }
    let mut last_held_ms = None;
    for (row, sample) in request.samples.iter().enumerate() {
        check_sample(manifest, request, sample, row)?;
        let history = (needed - manifest.window_bars).saturating_sub(sample.history.len());
        if history > 0 {
            let held = held_before(manifest, request, sample, row, held.as_ref(), history)?;
            last_held_ms = last_held_ms.max(held.0.time_ms().get(held.1.end - 1).copied());
            columns.held(held.0, held.1);
        }
        let skipped = sample.num_bars().saturating_sub(needed);
        let rows = sample.history.iter().chain(&sample.ohlc).enumerate().skip(skipped);
        for (index, prices) in rows {
            let time_ms = sample.time_ms.as_ref().map_or(index as i64, |times| times[index]);
            columns.push(time_ms, *prices, sample.volume.as_ref().and_then(|volume| volume[index]));
        }
    }
    let ends = (1..=request.samples.len()).map(|count| count * needed - 1).collect();
    let has_times = request.samples.iter().all(|sample| sample.time_ms.is_some());
    Ok(Prepared { bars: columns.into_bars()?, ends, has_times, last_held_ms })
}

/// The latest bars of the symbol.
fn latest(manifest: &ModelManifest, request: &PredictRequest, held: Option<&Bars>, needed: usize) -> Result<Prepared> {
    let fields = &request.fields;
    let (Some(symbol), Some(held)) = (&request.symbol, held) else {
        return Err(Error::invalid(
            &fields.name("ohlc_data"),
            "missing",
            format!("windows of {} bars, or a `symbol` whose latest bars moola holds", manifest.window_bars),
        ));
    };
    if held.len() < needed {
        let expected = format!("a symbol of which moola holds at least {needed} bars; it holds {}", held.len());
        return Err(Error::invalid(&fields.name("symbol"), symbol, expected));
    }
    let bars = held.slice(held.len() - needed..held.len());
    if !bars.has_volume() {
        check_volume(manifest, &fields.name("symbol"), &format!("{symbol}` without volume, `"))?;
    }
    Ok(Prepared { last_held_ms: bars.time_ms().last().copied(), bars, ends: vec![needed - 1], has_times: true })
}

fn check_sample(manifest: &ModelManifest, request: &PredictRequest, sample: &Sample, row: usize) -> Result<()> {
    let fields = &request.fields;
    if sample.ohlc.len() != manifest.window_bars {
        let name = format!("{}/{}", manifest.model, manifest.version);
        return Err(Error::invalid(
            &fields.row("ohlc_data", row),
            format!("{} bars", sample.ohlc.len()),
            format!("exactly {} bars, the window of model version `{name}`", manifest.window_bars),
        ));
    }
    check_prices(&fields.row("history", row), &sample.history)?;
    check_prices(&fields.row("ohlc_data", row), &sample.ohlc)?;
    let num_bars = sample.num_bars();
    let shape = || format!("{num_bars}, one for each bar of `history` and `ohlc_data`");
    match &sample.volume {
        Some(volume) if volume.len() != num_bars => {
            return Err(Error::invalid(&fields.row("volume", row), format!("{} numbers", volume.len()), shape()));
        }
        Some(volume) => {
            let is_bad = |volume: &Option<f64>| volume.is_some_and(|volume| !(0.0..f64::INFINITY).contains(&volume));
            if let Some(index) = volume.iter().position(is_bad) {
                let field = format!("{}[{index}]", fields.row("volume", row));
                let value = volume[index].unwrap_or(f64::NAN);
                return Err(Error::invalid(&field, value, "a finite number of at least 0, or null"));
            }
        }
        None => check_volume(manifest, &fields.row("volume", row), "missing")?,
    }
    match &sample.time_ms {
        Some(times) if times.len() != num_bars => {
            Err(Error::invalid(&fields.row("timestamps", row), format!("{} times", times.len()), shape()))
        }
        Some(times) => match times.windows(2).position(|pair| pair[0] >= pair[1]) {
            Some(index) => {
                let field = format!("{}[{}]", fields.row("timestamps", row), index + 1);
                let expected = format!("a time after the one before it, {}", times[index]);
                Err(Error::invalid(&field, times[index + 1], expected))
            }
            None => Ok(()),
        },
        None if reads_time(manifest) => Err(Error::invalid(
            &fields.row("timestamps", row),
            "missing",
            "a time for every bar, since features of the model read it",
        )),
        None => Ok(()),
    }
}

fn reads_time(manifest: &ModelManifest) -> bool {
    manifest.feature_set.as_ref().is_some_and(moola_market::features::FeatureSet::needs_time)
}

/// Refuses bars without volume where a feature needs it and has no declared stand-in.
fn check_volume(manifest: &ModelManifest, field: &str, value: &str) -> Result<()> {
    let Some(set) = &manifest.feature_set else { return Ok(()) };
    let has_stand_in = |name: &str| {
        let mut inputs = manifest.inputs.iter().filter(|input| input.kind == InputKind::Features);
        inputs.all(|input| input.missing.contains_key(name))
    };
    match set.features().iter().find(|feature| feature.needs_volume && !has_stand_in(feature.name)) {
        Some(feature) => {
            let expected = format!("volumes, since feature `{}` of the model is made of them", feature.name);
            Err(Error::invalid(field, value, expected))
        }
        None => Ok(()),
    }
}

fn check_prices(field: &str, rows: &[[f64; NUM_CHANNELS]]) -> Result<()> {
    let is_good = |[open, high, low, close]: &[f64; NUM_CHANNELS]| {
        // NaN fails every comparison; all prices lie between the low and the high.
        *low > 0.0 && low <= open && low <= close && open <= high && close <= high && *high < f64::INFINITY
    };
    let Some(index) = rows.iter().position(|row| !is_good(row)) else { return Ok(()) };
    let [open, high, low, close] = rows[index];
    for (name, price) in [("open", open), ("high", high), ("low", low), ("close", close)] {
        if !(price > 0.0 && price < f64::INFINITY) {
            return Err(Error::invalid(&format!("{field}[{index}].{name}"), price, "a finite price above 0"));
        }
    }
    let top = open.max(close).max(low);
    if high < top {
        let expected = format!("at least max(open, close, low) = {top}");
        return Err(Error::invalid(&format!("{field}[{index}].high"), high, expected));
    }
    let expected = format!("at most min(open, close, high) = {}", open.min(close));
    Err(Error::invalid(&format!("{field}[{index}].low"), low, expected))
}

/// The `count` held bars right before a sample.
fn held_before<'a>(
    manifest: &ModelManifest,
    request: &PredictRequest,
    sample: &Sample,
    row: usize,
    held: Option<&'a Bars>,
    count: usize,
) -> Result<(&'a Bars, std::ops::Range<usize>)> {
    let fields = &request.fields;
    let needed = manifest.history_bars - manifest.window_bars;
    let set = manifest.feature_set.as_ref().map_or("-", |set| set.name());
    let (Some(symbol), Some(held)) = (&request.symbol, held) else {
        return Err(Error::invalid(
            &fields.row("history", row),
            format!("{} bars", sample.history.len()),
            format!(
                "at least {needed} bars before the window, since feature set `{set}` is computed from {} bars; \
                 or `timestamps` and a `symbol` whose bars moola holds",
                manifest.history_bars
            ),
        ));
    };
    let Some(times) = &sample.time_ms else {
        let expected = "the time of every bar, to find the bars before them";
        return Err(Error::invalid(&fields.row("timestamps", row), "missing", expected));
    };
    let first = times.first().copied().unwrap_or(i64::MIN);
    let end = held.time_ms().partition_point(|time| *time < first);
    if end < count {
        let expected = format!("a symbol of which moola holds {count} bars before time {first}; it holds {end}");
        return Err(Error::invalid(&fields.name("symbol"), symbol, expected));
    }
    check_continues(fields, symbol, row, times, &held.time_ms()[..end])?;
    Ok((held, end - count..end))
}

/// The commonest time from one bar to the next, of equals the shortest; `None` where there are fewer than two bars.
fn usual_step_ms(times: &[i64]) -> Option<i64> {
    let mut steps: Vec<i64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    steps.sort_unstable();
    let runs = steps.chunk_by(|a, b| a == b);
    runs.max_by_key(|run| (run.len(), std::cmp::Reverse(run[0]))).map(|run| run[0])
}

/// Refuses bars at `times` that the held ones before them, at `held_times`, cannot stand before: those of another
/// interval, and those of a time before a gap that no closed market explains.
pub(super) fn check_continues(
    fields: &FieldNames,
    symbol: &str,
    row: usize,
    times: &[i64],
    held_times: &[i64],
) -> Result<()> {
    let (Some(first), Some(last)) = (times.first(), held_times.last()) else { return Ok(()) };
    let step = usual_step_ms(times);
    let held_step = usual_step_ms(held_times);
    if let (Some(step), Some(held_step)) = (step, held_step) {
        // Days and months differ by up to a tenth. The only step of two bars may lie over a weekend.
        let is_other = (step - held_step).abs() > step.max(held_step) / 10;
        if is_other && (times.len() > 2 || step < held_step) {
            let found = format!("bars {step} ms apart");
            let expected = format!("bars {held_step} ms apart, as those of `{symbol}` that moola holds before them");
            return Err(Error::invalid(&fields.row("timestamps", row), found, expected));
        }
    }
    let limit = match held_step.or(step) {
        Some(step) if step * 10 >= DAY_MS * 9 => MAX_DAILY_GAP_MS.max(2 * step),
        _ => MAX_GAP_MS,
    };
    if first - last > limit {
        let field = format!("{}[0]", fields.row("timestamps", row));
        let expected =
            format!("a time at most {limit} ms after {last}, the last bar of `{symbol}` that moola holds before it");
        return Err(Error::invalid(&field, first, expected));
    }
    Ok(())
}
