//! Ports that a deployable was not given.

use async_trait::async_trait;

use super::{
    Event, Events, JobDescription, JobFilter, JobId, JobRequest, Jobs, LogLine, Schedule, Schedules, Signature, Signer,
};
use crate::error::{Error, Result};

/// Stands for a port that a deployable has no permission for, and links no adapter of: every call is `Internal`, since
/// none should come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Absent;

fn absent(port: &str) -> Error {
    Error::internal(format!("this function was given no {port}"))
}

#[async_trait]
impl Jobs for Absent {
    async fn submit(&self, _: JobRequest) -> Result<JobId> {
        Err(absent("jobs"))
    }

    async fn describe(&self, _: &JobId) -> Result<JobDescription> {
        Err(absent("jobs"))
    }

    async fn list(&self, _: &JobFilter) -> Result<Vec<JobDescription>> {
        Err(absent("jobs"))
    }

    async fn cancel(&self, _: &JobId, _: &str) -> Result<()> {
        Err(absent("jobs"))
    }

    async fn logs(&self, _: &JobId, _: usize) -> Result<Vec<LogLine>> {
        Err(absent("jobs"))
    }
}

#[async_trait]
impl Events for Absent {
    async fn publish(&self, _: Vec<Event>) -> Result<()> {
        Err(absent("events"))
    }
}

#[async_trait]
impl Schedules for Absent {
    async fn put(&self, _: Schedule) -> Result<()> {
        Err(absent("schedules"))
    }

    async fn delete(&self, _: &str) -> Result<()> {
        Err(absent("schedules"))
    }

    async fn list(&self) -> Result<Vec<Schedule>> {
        Err(absent("schedules"))
    }
}

#[async_trait]
impl Signer for Absent {
    async fn sign(&self, _: &[u8]) -> Result<Signature> {
        Err(absent("signing key"))
    }

    async fn public_key(&self) -> Result<String> {
        Err(absent("signing key"))
    }

    async fn verify(&self, _: &[u8], _: &Signature) -> Result<()> {
        Err(absent("signing key"))
    }
}
