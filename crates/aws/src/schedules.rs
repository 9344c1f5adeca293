use std::fmt;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_scheduler::Client;
use aws_sdk_scheduler::operation::create_schedule::CreateScheduleError;
use aws_sdk_scheduler::operation::get_schedule::GetScheduleOutput;
use aws_sdk_scheduler::operation::update_schedule::UpdateScheduleError;
use aws_sdk_scheduler::types::{
    EventBridgeParameters, FlexibleTimeWindow, FlexibleTimeWindowMode, RetryPolicy, ScheduleState, Target,
};
use aws_smithy_types::DateTime;
use futures::{StreamExt, TryStreamExt, stream};
use moola_core::ports::{Clock, Schedule, ScheduleExpression, Schedules};
use moola_core::system::SystemClock;
use moola_core::{Error, Result};
use tokio::sync::OnceCell;

use crate::envelope::{decode_template, encode_template};
use crate::error::unexpected;

/// A firing that could not be published by then is dropped; the next one comes anyway.
const MAX_EVENT_AGE_SECS: i32 = 3_600;
const MAX_RETRIES: i32 = 20;
/// Schedules that are read at a time.
const MAX_READS: usize = 8;
/// Between looking whether a schedule exists and writing it, others may create and delete it so often.
const MAX_RACES: usize = 5;

