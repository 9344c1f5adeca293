//! The platform on an emulator: real bootstraps behind an HTTP API, a real trainer behind the Batch adapter.

use std::collections::BTreeMap;
use std::path::Path;

use moola_local::CommandTemplate;
use moola_tests::batch_service::{BatchService, BatchServiceConfig};
use moola_tests::emulator::{Emulator, unique_name};
use moola_tests::setup::{Made, Setup};
use moola_tests::{Api, program};

/// Everything that Terraform makes, and what stands in for AWS Batch.
pub(crate) struct Platform {
    pub(crate) made: Made,
    pub(crate) api: Api,
    pub(crate) batch: BatchService,
}

/// What containers and functions find the emulator by.
pub(crate) fn standard_environment(emulator: &Emulator) -> BTreeMap<String, String> {
    let values = [
        ("AWS_ENDPOINT_URL", emulator.endpoint()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
    ];
    values.map(|(name, value)| (name.to_owned(), value)).into()
}

impl Platform {
    /// Starts it under a prefix of its own, with `settings`.
    pub(crate) async fn start(emulator: &Emulator, settings: &str, dir: &Path, with_functions: bool) -> Self {
        let config = emulator.sdk_config().await;
        let prefix = unique_name("loop");
        let mut environment = standard_environment(emulator);
        let trainer = CommandTemplate { program: program("moola-trainer"), args: Vec::new() };
        let definitions = [(format!("{prefix}-trainer-cpu"), trainer)].into();
        let mut service = BatchServiceConfig::new(definitions, dir.join("batch"));
        service.queues = [format!("{prefix}-cpu")].into();
        service.environment = environment.clone();
        let batch = BatchService::start(service, &config).await.unwrap();
        environment.insert("AWS_ENDPOINT_URL_BATCH".into(), batch.endpoint());
        environment.insert("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS".into(), batch.endpoint());
        environment.insert("MOOLA_SETTINGS".into(), settings.to_owned());
        let mut setup = Setup::new(config, &prefix);
        setup.environment = environment;
        setup.drift_schedule = "rate(1 day)".into();
        setup.visibility_secs = 60;
        setup.bootstraps = with_functions.then(|| program("registry").parent().unwrap().to_owned());
        let made = setup.make().await.unwrap_or_else(|error| panic!("{error:#}\n{}", emulator.log()));
        let id = made.endpoint.as_deref().and_then(|url| url.split("//").nth(1)?.split('.').next()).unwrap_or_default();
        let api = Api::new(format!("{}/_aws/execute-api/{id}/$default", emulator.endpoint()));
        Self { made, api, batch }
    }
}
