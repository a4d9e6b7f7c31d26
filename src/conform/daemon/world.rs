//! What the scripted daemon serves: a history with its kept breadcrumbs.

use im::OrdMap;

use crate::model::{Check, Cursor, Digest, Entry, History, Key, Revision, SyncStatus};
use crate::wire::PutKind;

/// The whole state at one breadcrumb.
pub(crate) type State = OrdMap<Key, Entry>;

/// One breadcrumb.
#[derive(Clone, Debug)]
pub(crate) struct Crumb {
    pub(crate) cursor: Cursor,
    pub(crate) sequence: u64,
    pub(crate) state: State,
    pub(crate) digest: Digest,
}

/// One change between two states.
pub(super) enum Step {
    Put(PutKind, Entry),
    Deleted(Key, Revision),
}

/// A history and its kept breadcrumbs, the newest last. There is always one.
#[derive(Clone, Debug)]
pub(crate) struct World {
    kept: Vec<Crumb>,
    newest: Crumb,
    /// The upstream is known to be no further, so a higher revision of the same history is gone.
    is_restored: bool,
}

impl World {
    /// A history with this state at this revision, in sync.
    pub(crate) fn new(history: History, revision: u64, state: State) -> Self {
        let newest = crumb(history, Revision(revision), 1, SyncStatus::InSync, state);
        Self { kept: vec![newest.clone()], newest, is_restored: false }
    }

    /// The same history with a state from a backup, at a lower revision.
    pub(crate) fn restored(&self, revision: u64, state: State) -> Self {
        Self { is_restored: true, ..Self::new(self.newest.cursor.history, revision, state) }
    }

    /// The newest breadcrumb.
    pub(crate) fn newest(&self) -> &Crumb {
        &self.newest
    }

    /// The status of the newest breadcrumb.
    fn status(&self) -> SyncStatus {
        self.newest.cursor.status
    }

    /// Makes one breadcrumb of these changes. A key without a value is deleted.
    pub(crate) fn change(&mut self, changes: &[(&str, Option<&str>)]) {
        let mut state = self.newest.state.clone();
        let revision = self.newest.cursor.revision.next();
        for (key, value) in changes {
            match value {
                Some(value) => {
                    let entry = Entry::new(key.as_bytes(), value.as_bytes(), None).at(revision);
                    state.insert(entry.to_key(), entry);
                }
                None => {
                    state.remove(key.as_bytes());
                }
            }
        }
        self.commit(revision, self.status(), state);
    }

    /// Makes one breadcrumb with this status and the same state.
    pub(crate) fn set_status(&mut self, status: SyncStatus) {
        self.commit(self.newest.cursor.revision, status, self.newest.state.clone());
    }

    /// Makes one breadcrumb of this state and status: what a feed does that reads its upstream again.
    pub(crate) fn replace(&mut self, status: SyncStatus, state: State) {
        self.commit(self.newest.cursor.revision.next(), status, state);
    }

    fn commit(&mut self, revision: Revision, status: SyncStatus, state: State) {
        let sequence = self.newest.sequence + 1;
        self.newest = crumb(self.newest.cursor.history, revision, sequence, status, state);
        self.kept.push(self.newest.clone());
    }

    /// Keeps the newest breadcrumb only: all older cursors are gone.
    pub(crate) fn forget_old(&mut self) {
        self.kept = vec![self.newest.clone()];
    }

    /// The kept breadcrumb with this cursor.
    pub(super) fn kept(&self, cursor: &str) -> Option<&Crumb> {
        self.kept.iter().find(|crumb| crumb.cursor.to_string() == cursor)
    }

    /// Whether a cursor is of this history, and newer than all that is here.
    pub(super) fn is_ahead(&self, cursor: &str) -> bool {
        !self.is_restored
            && cursor.parse::<Cursor>().is_ok_and(|cursor| {
                cursor.history == self.newest.cursor.history && cursor.revision > self.newest.cursor.revision
            })
    }
}

fn crumb(history: History, revision: Revision, sequence: u64, status: SyncStatus, state: State) -> Crumb {
    let digest = state.values().collect::<Digest>();
    let cursor = Cursor { history, revision, status, check: Check::from(digest) };
    Crumb { cursor, sequence, state, digest }
}

/// A state of these keys and values, set at this revision.
pub(crate) fn state_of<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    revision: u64,
    entries: impl IntoIterator<Item = (K, V)>,
) -> State {
    let entry = |(key, value): (K, V)| {
        let entry = Entry::new(key.as_ref(), value.as_ref(), None).at(Revision(revision));
        (entry.to_key(), entry)
    };
    entries.into_iter().map(entry).collect()
}

/// The changes that lead from one state to another one, in the order of keys.
pub(super) fn steps(from: &State, to: &State, revision: Revision) -> Vec<Step> {
    let put = to.iter().filter_map(|(key, entry)| match from.get(key) {
        None => Some((key, Step::Put(PutKind::New, entry.clone()))),
        Some(old) if old.same_content(entry) => None,
        Some(_) => Some((key, Step::Put(PutKind::Updated, entry.clone()))),
    });
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    let mut all: Vec<_> = put.chain(gone.map(|key| (key, Step::Deleted(key.clone(), revision)))).collect();
    all.sort_by_key(|(key, _)| *key);
    all.into_iter().map(|(_, step)| step).collect()
}
