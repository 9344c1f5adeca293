//! The latest bars of every symbol, kept small so that serving reads them with one call.
//!
//! A dataset version writes its last [`MAX_BARS`] bars to `datasets/<name>/<version>/recent.json`, then points the item
//! (`symbols`, `<symbol>/<dataset>`) at them unless that already points at later bars.

use moola_market::Bars;
use serde::{Deserialize, Serialize};

use crate::commit::{from_json_bytes, put, to_json_bytes, unchanged};
use crate::contract::paths;
use crate::error::{Error, ErrorKind, Result};
use crate::ports::{Key, Ports, PutMode, Query};

/// Most bars that are kept of a symbol.
pub const MAX_BARS: usize = 512;

const FILE: &str = "recent.json";
const SYMBOLS: &str = "symbols";

/// The latest bars of a symbol, in columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecentBars {
    /// Instrument.
    pub symbol: String,
    /// Dataset that they come from.
    pub dataset: String,
    /// Its version.
    pub version: String,
    /// Start times, milliseconds since the epoch, ascending.
    pub time_ms: Vec<i64>,
    /// Opening prices.
    pub open: Vec<f64>,
    /// Highest prices.
    pub high: Vec<f64>,
    /// Lowest prices.
    pub low: Vec<f64>,
    /// Closing prices.
    pub close: Vec<f64>,
    /// Volumes; `None` where missing.
    pub volume: Vec<Option<f64>>,
}

impl RecentBars {
    /// The bars.
    ///
    /// # Errors
    /// `Corrupt` where the columns differ in length.
    pub fn bars(&self) -> Result<Bars> {
        let volume = self.volume.iter().map(|volume| volume.unwrap_or(f64::NAN)).collect();
        Bars::from_columns(
            self.time_ms.clone(),
            self.open.clone(),
            self.high.clone(),
            self.low.clone(),
            self.close.clone(),
            Some(volume),
        )
        .map_err(|e| Error::corrupt(format!("recent bars of `{}`", self.symbol)).with_source(e))
    }

    /// `<dataset>@<version>`.
    #[must_use]
    pub fn source(&self) -> String {
        format!("{}@{}", self.dataset, self.version)
    }
}

/// Where the latest bars of a symbol are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pointer {
    symbol: String,
    dataset: String,
    version: String,
    last_time_ms: i64,
}

/// Keeps the last bars of `bars`, which are the dataset version's, in order of time.
///
/// # Errors
/// `Invalid` where there are no bars; those of the ports.
pub async fn write(ports: &Ports, symbol: &str, dataset: &str, version: &str, bars: &Bars) -> Result<()> {
    let Some(&last_time_ms) = bars.time_ms().last() else {
        return Err(Error::invalid("bars", "empty", "at least one bar"));
    };
    let tail = bars.slice(bars.len().saturating_sub(MAX_BARS)..bars.len());
    let recent = RecentBars {
        symbol: symbol.into(),
        dataset: dataset.into(),
        version: version.into(),
        time_ms: tail.time_ms().to_vec(),
        open: tail.open().to_vec(),
        high: tail.high().to_vec(),
        low: tail.low().to_vec(),
        close: tail.close().to_vec(),
        volume: tail.volume().iter().map(|volume| volume.is_finite().then_some(*volume)).collect(),
    };
    let blob = paths::dataset(dataset, version, FILE);
    ports.blobs.put(&blob, to_json_bytes(&recent)?, PutMode::Overwrite).await?;
    let key = Key::new(SYMBOLS, format!("{symbol}/{dataset}"));
    let pointer = Pointer { symbol: symbol.into(), dataset: dataset.into(), version: version.into(), last_time_ms };
    loop {
        let current = ports.read::<Pointer>(&key).await?;
        if current.as_ref().is_some_and(|(current, _)| current.last_time_ms > last_time_ms) {
            return Ok(());
        }
        let condition = unchanged(current.map(|(_, revision)| revision));
        match ports.table.write(vec![put(key.clone(), &pointer, condition)?]).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            done => return done,
        }
    }
}

/// Reads the latest bars of a symbol: those of `dataset` where it has some, else those of the only dataset that has.
///
/// # Errors
/// `NotFound` where moola holds no bars of the symbol; `Invalid` where several other datasets hold some; those of the
/// ports.
pub async fn read(ports: &Ports, symbol: &str, dataset: Option<&str>) -> Result<RecentBars> {
    if symbol.is_empty() || symbol.len() > 200 {
        return Err(Error::invalid("symbol", symbol.chars().take(80).collect::<String>(), "1 to 200 bytes"));
    }
    let mut pointers = ports.read_all::<Pointer>(Query::prefix(SYMBOLS, format!("{symbol}/")), 1000).await?;
    pointers.retain(|pointer| pointer.symbol == symbol);
    let chosen = pointers.iter().find(|pointer| Some(pointer.dataset.as_str()) == dataset);
    let pointer = match (chosen, pointers.as_slice()) {
        (Some(pointer), _) | (None, [pointer]) => pointer,
        (None, []) => {
            return Err(Error::not_found("symbol", symbol)
                .with_hint("send `ohlc_data`, or import a dataset of this symbol with `moola data import`"));
        }
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|pointer| pointer.dataset.as_str()).collect();
            let expected =
                format!("a symbol of the model's dataset, or of one dataset alone; it is in {}", names.join(", "));
            return Err(Error::invalid("symbol", symbol, expected));
        }
    };
    let blob = paths::dataset(&pointer.dataset, &pointer.version, FILE);
    from_json_bytes(&blob, &ports.blobs.get(&blob).await?)
}
