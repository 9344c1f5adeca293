use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{at_once, ok, refused};
use crate::error::ErrorKind;
use crate::ports::{Condition, Item, Key, MAX_WRITES, Query, Table, Write};

/// Checks [`Table`]; `make` makes an empty table.
///
/// # Panics
/// Where a promise is broken.
pub async fn table<T: Table + 'static>(make: impl AsyncFn() -> Arc<T>) {
    values_and_revisions(&*make().await).await;
    conditions(&*make().await).await;
    all_or_nothing(&*make().await).await;
    bad_requests(&*make().await).await;
    queries(&*make().await).await;
    random_operations(&*make().await).await;
    one_winner(make().await).await;
    counters(make().await).await;
    consistent_pairs(make().await).await;
}

fn put(key: &Key, value: Value, condition: Condition) -> Write {
    Write::Put { key: key.clone(), value, condition }
}

async fn get(table: &dyn Table, key: &Key) -> Option<(u64, Value)> {
    ok(table.get(key).await, "get").map(|item| {
        assert_eq!(item.key, *key);
        (item.revision, item.value)
    })
}

async fn values_and_revisions(table: &dyn Table) {
    let key = Key::new("models", "sp500");
    assert_eq!(get(table, &key).await, None);
    let values = [
        json!({ "text": "ä\u{1f600}\0\"", "nested": { "list": [1, 2.5, null, true, {}], "": "" } }),
        json!([1e-300, 0.1, -0.0, 12_345_678_901_234_567_i64, i64::MIN, u64::MAX]),
        json!(null),
        json!("text"),
        json!({}),
    ];
    for (value, revision) in values.into_iter().zip(1..) {
        ok(table.write(vec![put(&key, value.clone(), Condition::Always)]).await, "put");
        assert_eq!(get(table, &key).await, Some((revision, value)));
    }
    let delete = Write::Delete { key: key.clone(), condition: Condition::Always };
    ok(table.write(vec![delete.clone()]).await, "delete");
    assert_eq!(get(table, &key).await, None);
    ok(table.write(vec![delete]).await, "delete of nothing");
    ok(table.write(vec![put(&key, json!(1), Condition::Always)]).await, "put");
    assert_eq!(get(table, &key).await, Some((1, json!(1))), "revisions start anew after a delete");

    // Partition and sort key are apart, whatever characters they have.
    let alike = [
        ("a", "b/c"),
        ("a/b", "c"),
        ("a", "b\0c"),
        ("a\0b", "c"),
        ("a#b", "c"),
        ("A", "b/c"),
        ("a", "b/c "),
        ("ä", "ö"),
    ];
    for (index, (partition, sort)) in alike.into_iter().enumerate() {
        ok(table.write(vec![put(&Key::new(partition, sort), json!(index), Condition::Absent)]).await, "alike keys");
    }
    for (index, (partition, sort)) in alike.into_iter().enumerate() {
        assert_eq!(get(table, &Key::new(partition, sort)).await, Some((1, json!(index))));
    }
}

async fn conditions(table: &dyn Table) {
    let (there, gone) = (Key::new("p", "there"), Key::new("p", "gone"));
    ok(table.write(vec![put(&there, json!(1), Condition::Absent)]).await, "create");
    let cases = [
        (&there, Condition::Always, true),
        (&there, Condition::Absent, false),
        (&there, Condition::Exists, true),
        (&there, Condition::Revision(1), true),
        (&there, Condition::Revision(0), false),
        (&there, Condition::Revision(2), false),
        (&gone, Condition::Always, true),
        (&gone, Condition::Absent, true),
        (&gone, Condition::Exists, false),
        (&gone, Condition::Revision(0), false),
        (&gone, Condition::Revision(1), false),
    ];
    for (key, condition, holds) in cases {
        let what = format!("{condition:?} of `{}`", key.sort);
        let writes = [
            Write::Check { key: key.clone(), condition },
            Write::Delete { key: key.clone(), condition },
            put(key, json!(2), condition),
        ];
        for write in writes {
            let result = table.write(vec![write.clone()]).await;
            if holds {
                ok(result, &what);
            } else {
                let error = result.expect_err(&what);
                assert_eq!(error.kind(), ErrorKind::Conflict, "{what}");
                assert!(error.to_string().contains(&key.sort), "the key is not named: {error}");
            }
            // As it was before the case.
            if key == &there {
                ok(
                    table.write(vec![Write::Delete { key: there.clone(), condition: Condition::Always }]).await,
                    "reset",
                );
                ok(table.write(vec![put(&there, json!(1), Condition::Absent)]).await, "reset");
            } else {
                ok(table.write(vec![Write::Delete { key: gone.clone(), condition: Condition::Always }]).await, "reset");
            }
        }
    }
    ok(table.write(vec![Write::Check { key: gone.clone(), condition: Condition::Absent }]).await, "check");
    assert_eq!(get(table, &gone).await, None, "a check wrote something");
    ok(table.write(vec![Write::Check { key: there.clone(), condition: Condition::Exists }]).await, "check");
    assert_eq!(get(table, &there).await, Some((1, json!(1))), "a check changed the revision");
}

