//! The state as the application sees it.

use crate::client::{EntryChange, Gap, MirrorSnapshot};
use crate::model::SyncStatus;
use crate::wire::Header;

use super::event::{Changed, Event};

/// The state that the application was told. It is the daemon's, but after a gap: then what the daemon has is told at
/// once, and what it lacks only when it is in-sync (Typha's clients do the same with a server that still starts) and not
/// empty.
#[derive(Debug, Default)]
pub(super) struct Application {
    seen: MirrorSnapshot,
    /// Whether it was told any state.
    begun: bool,
    /// Whether deletions wait until the daemon is in-sync and not empty.
    settling: bool,
    /// Whether the state was read again because the rights have changed: what the application may no longer see is not kept
    /// for it, also when that is everything.
    is_narrowed: bool,
    /// What is told when the application agrees to the daemon's state, which is empty.
    held: Option<Changed>,
    /// Whether it was told that its keys are kept.
    is_told_held: bool,
}

impl Application {
    /// An application that holds this state already.
    pub(super) fn resuming(seen: MirrorSnapshot) -> Self {
        Self { seen, begun: true, ..Self::default() }
    }

    /// What it sees.
    pub(super) fn seen(&self) -> &MirrorSnapshot {
        &self.seen
    }

    /// Whether it keeps its keys, because the daemon has none and did not delete them one by one.
    pub(super) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// The cursor has advanced over changes that are none here.
    pub(super) fn move_to(&mut self, state: &MirrorSnapshot) {
        if !self.settling {
            self.seen = state.clone();
        }
    }

    /// The state was read whole. Returns what the application is told.
    pub(super) fn replace(
        &mut self,
        header: Header,
        state: &MirrorSnapshot,
        gap: Option<Gap>,
        allow_empty: bool,
    ) -> Option<Event> {
        self.is_narrowed = gap == Some(Gap::RightsChanged) || (self.is_narrowed && self.settling);
        self.settling = std::mem::replace(&mut self.begun, true);
        let answer = Changed { header, changes: Vec::new(), snapshot: true, gap };
        self.advance(answer, state, allow_empty)
    }

    /// Changes have led to this state. Returns what the application is told.
    pub(super) fn update(
        &mut self,
        header: Header,
        changes: Vec<EntryChange>,
        state: &MirrorSnapshot,
        allow_empty: bool,
    ) -> Option<Event> {
        let answer = Changed { header, changes, snapshot: false, gap: None };
        if self.settling {
            return self.advance(answer, state, allow_empty);
        }
        self.seen = state.clone();
        Some(Event::Changed(answer))
    }

    /// The application agrees to the empty state that is held. Returns what it is told.
    pub(super) fn agree(&mut self, state: &MirrorSnapshot) -> Option<Event> {
        let mut held = self.held.take()?;
        // It may have moved since.
        held.header.cursor = state.cursor();
        self.advance(held, state, true)
    }

    /// Takes the daemon's state over; while the two settle, only what it has: deletions that it tells then wait too.
    fn advance(&mut self, answer: Changed, state: &MirrorSnapshot, allow_empty: bool) -> Option<Event> {
        // What follows a state that is held continues the reading of that state.
        let answer = match self.held.take() {
            Some(held) => Changed { snapshot: true, gap: answer.gap.or(held.gap), ..answer },
            None => answer,
        };
        let is_in_sync = answer.header.status == Some(SyncStatus::InSync);
        let next = if self.settling && !is_in_sync {
            let mut both = self.seen.clone();
            for change in self.seen.changes_to(state) {
                if let Some(entry) = change.after() {
                    both.insert(entry.clone());
                }
            }
            both.at_position_of(state)
        } else if self.settling
            && state.is_empty()
            && !self.seen.is_empty()
            && !allow_empty
            && !self.is_narrowed
        {
            self.held = Some(answer);
            let is_told = std::mem::replace(&mut self.is_told_held, true);
            return (!is_told).then(|| Event::Held { keys: self.seen.len() });
        } else {
            (self.settling, self.is_told_held) = (false, false);
            state.clone()
        };
        let changes = self.seen.changes_to(&next).collect();
        self.seen = next;
        Some(Event::Changed(Changed { changes, ..answer }))
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
        /// Whether the application agrees after it was told that its keys are kept.
        agrees_late: bool,
    }

    fn answers() -> impl Strategy<Value = Vec<Answer>> {
        let state = prop_oneof![4 => btree_map(0..12u8, 0..3u8, 0..9), 1 => Just(Model::new())];
        let weighted = prop::bool::weighted;
        let flags = (weighted(0.4), any::<bool>(), weighted(0.3), weighted(0.3));
        let answer = (state, flags).prop_map(|(state, (is_snapshot, in_sync, allow_empty, agrees_late))| {
            Answer { is_snapshot, state, in_sync, allow_empty, agrees_late }
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
            let (mut begun, mut said_held) = (false, false);
            for answer in answers {
                let status = if answer.in_sync { SyncStatus::InSync } else { SyncStatus::ResyncInProgress };
                let header = Header { status: Some(status), ..Header::default() };
                let next = checked(&answer.state);
                let is_snapshot = answer.is_snapshot || !begun;
                let told = if is_snapshot {
                    application.replace(header, &next.snapshot(), Some(Gap::CursorGone), answer.allow_empty)
                } else {
                    let changes = server.snapshot().changes_to(&next.snapshot()).collect();
                    application.update(header, changes, &next.snapshot(), answer.allow_empty)
                };
                (begun, server) = (true, next);
                let told = match (told, answer.agrees_late) {
                    (Some(Event::Changed(changed)), _) => changed,
                    (told, agrees) => {
                        prop_assert!(answer.state.is_empty() && answer.in_sync && !answer.allow_empty);
                        prop_assert!(application.is_holding());
                        prop_assert_eq!(matches!(told, Some(Event::Held { .. })), !said_held, "it is said once");
                        prop_assert_eq!(&model(application.seen()), &known);
                        said_held = true;
                        if !agrees {
                            continue;
                        }
                        let Some(Event::Changed(changed)) = application.agree(&server.snapshot()) else {
                            panic!("an application that agrees is told");
                        };
                        prop_assert!(changed.snapshot || !is_snapshot);
                        changed
                    }
                };
                prop_assert!(!application.is_holding());
                said_held &= !answer.in_sync;
                for change in &told.changes {
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

        #[test]
        fn what_comes_after_an_empty_state_continues_its_reading(keys in 1..9_u8) {
            let in_sync = || Header { status: Some(SyncStatus::InSync), ..Header::default() };
            let old: Model = (100..100 + keys).map(|key| (key, 0)).collect();
            let mut application = Application::resuming(checked(&old).snapshot());
            let empty = checked(&Model::new()).snapshot();
            let told = application.replace(in_sync(), &empty, Some(Gap::CursorGone), false);
            let is_told = matches!(told, Some(Event::Held { keys: held }) if held == usize::from(keys));
            prop_assert!(is_told);
            let new: Model = [(1, 1)].into();
            let next = checked(&new).snapshot();
            let changes = empty.changes_to(&next).collect();
            let Some(Event::Changed(changed)) = application.update(in_sync(), changes, &next, false) else {
                panic!("a state with a key is told");
            };
            prop_assert_eq!((changed.snapshot, changed.gap), (true, Some(Gap::CursorGone)));
            prop_assert_eq!(changed.changes.len(), usize::from(keys) + 1);
            prop_assert_eq!(model(application.seen()), new);
        }
    }
}
