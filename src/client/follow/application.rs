//! The state as the application sees it.

use crate::client::{Change, Gap, MirrorSnapshot};
use crate::model::SyncStatus;
use crate::wire::Header;

use super::event::Changed;

/// The state that the application was told. It is the daemon's, but after a gap: then what the daemon has is told at
/// once, and what it lacks only when it is in-sync (Typha's clients do the same with a server that still starts).
#[derive(Debug, Default)]
pub(super) struct Application {
    seen: MirrorSnapshot,
    /// Whether it was told any state.
    begun: bool,
    /// Whether deletions wait until the daemon is in-sync.
    settling: bool,
}

/// A state is empty that was not before, though no answer has deleted its keys.
#[derive(Debug)]
pub(super) struct Emptied {
    /// The keys that the application holds.
    pub(super) keys: usize,
}

impl Application {
    /// An application that holds this state already.
    pub(super) fn resuming(seen: MirrorSnapshot) -> Self {
        Self { seen, begun: true, settling: false }
    }

    /// What it sees.
    pub(super) fn seen(&self) -> &MirrorSnapshot {
        &self.seen
    }

    /// The cursor has advanced over changes that are none here.
    pub(super) fn move_to(&mut self, state: &MirrorSnapshot) {
        if !self.settling {
            self.seen = state.clone();
        }
    }

    /// The state was read whole.
    pub(super) fn replace(
        &mut self,
        header: Header,
        state: &MirrorSnapshot,
        gap: Option<Gap>,
        allow_empty: bool,
    ) -> Result<Changed, Emptied> {
        self.settling = self.begun;
        let changes = self.advance(&header, state, allow_empty)?;
        self.begun = true;
        Ok(Changed { header, changes, snapshot: true, gap })
    }

    /// Changes have led to this state.
    pub(super) fn update(
        &mut self,
        header: Header,
        changes: Vec<Change>,
        state: &MirrorSnapshot,
        allow_empty: bool,
    ) -> Result<Changed, Emptied> {
        let changes = if self.settling {
            self.retain_and_advance(&header, &changes, state, allow_empty)?
        } else {
            self.seen = state.clone();
            changes
        };
        Ok(Changed { header, changes, snapshot: false, gap: None })
    }

    fn retain_and_advance(
        &mut self,
        header: &Header,
        changes: &[Change],
        state: &MirrorSnapshot,
        allow_empty: bool,
    ) -> Result<Vec<Change>, Emptied> {
        let before = self.seen.clone();
        // A key that the new daemon had and deletes is gone, in-sync or not.
        for change in changes {
            if let Change::Deleted { old, .. } = change {
                self.seen.remove(old.key());
            }
        }
        match self.advance(header, state, allow_empty) {
            Ok(_) => Ok(before.changes_to(&self.seen).collect()),
            Err(emptied) => {
                self.seen = before;
                Err(emptied)
            }
        }
    }

    /// Takes the daemon's state over; while the two settle, only what it has.
    fn advance(
        &mut self,
        header: &Header,
        state: &MirrorSnapshot,
        allow_empty: bool,
    ) -> Result<Vec<Change>, Emptied> {
        let is_in_sync = header.status == Some(SyncStatus::InSync);
        let next = if self.settling && !is_in_sync {
            let mut both = self.seen.clone();
            for change in self.seen.changes_to(state) {
                if let Some(entry) = change.after() {
                    both.insert(entry.clone());
                }
            }
            both.at_position_of(state)
        } else if self.settling && state.is_empty() && !self.seen.is_empty() && !allow_empty {
            return Err(Emptied { keys: self.seen.len() });
        } else {
            self.settling = false;
            state.clone()
        };
        let changes = self.seen.changes_to(&next).collect();
        self.seen = next;
        Ok(changes)
    }
}
