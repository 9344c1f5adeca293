use proptest::prelude::*;

use super::*;

fn csv(text: &str) -> RawBars {
    read_csv(text.as_bytes(), &ReadOptions::default()).unwrap()
}

fn time(text: &str) -> i64 {
    parse_timestamp(text.as_bytes(), 0, None).unwrap()
}

#[test]
fn timestamps_are_read_in_the_usual_forms() {
    let expected = 1_337_241_600_000; // 2012-05-17T08:00:00Z
    for text in [
        "2012-05-17T08:00:00Z",
        "2012-05-17t08:00z",
        "2012-05-17 08:00:00",
        "2012-05-17T08:00:00.000",
        "2012-05-17 10:00:00+02:00",
        "2012-05-17T03:30:00-0430",
        "2012-05-17 08:00:00 UTC",
        "17.05.2012 08:00:00.000 GMT+0000",
        "2012.05.17 08:00",
        "2012/05/17 8:00",
        "20120517 080000",
        "20120517 08:00",
        "20120517080000",
        "1337241600",
        "1337241600000",
        "1337241600000000",
        "1337241600000000000",
        " 2012-05-17 08:00 ",
    ] {
        assert_eq!(parse_timestamp(text.as_bytes(), 0, None), Ok(expected), "{text}");
    }
    assert_eq!(time("2012-05-17"), expected - 8 * 3_600_000);
    assert_eq!(time("20120517"), expected - 8 * 3_600_000);
    assert_eq!(time("1970-01-01T00:00:00.1239"), 123);
    assert_eq!(time("-86400"), -86_400_000);
    assert_eq!(parse_timestamp(b"2012-05-17 10:00", 7200, None), Ok(expected));
    assert_eq!(parse_timestamp(b"2012-05-17 10:00Z", 7200, None), Ok(expected + 7_200_000));
    assert_eq!(parse_timestamp(b"17/05/2012 08:00", 0, Some(DateOrder::DayFirst)), Ok(expected));
    assert_eq!(parse_timestamp(b"5/17/2012 08:00", 0, Some(DateOrder::MonthFirst)), Ok(expected));
}

