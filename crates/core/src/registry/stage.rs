//! The life cycle of a version.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Registry, Route, Version, partition, version_key};
use crate::commit::{put, unchanged};
use crate::error::{Error, ErrorKind, Result};
use crate::ports::{Condition, Key, Query};

/// Where a version stands; the names are those of MLflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stage {
    /// Registered.
    None,
    /// Being tried.
    Staging,
    /// Serves. At most one version of a model does.
    Production,
    /// Kept.
    Archived,
}

impl Stage {
    /// The stages that may follow this one. Production may also be entered from Archived, by a roll-back alone.
    #[must_use]
    pub fn successors(self) -> &'static [Stage] {
        match self {
            Self::None => &[Self::Staging, Self::Archived],
            Self::Staging => &[Self::Production, Self::None, Self::Archived],
            Self::Production => &[Self::Staging, Self::Archived],
            Self::Archived => &[Self::Staging],
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Staging => "Staging",
            Self::Production => "Production",
            Self::Archived => "Archived",
        })
    }
}

impl FromStr for Stage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::None, Self::Staging, Self::Production, Self::Archived]
            .into_iter()
            .find(|stage| stage.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::invalid("stage", text, "one of None, Staging, Production, Archived"))
    }
}

/// One change of a version's stage. Appended to the model's history, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Its place in the history.
    pub id: String,
    /// Registered model.
    pub model: String,
    /// The version that moved.
    pub version: u32,
    /// From where.
    pub from: Stage,
    /// To where.
    pub to: Stage,
    /// The version that it replaced in production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<u32>,
    /// Who decided.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// SHA-256 of the gates' report that it was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates_sha256: Option<String>,
    /// Ties it to what caused it.
    pub correlation_id: String,
    /// When.
    pub time_ms: i64,
}

/// Who changes a stage, and why.
#[derive(Debug, Clone)]
pub struct Decision {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Ties it to what caused it; `None` for the version's own.
    pub correlation_id: Option<String>,
}

pub(super) struct Change {
    record: Version,
    revision: u64,
    to: Stage,
}

impl Registry {
    /// Moves a version to another stage. A version that enters Production replaces the one that serves, which becomes
    /// Archived, in the same transaction. Of several concurrent moves of one version, or into one model's Production,
    /// exactly one happens.
    ///
    /// # Errors
    /// `Conflict` for an illegal move or a lost race, `Refused` where the gates did not pass, `NotFound`.
    pub async fn transition(&self, model: &str, version: u32, to: Stage, decision: &Decision) -> Result<Version> {
        let change = self.change(model, version, to).await?;
        let from = change.record.stage;
        if !from.successors().contains(&to) {
            let accepted: Vec<String> = from.successors().iter().map(ToString::to_string).collect();
            return Err(Error::conflict(format!(
                "model version `{model}/{version}` is in stage {from} and cannot move to {to}"
            ))
            .with_hint(format!("from {from} it can move to {}", accepted.join(", "))));
        }
        let mut changes = vec![change];
        if to == Stage::Production {
            let serving = self.route(model).await?.and_then(|(route, _)| route.version);
            check_gates(&changes[0].record, serving)?;
            if let Some(serving) = serving {
                changes.push(self.change(model, serving, Stage::Archived).await?);
            }
        }
        self.apply(model, changes, decision).await
    }

    /// Takes the version in production back to Staging and puts the one that served before it in its place, in one
    /// transaction. Returns the version that serves now. Where `from` names the version to take back and that was done
    /// already, nothing more happens: a caller that never got the answer can ask again.
    ///
    /// # Errors
    /// `Conflict` where nothing is in production or another version than `from`, nothing served before it or what did
    /// cannot serve again, or a race is lost; `NotFound`.
    pub async fn rollback(&self, model: &str, from: Option<u32>, decision: &Decision) -> Result<Version> {
        self.model(model).await?;
        let serving = self.route(model).await?.and_then(|(route, _)| route.version);
        if let Some(from) = from.filter(|from| serving != Some(*from)) {
            return self.rolled_back(model, from, serving).await;
        }
        let Some(serving) = serving else {
            return Err(Error::conflict(format!("model `{model}` has no version in production")));
        };
        let previous = self.previous(model, serving).await?;
        let changes = vec![
            self.change(model, previous, Stage::Production).await?,
            self.change(model, serving, Stage::Staging).await?,
        ];
        self.apply(model, changes, decision).await
    }

    /// The version that serves since `from` was rolled back.
    async fn rolled_back(&self, model: &str, from: u32, serving: Option<u32>) -> Result<Version> {
        let moves = self.history(model, usize::MAX).await?;
        let left = moves.iter().find(|entry| entry.version == from);
        let entered = moves.iter().find(|entry| entry.to == Stage::Production);
        match (left, entered, serving) {
            (Some(left), Some(entered), Some(serving))
                if left.from == Stage::Production
                    && left.to == Stage::Staging
                    && entered.replaced == Some(from)
                    && entered.version == serving =>
            {
                self.version(model, serving).await
            }
            _ => Err(Error::conflict(format!("version {from} of model `{model}` is not in production"))
                .with_hint(format!("`moola models show {model}` shows what is"))),
        }
    }