async fn all_or_nothing(table: &dyn Table) {
    let keys: Vec<Key> = (0..4).map(|index| Key::new(format!("p{}", index % 2), format!("s{index}"))).collect();
    ok(table.write(vec![put(&keys[0], json!("old"), Condition::Absent)]).await, "put");
    let writes = |last: Condition| {
        vec![
            put(&keys[1], json!(1), Condition::Absent),
            Write::Delete { key: keys[0].clone(), condition: Condition::Exists },
            Write::Check { key: keys[2].clone(), condition: Condition::Absent },
            put(&keys[3], json!(3), last),
        ]
    };
    refused(table.write(writes(Condition::Exists)).await, ErrorKind::Conflict, "one condition does not hold");
    assert_eq!(get(table, &keys[0]).await, Some((1, json!("old"))));
    assert_eq!(get(table, &keys[1]).await, None);
    ok(table.write(writes(Condition::Absent)).await, "all conditions hold");
    assert_eq!(get(table, &keys[0]).await, None);
    assert_eq!(get(table, &keys[1]).await, Some((1, json!(1))));
    assert_eq!(get(table, &keys[2]).await, None);
    assert_eq!(get(table, &keys[3]).await, Some((1, json!(3))));

    let many = |num: usize| {
        (0..num).map(|index| put(&Key::new("many", format!("{index:04}")), json!(index), Condition::Absent)).collect()
    };
    refused(table.write(many(MAX_WRITES + 1)).await, ErrorKind::Invalid, "too many writes");
    ok(table.write(many(MAX_WRITES)).await, "as many writes as allowed");
    assert_eq!(ok(table.query(&Query::prefix("many", "")).await, "query").items.len(), MAX_WRITES);
}

async fn bad_requests(table: &dyn Table) {
    let good = Key::new("p", "s");
    let long = "x".repeat(1_025);
    refused(table.write(vec![]).await, ErrorKind::Invalid, "no writes");
    for key in [Key::new("", "s"), Key::new("p", ""), Key::new(&long, "s"), Key::new("p", &long)] {
        refused(table.get(&key).await, ErrorKind::Invalid, "get of a bad key");
        let writes = [
            put(&key, json!(1), Condition::Always),
            Write::Delete { key: key.clone(), condition: Condition::Always },
            Write::Check { key: key.clone(), condition: Condition::Absent },
        ];
        for write in writes {
            let writes = vec![put(&good, json!(1), Condition::Always), write];
            refused(table.write(writes).await, ErrorKind::Invalid, "write of a bad key");
        }
    }
    let longest = Key::new("p".repeat(1_024), "s".repeat(1_024));
    ok(table.write(vec![put(&longest, json!(1), Condition::Absent)]).await, "the longest key");
    assert_eq!(get(table, &longest).await, Some((1, json!(1))));

    let twice =
        vec![put(&good, json!(1), Condition::Always), Write::Check { key: good.clone(), condition: Condition::Absent }];
    refused(table.write(twice).await, ErrorKind::Invalid, "two writes for one key");
    // With its quotes.
    let text = |num_bytes: usize| json!("x".repeat(num_bytes - 2));
    refused(table.write(vec![put(&good, text(400_001), Condition::Always)]).await, ErrorKind::Invalid, "a large item");
    let several = |num: usize| {
        (0..num).map(|index| put(&Key::new("large", index.to_string()), text(400_000), Condition::Always)).collect()
    };
    refused(table.write(several(11)).await, ErrorKind::Invalid, "a large transaction");
    assert_eq!(get(table, &good).await, None, "a refused write left something");
    ok(table.write(vec![put(&good, text(400_000), Condition::Always)]).await, "the largest item");
    ok(table.write(several(10)).await, "the largest transaction");

    let query = Query::prefix("p", "");
    refused(table.query(&Query { limit: 0, ..query.clone() }).await, ErrorKind::Invalid, "limit zero");
    refused(table.query(&Query::prefix("", "")).await, ErrorKind::Invalid, "empty partition");
    refused(table.query(&Query::prefix(&long, "")).await, ErrorKind::Invalid, "long partition");
    refused(table.query(&Query::prefix("p", &long)).await, ErrorKind::Invalid, "long prefix");
}

