//! What Terraform makes in AWS, made on an emulator: bucket, table, key, bus, queues, rules, schedules, topic, and with
//! bootstraps the functions and their HTTP API.
//!
//! Everything can be made again: what exists is kept.

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use aws_config::SdkConfig;
use aws_sdk_apigatewayv2::types::{IntegrationType, ProtocolType};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, TimeToLiveSpecification,
};
use aws_sdk_eventbridge::types::{InputTransformer, Target};
use aws_sdk_kms::types::{KeySpec, KeyUsageType};
use aws_sdk_lambda::types::{Architecture, Environment, FunctionCode, FunctionResponseType, Runtime};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use aws_sdk_sqs::types::QueueAttributeName;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use moola_aws::Scheduler;
use moola_core::monitor::DRIFT_CHECK_DUE;
use moola_core::ports::{Event, Schedule, Schedules as _};
use moola_core::react::RETRAIN_DUE;
use moola_core::training::MAINTENANCE_DUE;
use serde_json::json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::batch_service;
use crate::emulator::unique_name;

/// The functions, and the types of the bus's events that each is told: all where there are none.
const CONSUMERS: &[(&str, &[&str])] = &[
    ("compile", &["Model Version Registered", "Stage Changed", MAINTENANCE_DUE]),
    ("drift", &[DRIFT_CHECK_DUE]),
    ("react", &[]),
    ("training", &[MAINTENANCE_DUE]),
];
/// The events that people are told of.
const ALERTS: &[&str] = &["Drift Detected", "Stage Changed"];
/// How often an event is tried before it is put aside.
const RECEIVE_COUNT: u32 = 5;
/// Which function has which routes; Terraform reads the same file.
const ROUTES: &str = include_str!("../../infra/routes.json");

/// What is to be made.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Where the services are.
    pub config: SdkConfig,
    /// What everything's name starts with.
    pub prefix: String,
    /// The folder with `<function>` or `<function>/bootstrap` of every function; `None` for no functions.
    pub bootstraps: Option<PathBuf>,
    /// More environment for the functions.
    pub environment: BTreeMap<String, String>,
    /// When drift of all models is looked for, such as `rate(5 minutes)`.
    pub drift_schedule: String,
    /// When drift of single models is looked for besides, by model.
    pub drift_schedules: BTreeMap<String, String>,
    /// When models are retrained, by model.
    pub retrain_schedules: BTreeMap<String, String>,
    /// How long a queue hides a message that is being handled. A function must be done by then.
    pub visibility_secs: u32,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The environment that functions, trainers and `cargo lambda watch` need to find it.
    pub environment: BTreeMap<String, String>,
    /// The HTTP API, where there are functions.
    pub endpoint: Option<String>,
    /// The queue of each function of events, by function.
    pub queues: BTreeMap<String, String>,
    /// The topic of the alerts.
    pub topic_arn: String,
}

impl Setup {
    /// Everything called `prefix`, without functions.
    #[must_use]
    pub fn new(config: SdkConfig, prefix: impl Into<String>) -> Self {
        Self {
            config,
            prefix: prefix.into(),
            bootstraps: None,
            environment: BTreeMap::new(),
            drift_schedule: "rate(5 minutes)".into(),
            drift_schedules: BTreeMap::new(),
            retrain_schedules: BTreeMap::new(),
            visibility_secs: 300,
        }
    }

