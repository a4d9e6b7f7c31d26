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
            self.advance(&header, state, allow_empty)?
        } else {
            self.seen = state.clone();
            changes
        };
        Ok(Changed { header, changes, snapshot: false, gap: None })
    }

    /// Takes the daemon's state over; while the two settle, only what it has: deletions that it tells then wait too.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;
    use crate::client::CheckedState;
    use crate::model::Entry;
    use crate::wire::{PutKind, Record};

    type Model = BTreeMap<u8, u8>;

    /// What a daemon says: a whole state, or what its state has become.
    #[derive(Clone, Debug)]
    struct Answer {
        is_snapshot: bool,
        state: Model,
        in_sync: bool,
        allow_empty: bool,
    }

    fn answers() -> impl Strategy<Value = Vec<Answer>> {
        let state = prop_oneof![4 => btree_map(0..12u8, 0..3u8, 0..9), 1 => Just(Model::new())];
        let flags = (prop::bool::weighted(0.4), any::<bool>(), prop::bool::weighted(0.3));
        let answer = (state, flags).prop_map(|(state, (is_snapshot, in_sync, allow_empty))| Answer {
            is_snapshot,
            state,
            in_sync,
            allow_empty,
        });
        vec(answer, 1..20)
    }

    fn checked(model: &Model) -> CheckedState {
        let mut state = CheckedState::default();
        for (key, value) in model {
            let entry = Entry::new(&[*key], &[*value], None);
            state.apply(&Record::Put { kind: PutKind::New, entry }).unwrap();
        }
        state
    }

    fn model(snapshot: &MirrorSnapshot) -> Model {
        snapshot.iter().map(|entry| (entry.key()[0], entry.value()[0])).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_told_is_true_and_leads_to_the_daemons_state(answers in answers()) {
            let mut application = Application::default();
            let (mut server, mut known) = (checked(&Model::new()), Model::new());
            let mut begun = false;
            for answer in answers {
                let status = if answer.in_sync { SyncStatus::InSync } else { SyncStatus::ResyncInProgress };
                let header = Header { status: Some(status), ..Header::default() };
                let next = checked(&answer.state);
                // A follower whose state was held reads it anew.
                let told = if answer.is_snapshot || !begun {
                    application.replace(header, &next.snapshot(), None, answer.allow_empty)
                } else {
                    let changes = server.snapshot().changes_to(&next.snapshot()).collect();
                    application.update(header, changes, &next.snapshot(), answer.allow_empty)
                };
                let Ok(changed) = told else {
                    prop_assert!(answer.state.is_empty() && answer.in_sync && !answer.allow_empty);
                    prop_assert_eq!(model(application.seen()), known.clone());
                    begun = false;
                    continue;
                };
                (begun, server) = (true, next);
                for change in &changed.changes {
                    let key = change.key()[0];
                    prop_assert_eq!(known.get(&key).copied(), change.before().map(|entry| entry.value()[0]));
                    match change.after() {
                        Some(entry) => known.insert(key, entry.value()[0]),
                        None => known.remove(&key),
                    };
                }
                prop_assert_eq!(&model(application.seen()), &known);
                for (key, value) in &answer.state {
                    prop_assert_eq!(known.get(key), Some(value));
                }
                if answer.in_sync {
                    prop_assert_eq!(&known, &answer.state);
                }
            }
        }
    }
}
