use super::*;

#[test]
fn secrets_of_the_platform_are_not_inherited() {
    let environment = [
        "PATH",
        "HOME",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "MOOLA_DATA_DIR",
        "LC_TIME",
        "CUDA_VISIBLE_DEVICES",
        "MOOLA_API_KEY",
        "MOOLA_TOKEN",
        "AWS_BATCH_JOB_ID",
        "DATABASE_URL",
        "GITHUB_TOKEN",
    ];
    let passed: Vec<OsString> =
        inherited(environment.into_iter().map(|name| (name.into(), "value".into()))).map(|(name, _)| name).collect();
    assert_eq!(passed, environment[..7]);
}

#[test]
fn a_death_by_signal_shows_as_in_a_container() {
    assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    assert_eq!(exit_code(ExitStatus::from_raw(75 << 8)), 75);
}
