use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use async_trait::async_trait;
use moola_core::ports::checks::check_writes;
use moola_core::ports::{Item, Key, Query, QueryPage, Table, Write};
use moola_core::{Error, Result};
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError, TableDefinition};
use tokio::sync::oneshot;

use crate::blocking;

/// (partition, sort) -> revision (8 bytes, little endian), value (JSON).
const ITEMS: TableDefinition<(&str, &str), &[u8]> = TableDefinition::new("items");

/// Most transactions that share one commit.
const MAX_BATCH: usize = 256;

/// Items in one redb file.
///
/// redb has one writer, and a commit waits for the disk. So one thread writes, and puts all transactions that have
/// queued up meanwhile into one commit; each still applies as a whole or not at all, by its own conditions, in the order
/// of arrival. A write is answered after that commit. Reads see the last commit and wait for nobody.
///
/// One process may have the file open.
pub struct RedbTable {
    database: Arc<Database>,
    queue: Option<mpsc::Sender<Transaction>>,
    writer: Option<JoinHandle<()>>,
}

struct Transaction {
    writes: Vec<Write>,
    /// The values of the puts, in order.
    texts: Vec<String>,
    reply: oneshot::Sender<Result<()>>,
}

impl fmt::Debug for RedbTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbTable").finish_non_exhaustive()
    }
}

impl RedbTable {
    /// Opens the file, or creates it. Blocks: after a crash it repairs first.
    ///
    /// # Errors
    /// `Unavailable` where another process has it open or it cannot be read, `Corrupt`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let database = Database::create(path).map_err(|error| open_error(path, error))?;
        let database = Arc::new(database);
        // Reading a table that was never written is an error, so it is made here.
        commit(&database, |_| Ok(()))?;
        let (queue, requests) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("moola-table".into())
            .spawn({
                let database = database.clone();
                move || write_batches(&database, &requests)
            })
            .map_err(|error| Error::unavailable("cannot start the table's thread").with_source(error))?;
        Ok(Self { database, queue: Some(queue), writer: Some(writer) })
    }
}

impl Drop for RedbTable {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A panic there was reported there.
            let _ = writer.join();
        }
    }
}

type ItemsTable<'txn> = redb::Table<'txn, (&'static str, &'static str), &'static [u8]>;

fn commit<T>(database: &Database, work: impl FnOnce(&mut ItemsTable<'_>) -> Result<T>) -> Result<T> {
    let mut transaction = database.begin_write().map_err(storage_error)?;
    transaction.set_durability(Durability::Immediate).map_err(storage_error)?;
    let result = {
        let mut items = transaction.open_table(ITEMS).map_err(storage_error)?;
        work(&mut items)?
    };
    transaction.commit().map_err(storage_error)?;
    Ok(result)
}

fn write_batches(database: &Database, requests: &mpsc::Receiver<Transaction>) {
    while let Ok(first) = requests.recv() {
        let mut batch = vec![first];
        batch.extend(requests.try_iter().take(MAX_BATCH - 1));
        let done = commit(database, |items| {
            batch.iter().map(|transaction| apply(items, transaction)).collect::<Result<Vec<Result<()>>>>()
        });
        match done {
            Ok(results) => {
                for (transaction, result) in batch.into_iter().zip(results) {
                    // The caller may have gone.
                    let _ = transaction.reply.send(result);
                }
            }
            Err(error) => {
                for transaction in batch {
                    let failed = Error::new(error.kind(), format!("the batch was not committed: {}", error.chain()));
                    let _ = transaction.reply.send(Err(failed));
                }
            }
        }
    }
}

/// Applies one transaction. The outer error spoils the batch, the inner one is this transaction's own.
fn apply(items: &mut ItemsTable<'_>, transaction: &Transaction) -> Result<Result<()>> {
    let mut revisions = Vec::with_capacity(transaction.writes.len());
    for write in &transaction.writes {
        let key = write.key();
        let stored = items.get((key.partition.as_str(), key.sort.as_str())).map_err(storage_error)?;
        let revision = match stored.map(|stored| split(key, stored.value()).map(|(revision, _)| revision)).transpose() {
            Ok(revision) => revision,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = write.condition().check(key, revision) {
            return Ok(Err(error));
        }
        revisions.push(revision.unwrap_or(0));
    }
    let mut texts = transaction.texts.iter();
    for (write, revision) in transaction.writes.iter().zip(revisions) {
        let key = write.key();
        let at = (key.partition.as_str(), key.sort.as_str());
        match write {
            Write::Put { .. } => {
                let text = texts.next().map_or("null", String::as_str);
                let stored = [&(revision + 1).to_le_bytes(), text.as_bytes()].concat();
                items.insert(at, stored.as_slice()).map_err(storage_error)?;
            }
            Write::Delete { .. } => drop(items.remove(at).map_err(storage_error)?),
            Write::Check { .. } => {}
        }
    }
    Ok(Ok(()))
}

fn split<'a>(key: &Key, stored: &'a [u8]) -> Result<(u64, &'a [u8])> {
    let (revision, json) = stored
        .split_first_chunk::<8>()
        .ok_or_else(|| Error::corrupt(format!("item `{}/{}` is cut off", key.partition, key.sort)))?;
    Ok((u64::from_le_bytes(*revision), json))
}

fn item(key: Key, stored: &[u8]) -> Result<Item> {
    let (revision, json) = split(&key, stored)?;
    let value = serde_json::from_slice(json).map_err(|error| {
        Error::corrupt(format!("item `{}/{}` is no JSON", key.partition, key.sort)).with_source(error)
    })?;
    Ok(Item { key, revision, value })
}

fn storage_error(error: impl Into<redb::Error>) -> Error {
    match error.into() {
        redb::Error::Corrupted(message) => Error::corrupt(format!("the table file is corrupt: {message}"))
            .with_hint("restore `table.redb` from a backup"),
        error => Error::unavailable("the table file cannot be used").with_source(error),
    }
}

fn open_error(path: &Path, error: DatabaseError) -> Error {
    let path = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen => Error::unavailable(format!("table `{path}` is in use"))
            .with_hint("another moola process has it open: stop it, or choose another data directory"),
        DatabaseError::Storage(StorageError::Corrupted(message)) => {
            Error::corrupt(format!("table `{path}` is corrupt: {message}")).with_hint("restore it from a backup")
        }
        error => Error::unavailable(format!("cannot open table `{path}`")).with_source(error),
    }
}