    /// Makes it.
    ///
    /// # Errors
    /// Where the emulator refuses something.
    pub async fn make(&self) -> Result<Made> {
        let prefix = &self.prefix;
        self.bucket().await.context("the bucket")?;
        self.table().await.context("the table")?;
        let (key_arn, public_key) = self.key().await.context("the signing key")?;
        let bus_arn = self.bus().await.context("the event bus")?;
        let mut environment = BTreeMap::from(
            [
                ("MOOLA_BUCKET", prefix.clone()),
                ("MOOLA_TABLE", prefix.clone()),
                ("MOOLA_BUS", bus_arn.clone()),
                ("MOOLA_SIGNING_KEY", key_arn),
                ("MOOLA_TRUSTED_KEYS", public_key),
                ("MOOLA_JOB_PREFIX", prefix.clone()),
                ("MOOLA_SCHEDULE_GROUP", prefix.clone()),
                ("MOOLA_PREDICT_NATIVE", format!("{prefix}-predict_native")),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        environment.extend(self.environment.clone());
        let mut queues = BTreeMap::new();
        let mut queue_arns = BTreeMap::new();
        for (function, detail_types) in CONSUMERS {
            let (url, arn) = self.queue(function).await.with_context(|| format!("the queue of `{function}`"))?;
            let pattern = match detail_types {
                [] => json!({ "source": [{ "prefix": "moola" }] }),
                some => json!({ "detail-type": some }),
            };
            self.rule(Some(prefix), function, &pattern.to_string(), &arn, None).await?;
            queues.insert((*function).to_owned(), url);
            queue_arns.insert(*function, arn);
        }
        // A real Batch publishes as `aws.batch`; what stands in for it may not, so its events are renamed on the way.
        let pattern = json!({ "source": ["aws.batch"], "detail-type": ["Batch Job State Change"] }).to_string();
        self.rule(None, "jobs", &pattern, &queue_arns["training"], None).await?;
        let renamed = Some(batch_service::input_transformer());
        self.rule(None, "stand-in-jobs", &batch_service::event_pattern(), &queue_arns["training"], renamed).await?;
        let topic_arn = self.topic().await.context("the topic of alerts")?;
        self.schedules(&bus_arn, &queue_arns).await.context("the schedules")?;
        let endpoint = match &self.bootstraps {
            Some(folder) => {
                for function in routes()?.keys().map(String::as_str).chain(["predict_native", "react"]) {
                    let queue = queue_arns.get(function).map(String::as_str);
                    self.function(folder, function, queue, &environment)
                        .await
                        .with_context(|| format!("the function `{function}`"))?;
                }
                Some(self.api().await.context("the HTTP API")?)
            }
            None => None,
        };
        Ok(Made { environment, endpoint, queues, topic_arn })
    }

    async fn bucket(&self) -> Result<()> {
        let client = aws_sdk_s3::Client::from_conf(
            aws_sdk_s3::config::Builder::from(&self.config).force_path_style(true).build(),
        );
        if client.head_bucket().bucket(&self.prefix).send().await.is_err() {
            client.create_bucket().bucket(&self.prefix).send().await?;
        }
        let versioning = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        client.put_bucket_versioning().bucket(&self.prefix).versioning_configuration(versioning).send().await?;
        Ok(())
    }

    async fn table(&self) -> Result<()> {
        let client = aws_sdk_dynamodb::Client::new(&self.config);
        if client.describe_table().table_name(&self.prefix).send().await.is_ok() {
            return Ok(());
        }
        let mut create = client.create_table().table_name(&self.prefix).billing_mode(BillingMode::PayPerRequest);
        for (name, key_type) in [("pk", KeyType::Hash), ("sk", KeyType::Range)] {
            let attribute = AttributeDefinition::builder().attribute_name(name);
            create = create
                .attribute_definitions(attribute.attribute_type(ScalarAttributeType::S).build()?)
                .key_schema(KeySchemaElement::builder().attribute_name(name).key_type(key_type).build()?);
        }
        create.send().await?;
        let expiry = TimeToLiveSpecification::builder().attribute_name("expires_at").enabled(true).build()?;
        client.update_time_to_live().table_name(&self.prefix).time_to_live_specification(expiry).send().await?;
        Ok(())
    }

    async fn key(&self) -> Result<(String, String)> {
        let client = aws_sdk_kms::Client::new(&self.config);
        let alias = format!("alias/{}-signing", self.prefix);
        let arn = match client.describe_key().key_id(&alias).send().await {
            Ok(answer) => answer.key_metadata.and_then(|key| key.arn),
            Err(_) => {
                let create = client.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::SignVerify);
                let arn = create.send().await?.key_metadata.and_then(|key| key.arn);
                client.create_alias().alias_name(&alias).set_target_key_id(arn.clone()).send().await?;
                arn
            }
        };
        let arn = arn.context("a key without an ARN")?;
        let der = client.get_public_key().key_id(&arn).send().await?.public_key.context("no public key")?;
        let text = BASE64.encode(der.as_ref());
        let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
        Ok((arn, format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))))
    }

    async fn bus(&self) -> Result<String> {
        let client = aws_sdk_eventbridge::Client::new(&self.config);
        if let Ok(bus) = client.describe_event_bus().name(&self.prefix).send().await {
            return bus.arn.context("a bus without an ARN");
        }
        client.create_event_bus().name(&self.prefix).send().await?.event_bus_arn.context("a bus without an ARN")
    }

    /// A queue and, behind it, the one for what could not be handled.
    async fn queue(&self, function: &str) -> Result<(String, String)> {
        let client = aws_sdk_sqs::Client::new(&self.config);
        let name = format!("{}-{function}", self.prefix);
        let (_, dead_arn) = make_queue(&client, &format!("{name}-dead"), &[]).await?;
        let redrive = json!({ "deadLetterTargetArn": dead_arn, "maxReceiveCount": RECEIVE_COUNT }).to_string();
        let visibility = self.visibility_secs.to_string();
        let attributes =
            [(QueueAttributeName::RedrivePolicy, redrive), (QueueAttributeName::VisibilityTimeout, visibility)];
        make_queue(&client, &name, &attributes).await
    }

    async fn rule(
        &self,
        bus: Option<&str>,
        name: &str,
        pattern: &str,
        target_arn: &str,
        transformer: Option<InputTransformer>,
    ) -> Result<()> {
        let client = aws_sdk_eventbridge::Client::new(&self.config);
        let name = format!("{}-{name}", self.prefix);
        let bus = bus.map(str::to_owned);
        client.put_rule().name(&name).set_event_bus_name(bus.clone()).event_pattern(pattern).send().await?;
        let target = Target::builder().id("target").arn(target_arn).set_input_transformer(transformer).build()?;
        let put = client.put_targets().rule(&name).set_event_bus_name(bus).targets(target).send().await?;
        match put.failed_entries().first() {
            Some(failed) => bail!("rule `{name}`: {}", failed.error_message().unwrap_or("its target was refused")),
            None => Ok(()),
        }
    }

    async fn topic(&self) -> Result<String> {
        let client = aws_sdk_sns::Client::new(&self.config);
        let name = format!("{}-alerts", self.prefix);
        let arn = client.create_topic().name(name).send().await?.topic_arn.context("a topic without an ARN")?;
        let transformer = InputTransformer::builder()
            .input_paths_map("type", "$.detail-type")
            .input_paths_map("model", "$.detail.model")
            .input_paths_map("version", "$.detail.model_version")
            .input_paths_map("chain", "$.detail.moola.correlation_id")
            .input_template(r#""<type>: model <model>, version <version> (correlation id <chain>)""#)
            .build()?;
        let pattern = json!({ "source": ["moola"], "detail-type": ALERTS }).to_string();
        self.rule(Some(&self.prefix), "alerts", &pattern, &arn, Some(transformer)).await?;
        Ok(arn)
    }

    async fn schedules(&self, bus_arn: &str, queue_arns: &BTreeMap<&str, String>) -> Result<()> {
        let client = aws_sdk_scheduler::Client::new(&self.config);
        if client.get_schedule_group().name(&self.prefix).send().await.is_err() {
            client.create_schedule_group().name(&self.prefix).send().await?;
        }
        let role = "arn:aws:iam::000000000000:role/moola-scheduler";
        let scheduler = Scheduler::new(&self.config, &self.prefix, role, bus_arn);
        let mut schedules = vec![
            ("drift-check".to_owned(), DRIFT_CHECK_DUE, self.drift_schedule.as_str(), json!({ "version": 1 })),
            ("maintenance".to_owned(), MAINTENANCE_DUE, "rate(5 minutes)", json!({ "version": 1 })),
        ];
        for (kind, detail_type, of_models) in
            [("drift", DRIFT_CHECK_DUE, &self.drift_schedules), ("retrain", RETRAIN_DUE, &self.retrain_schedules)]
        {
            for (model, expression) in of_models {
                let detail = json!({ "version": 1, "model": model });
                schedules.push((format!("{kind}.{model}"), detail_type, expression, detail));
            }
        }
        for (name, detail_type, expression, detail) in schedules {
            let event = Event {
                id: String::new(),
                source: "moola.schedule".into(),
                detail_type: detail_type.into(),
                time_ms: 0,
                correlation_id: String::new(),
                detail,
            };
            let schedule = Schedule { name: name.clone(), expression: expression.parse()?, enabled: true, event };
            scheduler.put(schedule).await?;
            // A real Scheduler publishes as it was told; MiniStack's as `aws.scheduler`, so its events are renamed too.
            let schedule_arn = format!("arn:aws:scheduler:us-east-1:000000000000:schedule/{}/{name}", self.prefix);
            let pattern = json!({ "source": ["aws.scheduler"], "resources": [schedule_arn] }).to_string();
            let takes = |types: &[&str]| types.is_empty() || types.contains(&detail_type);
            for (function, _) in CONSUMERS.iter().filter(|(_, types)| takes(types)) {
                let (name, renamed) = (format!("fired-{name}-{function}"), Some(firing(detail_type)?));
                self.rule(Some(&self.prefix), &name, &pattern, &queue_arns[function], renamed).await?;
            }
        }
        Ok(())
    }

    async fn function(
        &self,
        folder: &Path,
        name: &str,
        queue_arn: Option<&str>,
        environment: &BTreeMap<String, String>,
    ) -> Result<()> {
        let client = aws_sdk_lambda::Client::new(&self.config);
        let function_name = format!("{}-{name}", self.prefix);
        if client.get_function().function_name(&function_name).send().await.is_ok() {
            client.delete_function().function_name(&function_name).send().await?;
        }
        let file = [folder.join(name).join("bootstrap"), folder.join(name)].into_iter().find(|path| path.is_file());
        let file = file.with_context(|| format!("neither `{name}/bootstrap` nor `{name}` in {}", folder.display()))?;
        let zip = zip(&read_stripped(&file)?)?;
        let architecture = if cfg!(target_arch = "aarch64") { Architecture::Arm64 } else { Architecture::X8664 };
        let variables = environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        client
            .create_function()
            .function_name(&function_name)
            .runtime(Runtime::Providedal2023)
            .architectures(architecture)
            .handler("bootstrap")
            .role("arn:aws:iam::000000000000:role/moola-function")
            .timeout(i32::try_from(self.visibility_secs.min(900))?)
            .memory_size(512)
            .code(FunctionCode::builder().zip_file(zip.into()).build())
            .environment(Environment::builder().set_variables(Some(variables)).build())
            .send()
            .await?;
        if let Some(queue_arn) = queue_arn {
            let mappings = client
                .list_event_source_mappings()
                .function_name(&function_name)
                .event_source_arn(queue_arn)
                .send()
                .await?;
            if mappings.event_source_mappings().is_empty() {
                client
                    .create_event_source_mapping()
                    .function_name(&function_name)
                    .event_source_arn(queue_arn)
                    .batch_size(10)
                    .function_response_types(FunctionResponseType::ReportBatchItemFailures)
                    .send()
                    .await?;
            }
        }
        Ok(())
    }

    /// The HTTP API in front of the functions; one that exists is made anew.
    async fn api(&self) -> Result<String> {
        let client = aws_sdk_apigatewayv2::Client::new(&self.config);
        for api in client.get_apis().send().await?.items() {
            if api.name() == Some(&self.prefix) {
                client.delete_api().set_api_id(api.api_id.clone()).send().await?;
            }
        }
        let api = client.create_api().name(&self.prefix).protocol_type(ProtocolType::Http).send().await?;
        let id = api.api_id.context("an API without an id")?;
        for (function, routes) in routes()? {
            let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{}-{function}", self.prefix);
            let integration = client
                .create_integration()
                .api_id(&id)
                .integration_type(IntegrationType::AwsProxy)
                .integration_uri(arn)
                .payload_format_version("2.0")
                .send()
                .await?;
            let target =
                format!("integrations/{}", integration.integration_id.context("an integration without an id")?);
            for route in routes {
                client.create_route().api_id(&id).route_key(route).target(&target).send().await?;
            }
        }
        client.create_stage().api_id(&id).stage_name("$default").auto_deploy(true).send().await?;
        api.api_endpoint.context("an API without an endpoint")
    }
}

