//! The in-memory adapters keep the promises.

use super::*;
use crate::memory::{ManualClock, Memory, MemoryBlobs, MemoryEvents, MemorySigner, MemoryTable};
use crate::ports::{EventFilter, Events, Schedules};

/// Delivers events for as long as it lives.
struct Pump(tokio::task::JoinHandle<()>);

impl Pump {
    fn start(events: Arc<MemoryEvents>) -> Self {
        Self(tokio::spawn(async move {
            loop {
                events.drain().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_blobs() {
    let clock = Arc::new(ManualClock::new(crate::memory::START_MS));
    blobs(async || Arc::new(MemoryBlobs::new(clock.clone()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_table() {
    table(async || Arc::new(MemoryTable::new())).await;
}

#[tokio::test]
async fn memory_signer() {
    let seed = std::sync::atomic::AtomicU8::new(0);
    signer(async || Arc::new(MemorySigner::new(&[seed.fetch_add(1, std::sync::atomic::Ordering::SeqCst)]))).await;
}

struct Bus(Arc<MemoryEvents>, #[allow(dead_code, reason = "held")] Pump);

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
async fn memory_events() {
    events(async || {
        let events = Arc::new(MemoryEvents::new());
        Arc::new(Bus(events.clone(), Pump::start(events)))
    })
    .await;
}

struct Ticked(Memory, Arc<Recorder>);

#[async_trait]
impl SchedulesUnderTest for Ticked {
    fn schedules(&self) -> &dyn Schedules {
        &*self.0.schedules
    }

    fn clock(&self) -> &ManualClock {
        &self.0.clock
    }

    fn recorder(&self) -> &Recorder {
        &self.1
    }

    async fn settle(&self) {
        use crate::ports::Clock;
        self.0.schedules.tick(self.0.clock.now_ms()).await.unwrap();
        self.0.settle().await;
    }
}

#[tokio::test]
async fn memory_schedules() {
    schedules(async || Memory::new().schedules).await;
    schedules_fire(async || {
        let memory = Memory::new();
        let recorder = Recorder::new();
        memory.events.subscribe("recorder", EventFilter::all(), recorder.clone());
        Arc::new(Ticked(memory, recorder))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_jobs() {
    jobs(async || {
        let memory = Memory::new();
        memory.jobs.register("script", job_script);
        let recorder = Recorder::new();
        memory.events.subscribe("recorder", EventFilter::all(), recorder.clone());
        let keep = Box::new(Pump::start(memory.events.clone()));
        JobsUnderTest { jobs: memory.jobs, recorder, definition: "script".into(), queue: "cpu".into(), keep }
    })
    .await;
}

#[tokio::test]
async fn held_jobs_end_when_told() {
    let memory = Memory::new();
    memory.jobs.hold("trainer");
    let request = crate::ports::JobRequest {
        name: "train".into(),
        definition: "trainer".into(),
        queue: "cpu".into(),
        args: vec![],
        environment: Default::default(),
        array_size: None,
        attempts: 2,
        timeout_secs: None,
        tags: Default::default(),
    };
    use crate::ports::{JobStatus, Jobs};
    let id = memory.jobs.submit(request).await.unwrap();
    memory.settle().await;
    assert_eq!(memory.jobs.describe(&id).await.unwrap().status, JobStatus::Runnable);
    memory.jobs.finish(&id, 75).await.unwrap();
    assert_eq!(memory.jobs.describe(&id).await.unwrap().status, JobStatus::Runnable);
    memory.jobs.finish(&id, 0).await.unwrap();
    assert_eq!(memory.jobs.describe(&id).await.unwrap().status, JobStatus::Succeeded);
    assert_eq!(memory.jobs.finish(&id, 0).await.unwrap_err().kind(), ErrorKind::Conflict);
}
