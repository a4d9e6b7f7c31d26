//! The model: the meaning of a feed's events, in the simplest code.

use std::collections::{BTreeMap, BTreeSet};

use crumbd::model::{Change, Condition, Entry, History, Key, Revision, SyncStatus, Ttl, Update};

use super::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub value: Vec<u8>,
    pub ttl: Option<Ttl>,
    pub set_at: u64,
}

impl Stored {
    pub fn same_content(&self, other: &Self) -> bool {
        (&self.value, self.ttl) == (&other.value, other.ttl)
    }
}

pub type State = BTreeMap<Vec<u8>, Stored>;

/// A state that the upstream went through and that readers may see: none inside of a resync.
#[derive(Clone, Debug)]
pub struct Point {
    pub history: History,
    pub revision: u64,
    pub state: State,
    /// Set where a lossy resync ended: what was told of the way there.
    pub past: Option<Told>,
}

/// What the feed has told of the way to a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    Nothing,
    From { base: u64, through: u64 },
    Unknown,
}

pub struct ModelResync {
    pub before: Point,
    pub whole_at: Option<u64>,
    /// It began another history: then there may be another resync within it.
    pub reload: bool,
    pub lossy: bool,
    pub in_sync_at_end: bool,
    /// The refused keys before it.
    pub refused: BTreeSet<Vec<u8>>,
    /// The keys that it has named as gone, or that were refused in it.
    pub gone: BTreeSet<Vec<u8>>,
    /// Those of the reload around it as it began.
    pub gone_around: BTreeSet<Vec<u8>>,
}

#[derive(Default)]
pub struct Counted {
    pub updates: u64,
    pub suppressed: u64,
    pub refused: u64,
    pub resyncs: u64,
    pub swept: u64,
}

pub struct Model {
    pub state: State,
    pub revision: u64,
    pub history: History,
    pub status: SyncStatus,
    /// Every status that was said, with the number of points that were there before it.
    pub said: Vec<(SyncStatus, usize)>,
    pub points: Vec<Point>,
    pub resyncs: Vec<ModelResync>,
    /// The keys that are absent because what was said of them was refused.
    pub refused: BTreeSet<Vec<u8>>,
    pub counted: Counted,
}

impl Model {
    pub fn new(history: History) -> Self {
        Self {
            state: State::new(),
            revision: 0,
            history,
            status: SyncStatus::WaitForDatastore,
            said: vec![(SyncStatus::WaitForDatastore, 0)],
            points: vec![Point { history, revision: 0, state: State::new(), past: None }],
            resyncs: Vec::new(),
            refused: BTreeSet::new(),
            counted: Counted::default(),
        }
    }

    /// The state that a revision names, and where it is among the points.
    pub fn point_at(&self, history: History, revision: u64) -> Option<(usize, &Point)> {
        let mut known = self.points.iter().enumerate();
        known.rfind(|(_, point)| point.history == history && point.revision <= revision)
    }

    /// What a reader should see now.
    pub fn served(&self) -> &State {
        self.resyncs.first().map_or(&self.state, |resync| &resync.before.state)
    }

    /// The refused keys of that state.
    pub fn refused_now(&self) -> &BTreeSet<Vec<u8>> {
        self.resyncs.first().map_or(&self.refused, |resync| &resync.refused)
    }

    pub fn by_revision(&mut self, updates: &[Update]) {
        self.counted.updates += updates.len() as u64;
        for group in updates.chunk_by(|a, b| a.revision.is_some() && a.revision == b.revision) {
            self.group(group, group[0].revision);
        }
    }

    /// Returns the revision, and how many keys it changed.
    pub fn whole(&mut self, updates: &[Update]) -> (Option<u64>, usize) {
        self.counted.updates += updates.len() as u64;
        self.group(updates, updates.iter().filter_map(|update| update.revision).max())
    }

    pub fn replace(&mut self, updates: &[Update]) -> (Option<u64>, usize) {
        self.counted.updates += updates.len() as u64;
        let named: BTreeSet<_> = updates.iter().map(|update| update.change.key()).collect();
        let missing = self.state.keys().filter(|key| !named.contains(&key[..])).map(Update::delete);
        let updates = [updates, &missing.collect::<Vec<_>>()].concat();
        self.group(&updates, updates.iter().filter_map(|update| update.revision).max())
    }

    pub fn group(&mut self, updates: &[Update], claimed: Option<Revision>) -> (Option<u64>, usize) {
        let (before, began_at) = (self.state.clone(), self.revision);
        let mut assigned = None;
        updates.iter().for_each(|update| self.update(update, claimed, &mut assigned));
        if self.whole_at().is_none() {
            // What one revision changed and set back was never changed.
            for (key, now) in &mut self.state {
                before
                    .get(key)
                    .filter(|old| old.same_content(now))
                    .into_iter()
                    .for_each(|old| now.clone_from(old));
            }
            if self.state == before && assigned.take().is_some() {
                self.revision = began_at;
            }
            self.revision = self.revision.max(claimed.unwrap_or_default().0);
        }
        if let Some(revision) = assigned {
            self.point(revision);
        }
        let keys: BTreeSet<_> = before.keys().chain(self.state.keys()).collect();
        (assigned, keys.into_iter().filter(|key| before.get(*key) != self.state.get(*key)).count())
    }

