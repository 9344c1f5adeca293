use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::error::{Error, Result};

/// When: `rate(5 minutes)` or `cron(0 18 ? * MON-FRI *)`, as EventBridge writes it, in UTC.
///
/// # Invariants
/// `rate`: a whole number from 1, `minute(s)`, `hour(s)` or `day(s)`. `cron`: six fields (minute, hour, day of month,
/// month, day of week, year); adapters check the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ScheduleExpression {
    /// Every so many seconds.
    Rate {
        /// The period.
        secs: u64,
    },
    /// At times that match the six fields.
    Cron {
        /// The fields, separated by one space.
        fields: String,
    },
}

impl FromStr for ScheduleExpression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let error = || Error::invalid("schedule", text, "`rate(5 minutes)` or `cron(0 18 ? * MON-FRI *)`");
        let inside = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(rate) = inside("rate") {
            let (count, unit) = rate.split_once(' ').ok_or_else(error)?;
            let count: u64 = count.parse().map_err(|_| error())?;
            let unit = match unit {
                "second" | "seconds" => 1,
                "minute" | "minutes" => 60,
                "hour" | "hours" => 3_600,
                "day" | "days" => 86_400,
                _ => return Err(error()),
            };
            let secs = count.checked_mul(unit).filter(|secs| *secs > 0).ok_or_else(error)?;
            return Ok(Self::Rate { secs });
        }
        let fields: Vec<&str> = inside("cron").ok_or_else(error)?.split_whitespace().collect();
        if fields.len() != 6 {
            return Err(error());
        }
        Ok(Self::Cron { fields: fields.join(" ") })
    }
}

impl fmt::Display for ScheduleExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate { secs } => {
                let (unit, size) = [("day", 86_400), ("hour", 3_600), ("minute", 60)]
                    .into_iter()
                    .find(|(_, size)| secs.is_multiple_of(*size))
                    .unwrap_or(("second", 1));
                let count = secs / size;
                write!(f, "rate({count} {unit}{})", if count == 1 { "" } else { "s" })
            }
            Self::Cron { fields } => write!(f, "cron({fields})"),
        }
    }
}

impl TryFrom<String> for ScheduleExpression {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ScheduleExpression> for String {
    fn from(expression: ScheduleExpression) -> Self {
        expression.to_string()
    }
}

/// An event that happens regularly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name, 1 to 64 of letters, digits and `-_.`.
    pub name: String,
    /// When.
    pub expression: ScheduleExpression,
    /// Whether it fires.
    pub enabled: bool,
    /// What is published; its id and time are set anew at every firing.
    pub event: Event,
}

/// Publishes events at times.
#[async_trait]
pub trait Schedules: Send + Sync {
    /// Creates or replaces a schedule; a rate counts from now.
    ///
    /// # Errors
    /// `Invalid` for a bad name or fields, `Unavailable`.
    async fn put(&self, schedule: Schedule) -> Result<()>;

    /// Deletes a schedule; deleting what does not exist succeeds.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn delete(&self, name: &str) -> Result<()>;

    /// All schedules, by name.
    ///
    /// # Errors
    /// `Unavailable`.
    async fn list(&self) -> Result<Vec<Schedule>>;
}
