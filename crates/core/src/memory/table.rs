use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Mutex;

use async_trait::async_trait;
use serde_json::Value;

use super::lock;
use crate::error::Result;
use crate::ports::checks::check_writes;
use crate::ports::{Item, Key, Query, QueryPage, Table, Write};

type Items = BTreeMap<String, BTreeMap<String, (u64, Value)>>;

/// Items in memory.
#[derive(Debug, Default)]
pub struct MemoryTable {
    items: Mutex<Items>,
}

impl MemoryTable {
    /// Makes an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything in it, for tests that compare states.
    #[must_use]
    pub fn items(&self) -> Vec<Item> {
        let items = lock(&self.items);
        let of_partition = |(partition, sorts): (&String, &BTreeMap<String, (u64, Value)>)| {
            sorts.iter().map(|(sort, found)| item(partition, sort, found)).collect::<Vec<_>>()
        };
        items.iter().flat_map(of_partition).collect()
    }
}

fn item(partition: &str, sort: &str, (revision, value): &(u64, Value)) -> Item {
    Item { key: Key::new(partition, sort), revision: *revision, value: value.clone() }
}

fn find<'a>(items: &'a Items, key: &Key) -> Option<&'a (u64, Value)> {
    items.get(&key.partition)?.get(&key.sort)
}

#[async_trait]
impl Table for MemoryTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        key.check()?;
        Ok(find(&lock(&self.items), key).map(|found| item(&key.partition, &key.sort, found)))
    }

    async fn query(&self, query: &Query) -> Result<QueryPage> {
        query.check()?;
        let items = lock(&self.items);
        let (Some(partition), Some(range)) = (items.get(&query.partition), query.sort_range()) else {
            return Ok(QueryPage::default());
        };
        let range: (Bound<String>, Bound<String>) = range;
        let found = partition.range(range);
        let mut found: Box<dyn Iterator<Item = (&String, &(u64, Value))>> =
            if query.descending { Box::new(found.rev()) } else { Box::new(found) };
        let page: Vec<Item> =
            found.by_ref().take(query.limit).map(|(sort, found)| item(&query.partition, sort, found)).collect();
        let next = found.next().and(page.last()).map(|last| last.key.sort.clone());
        Ok(QueryPage { items: page, next })
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        check_writes(&writes)?;
        let mut items = lock(&self.items);
        for write in &writes {
            let revision = find(&items, write.key()).map(|(revision, _)| *revision);
            write.condition().check(write.key(), revision)?;
        }
        for write in writes {
            match write {
                Write::Put { key, value, .. } => {
                    let slot = items.entry(key.partition).or_default().entry(key.sort).or_default();
                    *slot = (slot.0 + 1, value);
                }
                Write::Delete { key, .. } => {
                    if let Some(partition) = items.get_mut(&key.partition) {
                        partition.remove(&key.sort);
                    }
                }
                Write::Check { .. } => {}
            }
        }
        Ok(())
    }
}
