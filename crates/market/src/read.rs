//! Bars from CSV and JSON, with nothing dropped silently.

mod columns;
mod csv;
mod json;
#[cfg(test)]
mod tests;
mod timestamp;

use serde::{Deserialize, Serialize};

pub use self::columns::{Column, read_columns};
pub use self::csv::read_csv;
pub use self::json::read_json;
pub use self::timestamp::{DateOrder, parse_timestamp};
use crate::bars::{Bar, Bars};
use crate::error::{Error, Result};

/// How to read a file of bars.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// Seconds east of UTC of timestamps that carry no zone; such timestamps are UTC by default.
    pub utc_offset_secs: i32,
    /// Order of dates such as `03/04/2020`, which are refused without it.
    pub date_order: Option<DateOrder>,
    /// Separator of a CSV file; found in the first line where absent.
    pub delimiter: Option<char>,
    /// Whether numbers are written `1,25` instead of `1.25`.
    pub decimal_comma: bool,
    /// Names of the columns of a CSV file that has no header line.
    pub header: Option<Vec<String>>,
    /// The instrument to keep where a column `symbol` or `ticker` names several.
    pub symbol: Option<String>,
}

/// What a column of the source is used for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnUse {
    /// Name in the source.
    pub name: String,
    /// `time`, `open`, `high`, `low`, `close`, `volume`, `symbol` or `extra`.
    pub used_as: String,
}

/// A column that was left out because it does not hold numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IgnoredColumn {
    /// Name in the source.
    pub name: String,
    /// Line of the first value that is not a number.
    pub line: u64,
    /// That value.
    pub value: String,
}

/// A row that could not be read as a bar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BadRow {
    /// Line in the source, from 1.
    pub line: u64,
    /// The column that could not be read, or `row`.
    pub column: String,
    /// What stood there.
    pub value: String,
    /// Why it was not accepted.
    pub reason: String,
    /// The whole row as it was written, at most 1,000 characters of it.
    pub row: String,
}

/// Bars as they were read, before validation.
///
/// # Invariants
/// `lines` has one entry per bar. `num_rows` = bars + bad rows + `num_other_symbols`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawBars {
    /// The bars in the order of the source.
    pub bars: Bars,
    /// Line in the source of each bar, from 1.
    pub lines: Vec<u64>,
    /// Rows that could not be read.
    pub bad_rows: Vec<BadRow>,
    /// Columns of the source and their use.
    pub columns: Vec<ColumnUse>,
    /// Columns left out.
    pub ignored_columns: Vec<IgnoredColumn>,
    /// Rows of data in the source.
    pub num_rows: usize,
    /// Rows left out because they are of another symbol than the one asked for.
    pub num_other_symbols: usize,
}

impl RawBars {
    /// Takes bars that came from elsewhere; the line of a bar is its number, from 1.
    #[must_use]
    pub fn from_bars(bars: Bars) -> Self {
        let num_rows = bars.len();
        let lines = (1..=num_rows as u64).collect();
        Self { bars, lines, num_rows, ..Self::default() }
    }
}

/// Reads bars from `bytes`, as JSON where they start with `{` or `[` and as CSV otherwise.
///
/// # Errors
/// [`Error::Invalid`] where a required column is missing; see [`read_csv`] and [`read_json`].
pub fn read(bytes: &[u8], options: &ReadOptions) -> Result<RawBars> {
    match skip_bom(bytes).trim_ascii_start() {
        [b'{' | b'[', ..] => read_json(bytes, options),
        _ => read_csv(bytes, options),
    }
}

fn skip_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
enum Cell<'a> {
    Missing,
    Text(&'a [u8]),
    Owned(String),
    Integer(i64),
    Number(f64),
    /// Milliseconds since the epoch.
    Time(i64),
}

impl Cell<'_> {
    fn show(&self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Text(text) => shorten(&String::from_utf8_lossy(text), 80),
            Self::Owned(text) => shorten(text, 80),
            Self::Integer(value) | Self::Time(value) => value.to_string(),
            Self::Number(value) => value.to_string(),
        }
    }

    fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text),
            Self::Owned(text) => Some(text.as_bytes()),
            _ => None,
        }
    }
}

fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit { text.to_owned() } else { text.chars().take(limit).chain(['…']).collect() }
}

