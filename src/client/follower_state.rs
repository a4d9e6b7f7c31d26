//! The state of a follower, and how bodies change it.

use super::{ClientError, Mirror};
use crate::model::{Cursor, Entry, Revision};
use crate::wire::{Header, Mode, PutKind, Record};

/// Why a state cannot be continued and is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// The daemon does not keep the cursor any more, or its history is another.
    CursorGone,
    /// The rights of the client are others than before.
    RightsChanged,
    /// An answer did not match the state, or was refused.
    Mismatch,
}

/// The outcome of one step.
#[derive(Debug)]
pub struct Step {
    /// The header of the body; its cursor is now the mirror's.
    pub header: Header,
    /// The changes of the mirror, as `new`, `updated` and `deleted` records. After a gap: the difference between the
    /// old state and the new snapshot.
    pub changes: Vec<Record>,
    /// Whether the whole state was read: at the start, or after a gap.
    pub snapshot: bool,
    /// Why it was read again, if it was.
    pub gap: Option<Gap>,
}

/// A mirror, and whether it can be continued.
#[derive(Debug, Default)]
pub(super) struct FollowerState {
    mirror: Mirror,
    /// The rights under which the mirror was read, as the daemon names them.
    rights: Option<String>,
    gap: Option<Gap>,
}

impl FollowerState {
    pub(super) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// The cursor to continue from, and the rights under which its state was read; `None` if only a snapshot helps.
    pub(super) fn resume_from(&self) -> Option<(Cursor, Option<&str>)> {
        let cursor = self.mirror.cursor().filter(|_| self.gap.is_none())?;
        Some((cursor, self.rights.as_deref()))
    }

    /// The mirror cannot be continued. It is kept, so that the difference to the next state can be told.
    pub(super) fn lose(&mut self, gap: Gap) {
        // The first reason led to the others.
        self.gap.get_or_insert(gap);
    }

    /// Whether an answer under these rights continues the mirror. No rights mean the right to read everything.
    pub(super) fn has_rights(&self, rights: Option<&str>) -> bool {
        self.rights.as_deref().unwrap_or("0") == rights.unwrap_or("0")
    }

    /// Whether the mirror was read from a daemon without tokens.
    pub(super) fn has_no_rights(&self) -> bool {
        self.rights.is_none()
    }

    /// Advances over updates that did not concern this mirror.
    pub(super) fn move_to(&mut self, cursor: Cursor) {
        self.mirror.move_to(cursor);
    }

    /// Applies a whole body of updates. If it does not match, the mirror stays as it was: the difference to the next
    /// state is then told against the state that the application knows.
    pub(super) fn updates(&mut self, header: Header, body: Vec<Record>) -> Result<Step, ClientError> {
        let mut next = self.mirror.clone();
        for record in &body {
            if let Err(error) = next.apply(record) {
                self.lose(Gap::Mismatch);
                return Err(error.into());
            }
        }
        self.mirror = next;
        let is_change = |record: &Record| matches!(record, Record::Put { .. } | Record::Deleted { .. });
        let changes = body.into_iter().filter(is_change).collect();
        Ok(Step { header, changes, snapshot: false, gap: None })
    }

    /// Replaces the mirror with a whole state.
    pub(super) fn replace(&mut self, header: Header, mirror: Mirror, rights: Option<&str>) -> Step {
        self.rights = rights.map(str::to_owned);
        let before = std::mem::replace(&mut self.mirror, mirror);
        let header = Header { mode: Some(Mode::Snapshot), ..header };
        let changes = difference(&before, &self.mirror);
        Step { header, changes, snapshot: true, gap: self.gap.take() }
    }
}

/// The changes from one mirror to another, in key order.
fn difference(before: &Mirror, after: &Mirror) -> Vec<Record> {
    let put = |entry: &Entry| {
        let kind = match before.get(entry.key()) {
            None => PutKind::New,
            Some(old) if old.same_content(entry) => return None,
            Some(_) => PutKind::Updated,
        };
        Some(Record::Put { kind, entry: entry.clone() })
    };
    let gone = before.iter().filter(|entry| after.get(entry.key()).is_none());
    let revision: Option<Revision> = after.cursor().map(|cursor| cursor.revision);
    let deleted = gone.map(|entry| Record::Deleted { key: entry.to_key(), revision });
    let mut changes: Vec<Record> = after.iter().filter_map(put).chain(deleted).collect();
    changes.sort_by(|a, b| key_of(a).cmp(key_of(b)));
    changes
}

fn key_of(record: &Record) -> &[u8] {
    match record {
        Record::Put { entry, .. } => entry.key(),
        Record::Deleted { key, .. } => key.as_bytes(),
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;
    use crate::model::{Digest, Key};
    use crate::wire::End;

    fn put(key: &str, kind: PutKind) -> Record {
        Record::Put { kind, entry: Entry::new(key.as_bytes(), b"1", None) }
    }

    fn deleted(key: &str) -> Record {
        Record::Deleted { key: Key::from(key), revision: None }
    }

    fn mirror(keys: &[&str]) -> Mirror {
        let mut mirror = Mirror::default();
        keys.iter().for_each(|key| mirror.apply(&put(key, PutKind::New)).unwrap());
        mirror
    }

    #[test]
    fn after_a_body_that_does_not_fit_the_whole_difference_is_told() {
        let mut state = FollowerState::default();
        state.replace(Header::default(), mirror(&["a", "b", "c"]), None);
        let end = Record::End(End { digest: Some(Digest::from_bits(1)), ..End::default() });
        let body = vec![deleted("a"), put("d", PutKind::New), end];
        assert!(state.updates(Header::default(), body).is_err());
        assert_eq!(state.mirror().digest(), mirror(&["a", "b", "c"]).digest());

        let step = state.replace(Header::default(), mirror(&["b", "d"]), None);
        assert_eq!(step.gap, Some(Gap::Mismatch));
        let told: Vec<_> = step
            .changes
            .iter()
            .map(|change| (key_of(change), matches!(change, Record::Put { .. })))
            .collect();
        assert_eq!(told, [(&b"a"[..], false), (b"c", false), (b"d", true)]);
    }
}
