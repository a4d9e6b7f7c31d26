//! Where a follower stands, and what a body makes of that.

use super::{ClientError, Mirror};
use crate::model::{Cursor, Entry, Revision};
use crate::wire::{Header, Mode, PutKind, Record};

/// Why a state cannot be continued and is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gap {
    /// The daemon does not keep the cursor any more, or its history is another.
    CursorGone,
    /// What the client may read is not what it was.
    RightsChanged,
    /// An answer did not fit, or was refused.
    Doubt,
}

/// What one step brought.
#[derive(Debug)]
pub struct Step {
    /// The header of the body; its cursor is where the mirror stands now.
    pub header: Header,
    /// What changed in the mirror, as `new`, `updated` and `deleted` records. After a gap: the
    /// difference that the new snapshot made.
    pub changes: Vec<Record>,
    /// The state was read whole: at the start, or after a gap.
    pub snapshot: bool,
    /// Why it was read again, where it was.
    pub gap: Option<Gap>,
}

/// A mirror, and whether it can be continued.
#[derive(Debug, Default)]
pub(super) struct Standing {
    mirror: Mirror,
    /// The rights that the mirror was told under, as the daemon names them.
    rights: Option<String>,
    gap: Option<Gap>,
}

impl Standing {
    pub(super) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// Where to go on: a cursor, and the rights that what is there was told under.
    pub(super) fn place(&self) -> Option<(Cursor, Option<&str>)> {
        let cursor = self.mirror.cursor().filter(|_| self.gap.is_none())?;
        Some((cursor, self.rights.as_deref()))
    }

    /// The mirror cannot be continued. It is kept, to tell the difference that the next state makes.
    pub(super) fn lose(&mut self, gap: Gap) {
        // The first reason is what led to the others.
        self.gap.get_or_insert(gap);
    }

    /// Whether what is told under these rights continues the mirror. No rights are those to read everything.
    pub(super) fn are_mine(&self, rights: Option<&str>) -> bool {
        self.rights.as_deref().unwrap_or("0") == rights.unwrap_or("0")
    }

    /// Whether the mirror was told by a daemon without tokens.
    pub(super) fn has_no_rights(&self) -> bool {
        self.rights.is_none()
    }

    /// Moves on over what did not concern this mirror.
    pub(super) fn move_to(&mut self, cursor: Cursor) {
        self.mirror.move_to(cursor);
    }

    /// Takes a whole body of updates. One that does not fit leaves the mirror as it was: the difference that the next
    /// state makes is told against what the application knows.
    pub(super) fn updates(&mut self, header: Header, body: Vec<Record>) -> Result<Step, ClientError> {
        let mut next = self.mirror.clone();
        for record in &body {
            if let Err(error) = next.apply(record) {
                self.lose(Gap::Doubt);
                return Err(error.into());
            }
        }
        self.mirror = next;
        let is_change = |record: &Record| matches!(record, Record::Put { .. } | Record::Deleted { .. });
        let changes = body.into_iter().filter(is_change).collect();
        Ok(Step { header, changes, snapshot: false, gap: None })
    }

    /// Takes a whole state.
    pub(super) fn replace(&mut self, header: Header, mirror: Mirror, rights: Option<&str>) -> Step {
        self.rights = rights.map(str::to_owned);
        let before = std::mem::replace(&mut self.mirror, mirror);
        let header = Header { mode: Some(Mode::Snapshot), ..header };
        let changes = difference(&before, &self.mirror);
        Step { header, changes, snapshot: true, gap: self.gap.take() }
    }
}

/// What leads from one mirror to another, in key order.
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
        let mut standing = Standing::default();
        standing.replace(Header::default(), mirror(&["a", "b", "c"]), None);
        let end = Record::End(End { digest: Some(Digest::from_bits(1)), ..End::default() });
        let body = vec![deleted("a"), put("d", PutKind::New), end];
        assert!(standing.updates(Header::default(), body).is_err());
        assert_eq!(standing.mirror().digest(), mirror(&["a", "b", "c"]).digest());

        let step = standing.replace(Header::default(), mirror(&["b", "d"]), None);
        assert_eq!(step.gap, Some(Gap::Doubt));
        let told: Vec<_> = step
            .changes
            .iter()
            .map(|change| (key_of(change), matches!(change, Record::Put { .. })))
            .collect();
        assert_eq!(told, [(&b"a"[..], false), (b"c", false), (b"d", true)]);
    }
}
