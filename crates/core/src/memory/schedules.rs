use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::lock;
use crate::error::Result;
use crate::ports::{Clock, Events, Schedule, Schedules};

#[derive(Debug, Clone)]
struct Entry {
    schedule: Schedule,
    anchor_ms: i64,
    fired_ms: i64,
}

/// Schedules in memory; they fire when [`MemorySchedules::tick`] is called.
pub struct MemorySchedules {
    entries: Mutex<BTreeMap<String, Entry>>,
    events: Arc<dyn Events>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for MemorySchedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySchedules").finish_non_exhaustive()
    }
}

impl MemorySchedules {
    /// Makes an empty set of schedules.
    #[must_use]
    pub fn new(events: Arc<dyn Events>, clock: Arc<dyn Clock>) -> Self {
        Self { entries: Mutex::default(), events, clock }
    }

    /// Fires every enabled schedule that was due since it last fired, once; how many fired. An event's id is
    /// `{name}@{due}`, its time when it was due.
    ///
    /// # Errors
    /// As [`Events::publish`].
    pub async fn tick(&self, now_ms: i64) -> Result<usize> {
        let entries = lock(&self.entries).clone();
        let mut num_fired = 0;
        for (name, entry) in entries.into_iter().filter(|(_, entry)| entry.schedule.enabled) {
            let next = entry.schedule.expression.next_after(entry.anchor_ms, entry.fired_ms)?;
            let Some(due_ms) = next.filter(|due_ms| *due_ms <= now_ms) else { continue };
            self.events.publish(vec![entry.schedule.firing(due_ms)]).await?;
            num_fired += 1;
            if let Some(entry) = lock(&self.entries).get_mut(&name) {
                entry.fired_ms = now_ms;
            }
        }
        Ok(num_fired)
    }
}

#[async_trait]
impl Schedules for MemorySchedules {
    async fn put(&self, schedule: Schedule) -> Result<()> {
        schedule.check()?;
        let now_ms = self.clock.now_ms();
        let entry = Entry { schedule, anchor_ms: now_ms, fired_ms: now_ms };
        lock(&self.entries).insert(entry.schedule.name.clone(), entry);
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        lock(&self.entries).remove(name);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Schedule>> {
        Ok(lock(&self.entries).values().map(|entry| entry.schedule.clone()).collect())
    }
}