    pub fn whole_at(&self) -> Option<u64> {
        self.resyncs.last().and_then(|resync| resync.whole_at)
    }

    pub fn here(&self) -> Point {
        Point { history: self.history, revision: self.revision, state: self.state.clone(), past: None }
    }

    pub fn point(&mut self, revision: u64) {
        if self.resyncs.is_empty() {
            self.points.push(Point { revision, ..self.here() });
        }
    }

    pub fn update(&mut self, update: &Update, claimed: Option<Revision>, assigned: &mut Option<u64>) {
        let key = update.change.key().to_vec();
        let before = self.resyncs.last().and_then(|resync| resync.before.state.get(&key)).cloned();
        let is_refused = is_refused(&update.change);
        // Nobody may take the old value for the current one: what is refused is a deletion.
        let new = match &update.change {
            Change::Put(entry) if !is_refused => Some(stored(entry)),
            _ => None,
        };
        for resync in &mut self.resyncs {
            match &new {
                Some(_) => _ = resync.gone.remove(&key),
                None => _ = resync.gone.insert(key.clone()),
            }
        }
        match &update.change {
            Change::Delete(_) => _ = self.refused.remove(&key),
            _ if is_refused => _ = self.refused.insert(key.clone()),
            _ => _ = self.refused.remove(&key),
        }
        if is_refused {
            self.counted.refused += 1;
            if !self.state.contains_key(&key) {
                return;
            }
        }
        let same = |old: Option<&Stored>| match (&new, old) {
            (Some(new), Some(old)) => new.same_content(old),
            (None, None) => true,
            _ => false,
        };
        if same(self.state.get(&key)) {
            self.counted.suppressed += 1;
            return;
        }
        // What comes again as it was keeps its revision, except in another history.
        if let Some(before) = before.filter(|before| same(Some(before)) && !self.last_is_reload()) {
            self.counted.suppressed += 1;
            self.state.insert(key, before);
            return;
        }
        let whole_at = self.whole_at();
        let now = whole_at.or(*assigned).unwrap_or_else(|| {
            let claimed = claimed.map(|revision| revision.0);
            claimed.filter(|claimed| *claimed > self.revision).unwrap_or(self.revision + 1)
        });
        if whole_at.is_none() {
            *assigned = Some(now);
            self.revision = now;
        }
        // What differs from the state before was set after it, whatever the feed says.
        let floor =
            self.resyncs.last().map_or(0, |resync| if resync.reload { 0 } else { resync.before.revision });
        let own = update.revision.filter(|own| whole_at.is_some() && own.0 > floor);
        let set_at = own.map_or(now, |own| own.0.min(now));
        match new {
            Some(new) => _ = self.state.insert(key, Stored { set_at, ..new }),
            None => _ = self.state.remove(&key),
        }
    }

    pub fn last_is_reload(&self) -> bool {
        self.resyncs.last().is_some_and(|resync| resync.reload)
    }

    pub fn holds(&self, condition: &Condition) -> bool {
        let at = |key: &Key| self.state.get(key.as_bytes()).map(|stored| Revision(stored.set_at));
        match condition {
            Condition::Exists(key) => at(key).is_some(),
            Condition::Absent(key) => at(key).is_none(),
            Condition::AtOneOf(key, revisions) => at(key).is_some_and(|at| revisions.contains(&at)),
            Condition::AtNoneOf(key, revisions) => at(key).is_none_or(|at| !revisions.contains(&at)),
        }
    }

    pub fn write(&mut self, updates: &[Update], conditions: &[Condition], replace: bool) -> Answer {
        if !conditions.iter().all(|condition| self.holds(condition)) {
            self.counted.updates += updates.len() as u64;
            self.counted.refused += updates.len() as u64;
            return Answer::ConditionFailed;
        }
        if updates.iter().any(|update| is_refused(&update.change)) {
            self.counted.updates += updates.len() as u64;
            self.counted.refused += updates.len() as u64;
            return Answer::Refused;
        }
        let (revision, changed) = if replace { self.replace(updates) } else { self.whole(updates) };
        Answer::Committed { revision: revision.map(Revision), changed, point: self.points.len() - 1 }
    }

    pub fn say(&mut self, status: SyncStatus) {
        match self.resyncs.first_mut() {
            Some(resync) if status == SyncStatus::InSync => resync.in_sync_at_end = true,
            resync => {
                // The old state is served on, under its new status.
                resync.into_iter().for_each(|resync| resync.in_sync_at_end = false);
                self.status = status;
                self.said.push((status, self.points.len()));
            }
        }
    }

