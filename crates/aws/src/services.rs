//! The ports of a function.

use std::sync::Arc;

use aws_config::SdkConfig;
use moola_core::Result;
use moola_core::ports::{Absent, Clock as _, Ports};
use moola_core::system::{SystemClock, TimeIds};

use crate::{DynamoTable, Resources, S3Blobs, TrustedKeys, function_config};

/// The services of AWS and what moola's things in them are called.
#[derive(Debug, Clone)]
pub struct Services {
    /// Where the services are.
    pub config: SdkConfig,
    /// What moola's things are called.
    pub resources: Resources,
}

impl Services {
    /// Reads the environment of a function.
    #[must_use]
    pub fn from_env() -> Self {
        Self { config: function_config(), resources: Resources::from_env() }
    }

    /// Blobs, the table and verification. Every other port is [`Absent`]: a function puts in what its role may use.
    ///
    /// # Errors
    /// `Invalid` where a trusted key is none; `Unavailable` without random bits.
    pub fn ports(&self) -> Result<Ports> {
        let clock = Arc::new(SystemClock);
        let ids = Arc::new(TimeIds::new(clock.clone())?);
        let absent = Arc::new(Absent);
        tracing::debug!(now_ms = clock.now_ms(), resources = ?self.resources, "starting");
        Ok(Ports {
            blobs: Arc::new(S3Blobs::new(&self.config, &self.resources.bucket)),
            table: Arc::new(DynamoTable::new(&self.config, &self.resources.table)),
            jobs: absent.clone(),
            events: absent.clone(),
            schedules: absent,
            signer: Arc::new(TrustedKeys::from_pem(&self.resources.trusted_keys)?),
            clock,
            ids,
        })
    }
}
