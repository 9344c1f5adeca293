//! The table in DynamoDB.

use std::collections::HashMap;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, ConditionCheck, Delete, ReturnValuesOnConditionCheckFailure, TransactWriteItem,
    Update,
};
use moola_core::ports::checks::check_writes;
use moola_core::ports::{Condition, Item, Key, Query, QueryPage, Table, Write};
use moola_core::{Error, Result};
use serde_json::Value;

use crate::error::unexpected;
use crate::retry::{Attempts, token};

type Attributes = HashMap<String, AttributeValue>;

/// The partition and sort keys of the table.
const PARTITION: &str = "pk";
const SORT: &str = "sk";
/// The item's revision.
const REVISION: &str = "r";
/// The item's value as JSON text: DynamoDB's own numbers are not those of JSON.
const VALUE: &str = "v";
/// Seconds since the epoch after which DynamoDB may remove the item: the value's field of that name.
const EXPIRES_AT: &str = "expires_at";
/// What one request asks for at most.
const MAX_QUERY: usize = 1_000;

/// A table in one DynamoDB table.
///
/// Every write is a transaction, a single one too: within ten minutes DynamoDB knows a transaction again by its token,
/// so an attempt that follows a lost answer is told what became of the first, whatever others wrote since. A condition
/// alone cannot tell that.
///
/// A page of a query is not isolated from transactions, though every item of it is: DynamoDB promises no more.
#[derive(Debug, Clone)]
pub struct DynamoTable {
    client: Client,
    table: String,
}

impl DynamoTable {
    /// The table `table`, which exists.
    #[must_use]
    pub fn new(config: &SdkConfig, table: impl Into<String>) -> Self {
        Self { client: Client::new(config), table: table.into() }
    }

    fn transact_item(&self, write: &Write, text: Option<String>) -> Result<TransactWriteItem, BuildError> {
        let (condition, revision) = expression(write.condition());
        let revision = revision.map(|revision| HashMap::from([(":r".to_owned(), number(revision))]));
        let key = key_attributes(write.key());
        let on_failure = ReturnValuesOnConditionCheckFailure::AllOld;
        let item = TransactWriteItem::builder();
        Ok(match write {
            Write::Put { value, .. } => {
                let mut values = revision.unwrap_or_default();
                values.insert(":v".into(), AttributeValue::S(text.unwrap_or_default()));
                values.insert(":one".into(), number(1));
                let update = match value.get(EXPIRES_AT).filter(|it| it.is_i64() || it.is_u64()) {
                    Some(expires_at) => {
                        values.insert(":e".into(), number(expires_at));
                        format!("SET {VALUE} = :v, {EXPIRES_AT} = :e ADD {REVISION} :one")
                    }
                    None => format!("SET {VALUE} = :v REMOVE {EXPIRES_AT} ADD {REVISION} :one"),
                };
                let put = Update::builder()
                    .table_name(&self.table)
                    .set_key(Some(key))
                    .update_expression(update)
                    .set_condition_expression(condition)
                    .set_expression_attribute_values(Some(values))
                    .return_values_on_condition_check_failure(on_failure);
                item.update(put.build()?)
            }
            Write::Delete { .. } => {
                let delete = Delete::builder()
                    .table_name(&self.table)
                    .set_key(Some(key))
                    .set_condition_expression(condition)
                    .set_expression_attribute_values(revision)
                    .return_values_on_condition_check_failure(on_failure);
                item.delete(delete.build()?)
            }
            Write::Check { .. } => {
                let check = ConditionCheck::builder()
                    .table_name(&self.table)
                    .set_key(Some(key))
                    .set_condition_expression(condition)
                    .set_expression_attribute_values(revision)
                    .return_values_on_condition_check_failure(on_failure);
                item.condition_check(check.build()?)
            }
        }
        .build())
    }
}

/// The condition as DynamoDB writes it, and the revision that it speaks of.
fn expression(condition: Condition) -> (Option<String>, Option<u64>) {
    match condition {
        Condition::Always => (None, None),
        Condition::Absent => (Some(format!("attribute_not_exists({PARTITION})")), None),
        Condition::Exists => (Some(format!("attribute_exists({PARTITION})")), None),
        Condition::Revision(revision) => (Some(format!("{REVISION} = :r")), Some(revision)),
    }
}

