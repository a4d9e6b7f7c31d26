//! The records of a POST: updates, or one whole snapshot.
//!
//! A snapshot deletes every key that it does not name. So one that lost records on its way must not be applied: its `end`
//! is its last record, what its records say of the whole (`count`, `digest`, `cursor`) agrees with what came, and it is
//! not what a daemon gives out of some keys.

use std::collections::HashMap;

use crate::http::rep::problem::Problem;
use crate::model::{Change, Digest, Entry, Grouping, Update};
use crate::wire::{self, End, Header, Parsed, Record};

/// The updates of a POST. A whole `snapshot` … `end`, as printed by `crumbd dump`, replaces the state.
pub(super) fn parse(text: &str) -> Result<(Vec<Update>, Grouping), Problem> {
    let parsed = wire::parse_records(text).map_err(|error| Problem::bad_request(error.to_string()))?;
    let Parsed { unit, records } = parsed;
    let (mut header, mut end) = (None, None);
    let mut updates = Vec::with_capacity(records.len());
    for (index, (position, record)) in records.into_iter().enumerate() {
        let refused =
            |why| Err(Problem::bad_request(format!("{unit} {position}: {why}; nothing was applied")));
        if end.is_some() {
            return refused("no record may follow the `end` of a snapshot");
        }
        let change = match record {
            Record::Put { entry, .. } => Change::Put(entry),
            Record::Deleted { key, .. } => Change::Delete(key),
            Record::Snapshot(own) if index == 0 => {
                header = Some(own);
                continue;
            }
            Record::End(own) if header.is_some() => {
                end = Some(own);
                continue;
            }
            Record::End(_) => {
                return refused("an `end` record closes a snapshot, but no `snapshot` record begins one");
            }
            Record::Breadcrumb(_) => {
                return refused(
                    "a POST accepts no `breadcrumb` record, because it continues one state only; \
                     to apply its updates to any state, leave out its `breadcrumb` and `end` records",
                );
            }
            Record::Snapshot(_) | Record::Status(_) | Record::Reset { .. } | Record::Step(_) => {
                return refused(
                    "a POST accepts new, updated, put and deleted records, or one whole snapshot",
                );
            }
        };
        updates.push(Update { change, revision: None });
    }
    match (header, end) {
        (None, _) => Ok((updates, Grouping::Whole)),
        (Some(header), Some(end)) => match contradiction(&header, &end, &updates) {
            None => Ok((updates, Grouping::Replace)),
            Some(what) => Err(Problem::bad_request(format!("{what}; nothing was applied"))),
        },
        (Some(_), None) => Err(Problem::bad_request(
            "the body begins with a `snapshot` record but has no `end` record, so it is incomplete; nothing was applied",
        )),
    }
}

/// What a snapshot says of itself and its records do not bear out.
fn contradiction(header: &Header, end: &End, updates: &[Update]) -> Option<String> {
    if header.more == Some(true) {
        return Some("the snapshot is one page of several, so it is not the whole state".to_owned());
    }
    // A daemon names count and digest of a state, but not of some of its keys.
    if header.cursor.is_some() && header.count.is_none() {
        return Some(
            "the snapshot is of some keys only (it has a `cursor` and no `count`), so it cannot replace the whole state; to \
             set these keys, leave out the `snapshot` and `end` records"
                .to_owned(),
        );
    }
    if header.cursor.is_some() && end.cursor.is_some() && header.cursor != end.cursor {
        return Some("the `snapshot` and `end` records have different cursors".to_owned());
    }
    let counts = [header.count, end.count].into_iter().flatten();
    let digests = [header.digest, end.digest].into_iter().flatten();
    if counts.clone().next().is_none() && digests.clone().next().is_none() {
        return None;
    }
    let state = state_of(updates);
    let count = state.len() as u64;
    let digest: Digest = state.into_values().collect();
    if let Some(claimed) = counts.into_iter().find(|claimed| *claimed != count) {
        return Some(format!("the snapshot names {claimed} keys as its `count`, but has {count}"));
    }
    let claimed = digests.into_iter().find(|claimed| *claimed != digest)?;
    Some(format!("the snapshot names the `digest` {claimed}, but its records have {digest}"))
}

/// The state that the updates make of the empty one.
fn state_of(updates: &[Update]) -> HashMap<&[u8], &Entry> {
    let mut state = HashMap::with_capacity(updates.len());
    for Update { change, .. } in updates {
        match change {
            Change::Put(entry) => state.insert(entry.key(), entry),
            Change::Delete(key) | Change::Unreadable(key, _) => state.remove(key.as_bytes()),
        };
    }
    state
}