/// Makes of what an emulated Scheduler publishes the events that a real one would have published.
fn firing(detail_type: &str) -> Result<InputTransformer> {
    let template =
        r#"{"version":"0","id":<id>,"detail-type":"TYPE","source":"moola.schedule","time":<time>,"detail":<detail>}"#;
    let mut transformer = InputTransformer::builder().input_template(template.replace("TYPE", detail_type));
    for field in ["id", "time", "detail"] {
        transformer = transformer.input_paths_map(field, format!("$.{field}"));
    }
    Ok(transformer.build()?)
}

/// Which function has which routes.
fn routes() -> Result<BTreeMap<String, Vec<String>>> {
    serde_json::from_str(ROUTES).context("infra/routes.json")
}

async fn make_queue(
    client: &aws_sdk_sqs::Client,
    name: &str,
    attributes: &[(QueueAttributeName, String)],
) -> Result<(String, String)> {
    let mut create = client.create_queue().queue_name(name);
    for (attribute, value) in attributes {
        create = create.attributes(attribute.clone(), value);
    }
    let url = create.send().await?.queue_url.context("a queue without a URL")?;
    let answer =
        client.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::QueueArn).send().await?;
    let arn = answer.attributes.and_then(|mut all| all.remove(&QueueAttributeName::QueueArn));
    Ok((url, arn.context("a queue without an ARN")?))
}

/// An archive with `bytes` as its `bootstrap`, which may be run.
fn zip(bytes: &[u8]) -> Result<Vec<u8>> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).unix_permissions(0o755);
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("bootstrap", options)?;
    archive.write_all(bytes)?;
    Ok(archive.finish()?.into_inner())
}

/// A program without its symbols, where `strip` is there to take them out: an emulator keeps archives in memory.
fn read_stripped(path: &Path) -> Result<Vec<u8>> {
    let stripped = std::env::temp_dir().join(unique_name(&format!("moola-stripped-{}", std::process::id())));
    let done = Command::new("strip").arg("--strip-all").arg("-o").arg(&stripped).arg(path).status();
    let source = if done.is_ok_and(|status| status.success()) { stripped.as_path() } else { path };
    let bytes = std::fs::read(source).with_context(|| path.display().to_string());
    let _ = std::fs::remove_file(&stripped);
    bytes
}
