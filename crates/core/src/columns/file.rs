//! Flat columns of a Parquet file.

use bytes::Bytes;
use moola_market::read::Column;
use parquet::basic::{ConvertedType, LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::schema::types::ColumnDescriptor;

/// What our files name as their maker.
pub(super) const CREATED_BY: &str = "moola";

const MS_PER_DAY: i64 = 86_400_000;

/// Reads all columns; times without a zone are at `utc_offset_secs` east of UTC.
pub(super) fn read(bytes: Bytes, utc_offset_secs: i32) -> Result<Vec<(String, Column)>, ParquetError> {
    let reader = SerializedFileReader::new(bytes)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let mut columns = Vec::with_capacity(schema.num_columns());
    for (index, descriptor) in schema.columns().iter().enumerate() {
        let nested = descriptor.max_rep_level() > 0 || descriptor.path().parts().len() > 1;
        let column = if nested {
            Column::Unsupported("nested".to_owned())
        } else {
            let mut column = None;
            for group in 0..reader.num_row_groups() {
                let chunk = read_chunk(reader.get_row_group(group)?.as_ref(), index, descriptor, utc_offset_secs)?;
                match &mut column {
                    None => column = Some(chunk),
                    Some(column) => append(column, chunk),
                }
            }
            // Without a row group there are no rows.
            column.unwrap_or(Column::Number(Vec::new()))
        };
        columns.push((descriptor.path().parts().join("."), column));
    }
    Ok(columns)
}

fn append(column: &mut Column, chunk: Column) {
    match (column, chunk) {
        (Column::Time(all), Column::Time(more)) | (Column::Integer(all), Column::Integer(more)) => all.extend(more),
        (Column::Number(all), Column::Number(more)) => all.extend(more),
        (Column::Text(all), Column::Text(more)) => all.extend(more),
        // All chunks of a column have the column's type.
        (column, chunk) => *column = chunk,
    }
}

fn read_chunk(
    group: &dyn RowGroupReader,
    index: usize,
    descriptor: &ColumnDescriptor,
    utc_offset_secs: i32,
) -> Result<Column, ParquetError> {
    let num_rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    let kind = Kind::of(descriptor, utc_offset_secs);
    Ok(match group.get_column_reader(index)? {
        ColumnReader::BoolColumnReader(reader) => {
            Column::Number(values(reader, num_rows, |value| f64::from(u8::from(*value)))?)
        }
        ColumnReader::Int32ColumnReader(reader) => kind.column(values(reader, num_rows, |value| i64::from(*value))?),
        ColumnReader::Int64ColumnReader(reader) => kind.column(values(reader, num_rows, |value| *value)?),
        ColumnReader::Int96ColumnReader(reader) => Column::Time(values(reader, num_rows, |value| value.to_millis())?),
        ColumnReader::FloatColumnReader(reader) => Column::Number(values(reader, num_rows, |value| f64::from(*value))?),
        ColumnReader::DoubleColumnReader(reader) => Column::Number(values(reader, num_rows, |value| *value)?),
        ColumnReader::ByteArrayColumnReader(reader) if !matches!(kind, Kind::Decimal(_)) => {
            let text = |value: &ByteArray| String::from_utf8_lossy(value.data()).into_owned();
            Column::Text(values(reader, num_rows, text)?)
        }
        ColumnReader::ByteArrayColumnReader(_) => Column::Unsupported("decimal in bytes".to_owned()),
        ColumnReader::FixedLenByteArrayColumnReader(_) => Column::Unsupported("bytes".to_owned()),
    })
}

/// What the integers of a column are.
enum Kind {
    Integer,
    /// Milliseconds are this many units, divided by that many; minus an offset.
    Time {
        times: i64,
        divided: i64,
        offset_ms: i64,
    },
    /// Divided by this.
    Decimal(f64),
}

impl Kind {
    fn of(descriptor: &ColumnDescriptor, utc_offset_secs: i32) -> Self {
        let local_ms = i64::from(utc_offset_secs) * 1000;
        let time = |times, divided, offset_ms| Self::Time { times, divided, offset_ms };
        match descriptor.logical_type_ref() {
            Some(LogicalType::Timestamp(timestamp)) => {
                let offset_ms = if timestamp.is_adjusted_to_u_t_c { 0 } else { local_ms };
                let divided = match timestamp.unit {
                    TimeUnit::MILLIS => 1,
                    TimeUnit::MICROS => 1000,
                    TimeUnit::NANOS => 1_000_000,
                };
                time(1, divided, offset_ms)
            }
            Some(LogicalType::Date) => time(MS_PER_DAY, 1, local_ms),
            Some(LogicalType::Decimal(decimal)) => Self::Decimal(10_f64.powi(decimal.scale)),
            _ => match descriptor.converted_type() {
                ConvertedType::TIMESTAMP_MILLIS => time(1, 1, 0),
                ConvertedType::TIMESTAMP_MICROS => time(1, 1000, 0),
                ConvertedType::DATE => time(MS_PER_DAY, 1, local_ms),
                ConvertedType::DECIMAL => Self::Decimal(10_f64.powi(descriptor.type_scale())),
                _ => Self::Integer,
            },
        }
    }

    fn column(&self, values: Vec<Option<i64>>) -> Column {
        match *self {
            Self::Integer => Column::Integer(values),
            Self::Time { times, divided, offset_ms } => {
                let ms = |value: i64| value.saturating_mul(times).div_euclid(divided).saturating_sub(offset_ms);
                Column::Time(values.into_iter().map(|value| value.map(ms)).collect())
            }
            Self::Decimal(scale) => {
                Column::Number(values.into_iter().map(|value| value.map(|value| value as f64 / scale)).collect())
            }
        }
    }
}

/// All values of a chunk, nulls in their places.
fn values<T: DataType, V>(
    mut reader: ColumnReaderImpl<T>,
    num_rows: usize,
    convert: impl Fn(&T::T) -> V,
) -> Result<Vec<Option<V>>, ParquetError> {
    let (mut levels, mut present) = (Vec::new(), Vec::new());
    let mut num_read = 0;
    while num_read < num_rows {
        let (num_records, _, _) = reader.read_records(num_rows - num_read, Some(&mut levels), None, &mut present)?;
        if num_records == 0 {
            return Err(ParquetError::General(format!("{num_read} values in a column chunk of {num_rows} rows")));
        }
        num_read += num_records;
    }
    if present.len() == num_rows {
        return Ok(present.iter().map(|value| Some(convert(value))).collect());
    }
    let mut present = present.iter();
    Ok(levels.iter().map(|&level| if level > 0 { present.next().map(&convert) } else { None }).collect())
}
