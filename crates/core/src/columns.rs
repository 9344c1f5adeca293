//! Bars in Parquet files: moola's own, and those of users.

mod file;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use moola_market::Bars;
use moola_market::read::{Column, RawBars, ReadOptions, read_columns};
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as PhysicalType, ZstdLevel};
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};

use crate::error::{Error, Result};

/// Rows of a row group.
const GROUP_ROWS: usize = 1 << 20;
const TIME: &str = "timestamp";
const PRICES: [&str; 4] = ["open", "high", "low", "close"];
const VOLUME: &str = "volume";

/// Writes bars as Parquet: `timestamp` (milliseconds, UTC), `open`, `high`, `low`, `close`, `volume` and the extra
/// columns by name; missing values are null. The same bars make the same bytes.
///
/// # Errors
/// `Internal` where the writer fails.
pub fn to_parquet(bars: &Bars) -> Result<Bytes> {
    write(bars).map(Bytes::from).map_err(|error| Error::internal("writing Parquet").with_source(error))
}

fn write(bars: &Bars) -> Result<Vec<u8>, ParquetError> {
    let double = |name: &str, repetition| {
        Type::primitive_type_builder(name, PhysicalType::DOUBLE).with_repetition(repetition).build().map(Arc::new)
    };
    let time = Type::primitive_type_builder(TIME, PhysicalType::INT64)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MILLIS)))
        .build()?;
    let mut fields = vec![Arc::new(time)];
    for name in PRICES {
        fields.push(double(name, Repetition::REQUIRED)?);
    }
    fields.push(double(VOLUME, Repetition::OPTIONAL)?);
    for name in bars.extra().keys() {
        fields.push(double(name, Repetition::OPTIONAL)?);
    }
    let schema = Arc::new(Type::group_type_builder("bars").with_fields(fields).build()?);
    let properties = WriterProperties::builder()
        // Not the version of the library, which would change the bytes.
        .set_created_by(file::CREATED_BY.to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_dictionary_enabled(false)
        .set_encoding(Encoding::BYTE_STREAM_SPLIT)
        .set_column_encoding(ColumnPath::from(TIME), Encoding::DELTA_BINARY_PACKED)
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let required = [bars.open(), bars.high(), bars.low(), bars.close()];
    let optional: Vec<&[f64]> =
        std::iter::once(bars.volume()).chain(bars.extra().values().map(Vec::as_slice)).collect();
    for start in (0..bars.len()).step_by(GROUP_ROWS) {
        let rows = start..bars.len().min(start + GROUP_ROWS);
        let mut group = writer.next_row_group()?;
        if let Some(mut column) = group.next_column()? {
            column.typed::<Int64Type>().write_batch(&bars.time_ms()[rows.clone()], None, None)?;
            column.close()?;
        }
        for values in required {
            if let Some(mut column) = group.next_column()? {
                column.typed::<DoubleType>().write_batch(&values[rows.clone()], None, None)?;
                column.close()?;
            }
        }
        for values in &optional {
            if let Some(mut column) = group.next_column()? {
                let values = &values[rows.clone()];
                let levels: Vec<i16> = values.iter().map(|value| i16::from(!value.is_nan())).collect();
                let present: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
                column.typed::<DoubleType>().write_batch(&present, Some(&levels), None)?;
                column.close()?;
            }
        }
        group.close()?;
    }
    writer.into_inner()
}

/// Reads bars that [`to_parquet`] wrote.
///
/// # Errors
/// `Corrupt` where they are no such bytes.
pub fn from_parquet(bytes: Bytes) -> Result<Bars> {
    let corrupt = |what: String| Error::corrupt(format!("bars in Parquet: {what}"));
    let columns = file::read(bytes, 0).map_err(|error| corrupt("unreadable".to_owned()).with_source(error))?;
    let mut columns = columns.into_iter();
    let Some((_, Column::Time(time_ms))) = columns.next() else {
        return Err(corrupt("no column `timestamp`".to_owned()));
    };
    let time_ms: Vec<i64> = time_ms.into_iter().flatten().collect();
    let mut number = |expected: Option<&str>| match columns.next() {
        Some((name, Column::Number(values))) if expected.is_none_or(|expected| expected == name) => {
            Ok(Some((name, values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect::<Vec<_>>())))
        }
        None if expected.is_none() => Ok(None),
        _ => Err(corrupt(format!("no numbers in column `{}`", expected.unwrap_or("extra")))),
    };
    let mut next = |name| Ok::<_, Error>(number(Some(name))?.map(|(_, values)| values).unwrap_or_default());
    let (open, high, low, close) = (next(PRICES[0])?, next(PRICES[1])?, next(PRICES[2])?, next(PRICES[3])?);
    let volume = next(VOLUME)?;
    let broken = |error: moola_market::Error| corrupt("columns of different length".to_owned()).with_source(error);
    let mut bars = Bars::from_columns(time_ms, open, high, low, close, Some(volume)).map_err(broken)?;
    while let Some((name, values)) = number(None)? {
        bars.set_extra(name, values).map_err(broken)?;
    }
    Ok(bars)
}

/// Reads a user's Parquet file.
///
/// Columns are found by name as in CSV. Times may be timestamps of any unit, dates, integers since the epoch or texts;
/// numbers may be floating, integer or decimal. Files may be uncompressed or compressed with Snappy or Zstandard.
///
/// # Errors
/// `Invalid` where the file is no Parquet, or a required column is missing.
pub fn read_parquet(bytes: Bytes, options: &ReadOptions) -> Result<RawBars> {
    let columns = file::read(bytes, options.utc_offset_secs).map_err(|error| {
        Error::invalid("file", error, "a Parquet file, uncompressed or compressed with Snappy or Zstandard")
    })?;
    Ok(read_columns(columns, options)?)
}
