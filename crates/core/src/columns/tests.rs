use moola_market::simulate::{SimulationConfig, simulate};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type};
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::error::ErrorKind;

fn bars() -> Bars {
    let mut bars = simulate(&SimulationConfig { num_bars: 500, ..SimulationConfig::default() }).unwrap().bars;
    let odd = (0..500).map(|i| if i % 3 == 0 { f64::NAN } else { f64::from(i) }).collect();
    bars.set_extra("ticker", odd).unwrap();
    bars.set_extra("ask_close", vec![1.5; 500]).unwrap();
    bars
}

fn same(a: &Bars, b: &Bars) -> bool {
    // NaN is equal to nothing, so their text is compared.
    format!("{a:?}") == format!("{b:?}")
}

#[test]
fn bars_survive_parquet_and_make_the_same_bytes() {
    let bytes = to_parquet(&bars()).unwrap();
    assert_eq!(bytes, to_parquet(&bars()).unwrap());
    assert!(same(&from_parquet(bytes).unwrap(), &bars()));
    let without_volume = Bars::from_columns(vec![1, 2], vec![1.0; 2], vec![1.0; 2], vec![1.0; 2], vec![1.0; 2], None);
    let without_volume = without_volume.unwrap();
    assert!(same(&from_parquet(to_parquet(&without_volume).unwrap()).unwrap(), &without_volume));
}

#[test]
fn other_bytes_are_corrupt() {
    let bytes = to_parquet(&bars()).unwrap();
    for broken in [&bytes[..bytes.len() / 2], &bytes[..0], b"PAR1PAR1PAR1".as_slice()] {
        assert_eq!(from_parquet(Bytes::copy_from_slice(broken)).unwrap_err().kind(), ErrorKind::Corrupt);
        let error = read_parquet(Bytes::copy_from_slice(broken), &ReadOptions::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn our_files_are_read_as_those_of_users() {
    let raw = read_parquet(to_parquet(&bars()).unwrap(), &ReadOptions::default()).unwrap();
    assert_eq!(raw.bars.time_ms(), bars().time_ms());
    assert_eq!(raw.bars.close(), bars().close());
    assert!(raw.bad_rows.is_empty());
}

/// A file as other programs write it: Snappy, a decimal, a text, nulls, times of the given type.
fn foreign(time: &str, times: &[i64]) -> Bytes {
    let schema = format!(
        "message m {{ REQUIRED {time}; OPTIONAL DOUBLE Open; REQUIRED DOUBLE High; REQUIRED INT32 Low (DECIMAL(9,2)); \
         REQUIRED DOUBLE Close; OPTIONAL BYTE_ARRAY Note (UTF8); }}"
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for chunk in times.chunks(2) {
        let n = chunk.len();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(chunk, None, None).unwrap();
        column.close().unwrap();
        let levels: Vec<i16> = (0..n).map(|i| i16::from(i != 1)).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&vec![1.5; n - usize::from(n > 1)], Some(&levels), None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&vec![2.0; n], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&vec![125; n], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&vec![1.75; n], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&vec![ByteArray::from("x"); n], Some(&vec![1; n]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap().into()
}

#[test]
fn files_of_other_programs_are_read() {
    let ms = 1_577_836_800_000_i64;
    for (time, unit) in [
        ("INT64 Date (TIMESTAMP(MILLIS,true))", 1),
        ("INT64 Date (TIMESTAMP(MICROS,true))", 1_000),
        ("INT64 Date (TIMESTAMP(NANOS,true))", 1_000_000),
        ("INT64 Date", 1_000),
    ] {
        let times: Vec<i64> = (0..3).map(|day| (ms + day * 86_400_000) * unit).collect();
        let raw = read_parquet(foreign(time, &times), &ReadOptions::default()).unwrap();
        assert_eq!(raw.bars.time_ms(), [ms, ms + 2 * 86_400_000], "{time}");
        assert_eq!(raw.bars.low(), [1.25; 2]);
        assert_eq!((raw.bad_rows.len(), raw.bad_rows[0].line, raw.bad_rows[0].column.as_str()), (1, 2, "Open"));
        assert_eq!(raw.ignored_columns[0].name, "Note");
    }
    let options = ReadOptions { utc_offset_secs: 3600, ..ReadOptions::default() };
    let raw = read_parquet(foreign("INT64 Date (TIMESTAMP(MILLIS,false))", &[ms]), &options).unwrap();
    assert_eq!(raw.bars.time_ms(), [ms - 3_600_000]);
    let error = read_parquet(foreign("INT64 Day_ (TIMESTAMP(MILLIS,true))", &[ms]), &options).unwrap_err();
    assert!(error.to_string().contains("Day_"), "{error}");
}