async fn pages(table: &dyn Table, query: &Query) -> Vec<Item> {
    let mut query = query.clone();
    let mut items = Vec::new();
    for _ in 0..1_000 {
        let page = ok(table.query(&query).await, "query");
        assert!(page.items.len() <= query.limit, "a page of {} items, the limit is {}", page.items.len(), query.limit);
        items.extend(page.items);
        query.after = page.next;
        if query.after.is_none() {
            return items;
        }
    }
    panic!("the query does not end: {query:?}");
}

async fn queries(table: &dyn Table) {
    let mut sorts = vec![
        "a",
        "a#1",
        "a#10",
        "a#2",
        "b",
        "a\0",
        "aä",
        "a\u{ffff}",
        "a\u{10ffff}",
        "a\u{10ffff}b",
        "\u{10ffff}",
        "A",
        "é",
        "z\u{d7ff}",
        "z\u{e000}",
    ];
    for sort in &sorts {
        ok(table.write(vec![put(&Key::new("p", *sort), json!(sort), Condition::Absent)]).await, "put");
        // Neighbouring partitions must not show.
        for partition in ["o", "p\0", "pa", "p#"] {
            ok(table.write(vec![put(&Key::new(partition, *sort), json!("other"), Condition::Absent)]).await, "put");
        }
    }
    sorts.sort_unstable();
    let prefixes = [
        "",
        "a",
        "a#",
        "a#1",
        "a\u{10ffff}",
        "\u{10ffff}",
        "b",
        "nothing",
        "z",
        "z\u{d7ff}",
        "A",
        "\u{10ffff}\u{10ffff}",
    ];
    let afters =
        [None, Some(""), Some("a"), Some("a#1"), Some("a#15"), Some("A"), Some("\u{10ffff}"), Some("b"), Some("0")];
    for prefix in prefixes {
        for after in afters {
            for descending in [false, true] {
                for limit in [1, 4, 100] {
                    let mut expected: Vec<&str> = sorts
                        .iter()
                        .copied()
                        .filter(|sort| sort.starts_with(prefix))
                        .filter(|sort| after.is_none_or(|after| if descending { *sort < after } else { *sort > after }))
                        .collect();
                    if descending {
                        expected.reverse();
                    }
                    let query =
                        Query { after: after.map(str::to_owned), limit, descending, ..Query::prefix("p", prefix) };
                    let items = pages(table, &query).await;
                    let found: Vec<&str> = items.iter().map(|item| item.key.sort.as_str()).collect();
                    assert_eq!(found, expected, "{query:?}");
                    assert!(items.iter().all(|item| item.key.partition == "p" && item.value == json!(item.key.sort)));
                }
            }
        }
    }
    assert!(pages(table, &Query::prefix("nothing", "")).await.is_empty());
}

