//! How long requests wait for news of what serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use moola_core::Result;
use moola_core::memory::Memory;
use moola_core::ports::{Item, Key, Ports, Query, QueryPage, Table, Write};
use moola_core::serving::{Predictor, ServingConfig};
use tokio::sync::RwLock;
use tokio::time::timeout;

/// A table whose queries wait while somebody holds the lock.
struct Slow(Arc<dyn Table>, Arc<RwLock<()>>);

#[async_trait]
impl Table for Slow {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        self.0.get(key).await
    }
    async fn query(&self, query: &Query) -> Result<QueryPage> {
        let _open = self.1.read().await;
        self.0.query(query).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        self.0.write(writes).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_old_news_are_waited_for_and_once() {
    const HOUR_MS: i64 = 3_600_000;
    let (short, long, forever) = (Duration::from_millis(5), Duration::from_secs(3600), Duration::from_secs(60));
    let (memory, gate) = (Memory::new(), Arc::new(RwLock::new(())));
    let ports = memory.ports();
    let ports = Ports { table: Arc::new(Slow(ports.table.clone(), gate.clone())), ..ports };
    // Nothing looks in the background.
    let config = ServingConfig { refresh_ms: HOUR_MS as u64, ..ServingConfig::default() };
    let predictor = Predictor::start(ports, Vec::new(), config);
    predictor.freshen(short, long).await;
    assert!(predictor.status().is_ready);

    // News of two intervals are not old: the last good versions go on.
    let closed = gate.clone().write_owned().await;
    memory.clock.advance_ms(2 * HOUR_MS);
    timeout(forever, predictor.freshen(short, long)).await.expect("it waits a short while");
    // After eleven they are, even though the look from before still goes on.
    memory.clock.advance_ms(9 * HOUR_MS);
    let is_open = AtomicBool::new(false);
    let opening = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        is_open.store(true, Ordering::SeqCst);
        drop(closed);
    };
    let waiting = async {
        predictor.freshen(short, long).await;
        assert!(is_open.load(Ordering::SeqCst), "it does not wait");
    };
    timeout(forever, async { tokio::join!(waiting, opening) }).await.expect("it ends with the look");

    // One request waits in vain; the next one does not wait so long again.
    let _closed = gate.write().await;
    memory.clock.advance_ms(11 * HOUR_MS);
    predictor.freshen(short, short).await;
    timeout(forever, predictor.freshen(short, long)).await.expect("it waits a short while");
    memory.clock.advance_ms(2 * HOUR_MS);
    timeout(forever, predictor.freshen(short, long)).await.expect("it waits a short while");
}