    /// The version that served before `serving`.
    async fn previous(&self, model: &str, serving: u32) -> Result<u32> {
        let hint = format!("`moola models archive {model}/{serving}` takes it out of service");
        // What `serving` replaced when it was last promoted; that it was restored by a roll-back since does not count.
        let moves = self.history(model, usize::MAX).await?;
        let entered = moves
            .iter()
            .find(|entry| entry.version == serving && entry.to == Stage::Production && entry.from == Stage::Staging);
        let Some(replaced) = entered.and_then(|entry| entry.replaced) else {
            let message = format!("no version of model `{model}` served before version {serving}");
            return Err(Error::conflict(message).with_hint(hint));
        };
        let record = self.version(model, replaced).await?;
        if !matches!(record.stage, Stage::Archived | Stage::Staging) {
            let message = format!(
                "version {replaced} of model `{model}` served before version {serving}, but is in stage {} now",
                record.stage
            );
            return Err(Error::conflict(message).with_hint(hint));
        }
        Ok(replaced)
    }

    /// The changes of stage in a model, the newest first, at most `limit`.
    ///
    /// # Errors
    /// `NotFound`; those of the table.
    pub async fn history(&self, model: &str, limit: usize) -> Result<Vec<Move>> {
        self.model(model).await?;
        let mut query = Query::prefix(partition(model), "history/");
        query.descending = true;
        self.ports.read_all(query, limit).await
    }

    pub(super) async fn change(&self, model: &str, version: u32, to: Stage) -> Result<Change> {
        self.version(model, version).await?;
        let read = self.ports.read::<Version>(&version_key(model, version)).await?;
        let (record, revision) =
            read.ok_or_else(|| Error::not_found("model version", format_args!("{model}/{version}")))?;
        Ok(Change { record, revision, to })
    }

    /// Applies the changes in one transaction; the first is the one that was asked for.
    pub(super) async fn apply(&self, model: &str, changes: Vec<Change>, decision: &Decision) -> Result<Version> {
        let now_ms = self.ports.clock.now_ms();
        let route = self.route(model).await?;
        let serving = route.as_ref().and_then(|(route, _)| route.version);
        let enters = changes.iter().find(|change| change.to == Stage::Production);
        let leaves =
            changes.iter().any(|change| Some(change.record.version) == serving && change.to != Stage::Production);
        let mut writes = Vec::new();
        if enters.is_some() || leaves {
            // Everything that changes what serves goes through this one item.
            if enters.is_some() && serving.is_some() && !leaves {
                return Err(raced(model));
            }
            let route_now = Route {
                model: model.into(),
                version: enters.map(|change| change.record.version),
                manifest_sha256: enters.map(|change| change.record.manifest_sha256.clone()),
                build: enters.and_then(|change| Some(change.record.build.as_ref()?.reference.clone())),
                since_ms: now_ms,
            };
            let revision = route.map(|(_, revision)| revision);
            writes.push(put(Key::new("production", model), &route_now, unchanged(revision))?);
        }
        let mut events = Vec::new();
        let mut first = None;
        // The move that was asked for comes last into the history, so that it is the newest.
        for change in changes.into_iter().rev() {
            let Change { mut record, revision, to } = change;
            let from = record.stage;
            let correlation_id = decision.correlation_id.clone().unwrap_or_else(|| record.correlation_id.clone());
            let entry = Move {
                id: self.ports.ids.new_id(),
                model: model.into(),
                version: record.version,
                from,
                to,
                replaced: if to == Stage::Production { serving } else { None },
                actor: decision.actor.clone(),
                reason: decision.reason.clone(),
                gates_sha256: record.gates.as_ref().map(|gates| gates.report_sha256.clone()),
                correlation_id: correlation_id.clone(),
                time_ms: now_ms,
            };
            record.stage = to;
            record.updated_ms = now_ms;
            writes.push(put(Key::new(partition(model), format!("history/{}", entry.id)), &entry, Condition::Absent)?);
            writes.push(put(version_key(model, record.version), &record, Condition::Revision(revision))?);
            let detail = json!({
                "model": model, "model_version": record.version, "from": from, "to": to,
                "replaced": entry.replaced, "actor": decision.actor, "reason": decision.reason,
            });
            events.push(self.ports.event("Stage Changed", &correlation_id, detail));
            first = Some(record);
        }
        match self.ports.commit(writes, events).await {
            Ok(()) => first.ok_or_else(|| Error::internal("a transition without a change")),
            Err(error) if error.kind() == ErrorKind::Conflict => Err(raced(model).with_source(error)),
            Err(error) => Err(error),
        }
    }
}

fn raced(model: &str) -> Error {
    Error::conflict(format!("model `{model}` was changed by somebody else at the same time"))
        .with_hint("look at the model again, then decide again")
}

fn check_gates(record: &Version, serving: Option<u32>) -> Result<()> {
    let (model, version) = (&record.model, record.version);
    let refuse = |message: String, hint: &str| Err(Error::new(ErrorKind::Refused, message).with_hint(hint));
    let Some(gates) = &record.gates else {
        return refuse(
            format!("model version `{model}/{version}` was not judged by the gates yet"),
            "`moola models gates` judges it",
        );
    };
    if !gates.passed {
        return refuse(
            format!("model version `{model}/{version}` failed the gates: {}", gates.failed.join("; ")),
            "`moola models show` prints the report",
        );
    }
    if serving.is_some() && gates.compared_with != serving {
        let then = gates.compared_with.map_or("nothing".to_owned(), |number| format!("version {number}"));
        let now = serving.map_or("nothing".to_owned(), |number| format!("version {number}"));
        return refuse(
            format!("model version `{model}/{version}` was compared with {then}, but {now} serves now"),
            "`moola models gates` judges it against the version that serves",
        );
    }
    Ok(())
}
