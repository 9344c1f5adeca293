//! The embedded adapters keep the promises of their ports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use moola_core::memory::ManualClock;
use moola_core::ports::{EventFilter, EventHandler, Events, Schedules, Table};
use moola_core::system::{SystemClock, TimeIds};
use moola_core::testkit::{self, EventsUnderTest, JOB_SCRIPT, JobsUnderTest, Recorder, SchedulesUnderTest};
use moola_local::{
    CommandTemplate, DirectoryBlobs, EventsConfig, KeyFileSigner, LocalEvents, LocalSchedules, ProcessJobs,
    ProcessJobsConfig, RedbTable,
};
use tempfile::TempDir;

/// Makes a new path at every call.
struct Paths(TempDir, AtomicU32);

impl Paths {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap(), AtomicU32::new(0))
    }

    fn next(&self) -> std::path::PathBuf {
        self.0.path().join(self.1.fetch_add(1, Ordering::SeqCst).to_string())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_blobs() {
    let paths = Paths::new();
    testkit::blobs(async || Arc::new(DirectoryBlobs::open(paths.next()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redb_table() {
    let paths = Paths::new();
    testkit::table(async || Arc::new(RedbTable::open(paths.next()).unwrap())).await;
}

#[tokio::test]
async fn key_file_signer() {
    let paths = Paths::new();
    testkit::signer(async || Arc::new(KeyFileSigner::open_or_create(paths.next()).unwrap())).await;
}

fn ids() -> Arc<TimeIds> {
    Arc::new(TimeIds::new(Arc::new(SystemClock)).unwrap())
}

async fn open_events(table: Arc<dyn Table>) -> Arc<LocalEvents> {
    Arc::new(LocalEvents::open(table, ids(), EventsConfig::default()).await.unwrap())
}

struct Bus(Arc<LocalEvents>);

#[async_trait]
impl EventsUnderTest for Bus {
    fn events(&self) -> Arc<dyn Events> {
        self.0.clone()
    }

    async fn subscribe(&self, name: &str, filter: EventFilter, handler: Arc<dyn EventHandler>) {
        self.0.subscribe(name, filter, handler);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_events() {
    let paths = Paths::new();
    testkit::events(async || Arc::new(Bus(open_events(Arc::new(RedbTable::open(paths.next()).unwrap())).await))).await;
}

struct Ticked {
    schedules: LocalSchedules,
    clock: Arc<ManualClock>,
    recorder: Arc<Recorder>,
    events: Arc<LocalEvents>,
}

#[async_trait]
impl SchedulesUnderTest for Ticked {
    fn schedules(&self) -> &dyn Schedules {
        &self.schedules
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    async fn settle(&self) {
        self.schedules.settle().await.unwrap();
        while self.events.num_waiting("recorder").await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_schedules() {
    let paths = Paths::new();
    let make = async || {
        let table: Arc<dyn Table> = Arc::new(RedbTable::open(paths.next()).unwrap());
        let events = open_events(table.clone()).await;
        let recorder = Recorder::new();
        events.subscribe("recorder", EventFilter::all(), recorder.clone());
        let clock = Arc::new(ManualClock::new(0));
        let schedules = LocalSchedules::new(table, events.clone(), clock.clone());
        schedules.start();
        Arc::new(Ticked { schedules, clock, recorder, events })
    };
    testkit::schedules(async || {
        let table = Arc::new(RedbTable::open(paths.next()).unwrap());
        Arc::new(LocalSchedules::new(table.clone(), open_events(table).await, Arc::new(SystemClock)))
    })
    .await;
    testkit::schedules_fire(make).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn process_jobs() {
    let paths = Paths::new();
    testkit::jobs(async || {
        let table: Arc<dyn Table> = Arc::new(RedbTable::open(paths.next()).unwrap());
        let events = open_events(table.clone()).await;
        let recorder = Recorder::new();
        events.subscribe("recorder", EventFilter::all(), recorder.clone());
        let args = ["-c", JOB_SCRIPT, "testkit"].map(str::to_owned).to_vec();
        let script = CommandTemplate { program: "/bin/sh".into(), args };
        let config = ProcessJobsConfig {
            max_concurrent: 2,
            ..ProcessJobsConfig::new(BTreeMap::from([("script".into(), script)]), paths.next())
        };
        let jobs = Arc::new(ProcessJobs::new(table, events.clone(), Arc::new(SystemClock), ids(), config).unwrap());
        jobs.start().await.unwrap();
        JobsUnderTest { jobs, recorder, definition: "script".into(), queue: "cpu".into(), keep: Box::new(events) }
    })
    .await;
}
