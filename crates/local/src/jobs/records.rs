//! Jobs in the table, and the events about them.
//!
//! - `local/jobs` / id: a job, of an array job the parent.
//! - `local/jobs/{id}` / index: a child that has started or was cancelled; the others are as their parent was submitted.
//! - `local/jobs-active` / id: jobs and children that have not ended or whose last event may not be out.
//!
//! A record holds the events of its last change until the next one, so that a crash between the change and the
//! publication loses none.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use moola_core::ports::checks::MAX_EVENTS;
use moola_core::ports::{Clock, Event, Events, Ids, Item, JobAttempt, JobDescription, JobId, JobRequest, JobStatus};
use moola_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::{Condition, Key, Query, Table, Write};
use crate::lock;

pub(super) const JOBS: &str = "local/jobs";
pub(super) const ACTIVE: &str = "local/jobs-active";
const PUBLISH_TRIES: u32 = 5;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) description: JobDescription,
    pub(super) attempts: Vec<JobAttempt>,
    /// How many of the attempts ended because the platform did.
    #[serde(default)]
    pub(super) num_interruptions: u32,
    /// Why it was cancelled.
    pub(super) cancelled: Option<String>,
    /// The events of the last change.
    outbox: Vec<Event>,
}

impl Record {
    fn new(description: JobDescription, outbox: Vec<Event>) -> Self {
        Self { description, attempts: Vec::new(), num_interruptions: 0, cancelled: None, outbox }
    }
}

pub(super) struct Records {
    table: Arc<dyn Table>,
    events: Arc<dyn Events>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// Jobs whose last events could not be published.
    unpublished: Mutex<BTreeSet<JobId>>,
}

/// Number of children, of an array job itself.
pub(super) fn array_size(job: &JobDescription) -> Option<u32> {
    job.request.array_size.filter(|_| child_index(&job.id).is_none())
}

pub(super) fn child_id(parent: &JobId, index: u32) -> JobId {
    JobId(format!("{parent}:{index}"))
}

/// Parent and index of a child; an index has one form only: no `+1`, no `01`.
pub(super) fn child_index(id: &JobId) -> Option<(&str, u32)> {
    let (parent, text) = id.0.split_once(':')?;
    let index: u32 = text.parse().ok()?;
    (index.to_string() == text).then_some((parent, index))
}

fn key(id: &JobId) -> Key {
    match child_index(id) {
        Some((parent, index)) => Key::new(format!("{JOBS}/{parent}"), format!("{index:05}")),
        None => Key::new(JOBS, &id.0),
    }
}

pub(super) fn parse(item: Item) -> Result<Record> {
    serde_json::from_value(item.value).map_err(|error| {
        Error::corrupt(format!("item `{}/{}` is no job", item.key.partition, item.key.sort)).with_source(error)
    })
}

fn put(id: &JobId, record: &Record, condition: Condition) -> Result<Write> {
    let value = serde_json::to_value(record)
        .map_err(|error| Error::internal("a job cannot be serialised").with_source(error))?;
    Ok(Write::Put { key: key(id), value, condition })
}

fn activate(id: &JobId) -> Write {
    Write::Put { key: Key::new(ACTIVE, &id.0), value: true.into(), condition: Condition::Always }
}

fn deactivate(id: &JobId) -> Write {
    Write::Delete { key: Key::new(ACTIVE, &id.0), condition: Condition::Always }
}