/// Names that are taken for each column, in order of preference.
const TIME: [&str; 14] = [
    "timestamp",
    "datetime",
    "date_time",
    "time_ms",
    "timestamp_ms",
    "timestamp_utc",
    "open_time",
    "opentime",
    "ts",
    "gmt_time",
    "utc",
    "unix",
    "epoch",
    "t",
];
const OPEN: [&str; 3] = ["open", "o", "open_price"];
const HIGH: [&str; 4] = ["high", "h", "high_price", "max"];
const LOW: [&str; 4] = ["low", "l", "low_price", "min"];
const CLOSE: [&str; 4] = ["close", "c", "close_price", "close_last"];
const VOLUME: [&str; 8] = ["volume", "vol", "v", "tick_volume", "tickvolume", "tickvol", "tick_vol", "real_volume"];
const SYMBOL: [&str; 4] = ["symbol", "ticker", "instrument", "pair"];
/// Columns without a name of their own that pandas writes for an index.
const INDEX: [&str; 3] = ["", "index", "unnamed:_0"];

/// A column name in lower case, without decoration: `<DATE>`, `1. open`, `Open Price`.
fn normal(name: &str) -> String {
    let name = name.trim().trim_matches(['<', '>', '"', '\'']).to_lowercase();
    let digits = name.chars().take_while(char::is_ascii_digit).count();
    let name = match name[digits..].strip_prefix(". ") {
        Some(rest) if digits > 0 => rest,
        _ => name.as_str(),
    };
    let name = name.split(['(', '[']).next().unwrap_or_default().trim();
    name.replace([' ', '-', '.', '/'], "_")
}

/// Most columns of a file besides those of a bar: each takes 8 bytes for every row, however few rows have a value.
pub const MAX_EXTRA_COLUMNS: usize = 256;
/// Most columns of a bar: date, time of day, four prices, volume and symbol.
const MAX_BAR_COLUMNS: usize = 8;

fn check_extra(count: usize) -> Result<()> {
    if count <= MAX_EXTRA_COLUMNS {
        return Ok(());
    }
    let found = format!("{count} besides those of a bar");
    Err(Error::invalid("columns", found, format!("at most {MAX_EXTRA_COLUMNS} of them")))
}

/// Where the columns of a bar stand in a row.
#[derive(Debug, Clone, PartialEq)]
struct Layout {
    time: usize,
    /// A second column with the time of day, where `time` holds the date alone.
    clock: Option<usize>,
    /// Open, high, low, close.
    prices: [usize; 4],
    volume: Option<usize>,
    symbol: Option<usize>,
    /// All others.
    extra: Vec<usize>,
}

const PRICES: [&str; 4] = ["open", "high", "low", "close"];

impl Layout {
    fn find(names: &[String]) -> Result<Self> {
        let normals: Vec<String> = names.iter().map(|name| normal(name)).collect();
        let position =
            |accepted: &[&str]| accepted.iter().find_map(|accepted| normals.iter().position(|name| name == accepted));
        let required = |field: &str, found: Option<usize>, accepted: &[&str]| {
            found.ok_or_else(|| {
                Error::invalid(
                    "columns",
                    shorten(&names.join(", "), 300),
                    format!("a column for `{field}`, named one of `{}` in any case", accepted.join("`, `")),
                )
            })
        };
        let mut clock = None;
        let time = position(&TIME).or_else(|| match (position(&["date", "day"]), position(&["time", "hour"])) {
            (Some(date), time) => {
                clock = time;
                Some(date)
            }
            (None, time) => time.or_else(|| position(&INDEX)),
        });
        let accepted: Vec<&str> = TIME.into_iter().chain(["date", "time"]).collect();
        let time = required("time", time, &accepted)?;
        let prices = [
            required("open", position(&OPEN), &OPEN)?,
            required("high", position(&HIGH), &HIGH)?,
            required("low", position(&LOW), &LOW)?,
            required("close", position(&CLOSE), &CLOSE)?,
        ];
        let mut layout =
            Self { time, clock, prices, volume: position(&VOLUME), symbol: position(&SYMBOL), extra: vec![] };
        layout.extra = (0..names.len()).filter(|&index| layout.role(index) == "extra").collect();
        Ok(layout)
    }

    fn role(&self, index: usize) -> &'static str {
        if index == self.time || Some(index) == self.clock {
            "time"
        } else if let Some(price) = self.prices.iter().position(|&price| price == index) {
            PRICES[price]
        } else if Some(index) == self.volume {
            "volume"
        } else if Some(index) == self.symbol {
            "symbol"
        } else {
            "extra"
        }
    }
}

