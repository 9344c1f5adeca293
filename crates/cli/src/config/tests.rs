use super::*;

fn global(config: Option<PathBuf>) -> Global {
    Global { data_dir: None, config, json: false, quiet: false, verbose: 0, no_progress: false }
}

#[test]
fn settings_come_from_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(settings(&global(None), dir.path()).expect("defaults"), Settings::default());
    std::fs::write(
        dir.path().join(FILE),
        "[training]\nmin_bars = 500\n[drift_schedule]\nexpression = \"rate(1 hour)\"\n",
    )
    .expect("a file");
    let read = settings(&global(None), dir.path()).expect("settings");
    assert_eq!(read.training.min_bars, 500);
    assert_eq!(read.drift_schedule.expression.to_string(), "rate(1 hour)");
    assert_eq!(read.gates, Settings::default().gates);
}

#[test]
fn errors_name_the_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("other.toml");
    std::fs::write(&path, "[training]\nmin_barz = 500\n").expect("a file");
    let error = settings(&global(Some(path)), dir.path()).expect_err("an unknown key");
    assert!(format!("{error:#}").contains("min_barz"), "{error:#}");
    let error = settings(&global(Some(dir.path().join("absent.toml"))), dir.path()).expect_err("no file");
    assert!(format!("{error:#}").contains("absent.toml"), "{error:#}");
}

/// The page shows every key with its default.
#[test]
fn the_documented_settings_are_the_defaults() {
    let page = include_str!("../../../../docs/configuration.md");
    let block = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let documented: toml::Value = toml::from_str(block).unwrap();
    assert_eq!(toml::from_str::<Settings>(block).unwrap(), Settings::default());
    // Nothing is left out: what the defaults say and the page does not are the thresholds that are absent by default.
    assert_eq!(documented, toml::Value::try_from(Settings::default()).unwrap());
}
