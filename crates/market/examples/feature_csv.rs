//! Prints all features of a CSV file of bars as CSV, one row a bar, empty where missing.
//!
//! ```sh
//! cargo run -p moola-market --example feature_csv -- spy_d1.csv > features.csv
//! ```

use std::error::Error;
use std::io::{BufWriter, Write as _};

use moola_market::features::{FeatureSet, compute};
use moola_market::{Bar, Bars};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: feature_csv <bars.csv>")?;
    let bars = read(&path)?;
    let set = FeatureSet::builtin("all")?;
    let matrix = compute(&set, &bars);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let names: Vec<&str> = set.features().iter().map(|feature| feature.name).collect();
    writeln!(out, "{}", names.join(","))?;
    for row in 0..matrix.num_rows() {
        for column in 0..matrix.num_columns() {
            if column > 0 {
                out.write_all(b",")?;
            }
            let value = matrix.value(row, column);
            if value.is_finite() {
                write!(out, "{value:?}")?;
            }
        }
        writeln!(out)?;
    }
    out.flush()?;
    Ok(())
}

/// Reads `timestamp,open,high,low,close,volume` with a date or a date and time in UTC.
fn read(path: &str) -> Result<Bars, Box<dyn Error>> {
    let mut bars = Bars::default();
    for record in csv::Reader::from_path(path)?.records() {
        let record = record?;
        let text = record[0].trim_end_matches('Z');
        let date_only = text.len() == "2024-01-31".len();
        let text = if date_only { format!("{text}T00:00:00Z") } else { format!("{text}Z") };
        let time: jiff::Timestamp = text.parse()?;
        bars.push(Bar {
            time_ms: time.as_millisecond(),
            open: record[1].parse()?,
            high: record[2].parse()?,
            low: record[3].parse()?,
            close: record[4].parse()?,
            volume: record.get(5).and_then(|text| text.parse().ok()),
        });
    }
    Ok(bars)
}