struct Extra {
    column: usize,
    values: Vec<f64>,
    refused: Option<IgnoredColumn>,
}

/// Collects rows into columns.
struct Builder<'o> {
    options: &'o ReadOptions,
    names: Vec<String>,
    layout: Layout,
    out: RawBars,
    bars: Bars,
    extras: Vec<Extra>,
    symbol: Option<Vec<u8>>,
}

/// A value that was not accepted: its column, itself and why.
struct Refusal {
    column: usize,
    value: String,
    reason: String,
}

impl<'o> Builder<'o> {
    fn new(names: Vec<String>, options: &'o ReadOptions, capacity: usize) -> Result<Self> {
        let layout = Layout::find(&names)?;
        check_extra(layout.extra.len())?;
        let extras = layout.extra.iter().map(|&column| Extra { column, values: Vec::new(), refused: None }).collect();
        let symbol = options.symbol.as_ref().map(|symbol| symbol.as_bytes().to_vec());
        let bars = Bars::with_capacity(capacity);
        let out = RawBars { lines: Vec::with_capacity(capacity), ..RawBars::default() };
        Ok(Self { options, names, layout, out, bars, extras, symbol })
    }

    /// Adds a column that turned up after the first rows.
    fn add_column(&mut self, name: String) -> Result<usize> {
        check_extra(self.extras.len() + 1)?;
        self.names.push(name);
        let column = self.names.len() - 1;
        self.layout.extra.push(column);
        self.extras.push(Extra { column, values: vec![f64::NAN; self.bars.len()], refused: None });
        Ok(column)
    }

    fn bad_row(&mut self, line: u64, column: String, value: String, reason: String, row: &[u8]) {
        let row = shorten(&String::from_utf8_lossy(row), 1000);
        self.out.num_rows += 1;
        self.out.bad_rows.push(BadRow { line, column, value, reason, row });
    }