/// Compares with the plainest possible model of the contract.
async fn random_operations(table: &dyn Table) {
    let mut rng = ChaCha8Rng::seed_from_u64(1337);
    let mut model: BTreeMap<Key, (u64, Value)> = BTreeMap::new();
    for step in 0..400 {
        let mut writes: Vec<Write> = Vec::new();
        for _ in 0..rng.random_range(1..5) {
            let key = Key::new(["p", "q"][rng.random_range(0..2)], format!("{:b}", rng.random_range(1..16)));
            if writes.iter().any(|write| *write.key() == key) {
                continue;
            }
            let condition = match rng.random_range(0..8) {
                0 => Condition::Absent,
                1 => Condition::Exists,
                2 => Condition::Revision(rng.random_range(1..3)),
                _ => Condition::Always,
            };
            writes.push(match rng.random_range(0..4) {
                0 => Write::Delete { key, condition },
                1 => Write::Check { key, condition },
                _ => Write::Put { key, value: json!(step), condition },
            });
        }
        let holds = |write: &Write| {
            let revision = model.get(write.key()).map(|(revision, _)| *revision);
            match write.condition() {
                Condition::Always => true,
                Condition::Absent => revision.is_none(),
                Condition::Exists => revision.is_some(),
                Condition::Revision(wanted) => revision == Some(wanted),
            }
        };
        if writes.iter().all(holds) {
            ok(table.write(writes.clone()).await, "write");
            for write in writes {
                match write {
                    Write::Put { key, value, .. } => {
                        let revision = model.get(&key).map_or(1, |(revision, _)| revision + 1);
                        model.insert(key, (revision, value));
                    }
                    Write::Delete { key, .. } => drop(model.remove(&key)),
                    Write::Check { .. } => {}
                }
            }
        } else {
            refused(table.write(writes).await, ErrorKind::Conflict, "write");
        }
        let prefix = format!("{:b}", rng.random_range(0..8));
        let descending = rng.random_bool(0.5);
        let query = Query { limit: 3, descending, ..Query::prefix("p", prefix.trim_start_matches('0')) };
        let found: Vec<Item> = pages(table, &query).await;
        let mut expected: Vec<Item> = model
            .iter()
            .filter(|(key, _)| key.partition == "p" && key.sort.starts_with(&query.prefix))
            .map(|(key, (revision, value))| Item { key: key.clone(), revision: *revision, value: value.clone() })
            .collect();
        if descending {
            expected.reverse();
        }
        assert_eq!(found, expected, "step {step}");
    }
}

async fn one_winner(table: Arc<dyn Table>) {
    let key = Key::new("race", "item");
    for round in 0..4_u64 {
        let condition = if round == 0 { Condition::Absent } else { Condition::Revision(round) };
        let results = at_once(32, |index| {
            let (table, key) = (table.clone(), key.clone());
            let also = Key::new("race", format!("{round}-{index}"));
            async move {
                table.write(vec![put(&also, json!(1), Condition::Absent), put(&key, json!(index), condition)]).await
            }
        })
        .await;
        let winners: Vec<usize> = (0..32).filter(|index| results[*index].is_ok()).collect();
        assert_eq!(winners.len(), 1, "winners of a race: {winners:?}");
        for result in results.into_iter().filter(|result| result.is_err()) {
            refused(result, ErrorKind::Conflict, "a loser of a race");
        }
        assert_eq!(get(&*table, &key).await, Some((round + 1, json!(winners[0]))));
        let others = pages(&*table, &Query::prefix("race", format!("{round}-"))).await;
        assert_eq!(others.len(), 1, "a loser wrote a part of its transaction");
    }
}

/// Read, add one, write on the condition that nobody else did: no addition is lost.
async fn counters(table: Arc<dyn Table>) {
    let key = Key::new("counters", "one");
    ok(table.write(vec![put(&key, json!(0), Condition::Absent)]).await, "put");
    at_once(8, |_| {
        let (table, key) = (table.clone(), key.clone());
        async move {
            for _ in 0..5 {
                loop {
                    let (revision, value) = get(&*table, &key).await.expect("the counter is there");
                    let next = json!(value.as_i64().unwrap_or(0) + 1);
                    match table.write(vec![put(&key, next, Condition::Revision(revision))]).await {
                        Ok(()) => break,
                        result => refused(result, ErrorKind::Conflict, "count"),
                    }
                }
            }
        }
    })
    .await;
    assert_eq!(get(&*table, &key).await, Some((41, json!(40))));
}

/// A reader never sees half of a transaction within one page.
async fn consistent_pairs(table: Arc<dyn Table>) {
    let (left, right) = (Key::new("pair", "left"), Key::new("pair", "right"));
    let both = move |number: usize| {
        vec![put(&left, json!(number), Condition::Always), put(&right, json!(number), Condition::Always)]
    };
    ok(table.write(both(0)).await, "put");
    at_once(8, |index| {
        let (table, both) = (table.clone(), both.clone());
        async move {
            for round in 0..20 {
                if index < 2 {
                    ok(table.write(both(index * 100 + round)).await, "put");
                } else {
                    let items = ok(table.query(&Query::prefix("pair", "")).await, "query").items;
                    assert_eq!(items[0].value, items[1].value, "half of a transaction");
                }
            }
        }
    })
    .await;
}
