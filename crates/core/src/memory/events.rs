use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::lock;
use crate::error::Result;
use crate::ports::checks::check_events;
use crate::ports::{DeadEvent, Event, EventFilter, EventHandler, Events};

/// How often a subscriber sees an event that it answers with a retryable error before the event is put aside.
const MAX_ATTEMPTS: u32 = 20;

struct Subscriber {
    name: String,
    filter: EventFilter,
    handler: Arc<dyn EventHandler>,
}

struct Delivery {
    subscriber: Arc<Subscriber>,
    event: Event,
    attempts: u32,
}

#[derive(Default)]
struct State {
    subscribers: Vec<Arc<Subscriber>>,
    queue: VecDeque<Delivery>,
    published: Vec<Event>,
    dead: Vec<DeadEvent>,
}

/// Events in memory; they are delivered when [`MemoryEvents::drain`] is called.
#[derive(Default)]
pub struct MemoryEvents {
    state: Mutex<State>,
}

impl fmt::Debug for MemoryEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEvents").finish_non_exhaustive()
    }
}

impl MemoryEvents {
    /// Makes a bus without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a subscriber, or replaces the one of this name; it is told what is published from here on.
    pub fn subscribe(&self, name: impl Into<String>, filter: EventFilter, handler: Arc<dyn EventHandler>) {
        let subscriber = Arc::new(Subscriber { name: name.into(), filter, handler });
        let mut state = lock(&self.state);
        state.subscribers.retain(|other| other.name != subscriber.name);
        state.subscribers.push(subscriber);
    }

    /// Delivers what waits, and what is published meanwhile, one after the other; how many deliveries there were.
    pub async fn drain(&self) -> usize {
        let mut num_deliveries = 0;
        loop {
            let next = lock(&self.state).queue.pop_front();
            let Some(mut delivery) = next else { return num_deliveries };
            num_deliveries += 1;
            delivery.attempts += 1;
            let Err(error) = delivery.subscriber.handler.handle(&delivery.event).await else { continue };
            let mut state = lock(&self.state);
            if error.is_retryable() && delivery.attempts < MAX_ATTEMPTS {
                state.queue.push_back(delivery);
            } else {
                let subscriber = delivery.subscriber.name.clone();
                state.dead.push(DeadEvent { subscriber, event: delivery.event, error: error.chain() });
            }
        }
    }

    /// Everything that was published, the oldest first.
    #[must_use]
    pub fn published(&self) -> Vec<Event> {
        lock(&self.state).published.clone()
    }

    /// What could not be handled.
    #[must_use]
    pub fn dead(&self) -> Vec<DeadEvent> {
        lock(&self.state).dead.clone()
    }
}

#[async_trait]
impl Events for MemoryEvents {
    async fn publish(&self, events: Vec<Event>) -> Result<()> {
        check_events(events.len())?;
        let mut state = lock(&self.state);
        for event in events {
            let wanting: Vec<_> = state.subscribers.iter().filter(|one| one.filter.matches(&event)).cloned().collect();
            for subscriber in wanting {
                state.queue.push_back(Delivery { subscriber, event: event.clone(), attempts: 0 });
            }
            state.published.push(event);
        }
        Ok(())
    }
}