    pub fn begin(&mut self, other: Option<History>, claimed: Option<Revision>, lossy: bool) {
        let within = other.is_none() && self.resyncs.first().is_some_and(|first| first.reload);
        // What does not nest begins anew.
        let abandoned = self.resyncs.drain(usize::from(within)..).next();
        if let Some(abandoned) = abandoned {
            Point { history: self.history, revision: self.revision, state: self.state, .. } =
                abandoned.before;
            self.refused = abandoned.refused;
            self.resyncs.iter_mut().for_each(|around| around.gone.clone_from(&abandoned.gone_around));
        }
        let before = self.here();
        let gone_around = self.resyncs.last().map_or_else(BTreeSet::new, |around| around.gone.clone());
        self.state = State::new();
        if let Some(history) = other {
            (self.history, self.revision) = (history, 0);
        }
        let whole_at = claimed.map(|claimed| claimed.0.max(self.revision + 1));
        self.resyncs.push(ModelResync {
            before,
            whole_at,
            reload: other.is_some(),
            lossy,
            in_sync_at_end: false,
            refused: self.refused.clone(),
            gone: BTreeSet::new(),
            gone_around,
        });
    }

    /// The revision at which the last lossy resync ended, when there was one.
    pub fn blind_at(&self) -> Option<u64> {
        self.points.iter().rfind(|point| point.past.is_some()).map(|point| point.revision)
    }

    fn last_blind(&mut self, change: impl FnMut(&mut Told)) {
        self.points.iter_mut().rev().find_map(|point| point.past.as_mut()).into_iter().for_each(change);
    }

    pub fn tell(&mut self, end: u64, told: Option<(u64, u64)>) {
        if self.blind_at() == Some(end) {
            self.last_blind(|past| match (told, &past) {
                (Some((base, through)), _) => *past = Told::From { base, through },
                (None, Told::Nothing) => *past = Told::Unknown,
                (None, _) => {}
            });
        }
    }

    pub fn end(&mut self, revision: Option<Revision>, complete: bool) {
        let Some(resync) = self.resyncs.pop() else { return };
        let old = &resync.before.state;
        if complete {
            // What was refused and did not come again is not there any more.
            self.refused.retain(|key| resync.gone.contains(key));
        } else {
            let unread = |key: &&Vec<u8>| !resync.gone.contains(*key) && !self.state.contains_key(*key);
            let unread: Vec<_> = old.keys().filter(unread).cloned().collect();
            // In another history they have been there since now.
            self.revision += u64::from(resync.reload && !unread.is_empty());
            for key in unread {
                let stored = old[&key].clone();
                let set_at = if resync.reload { self.revision } else { stored.set_at };
                self.state.insert(key, Stored { set_at, ..stored });
            }
        }
        self.counted.resyncs += 1;
        self.counted.swept += old.keys().filter(|key| !self.state.contains_key(*key)).count() as u64;
        let changed = !same_contents(old, &self.state);
        self.revision = self.revision.max(revision.unwrap_or_default().0);
        if changed {
            // The empty state of another history may be its first one.
            let is_named = resync.reload && self.state.is_empty() && revision.is_some();
            let whole_at = resync.whole_at.filter(|_| !is_named);
            self.revision = self.revision.max(whole_at.unwrap_or_default());
            if !resync.reload {
                self.revision = self.revision.max(resync.before.revision + 1);
            }
        }
        self.point(self.revision);
        let moved = resync.reload || self.revision > resync.before.revision;
        if resync.lossy && moved && self.resyncs.is_empty() {
            self.last_blind(|past| *past = if *past == Told::Nothing { Told::Unknown } else { *past });
            self.points.last_mut().expect("there is one").past = Some(Told::Nothing);
        }
        if resync.in_sync_at_end {
            self.status = SyncStatus::InSync;
            self.said.push((SyncStatus::InSync, self.points.len()));
        }
    }
}

pub fn is_refused(change: &Change) -> bool {
    let value = match change {
        Change::Put(entry) => entry.value().len(),
        Change::Delete(_) => 0,
        Change::Unreadable(..) => return true,
    };
    change.key().len() > MAX_KEY_BYTES || value > MAX_VALUE_BYTES
}

#[derive(Debug)]
pub enum Answer {
    ConditionFailed,
    Refused,
    Committed {
        revision: Option<Revision>,
        changed: usize,
        /// The first point that contains it.
        point: usize,
    },
}

pub fn stored(entry: &Entry) -> Stored {
    let set_at = entry.revision().unwrap_or_default().0;
    Stored { value: entry.value().to_vec(), ttl: entry.ttl(), set_at }
}

pub fn same_contents(a: &State, b: &State) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((ka, va), (kb, vb))| ka == kb && va.same_content(vb))
}