/// Schedules of EventBridge Scheduler, which publish on an EventBridge bus.
///
/// The Scheduler may fire a minute late, and counts in whole minutes.
#[derive(Clone)]
pub struct Scheduler {
    client: Client,
    bus_client: aws_sdk_eventbridge::Client,
    group: String,
    role: String,
    bus: String,
    bus_arn: OnceCell<String>,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("group", &self.group).field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl Scheduler {
    /// Schedules of the group `group`, which publish on `bus` (a name or an ARN) with the role of the ARN `role`.
    pub fn new(config: &SdkConfig, group: impl Into<String>, role: impl Into<String>, bus: impl Into<String>) -> Self {
        Self {
            client: Client::new(config),
            bus_client: aws_sdk_eventbridge::Client::new(config),
            group: group.into(),
            role: role.into(),
            bus: bus.into(),
            bus_arn: OnceCell::new(),
        }
    }

    /// The bus's ARN, asked for once where only its name is known.
    async fn bus_arn(&self) -> Result<&str> {
        let ask = || async {
            if self.bus.starts_with("arn:") {
                return Ok(self.bus.clone());
            }
            let described = self.bus_client.describe_event_bus().name(&self.bus).send().await;
            let described = described.map_err(|error| unexpected("DescribeEventBus", error))?;
            described.arn.ok_or_else(|| Error::internal("DescribeEventBus told no ARN"))
        };
        self.bus_arn.get_or_try_init(ask).await.map(String::as_str)
    }

    async fn target(&self, schedule: &Schedule) -> Result<Target> {
        let event = &schedule.event;
        let parameters = EventBridgeParameters::builder().source(&event.source).detail_type(&event.detail_type).build();
        let retries =
            RetryPolicy::builder().maximum_event_age_in_seconds(MAX_EVENT_AGE_SECS).maximum_retry_attempts(MAX_RETRIES);
        Target::builder()
            .arn(self.bus_arn().await?)
            .role_arn(&self.role)
            .event_bridge_parameters(parameters.map_err(incomplete)?)
            .input(encode_template(&schedule.name, event)?)
            .retry_policy(retries.build())
            .build()
            .map_err(incomplete)
    }

    async fn names(&self) -> Result<Vec<String>> {
        let mut pages = self.client.list_schedules().group_name(&self.group).into_paginator().send();
        let mut names = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| unexpected("ListSchedules", error))?;
            names.extend(page.schedules.into_iter().filter_map(|schedule| schedule.name));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A schedule; `None` where it has gone.
    async fn get(&self, name: &str) -> Result<Option<Schedule>> {
        match self.client.get_schedule().group_name(&self.group).name(name).send().await {
            Ok(output) => read(name, output).map(Some),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(None),
            Err(error) => Err(unexpected("GetSchedule", error)),
        }
    }
}

fn incomplete(error: aws_smithy_types::error::operation::BuildError) -> Error {
    Error::internal("a request for EventBridge Scheduler is incomplete").with_source(error)
}

fn read(name: &str, output: GetScheduleOutput) -> Result<Schedule> {
    let expression = output.schedule_expression.unwrap_or_default();
    let target = output.target.as_ref();
    let parameters = target.and_then(|target| target.event_bridge_parameters());
    let input = target.and_then(|target| target.input());
    let not_ours = || Error::corrupt(format!("schedule `{name}` was not made by moola"));
    let (Some(parameters), Some(input)) = (parameters, input) else { return Err(not_ours()) };
    Ok(Schedule {
        name: name.to_owned(),
        expression: expression.parse().map_err(|error| not_ours().with_source(error))?,
        enabled: output.state == Some(ScheduleState::Enabled),
        event: decode_template(&parameters.source, &parameters.detail_type, input)
            .map_err(|error| not_ours().with_source(error))?,
    })
}

/// Checks what EventBridge Scheduler would refuse, and puts off the first firing of a rate, which would otherwise come at
/// once.
fn start(schedule: &Schedule, now_ms: i64) -> Result<Option<DateTime>> {
    schedule.check()?;
    let ScheduleExpression::Rate { secs } = &schedule.expression else { return Ok(None) };
    if !secs.is_multiple_of(60) {
        return Err(Error::invalid("schedule", &schedule.expression, "a rate in whole minutes"));
    }
    let secs = i64::try_from(*secs).ok().and_then(|secs| secs.checked_add(now_ms / 1_000));
    let too_long = || Error::invalid("schedule", &schedule.expression, "a rate of at most 100 years");
    secs.filter(|secs| *secs < 8_000_000_000).map(DateTime::from_secs).map(Some).ok_or_else(too_long)
}

#[async_trait]
impl Schedules for Scheduler {
    async fn put(&self, schedule: Schedule) -> Result<()> {
        let start = start(&schedule, SystemClock.now_ms())?;
        let target = self.target(&schedule).await?;
        let window = FlexibleTimeWindow::builder().mode(FlexibleTimeWindowMode::Off).build().map_err(incomplete)?;
        let state = if schedule.enabled { ScheduleState::Enabled } else { ScheduleState::Disabled };
        let expression = schedule.expression.to_string();
        for _ in 0..MAX_RACES {
            let updated = self
                .client
                .update_schedule()
                .group_name(&self.group)
                .name(&schedule.name)
                .schedule_expression(&expression)
                .schedule_expression_timezone("UTC")
                .set_start_date(start)
                .flexible_time_window(window.clone())
                .state(state.clone())
                .target(target.clone())
                .send()
                .await;
            match updated {
                Ok(_) => return Ok(()),
                Err(error)
                    if error.as_service_error().is_some_and(UpdateScheduleError::is_resource_not_found_exception) => {}
                Err(error) => return Err(unexpected("UpdateSchedule", error)),
            }
            let created = self
                .client
                .create_schedule()
                .group_name(&self.group)
                .name(&schedule.name)
                .schedule_expression(&expression)
                .schedule_expression_timezone("UTC")
                .set_start_date(start)
                .flexible_time_window(window.clone())
                .state(state.clone())
                .target(target.clone())
                .send()
                .await;
            match created {
                Ok(_) => return Ok(()),
                Err(error) if error.as_service_error().is_some_and(CreateScheduleError::is_conflict_exception) => {}
                Err(error) => return Err(unexpected("CreateSchedule", error)),
            }
        }
        Err(Error::unavailable(format!("schedule `{}` is created and deleted all the time", schedule.name)))
    }

    async fn delete(&self, name: &str) -> Result<()> {
        // A name that nothing can have names nothing.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Ok(());
        }
        match self.client.delete_schedule().group_name(&self.group).name(name).send().await {
            Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(()),
            Err(error) => Err(unexpected("DeleteSchedule", error)),
            Ok(_) => Ok(()),
        }
    }

    async fn list(&self) -> Result<Vec<Schedule>> {
        let names = self.names().await?;
        let read = names.into_iter().map(|name| async move { self.get(&name).await });
        let schedules: Vec<Option<Schedule>> = stream::iter(read).buffered(MAX_READS).try_collect().await?;
        Ok(schedules.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests;
