//! Where the services are, and what moola's things in them are called.

use std::env;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

/// Attempts of a call, the first one included: throttling, 5xx and broken connections are tried again, with pauses
/// that grow.
const ATTEMPTS: u32 = 5;
/// A connection that is not there by then never comes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// An attempt in which no byte came for that long is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// The same in a function, whose caller waits: a connection that died while the environment was frozen says nothing.
const FUNCTION_READ_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest pause before the second attempt; it doubles from there.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// Reads the standard AWS environment: region, credentials, `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_<SERVICE>`; where it
/// says nothing, the profile files and what the machine provides.
pub async fn sdk_config() -> SdkConfig {
    config_loader().load().await
}

/// What [`sdk_config`] loads, to be changed before: rustls over ring, time limits, attempts.
#[must_use]
pub fn config_loader() -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client())
        .retry_config(retry_config())
        .timeout_config(timeout_config(READ_TIMEOUT))
}

/// What [`sdk_config`] reads from environment variables, and nothing else: Lambda gives a function its region and its
/// credentials there. Neither reads files nor asks anybody, and leaves the code that would out of the function.
#[must_use]
pub fn function_config() -> SdkConfig {
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new()))
        .http_client(http_client())
        .retry_config(retry_config())
        .timeout_config(timeout_config(FUNCTION_READ_TIMEOUT))
        .service_config(Environment);
    config.set_region(variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")).map(Region::new));
    config.set_endpoint_url(variable("AWS_ENDPOINT_URL"));
    config.build()
}

fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

fn retry_config() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(FIRST_BACKOFF)
}

fn timeout_config(read_timeout: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(read_timeout).build()
}

/// Settings of one service: `<NAME>_<SERVICE>`, then `<NAME>`.
#[derive(Debug)]
struct Environment;

impl LoadServiceConfig for Environment {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace(' ', "_");
        variable(&format!("{}_{service}", key.env())).or_else(|| variable(key.env()))
    }
}

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// What moola's things are called; see docs/configuration.md.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// `MOOLA_BUCKET`: the bucket.
    pub bucket: String,
    /// `MOOLA_TABLE`: the DynamoDB table.
    pub table: String,
    /// `MOOLA_BUS`: the event bus, by name or ARN.
    pub bus: String,
    /// `MOOLA_SIGNING_KEY`: id, ARN or alias of the KMS key that signs.
    pub signing_key: String,
    /// `MOOLA_TRUSTED_KEYS`: public keys (PEM, one after the other) whose signatures count.
    pub trusted_keys: String,
    /// `MOOLA_JOB_PREFIX`: queues are `<prefix>-<queue>`, job definitions `<prefix>-<definition>-<queue>`.
    pub job_prefix: String,
    /// `MOOLA_JOB_LOG_GROUP`: the log group of the containers.
    pub job_log_group: String,
    /// `MOOLA_SCHEDULE_GROUP`: the group of the schedules.
    pub schedule_group: String,
    /// `MOOLA_SCHEDULE_ROLE`: ARN of the role that the scheduler publishes with.
    pub schedule_role: String,
}

impl Resources {
    /// Reads the environment; what is not set is called `moola`.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_vars(variable)
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str, default: &str| var(name).unwrap_or_else(|| default.to_owned());
        Self {
            bucket: get("MOOLA_BUCKET", "moola"),
            table: get("MOOLA_TABLE", "moola"),
            bus: get("MOOLA_BUS", "moola"),
            signing_key: get("MOOLA_SIGNING_KEY", "alias/moola-signing"),
            trusted_keys: get("MOOLA_TRUSTED_KEYS", ""),
            job_prefix: get("MOOLA_JOB_PREFIX", "moola"),
            job_log_group: get("MOOLA_JOB_LOG_GROUP", "/aws/batch/job"),
            schedule_group: get("MOOLA_SCHEDULE_GROUP", "moola"),
            schedule_role: get("MOOLA_SCHEDULE_ROLE", "arn:aws:iam::000000000000:role/moola-scheduler"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_set_is_called_moola() {
        let resources = Resources::from_vars(|name| match name {
            "MOOLA_BUCKET" => Some("acme-moola".into()),
            _ => None,
        });
        assert_eq!((resources.bucket.as_str(), resources.table.as_str()), ("acme-moola", "moola"));
    }
}
