//! AWS adapters of moola's ports, and what its Lambda functions share.
//!
//! | port | adapter | service |
//! |---|---|---|
//! | Blobs | [`S3Blobs`] | S3 |
//! | Table | [`DynamoTable`] | DynamoDB, one table |
//! | Jobs | [`BatchJobs`] | Batch, CloudWatch Logs |
//! | Events | [`EventBridge`] | EventBridge |
//! | Schedules | [`Scheduler`] | EventBridge Scheduler |
//! | Signer | [`KmsSigner`], [`TrustedKeys`] | KMS; verifying needs no service |
//!
//! The standard AWS environment says where they are and who asks: `AWS_REGION`, credentials, `AWS_ENDPOINT_URL`
//! for an emulator. [`Resources`] says what they are called.

#[cfg(feature = "s3")]
mod blobs;
#[cfg(test)]
mod canned;
mod config;
mod envelope;
mod error;
#[cfg(feature = "events")]
mod events;
#[cfg(feature = "batch")]
mod jobs;
#[cfg(feature = "lambda")]
pub mod lambda;
#[cfg(any(feature = "dynamodb", feature = "s3"))]
mod retry;
#[cfg(feature = "events")]
mod schedules;
#[cfg(all(feature = "dynamodb", feature = "s3"))]
mod services;
mod signer;
#[cfg(feature = "dynamodb")]
mod table;

#[cfg(feature = "s3")]
pub use blobs::S3Blobs;
pub use config::{Resources, config_loader, function_config, sdk_config};
pub use envelope::{decode_event, encode_detail};
#[cfg(feature = "events")]
pub use events::EventBridge;
#[cfg(feature = "batch")]
pub use jobs::BatchJobs;
#[cfg(feature = "events")]
pub use schedules::Scheduler;
#[cfg(all(feature = "dynamodb", feature = "s3"))]
pub use services::Services;
#[cfg(feature = "kms")]
pub use signer::KmsSigner;
pub use signer::TrustedKeys;
#[cfg(feature = "dynamodb")]
pub use table::DynamoTable;
