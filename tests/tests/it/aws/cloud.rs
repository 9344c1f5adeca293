//! The whole loop in an emulated AWS: from bars to a prediction of a version that drift made.

use moola_tests::emulator::Emulator;

use super::platform::Platform;
use crate::r#loop::{SETTINGS, drift_to_retrain};

#[tokio::test(flavor = "multi_thread")]
async fn drift_leads_to_a_new_version_by_itself_in_aws() {
    let Some(emulator) = Emulator::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let platform = Platform::start(emulator, SETTINGS, dir.path(), true).await;
    let api = &platform.api;
    drift_to_retrain(api).await;
    platform.batch.shutdown().await;
}