#[test]
fn timestamps_that_are_none_are_refused() {
    for text in [
        "",
        "today",
        "2012-13-01",
        "2011-02-29",
        "2012-05-17T",
        "2012-05-17T25:00",
        "2012-05-17T08",
        "05/17/2012",
        "2012-05-17 08:00 CET",
        "2012-05/17",
        "99999999999999999999999",
        "2012-05-17x",
        "2012-05-17T08:00:00.",
        "2012-05-17T08:00:0",
        "é012-05-17",
    ] {
        assert!(parse_timestamp(text.as_bytes(), 0, None).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn timestamps_agree_with_jiff(ms in -60_000_000_000_000_i64..250_000_000_000_000) {
        let text = jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
        prop_assert_eq!(time(&text), ms, "{}", text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,30}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_timestamp(text.as_bytes(), 0, None);
        let _ = read(&bytes, &ReadOptions::default());
        let _ = read(format!("t,o,h,l,c\n{text}").as_bytes(), &ReadOptions::default());
        let _ = read(format!("[{text}").as_bytes(), &ReadOptions::default());
        let _ = read(format!("{{{text}").as_bytes(), &ReadOptions::default());
    }
}

#[test]
fn a_plain_file_is_read() {
    let raw = csv("timestamp,open,high,low,close,volume\n2020-01-01,1,2,0.5,1.5,10\n2020-01-02,1.5,2,1,1.25,\n");
    assert_eq!(raw.bars.len(), 2);
    assert_eq!(raw.lines, [2, 3]);
    assert_eq!(raw.bars.get(0).unwrap().volume, Some(10.0));
    assert_eq!(raw.bars.get(1).unwrap().volume, None);
    assert_eq!(raw.bars.close(), [1.5, 1.25]);
    assert!(raw.bad_rows.is_empty());
}

#[test]
fn headers_and_separators_of_vendors_are_understood() {
    let metatrader = "\u{feff}<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<TICKVOL>\t<SPREAD>\r\n\
                      2012.05.17\t08:00:00\t1\t2\t0.5\t1.5\t7\t3\r\n";
    let raw = csv(metatrader);
    assert_eq!(raw.bars.time_ms(), [1_337_241_600_000]);
    assert_eq!(raw.bars.volume(), [7.0]);
    assert_eq!(raw.bars.extra()["spread"], [3.0]);

    let yahoo = "Date,Open,High,Low,Close,Adj Close,Volume\n2020-01-01,1,2,0.5,1.5,99,10\n2020-01-02,null,null,null,null,null,null\n";
    let raw = csv(yahoo);
    assert_eq!(raw.bars.close(), [1.5]);
    assert_eq!(raw.bars.extra()["adj_close"], [99.0]);
    assert_eq!((raw.bad_rows[0].line, raw.bad_rows[0].column.as_str()), (3, "Open"));

    let pandas = ",Close,Open,Low,High\n2020-01-01,1.5,1,0.5,2\n";
    assert_eq!(csv(pandas).bars.get(0).unwrap().high, 2.0);

    let alpha = "timestamp;1. open;2. high;3. low;4. close\n\"2020-01-01\";1,5;2,0;0,5;1,25\n";
    let options = ReadOptions { decimal_comma: true, ..ReadOptions::default() };
    assert_eq!(read_csv(alpha.as_bytes(), &options).unwrap().bars.open(), [1.5]);

    let names = ["date", "time", "o", "h", "l", "c"].map(str::to_owned).to_vec();
    let options = ReadOptions { header: Some(names), ..ReadOptions::default() };
    let raw = read_csv(b"2012.05.17,08:00,1,2,0.5,1.5\n", &options).unwrap();
    assert_eq!((raw.bars.time_ms()[0], raw.lines[0]), (1_337_241_600_000, 1));
}

#[test]
fn bad_rows_are_named_with_their_line() {
    let text = "time,o,h,l,c,v,note\n\n2020-01-01,1,2,0.5,x,1,a\n\r\nnever,1,2,0.5,1,1,b\n2020-01-03,1,2,0.5\n\
                2020-01-04,1,2,0.5,1,-,c\n2020-01-05,1,2,0.5,1,many,c\n";
    let raw = csv(text);
    let found: Vec<_> = raw.bad_rows.iter().map(|bad| (bad.line, bad.column.as_str(), bad.value.as_str())).collect();
    assert_eq!(found, [(3, "c", "x"), (5, "time", "never"), (6, "row", ""), (8, "v", "many")]);
    assert_eq!(raw.bad_rows[0].row, "2020-01-01,1,2,0.5,x,1,a");
    assert_eq!(raw.lines, [7]);
    assert_eq!(raw.num_rows, 5);
    assert_eq!(raw.ignored_columns, [IgnoredColumn { name: "note".into(), line: 7, value: "c".into() }]);
}

#[test]
fn a_missing_column_is_named_with_what_was_found() {
    let error = read_csv(b"date,open,high,low,adj close\n", &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains("date, open, high, low, adj close") && error.contains("`close`"), "{error}");
    assert!(read_csv(b"", &ReadOptions::default()).is_err());
    assert!(read_csv(b"\xff\xfe\x00", &ReadOptions::default()).is_err());
}

#[test]
fn rows_of_several_symbols_need_a_choice() {
    let text = b"symbol,t,o,h,l,c\nA,2020-01-01,1,2,0.5,1\nB,2020-01-01,1,2,0.5,1.25\n";
    assert!(read_csv(text, &ReadOptions::default()).unwrap_err().to_string().contains("symbol"));
    let options = ReadOptions { symbol: Some("B".into()), ..ReadOptions::default() };
    let raw = read_csv(text, &options).unwrap();
    assert_eq!((raw.bars.close(), raw.num_rows, raw.num_other_symbols), (&[1.25][..], 2, 1));
}

#[test]
fn json_lines_and_arrays_are_read() {
    let lines = "{\"t\": 1577836800, \"o\": 1, \"h\": 2, \"l\": 0.5, \"c\": 1.5, \"v\": null}\n\
                 not json\n\
                 {\"t\": \"2020-01-02\", \"o\": \"1.5\", \"h\": 2, \"l\": 1, \"c\": 1.25, \"news\": 3}\n\
                 {\"t\": \"2020-01-03\", \"o\": [1], \"h\": 2, \"l\": 1, \"c\": 1.25}\n";
    let raw = read(lines.as_bytes(), &ReadOptions::default()).unwrap();
    assert_eq!(raw.bars.time_ms(), [1_577_836_800_000, 1_577_923_200_000]);
    assert_eq!(raw.lines, [1, 3]);
    assert_eq!(raw.bad_rows.iter().map(|bad| bad.line).collect::<Vec<_>>(), [2, 4]);
    assert!(raw.bars.extra()["news"][0].is_nan());
    assert_eq!(raw.bars.extra()["news"][1], 3.0);

    let array = "[\n {\"t\": 1577836800000, \"o\": 1, \"h\": 2, \"l\": 0.5, \"c\": 1.5, \"s\": \"a,]}\\\"\"},\n\n \
                 {\"t\": 1577923200000, \"o\": 1, \"h\": 2, \"l\": 0.5, \"c\": 1.5}, 3]\n";
    let raw = read(array.as_bytes(), &ReadOptions::default()).unwrap();
    assert_eq!(raw.lines, [2, 4]);
    assert_eq!(raw.bad_rows[0].line, 4);
    assert!(read(b"[{\"t\": 1}", &ReadOptions::default()).is_err());
    assert!(read(b"[] x", &ReadOptions::default()).is_err());
}

#[test]
fn a_key_that_turns_up_late_becomes_a_column() {
    let row = |second: usize, more: &str| format!("{{\"t\":{second},\"o\":1,\"h\":2,\"l\":1,\"c\":1{more}}}\n");
    let text: String = (0..150).map(|i| row(i, if i == 149 { ",\"late\":7" } else { "" })).collect();
    let raw = read_json(text.as_bytes(), &ReadOptions::default()).unwrap();
    let late = &raw.bars.extra()["late"];
    assert_eq!((late.len(), late[149]), (150, 7.0));
    assert!(late[..149].iter().all(|value| value.is_nan()));
}

#[test]
fn columns_beyond_the_cap_are_refused() {
    let too_many = |read: Result<RawBars>| {
        let error = read.expect_err("one column too many").to_string();
        assert!(error.contains("`257 besides those of a bar`, expected at most 256"), "{error}");
    };
    // One new key in every row, before and after the rows that make the header.
    let row = |i: usize| format!("{{\"t\":{i},\"o\":1,\"h\":2,\"l\":1,\"c\":1,\"k{i}\":1}}\n");
    let json = |num_rows: usize| (0..num_rows).map(row).collect::<String>();
    let raw = read_json(json(256).as_bytes(), &ReadOptions::default()).unwrap();
    assert_eq!(raw.bars.extra().len(), MAX_EXTRA_COLUMNS);
    too_many(read_json(json(257).as_bytes(), &ReadOptions::default()));
    let keys: String = (0..300).map(|i| format!(",\"k{i}\":1")).collect();
    too_many(read_json(
        format!("{{\"t\":1,\"o\":1,\"h\":2,\"l\":1,\"c\":1,\"v\":1,\"date\":1,\"symbol\":1{keys}}}").as_bytes(),
        &ReadOptions::default(),
    ));

    let table = |count: usize| {
        let names: String = (0..count).map(|i| format!(",k{i}")).collect();
        format!("t,o,h,l,c{names}\n1,1,2,1,1{}\n", ",3".repeat(count))
    };
    assert_eq!(csv(&table(256)).bars.extra().len(), MAX_EXTRA_COLUMNS);
    too_many(read_csv(table(257).as_bytes(), &ReadOptions::default()));
}
