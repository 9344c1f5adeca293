use std::fs;

use super::*;

#[test]
fn the_last_lines_come_from_the_end_of_long_logs_and_over_attempts() {
    let dir = tempfile::tempdir().unwrap();
    let id = JobId("job".into());
    fs::create_dir(dir.path().join("job")).unwrap();
    let long: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    fs::write(path(dir.path(), &id, 1), long).unwrap();
    fs::write(path(dir.path(), &id, 2), b"bad \xff\r\nno line end").unwrap();
    let lines = read(dir.path(), &id, 3, 4).unwrap();
    let texts: Vec<(u32, &str)> = lines.iter().map(|line| (line.attempt, line.text.as_str())).collect();
    assert_eq!(texts, [(1, "line 19998"), (1, "line 19999"), (2, "bad \u{fffd}"), (2, "no line end")]);
    let all = read(dir.path(), &id, 3, 100_000).unwrap();
    assert_eq!(all.len(), 20_002);
    assert_eq!(all[0].text, "line 0");
    assert_eq!(read(dir.path(), &id, 3, 15_000).unwrap()[0].text, "line 5002");
    assert!(read(dir.path(), &id, 3, 0).unwrap().is_empty());
}