impl Records {
    pub(super) fn new(
        table: Arc<dyn Table>,
        events: Arc<dyn Events>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Self {
        Self { table, events, clock, ids, unpublished: Mutex::default() }
    }

    pub(super) async fn create(&self, id: JobId, request: JobRequest) -> Result<()> {
        let mut description = JobDescription::new(id.clone(), request, self.clock.now_ms());
        let submitted = self.event(&description, &[]);
        description.status = JobStatus::Runnable;
        if let Some(size) = description.request.array_size {
            description.array_summary.insert(JobStatus::Runnable.as_str().into(), size);
        }
        let events = vec![submitted, self.event(&description, &[])];
        let record = Record::new(description, events.clone());
        self.table.write(vec![put(&id, &record, Condition::Absent)?, activate(&id)]).await?;
        self.publish(&id, events).await;
        Ok(())
    }

    /// A record and the condition under which it may be replaced.
    pub(super) async fn load(&self, id: &JobId) -> Result<(Record, Condition)> {
        let not_found = || Error::not_found("job", id);
        if id.0.is_empty() || id.0.len() > 64 {
            return Err(not_found());
        }
        let stored = |item: Item| {
            let condition = Condition::Revision(item.revision);
            Ok((parse(item)?, condition))
        };
        if let Some(item) = self.table.get(&key(id)).await? {
            return stored(item);
        }
        let (parent, index) = child_index(id).ok_or_else(not_found)?;
        let parent = self.table.get(&Key::new(JOBS, parent)).await?.ok_or_else(not_found)?;
        let parent = parse(parent)?.description;
        if parent.request.array_size.is_none_or(|size| index >= size) {
            return Err(not_found());
        }
        let mut description = JobDescription::new(id.clone(), parent.request, parent.created_ms);
        description.status = JobStatus::Runnable;
        let record = Record::new(description, Vec::new());
        Ok((record, Condition::Absent))
    }

    /// The children that ended.
    pub(super) async fn ended_children(&self, parent: &JobId) -> Result<BTreeSet<u32>> {
        let mut query = Query::prefix(format!("{JOBS}/{parent}"), "");
        let mut ended = BTreeSet::new();
        loop {
            let page = self.table.query(&query).await?;
            for item in page.items {
                let child = parse(item)?.description;
                if child.status.is_final() {
                    ended.extend(child_index(&child.id).map(|(_, index)| index));
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(ended);
            }
        }
    }

    /// Changes a job that has not ended, and its parent with it, and publishes what changed; `None` where it has ended.
    /// `change` is called anew where somebody else was faster.
    pub(super) async fn change(&self, id: &JobId, change: impl Fn(&mut Record)) -> Result<Option<Record>> {
        loop {
            let (mut record, condition) = self.load(id).await?;
            let before = record.description.status;
            if before.is_final() {
                return Ok(None);
            }
            change(&mut record);
            let after = record.description.status;
            let mut writes = vec![];
            let mut events = vec![];
            let mut ended_parent = None;
            if after != before {
                let event = self.event(&record.description, &record.attempts);
                self.refill(id, &mut record.outbox, &event);
                events.push(event);
                writes.push(activate(id));
                if let Some((parent_id, _)) = child_index(id) {
                    let parent_id = JobId(parent_id.to_owned());
                    let (mut parent, condition) = self.load(&parent_id).await?;
                    if parent.description.move_child(before, after, self.clock.now_ms()) {
                        let event = self.event(&parent.description, &[]);
                        self.refill(&parent_id, &mut parent.outbox, &event);
                        events.push(event);
                        ended_parent = parent.description.status.is_final().then(|| parent_id.clone());
                    }
                    writes.push(put(&parent_id, &parent, condition)?);
                }
            }
            writes.push(put(id, &record, condition)?);
            match self.table.write(writes).await {
                Err(error) if error.kind() == ErrorKind::Conflict => continue,
                result => result?,
            }
            if !events.is_empty() && self.publish(id, events).await && after.is_final() {
                let ended: Vec<Write> = [id].into_iter().chain(&ended_parent).map(deactivate).collect();
                self.table.write(ended).await?;
            }
            return Ok(Some(record));
        }
    }

    fn refill(&self, id: &JobId, outbox: &mut Vec<Event>, event: &Event) {
        if !lock(&self.unpublished).contains(id) {
            outbox.clear();
        }
        outbox.push(event.clone());
    }

    fn event(&self, description: &JobDescription, attempts: &[JobAttempt]) -> Event {
        description.state_change(self.ids.new_id(), self.clock.now_ms(), attempts)
    }

    /// Publishes the events of a change; where that fails for long, they stay in the record for the next change or start.
    async fn publish(&self, id: &JobId, events: Vec<Event>) -> bool {
        let mut wait = Duration::from_millis(50);
        for attempt in 1.. {
            match self.events.publish(events.clone()).await {
                Ok(()) => break,
                Err(error) if error.is_retryable() && attempt < PUBLISH_TRIES => {
                    tokio::time::sleep(wait).await;
                    wait *= 4;
                }
                Err(error) => {
                    tracing::error!(job = id.0, error = error.chain(), "the change of a job was not published");
                    lock(&self.unpublished).insert(id.clone());
                    return false;
                }
            }
        }
        lock(&self.unpublished).remove(id);
        true
    }

    /// Publishes what may not have been published, after a restart.
    pub(super) async fn publish_again(&self, record: &Record) -> Result<()> {
        for events in record.outbox.chunks(MAX_EVENTS) {
            self.events.publish(events.to_vec()).await?;
        }
        if record.description.status.is_final() {
            self.table.write(vec![deactivate(&record.description.id)]).await?;
        }
        Ok(())
    }
}