fn number(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn key_attributes(key: &Key) -> Attributes {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    HashMap::from([(PARTITION.to_owned(), text(&key.partition)), (SORT.to_owned(), text(&key.sort))])
}

fn revision(attributes: &Attributes) -> Option<u64> {
    attributes.get(REVISION)?.as_n().ok()?.parse().ok()
}

fn item(key: Key, attributes: &Attributes) -> Result<Item> {
    let corrupt = |what: &str| Error::corrupt(format!("item `{}/{}` {what}", key.partition, key.sort));
    let revision = revision(attributes).ok_or_else(|| corrupt("has no revision"))?;
    let text = attributes.get(VALUE).and_then(|value| value.as_s().ok()).ok_or_else(|| corrupt("has no value"))?;
    let value: Value = serde_json::from_str(text).map_err(|error| corrupt("holds no JSON").with_source(error))?;
    Ok(Item { key, revision, value })
}

/// Why a transaction was not done: `None` where it may be the next time. `writes` are those that it was made of.
fn refusal(reasons: &[CancellationReason], writes: &[&Write]) -> Option<Error> {
    let mut refused = None;
    for (reason, write) in reasons.iter().zip(writes) {
        let key = write.key();
        let error = match reason.code().unwrap_or("None") {
            "None" => continue,
            "ConditionalCheckFailed" => {
                let revision = reason.item().and_then(revision);
                return Some(write.condition().check(key, revision).err().unwrap_or_else(|| {
                    Error::conflict(format!("item `{}/{}` was changed by others", key.partition, key.sort))
                }));
            }
            "TransactionConflict" | "ProvisionedThroughputExceeded" | "ThrottlingError" => None,
            code => {
                let message = format!("write of `{}/{}` was refused with `{code}`", key.partition, key.sort);
                Some(Error::internal(message).with_source(reason.message().unwrap_or_default().to_owned()))
            }
        };
        refused = refused.or(error);
    }
    refused
}

#[async_trait]
impl Table for DynamoTable {
    async fn get(&self, key: &Key) -> Result<Option<Item>> {
        key.check()?;
        let get =
            self.client.get_item().table_name(&self.table).set_key(Some(key_attributes(key))).consistent_read(true);
        let answer = get.send().await.map_err(|error| unexpected("get from the table", error))?;
        answer.item().map(|attributes| item(key.clone(), attributes)).transpose()
    }

    async fn query(&self, query: &Query) -> Result<QueryPage> {
        query.check()?;
        let Some(mut start) = start_key(query) else {
            return Ok(QueryPage::default());
        };
        let (mut condition, mut values) = (
            format!("{PARTITION} = :p"),
            HashMap::from([(":p".to_owned(), AttributeValue::S(query.partition.clone()))]),
        );
        if !query.prefix.is_empty() {
            condition.push_str(&format!(" AND begins_with({SORT}, :s)"));
            values.insert(":s".into(), AttributeValue::S(query.prefix.clone()));
        }
        let mut page = QueryPage::default();
        loop {
            // One more than wanted tells whether there is more.
            let limit = query.limit.saturating_add(1).saturating_sub(page.items.len()).min(MAX_QUERY);
            let request = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression(&condition)
                .set_expression_attribute_values(Some(values.clone()))
                .consistent_read(true)
                .scan_index_forward(!query.descending)
                .set_exclusive_start_key(start)
                .limit(i32::try_from(limit).unwrap_or(i32::MAX));
            let answer = request.send().await.map_err(|error| unexpected("query of the table", error))?;
            for attributes in answer.items() {
                let sort = attributes.get(SORT).and_then(|sort| sort.as_s().ok());
                let sort =
                    sort.ok_or_else(|| Error::corrupt(format!("an item of `{}` has no key", query.partition)))?;
                if page.items.len() == query.limit {
                    page.next = page.items.last().map(|item| item.key.sort.clone());
                    return Ok(page);
                }
                page.items.push(item(Key::new(&query.partition, sort), attributes)?);
            }
            start = answer.last_evaluated_key;
            if start.is_none() {
                return Ok(page);
            }
        }
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        let mut texts = check_writes(&writes)?.into_iter();
        let token = token()?;
        let mut items = Vec::new();
        let mut sent = Vec::new();
        for write in &writes {
            let text = if matches!(write, Write::Put { .. }) { texts.next() } else { None };
            if matches!(write, Write::Check { condition: Condition::Always, .. }) {
                continue;
            }
            let item = self.transact_item(write, text);
            items.push(item.map_err(|error| Error::internal("cannot build a transaction").with_source(error))?);
            sent.push(write);
        }
        if items.is_empty() {
            return Ok(());
        }
        let mut attempts = Attempts::default();
        loop {
            let request = self.client.transact_write_items().client_request_token(&token);
            let Err(error) = request.set_transact_items(Some(items.clone())).send().await else { return Ok(()) };
            let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) = error.as_service_error() else {
                return Err(unexpected("write to the table", error));
            };
            if let Some(refusal) = refusal(canceled.cancellation_reasons(), &sent) {
                return Err(refusal);
            }
            if !attempts.again().await {
                let message = format!("write to the table met other writes or limits {} times", Attempts::MAX);
                return Err(Error::unavailable(message).with_source(error));
            }
        }
    }
}

/// The key to read on from, which DynamoDB takes only from within what the query asks for; `None` where nothing comes
/// after `after`.
#[expect(clippy::option_option, reason = "nothing to read, from the start, from a key")]
fn start_key(query: &Query) -> Option<Option<Attributes>> {
    let Some(after) = &query.after else { return Some(None) };
    if after.starts_with(&query.prefix) && !after.is_empty() {
        return Some(Some(key_attributes(&Key::new(&query.partition, after))));
    }
    // It lies before all that has the prefix, or beyond.
    let is_before = *after < query.prefix || after.is_empty();
    (is_before != query.descending).then_some(None)
}

#[cfg(test)]
mod tests;
