//! Bars from CSV.

use super::{Builder, Cell, RawBars, ReadOptions, skip_bom};
use crate::error::{Error, Result};

/// Reads bars from CSV with a header line.
///
/// Columns are found by name in any case and order, with the usual aliases (`Date`, `o`, `tick_volume`, MetaTrader's
/// `<OPEN>` ...); an adjusted close is never taken for the close. Other columns that hold numbers become extra
/// columns; the rest of them are listed in [`RawBars::ignored_columns`]. The separator (`,`, `;`, tab or `|`) is the
/// commonest in the first line. Rows that cannot be read are in [`RawBars::bad_rows`] with their line.
///
/// # Errors
/// [`Error::Invalid`] where a required column is missing, where there are more than
/// [`MAX_EXTRA_COLUMNS`](super::MAX_EXTRA_COLUMNS) besides those of a bar, or where rows of several instruments are
/// mixed.
pub fn read_csv(bytes: &[u8], options: &ReadOptions) -> Result<RawBars> {
    let bytes = skip_bom(bytes);
    let first_line = bytes.split(|&byte| byte == b'\n').find(|line| !line.trim_ascii().is_empty()).unwrap_or_default();
    if first_line.is_empty() {
        return Err(Error::invalid("file", "empty", "a header line and rows of bars"));
    }
    let delimiter = match options.delimiter {
        None => sniff(first_line),
        Some(delimiter) => u8::try_from(delimiter)
            .ok()
            .filter(u8::is_ascii)
            .ok_or_else(|| Error::invalid("delimiter", delimiter, "an ASCII character"))?,
    };
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .has_headers(options.header.is_none())
        .from_reader(bytes);
    let names: Vec<String> = match &options.header {
        Some(names) => names.clone(),
        None => match reader.byte_headers() {
            Ok(record) => record.iter().map(|field| String::from_utf8_lossy(field).trim().to_owned()).collect(),
            Err(error) => return Err(Error::invalid("header", error, "a line of column names")),
        },
    };
    let num_columns = names.len();
    // A guess at the number of rows, so that columns are not copied while they grow.
    let mut builder = Builder::new(names, options, bytes.len() / (first_line.len() + 10))?;
    let mut record = ::csv::ByteRecord::new();
    loop {
        let start = reader.position().byte() as usize;
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => return Err(Error::invalid("file", error, "CSV")),
        }
        let end = reader.position().byte() as usize;
        let position = record.position();
        // The reader counts blank lines to the record that follows them.
        let skipped = bytes[start..end].iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
        let blank_lines = skipped.filter(|&&byte| byte == b'\n').count() as u64;
        let line = position.map_or(0, ::csv::Position::line) + blank_lines;
        let raw = bytes[start..end].trim_ascii();
        if record.len() != num_columns {
            let reason = format!("the row has {} fields, expected {num_columns} as in the header", record.len());
            builder.bad_row(line, "row".to_owned(), String::new(), reason, raw);
            continue;
        }
        builder.row(line, raw, |column| record.get(column).map_or(Cell::Missing, Cell::Text))?;
    }
    builder.finish()
}

/// The separator that is commonest in the first line.
fn sniff(line: &[u8]) -> u8 {
    let count = |separator: u8| line.iter().filter(|&&byte| byte == separator).count();
    // The last of equals wins; a comma is the default.
    [b'|', b'\t', b';', b','].into_iter().max_by_key(|&separator| count(separator)).unwrap_or(b',')
}