    /// Adds one row; `raw` is the row as it was written.
    fn row<'a>(&mut self, line: u64, raw: &[u8], cell: impl Fn(usize) -> Cell<'a>) -> Result<()> {
        self.row_with(line, || raw, cell)
    }

    /// Adds one row; `raw` writes it out where it is refused.
    fn row_with<'a, R: AsRef<[u8]>>(
        &mut self,
        line: u64,
        raw: impl FnOnce() -> R,
        cell: impl Fn(usize) -> Cell<'a>,
    ) -> Result<()> {
        if let Some(column) = self.layout.symbol {
            let value = cell(column);
            if let Some(text) = value.text() {
                match &self.symbol {
                    None => self.symbol = Some(text.to_vec()),
                    Some(symbol) if symbol == text => {}
                    Some(_) if self.options.symbol.is_some() => {
                        self.out.num_rows += 1;
                        self.out.num_other_symbols += 1;
                        return Ok(());
                    }
                    Some(symbol) => {
                        return Err(Error::invalid(
                            &self.names[column],
                            format!("{}` and `{}", String::from_utf8_lossy(symbol), value.show()),
                            "one instrument, or the option `symbol` that says which to keep",
                        ));
                    }
                }
            }
        }
        match self.bar(&cell) {
            Ok(bar) => {
                for extra in &mut self.extras {
                    if extra.refused.is_some() {
                        continue;
                    }
                    let value = cell(extra.column);
                    match optional(&value, self.options.decimal_comma) {
                        Ok(value) => extra.values.push(value),
                        Err(_) => {
                            let name = self.names[extra.column].clone();
                            extra.refused = Some(IgnoredColumn { name, line, value: value.show() });
                            extra.values = Vec::new();
                        }
                    }
                }
                self.bars.push(bar);
                self.out.lines.push(line);
                self.out.num_rows += 1;
            }
            Err(Refusal { column, value, reason }) => {
                let name = self.names[column].clone();
                self.bad_row(line, name, value, reason, raw().as_ref());
            }
        }
        Ok(())
    }

    fn bar<'a>(&self, cell: &impl Fn(usize) -> Cell<'a>) -> Result<Bar, Refusal> {
        let time_ms = self.time(cell)?;
        let mut prices = [0.0; 4];
        for (price, &column) in prices.iter_mut().zip(&self.layout.prices) {
            let value = cell(column);
            *price = required(&value, self.options.decimal_comma).map_err(|reason| Refusal {
                column,
                value: value.show(),
                reason: reason.to_owned(),
            })?;
        }
        let volume = match self.layout.volume {
            None => None,
            Some(column) => {
                let value = cell(column);
                let volume = optional(&value, self.options.decimal_comma).map_err(|reason| Refusal {
                    column,
                    value: value.show(),
                    reason: reason.to_owned(),
                })?;
                (!volume.is_nan()).then_some(volume)
            }
        };
        let [open, high, low, close] = prices;
        Ok(Bar { time_ms, open, high, low, close, volume })
    }

    fn time<'a>(&self, cell: &impl Fn(usize) -> Cell<'a>) -> Result<i64, Refusal> {
        let column = self.layout.time;
        let value = cell(column);
        let refuse = |reason: &str, value: String| Refusal {
            column,
            value,
            reason: format!("the timestamp {reason}, expected {}", timestamp::ACCEPTED),
        };
        let read = |text: &[u8]| parse_timestamp(text, self.options.utc_offset_secs, self.options.date_order);
        match (&value, self.layout.clock) {
            (Cell::Time(time_ms), None) => Ok(*time_ms),
            (Cell::Missing, _) => Err(refuse("is missing", String::new())),
            (Cell::Integer(epoch), None) => timestamp::epoch(*epoch).map_err(|reason| refuse(reason, value.show())),
            (Cell::Number(secs), None) if secs.abs() < 1e11 => Ok((secs * 1000.0).round() as i64),
            (Cell::Number(_), None) => Err(refuse("is a fraction", value.show())),
            (value, None) => {
                let text = value.text().unwrap_or_default();
                read(text).map_err(|reason| refuse(reason, value.show()))
            }
            (value, Some(clock)) => {
                let (date, clock) = (value.show(), cell(clock).show());
                let text = format!("{} {}", date.trim(), clock.trim());
                read(text.as_bytes()).map_err(|reason| refuse(reason, text.clone()))
            }
        }
    }

    fn finish(self) -> Result<RawBars> {
        let Self { names, layout, mut out, mut bars, extras, .. } = self;
        // A second column of one of these names is kept under another.
        let reserved = ["timestamp", "open", "high", "low", "close", "volume"];
        let mut taken: std::collections::BTreeSet<String> = reserved.map(str::to_owned).into();
        for Extra { column, values, refused } in extras {
            if let Some(ignored) = refused {
                out.ignored_columns.push(ignored);
                continue;
            }
            let mut name = normal(&names[column]);
            if name.is_empty() {
                name = format!("column_{}", column + 1);
            }
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            bars.set_extra(name, values)?;
        }
        out.columns = names
            .into_iter()
            .enumerate()
            .map(|(index, name)| ColumnUse { name, used_as: layout.role(index).to_owned() })
            .collect();
        out.bars = bars;
        Ok(out)
    }
}

/// A number that must be there.
fn required(cell: &Cell<'_>, decimal_comma: bool) -> Result<f64, &'static str> {
    const MISSING: &str = "is missing, expected a price";
    match cell {
        Cell::Number(value) => Ok(*value),
        Cell::Integer(value) | Cell::Time(value) => Ok(*value as f64),
        Cell::Missing => Err(MISSING),
        Cell::Text(text) if blank(text) => Err(MISSING),
        Cell::Text(text) => number(text, decimal_comma),
        Cell::Owned(text) => number(text.as_bytes(), decimal_comma),
    }
}

/// A number that may be missing, which is NaN.
fn optional(cell: &Cell<'_>, decimal_comma: bool) -> Result<f64, &'static str> {
    match cell {
        Cell::Missing => Ok(f64::NAN),
        Cell::Text(text) if blank(text) => Ok(f64::NAN),
        other => required(other, decimal_comma),
    }
}

fn blank(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    text.is_empty()
        || text.len() <= 4
            && ["null", "none", "na", "n/a", "-"].iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()))
}

fn number(text: &[u8], decimal_comma: bool) -> Result<f64, &'static str> {
    const ERROR: &str = "is not a number, expected one such as `1.25`";
    let text = std::str::from_utf8(text).map_err(|_| ERROR)?.trim();
    if decimal_comma && text.contains(',') && !text.contains('.') {
        return text.replace(',', ".").parse().map_err(|_| ERROR);
    }
    text.parse().map_err(|_| ERROR)
}