fn read_page(database: &Database, query: Query) -> Result<QueryPage> {
    let Some((low, high)) = query.sort_range() else { return Ok(QueryPage::default()) };
    let partition = query.partition.as_str();
    // The text that follows `partition` immediately.
    let following = format!("{partition}\0");
    let low = match &low {
        Bound::Excluded(low) => Bound::Excluded((partition, low.as_str())),
        Bound::Included(low) => Bound::Included((partition, low.as_str())),
        Bound::Unbounded => Bound::Included((partition, "")),
    };
    let high = match &high {
        Bound::Excluded(high) => Bound::Excluded((partition, high.as_str())),
        Bound::Included(high) => Bound::Included((partition, high.as_str())),
        Bound::Unbounded => Bound::Excluded((following.as_str(), "")),
    };
    let transaction = database.begin_read().map_err(storage_error)?;
    let items = transaction.open_table(ITEMS).map_err(storage_error)?;
    let mut range = items.range::<(&str, &str)>((low, high)).map_err(storage_error)?;
    let mut page = QueryPage::default();
    loop {
        let entry = if query.descending { range.next_back() } else { range.next() };
        let Some(entry) = entry else { return Ok(page) };
        if page.items.len() == query.limit {
            page.next = page.items.last().map(|last| last.key.sort.clone());
            return Ok(page);
        }
        let (key, stored) = entry.map_err(storage_error)?;
        page.items.push(item(Key::new(partition, key.value().1), stored.value())?);
    }
}

#[async_trait]
impl Table for RedbTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        key.check()?;
        let (database, key) = (self.database.clone(), key.clone());
        blocking(move || {
            let transaction = database.begin_read().map_err(storage_error)?;
            let items = transaction.open_table(ITEMS).map_err(storage_error)?;
            let stored = items.get((key.partition.as_str(), key.sort.as_str())).map_err(storage_error)?;
            stored.map(|stored| item(key.clone(), stored.value())).transpose()
        })
        .await
    }

    async fn query(&self, query: &Query) -> Result<QueryPage> {
        query.check()?;
        let (database, query) = (self.database.clone(), query.clone());
        blocking(move || read_page(&database, query)).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        let texts = check_writes(&writes)?;
        let gone = || Error::unavailable("the table is closed");
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(gone)?;
        queue.send(Transaction { writes, texts, reply }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}
