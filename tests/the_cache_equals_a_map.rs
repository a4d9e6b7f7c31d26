//! Random histories through the public interface of the cache, against a plain map.
//!
//! The model below says in the simplest words what a feed's events mean: a `BTreeMap`, a list of
//! the states that it went through, and nothing persistent, shared or batched. The cache may cut its
//! breadcrumbs where it likes, but each of them must be one of those states, and everything that a
//! breadcrumb says about itself and about its neighbours must follow from the model.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crumbd::cache::{Breadcrumb, Cache, CacheConfig, Delta, DeltaKind, Position, Snapshot};
use crumbd::ingest::IngestBuffer;
use crumbd::model::{
    Batch, Change, Check, Committed, Condition, Cursor, Digest, Entry, FeedEvent, Grouping, History, Key,
    Refusal, ResyncClaim, Revision, SyncStatus, Ttl, Update,
};
use crumbd::trail::Limits;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_128;

const MAX_KEY_BYTES: usize = 4;
const MAX_VALUE_BYTES: usize = 8;

/// Few keys, so that they collide: the empty one, prefixes of each other, bytes that are no text, and one
/// that is over the limit.
const KEYS: [&[u8]; 7] = [b"", b"a", b"ab", b"abc", b"\xff", b"b", b"too long"];

/// The last one is over the limit.
const VALUES: [&[u8]; 6] = [b"", b"1", b"[1]", b"\xfe\x00", b"text", b"far too long"];

// ---- what may happen -----------------------------------------------------------------------

/// A number of a revision, seen from where the model stands when the burst is made.
type Relative = i64;

#[derive(Clone, Debug)]
struct Wanted {
    key: usize,
    /// `None` deletes.
    value: Option<(usize, Option<u32>)>,
    claim: Option<Relative>,
}

#[derive(Clone, Debug)]
enum Guard {
    Exists(usize),
    Absent(usize),
    /// The revision is right, or wrong by so much.
    AtOneOf(usize, u64),
    AtNoneOf(usize, u64),
}

#[derive(Clone, Debug)]
enum Op {
    ByRevision(Vec<Wanted>),
    Whole(Vec<Wanted>),
    /// A write whose author waits for the answer.
    Write(Vec<Wanted>, Option<Guard>, Grouping),
    Replace(Vec<Wanted>),
    Status(SyncStatus),
    /// Also an abandoned one, when one is going on.
    Begin {
        other_history: bool,
        whole_at: Option<Relative>,
    },
    /// Also one without a begin.
    End {
        revision: Option<Relative>,
        complete: bool,
    },
}

/// What is in the buffer when the ingest task gets to it.
type Burst = Vec<Op>;

#[derive(Clone, Debug)]
struct Setting {
    max_batch: usize,
    max_count: usize,
    ring: bool,
    history_is_known: bool,
}

fn claim() -> impl Strategy<Value = Option<Relative>> {
    prop_oneof![3 => Just(None), 4 => (1..6i64).prop_map(Some), 1 => (-4..1i64).prop_map(Some)]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let key = prop_oneof![20 => 0..KEYS.len() - 1, 1 => Just(KEYS.len() - 1)];
    let content = prop_oneof![20 => 0..VALUES.len() - 1, 1 => Just(VALUES.len() - 1)];
    let ttl = prop_oneof![4 => Just(None), 1 => (1..3u32).prop_map(Some)];
    let value = prop_oneof![3 => (content, ttl).prop_map(Some), 1 => Just(None)];
    (key, value, claim()).prop_map(|(key, value, claim)| Wanted { key, value, claim })
}

fn guard() -> impl Strategy<Value = Guard> {
    let key = 0..KEYS.len() - 1;
    prop_oneof![
        key.clone().prop_map(Guard::Exists),
        key.clone().prop_map(Guard::Absent),
        (key.clone(), 0..2u64).prop_map(|(key, wrong)| Guard::AtOneOf(key, wrong)),
        (key, 0..2u64).prop_map(|(key, wrong)| Guard::AtNoneOf(key, wrong)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let some = || prop::collection::vec(wanted(), 0..7);
    prop_oneof![
        8 => some().prop_map(Op::ByRevision),
        3 => some().prop_map(Op::Whole),
        1 => some().prop_map(Op::Replace),
        3 => (some(), prop::option::of(guard()), prop::bool::weighted(0.2)).prop_map(
            |(wanted, guard, replace)| {
                let grouping = if replace { Grouping::Replace } else { Grouping::Whole };
                Op::Write(wanted, guard, grouping)
            }),
        3 => select(&SyncStatus::ALL[..]).prop_map(Op::Status),
        2 => (prop::bool::weighted(0.3), claim())
            .prop_map(|(other_history, whole_at)| Op::Begin { other_history, whole_at }),
        3 => (claim(), prop::bool::weighted(0.8))
            .prop_map(|(revision, complete)| Op::End { revision, complete }),
    ]
}

fn history() -> impl Strategy<Value = Vec<Burst>> {
    prop::collection::vec(prop::collection::vec(op(), 1..6), 1..14)
}

fn setting() -> impl Strategy<Value = Setting> {
    let max_count = prop_oneof![3 => Just(10_000usize), 1 => 1..6usize];
    (1..12usize, max_count, any::<bool>(), any::<bool>()).prop_map(
        |(max_batch, max_count, ring, history_is_known)| Setting {
            max_batch,
            max_count,
            ring,
            history_is_known,
        },
    )
}

// ---- the model -----------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    value: Vec<u8>,
    ttl: Option<Ttl>,
    set_at: u64,
}

impl Stored {
    fn same_content(&self, other: &Self) -> bool {
        (&self.value, self.ttl) == (&other.value, other.ttl)
    }
}

type State = BTreeMap<Vec<u8>, Stored>;

/// A state that the upstream went through and that readers may see: none inside of a resync.
#[derive(Clone, Debug)]
struct Point {
    history: History,
    revision: u64,
    state: State,
}

struct ModelResync {
    before: Point,
    whole_at: Option<u64>,
    /// It began another history: then there may be another resync within it.
    reload: bool,
    in_sync_at_end: bool,
}

#[derive(Default)]
struct Counted {
    updates: u64,
    suppressed: u64,
    refused: u64,
    resyncs: u64,
    swept: u64,
}

struct Model {
    state: State,
    revision: u64,
    history: History,
    status: SyncStatus,
    /// Every status that was said, with the number of points that were there before it.
    said: Vec<(SyncStatus, usize)>,
    points: Vec<Point>,
    resyncs: Vec<ModelResync>,
    counted: Counted,
}

impl Model {
    fn new(history: History) -> Self {
        Self {
            state: State::new(),
            revision: 0,
            history,
            status: SyncStatus::WaitForDatastore,
            said: vec![(SyncStatus::WaitForDatastore, 0)],
            points: vec![Point { history, revision: 0, state: State::new() }],
            resyncs: Vec::new(),
            counted: Counted::default(),
        }
    }

    /// The state that a revision names, and where it is among the points.
    fn point_at(&self, history: History, revision: u64) -> Option<(usize, &Point)> {
        let mut known = self.points.iter().enumerate();
        known.rfind(|(_, point)| point.history == history && point.revision <= revision)
    }

    /// What a reader should see now.
    fn served(&self) -> &State {
        self.resyncs.first().map_or(&self.state, |resync| &resync.before.state)
    }

    fn by_revision(&mut self, updates: &[Update]) {
        self.counted.updates += updates.len() as u64;
        for group in updates.chunk_by(|a, b| a.revision.is_some() && a.revision == b.revision) {
            self.group(group, group[0].revision);
        }
    }

    /// Returns the revision, and how many updates changed something.
    fn whole(&mut self, updates: &[Update]) -> (Option<u64>, usize) {
        self.counted.updates += updates.len() as u64;
        self.group(updates, updates.iter().filter_map(|update| update.revision).max())
    }

    fn replace(&mut self, updates: &[Update]) -> (Option<u64>, usize) {
        self.counted.updates += updates.len() as u64;
        let named: BTreeSet<_> = updates.iter().map(|update| update.change.key()).collect();
        let missing = self.state.keys().filter(|key| !named.contains(&key[..])).map(Update::delete);
        let updates = [updates, &missing.collect::<Vec<_>>()].concat();
        self.group(&updates, updates.iter().filter_map(|update| update.revision).max())
    }

    fn group(&mut self, updates: &[Update], claimed: Option<Revision>) -> (Option<u64>, usize) {
        let mut assigned = None;
        let changes = updates.iter().filter(|update| self.update(update, claimed, &mut assigned)).count();
        if self.whole_at().is_none() {
            self.revision = self.revision.max(claimed.unwrap_or_default().0);
        }
        if let Some(revision) = assigned {
            self.point(revision);
        }
        (assigned, changes)
    }

    fn whole_at(&self) -> Option<u64> {
        self.resyncs.last().and_then(|resync| resync.whole_at)
    }

    fn here(&self) -> Point {
        Point { history: self.history, revision: self.revision, state: self.state.clone() }
    }

    fn point(&mut self, revision: u64) {
        if self.resyncs.is_empty() {
            self.points.push(Point { revision, ..self.here() });
        }
    }

    /// Whether it changed something.
    fn update(&mut self, update: &Update, claimed: Option<Revision>, assigned: &mut Option<u64>) -> bool {
        let key = update.change.key().to_vec();
        let before = self.resyncs.last().and_then(|resync| resync.before.state.get(&key)).cloned();
        if too_large(&update.change) {
            self.counted.refused += 1;
            if let Some(before) = before {
                self.state.entry(key).or_insert(before);
            }
            return false;
        }
        let new = match &update.change {
            Change::Put(entry) => Some(stored(entry)),
            Change::Delete(_) => None,
        };
        let same = |old: Option<&Stored>| match (&new, old) {
            (Some(new), Some(old)) => new.same_content(old),
            (None, None) => true,
            _ => false,
        };
        if same(self.state.get(&key)) {
            self.counted.suppressed += 1;
            return false;
        }
        // What comes again as it was keeps its revision, except in another history.
        if let Some(before) = before.filter(|before| same(Some(before)) && !self.last_is_reload()) {
            self.counted.suppressed += 1;
            self.state.insert(key, before);
            return false;
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
        let own = update.revision.map_or(now, |revision| revision.0.min(now));
        let set_at = if whole_at.is_some() { own } else { now };
        match new {
            Some(new) => _ = self.state.insert(key, Stored { set_at, ..new }),
            None => _ = self.state.remove(&key),
        }
        true
    }

    fn last_is_reload(&self) -> bool {
        self.resyncs.last().is_some_and(|resync| resync.reload)
    }

    fn holds(&self, condition: &Condition) -> bool {
        let at = |key: &Key| self.state.get(key.as_bytes()).map(|stored| Revision(stored.set_at));
        match condition {
            Condition::Exists(key) => at(key).is_some(),
            Condition::Absent(key) => at(key).is_none(),
            Condition::AtOneOf(key, revisions) => at(key).is_some_and(|at| revisions.contains(&at)),
            Condition::AtNoneOf(key, revisions) => at(key).is_none_or(|at| !revisions.contains(&at)),
        }
    }

    fn write(&mut self, updates: &[Update], conditions: &[Condition], replace: bool) -> Answer {
        if !conditions.iter().all(|condition| self.holds(condition)) {
            self.counted.updates += updates.len() as u64;
            self.counted.refused += updates.len() as u64;
            return Answer::ConditionFailed;
        }
        if updates.iter().any(|update| too_large(&update.change)) {
            self.counted.updates += updates.len() as u64;
            self.counted.refused += updates.len() as u64;
            return Answer::TooLarge;
        }
        let (revision, changed) = if replace { self.replace(updates) } else { self.whole(updates) };
        Answer::Committed { revision: revision.map(Revision), changed, point: self.points.len() - 1 }
    }

    fn say(&mut self, status: SyncStatus) {
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

    fn begin(&mut self, other: Option<History>, claimed: Option<Revision>) {
        let within = other.is_none() && self.resyncs.first().is_some_and(|first| first.reload);
        // What does not nest begins anew.
        if let Some(abandoned) = self.resyncs.drain(usize::from(within)..).next() {
            Point { history: self.history, revision: self.revision, state: self.state } = abandoned.before;
        }
        let before = self.here();
        self.state = State::new();
        if let Some(history) = other {
            (self.history, self.revision) = (history, 0);
        }
        let whole_at = claimed.map(|claimed| claimed.0.max(self.revision + 1));
        self.resyncs.push(ModelResync { before, whole_at, reload: other.is_some(), in_sync_at_end: false });
    }

    fn end(&mut self, revision: Option<Revision>, complete: bool) {
        let Some(resync) = self.resyncs.pop() else { return };
        let old = &resync.before.state;
        if !complete {
            for (key, stored) in old {
                self.state.entry(key.clone()).or_insert_with(|| stored.clone());
            }
        }
        self.counted.resyncs += 1;
        self.counted.swept += old.keys().filter(|key| !self.state.contains_key(*key)).count() as u64;
        let changed = !same_contents(old, &self.state);
        self.revision = self.revision.max(revision.unwrap_or_default().0);
        if changed {
            self.revision = self.revision.max(resync.whole_at.unwrap_or_default());
            if !resync.reload {
                self.revision = self.revision.max(resync.before.revision + 1);
            }
        }
        self.point(self.revision);
        if resync.in_sync_at_end {
            self.status = SyncStatus::InSync;
            self.said.push((SyncStatus::InSync, self.points.len()));
        }
    }
}

fn too_large(change: &Change) -> bool {
    let value = match change {
        Change::Put(entry) => entry.value().len(),
        Change::Delete(_) => 0,
    };
    change.key().len() > MAX_KEY_BYTES || value > MAX_VALUE_BYTES
}

#[derive(Debug)]
enum Answer {
    ConditionFailed,
    TooLarge,
    Committed {
        revision: Option<Revision>,
        changed: usize,
        /// The first point that contains it.
        point: usize,
    },
}

// ---- the run -------------------------------------------------------------------------------

type Written = oneshot::Receiver<Result<Committed, Refusal>>;

/// A breadcrumb, and a copy of its state made when it was first seen.
struct Seen {
    crumb: Breadcrumb,
    state: State,
}

struct Run {
    cache: Cache,
    model: Model,
    setting: Setting,
    trail: Vec<Seen>,
    writes: Vec<(Answer, Written)>,
    histories: u32,
}

fn run(setting: &Setting, bursts: &[Burst]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let buffer = if setting.ring { IngestBuffer::ring(64) } else { IngestBuffer::channel(64) };
        let known = setting.history_is_known.then(|| History::derive(b"known from the start"));
        let window =
            Limits { max_count: setting.max_count, max_bytes: usize::MAX, max_age: Duration::from_secs(999) };
        let config = CacheConfig {
            max_batch: setting.max_batch,
            max_value_bytes: MAX_VALUE_BYTES,
            max_key_bytes: MAX_KEY_BYTES,
            window,
        };
        let (cache, task) = Cache::new(config, known, Arc::new(buffer.expect("a buffer")));
        let task = tokio::spawn(task.run());
        let first = cache.current_breadcrumb();
        let model = Model::new(first.kvs().history());
        let trail = vec![Seen { state: copy(first.kvs()), crumb: first }];
        let mut run = Run { cache, model, setting: setting.clone(), trail, writes: Vec::new(), histories: 0 };
        for burst in bursts {
            run.burst(burst).await;
        }
        run.cache.stop();
        task.await.expect("the ingest task ends when its buffer is closed");
        run.check_end().await;
    });
}

impl Run {
    /// Puts the whole burst into the buffer, lets the ingest task empty it, and looks at the trail.
    async fn burst(&mut self, ops: &[Op]) {
        for op in ops {
            let event = self.event(op);
            self.cache.send(event).await.expect("the cache has not stopped");
        }
        // One thread: the task reads, applies and publishes between two of its awaits.
        while self.cache.backlog().0 > 0 {
            tokio::task::yield_now().await;
        }
        let new: Vec<_> = self.newest().crumb.later().collect();
        for crumb in new {
            let state = copy(crumb.kvs());
            self.check_breadcrumb(&crumb, &state);
            self.trail.push(Seen { crumb, state });
        }
        self.check_current();
        self.check_writes();
        self.check_locate();
    }

    /// Makes the event and tells the model of it.
    fn event(&mut self, op: &Op) -> FeedEvent {
        let at = |relative: i64| Revision(self.model.revision.saturating_add_signed(relative));
        let updates = |wanted: &[Wanted]| -> Vec<Update> { wanted.iter().map(|w| update(w, at)).collect() };
        match op {
            Op::ByRevision(wanted) => {
                let updates = updates(wanted);
                self.model.by_revision(&updates);
                FeedEvent::Updates(Batch::new(updates, Grouping::ByRevision))
            }
            Op::Whole(wanted) => {
                let updates = updates(wanted);
                self.model.whole(&updates);
                FeedEvent::Updates(Batch::new(updates, Grouping::Whole))
            }
            Op::Replace(wanted) => {
                let updates = updates(wanted);
                self.model.replace(&updates);
                FeedEvent::Updates(Batch::new(updates, Grouping::Replace))
            }
            Op::Write(wanted, guard, grouping) => {
                let (updates, grouping) = (updates(wanted), *grouping);
                let replace = grouping == Grouping::Replace;
                // A feed that takes writes does not resync; that has a test of its own.
                if !self.model.resyncs.is_empty() {
                    if replace {
                        self.model.replace(&updates)
                    } else {
                        self.model.whole(&updates)
                    };
                    return FeedEvent::Updates(Batch::new(updates, grouping));
                }
                let conditions: Vec<_> = guard.iter().map(|guard| self.condition(guard)).collect();
                let (ack, answer) = oneshot::channel();
                self.writes.push((self.model.write(&updates, &conditions, replace), answer));
                FeedEvent::Updates(Batch { updates, grouping, conditions, ack: Some(ack) })
            }
            Op::Status(status) => {
                self.model.say(*status);
                FeedEvent::Status(*status)
            }
            Op::Begin { other_history, whole_at } => {
                let whole_at = whole_at.map(at);
                self.histories += u32::from(*other_history);
                let history = other_history.then(|| History::derive(&self.histories.to_le_bytes()));
                self.model.begin(history, whole_at);
                FeedEvent::ResyncBegin { history, whole_at, lossy: false }
            }
            Op::End { revision, complete } => {
                let (revision, claim) = (revision.map(at), ResyncClaim::default());
                self.model.end(revision, *complete);
                FeedEvent::ResyncEnd { revision, claim, complete: *complete }
            }
        }
    }

    fn condition(&self, guard: &Guard) -> Condition {
        let key = |key: &usize| Key::copy_from(KEYS[*key]);
        let at = |key: &usize, wrong: &u64| {
            let set_at = self.model.state.get(KEYS[*key]).map_or(0, |stored| stored.set_at);
            vec![Revision(u64::MAX), Revision(set_at + wrong)]
        };
        match guard {
            Guard::Exists(k) => Condition::Exists(key(k)),
            Guard::Absent(k) => Condition::Absent(key(k)),
            Guard::AtOneOf(k, wrong) => Condition::AtOneOf(key(k), at(k, wrong)),
            Guard::AtNoneOf(k, wrong) => Condition::AtNoneOf(key(k), at(k, wrong)),
        }
    }

    fn newest(&self) -> &Seen {
        self.trail.last().expect("there is a first breadcrumb")
    }

    /// Everything that must hold for a breadcrumb and the one before it.
    fn check_breadcrumb(&self, crumb: &Breadcrumb, state: &State) {
        let Seen { crumb: before, state: old } = self.newest();
        let (history, revision) = (crumb.kvs().history(), crumb.revision());
        let same_history = history == before.kvs().history();
        assert_eq!(crumb.sequence().0, before.sequence().0 + 1, "sequences count by one");
        assert_eq!(crumb.from(), before.cursor(), "`from` is the cursor of the one before");
        let cursor = Cursor { history, revision, status: crumb.sync_status(), check: crumb.cursor().check };
        assert_eq!((crumb.cursor(), crumb.kvs().revision()), (cursor, revision));
        check_snapshot(crumb.kvs(), state);

        let point = self.model.point_at(history, revision.0);
        let (index, point) = point.expect("a breadcrumb stands at a revision that there was");
        assert_eq!(*state, point.state, "{crumb:?} is the model's state at its revision");

        let led_to = apply(old, crumb.deltas(), crumb);
        assert!(same_contents(&led_to, state), "the deltas of {crumb:?} lead from the one before to it");

        let status_changed = crumb.sync_status() != before.sync_status();
        let changed = !crumb.deltas().is_empty() || !crumb.steps().is_empty();
        assert!(changed || status_changed || !same_history, "{crumb:?} says nothing new");
        if status_changed {
            let said = |(status, points): &(SyncStatus, usize)| {
                *status == crumb.sync_status() && *points <= index + 1
            };
            assert!(self.model.said.iter().any(said), "{crumb:?} has its status before the data");
        }
        if same_history {
            assert!(revision >= before.revision(), "{crumb:?} goes back");
            assert!(!changed || revision > before.revision(), "{crumb:?} changes and stays at its revision");
            self.check_steps(before, crumb, state);
        }
        let provisional = !self.setting.history_is_known && history == self.model.points[0].history;
        assert_eq!(crumb.is_provisional(), provisional, "provisional until the feed names a history");
    }

    /// A client may come from another process with a cursor at any revision inside this breadcrumb.
    fn check_steps(&self, before: &Breadcrumb, crumb: &Breadcrumb, state: &State) {
        let (from, to) = (before.revision(), crumb.revision());
        let steps = steps(crumb);
        assert!(steps.is_sorted_by_key(|(revision, ..)| revision), "steps are in order");
        assert!(crumb.deltas().iter().all(|delta| from < delta.revision && delta.revision <= to));
        for (revision, ..) in &steps {
            assert!(from < *revision && *revision <= to, "a step at {revision} of {crumb:?}");
        }
        for revision in from.0..to.0 {
            let (_, point) =
                self.model.point_at(crumb.kvs().history(), revision).expect("a state in between");
            check_continuation(&steps, Revision(revision), &point.state, state);
        }
    }

    /// After each burst everything that was said can be read.
    fn check_current(&self) {
        let current = self.cache.current_breadcrumb();
        assert_eq!(current.sequence(), self.newest().crumb.sequence());
        assert!(same_contents(&self.newest().state, self.model.served()), "everything sent can be read");
        assert_eq!(current.sync_status(), self.model.status, "the last status that was said");
        assert!(self.cache.kept().0 <= self.setting.max_count, "the window is bounded");
        let (stats, counted) = (self.cache.stats(), &self.model.counted);
        assert_eq!(stats.breadcrumbs.get() + 1, current.sequence().0);
        assert_eq!(
            (stats.updates.get(), stats.suppressed.get(), stats.refused.get()),
            (counted.updates, counted.suppressed, counted.refused),
            "updates, suppressed, refused"
        );
        assert_eq!((stats.resyncs.get(), stats.swept.get()), (counted.resyncs, counted.swept));
    }

    fn check_writes(&mut self) {
        for (expected, mut answer) in std::mem::take(&mut self.writes) {
            let answer = answer.try_recv().expect("a writer is answered once its write can be read");
            match (expected, answer) {
                (Answer::ConditionFailed, Err(Refusal::ConditionFailed { .. }))
                | (Answer::TooLarge, Err(Refusal::TooLarge { .. })) => {}
                (Answer::Committed { revision, changed, point }, Ok(committed)) => {
                    assert_eq!((committed.revision, committed.changed), (revision, changed));
                    let at = self.trail.iter().rfind(|seen| seen.crumb.cursor() == committed.cursor);
                    let state = &at.expect("an answer names the cursor of a breadcrumb").state;
                    let mut later = self.model.points[point..].iter();
                    assert!(later.any(|point| same_contents(&point.state, state)), "the write can be read");
                }
                (expected, answer) => panic!("expected {expected:?}, got {answer:?}"),
            }
        }
    }

    /// Every revision of every history is where the model says.
    fn check_locate(&self) {
        let newest = &self.newest().crumb;
        let oldest = self.cache.oldest_breadcrumb();
        for history in self.model.points.iter().map(|point| point.history).collect::<BTreeSet<_>>() {
            let revisions = (0..=newest.revision().0 + 2).chain([u64::MAX]);
            for revision in revisions.map(Revision) {
                let point = self.model.point_at(history, revision.0);
                let check = point.map_or(Check::default(), |(_, point)| digest(&point.state).into());
                let cursor = Cursor { history, revision, status: SyncStatus::InSync, check };
                let nines = Digest::from_str(&"9".repeat(32)).expect("a digest");
                let mistaken = Cursor { check: nines.into(), ..cursor };
                if let Position::At(_) | Position::Inside { .. } = self.cache.locate(mistaken) {
                    panic!("{mistaken} is taken for {cursor}");
                }
                match self.cache.locate(cursor) {
                    Position::OtherHistory => assert_ne!(history, newest.kvs().history()),
                    Position::Ahead => assert!(revision > newest.revision()),
                    Position::Before { .. } | Position::Awaited { .. } => panic!("no resync is lossy"),
                    Position::Gone => assert!(revision < oldest.revision(), "{cursor} is kept"),
                    Position::At(crumb) => {
                        let (_, point) = self.model.point_at(history, revision.0).expect("a point");
                        let state = &self.seen(&crumb).state;
                        assert!(same_contents(state, &point.state), "{cursor} is at {crumb:?}");
                        assert!(crumb.revision() <= revision && revision <= newest.revision());
                    }
                    Position::Inside { within } => {
                        let (_, point) = self.model.point_at(history, revision.0).expect("a point");
                        let state = &self.seen(&within).state;
                        check_continuation(&steps(&within), revision, &point.state, state);
                        assert!(within.from().revision < revision && revision < within.revision());
                    }
                }
            }
        }
        for seen in &self.trail {
            if seen.crumb.sequence() >= oldest.sequence() {
                let found = self.cache.locate(seen.crumb.cursor());
                let Position::At(found) = found else { panic!("{:?} is not found", seen.crumb) };
                assert!(
                    found.revision() == seen.crumb.revision() && found.sequence() >= seen.crumb.sequence()
                );
            }
        }
    }

    fn seen(&self, crumb: &Breadcrumb) -> &Seen {
        self.trail.iter().find(|seen| seen.crumb.sequence() == crumb.sequence()).expect("a breadcrumb we saw")
    }

    async fn check_end(&self) {
        let last = &self.newest().crumb;
        assert!(last.next().await.is_err(), "followers are told that the cache has stopped");
        assert_eq!(self.cache.current_breadcrumb().cursor(), last.cursor());
        for seen in &self.trail {
            assert_eq!(copy(seen.crumb.kvs()), seen.state, "{:?} changed while it was held", seen.crumb);
            check_snapshot(seen.crumb.kvs(), &seen.state);
        }
        for (before, after) in self.trail.iter().zip(&self.trail[1..]) {
            let next = before.crumb.next().await.expect("a link stays");
            assert_eq!(next.sequence(), after.crumb.sequence());
        }
    }
}

fn update(wanted: &Wanted, at: impl Fn(i64) -> Revision) -> Update {
    let key = KEYS[wanted.key];
    let change = match wanted.value {
        Some((value, ttl)) => Change::Put(Entry::new(key, VALUES[value], ttl.map(Ttl))),
        None => Change::Delete(Key::copy_from(key)),
    };
    Update { change, revision: wanted.claim.map(at) }
}

fn digest(state: &State) -> Digest {
    let entries: Vec<Entry> = state.iter().map(|(key, now)| Entry::new(key, &now.value, None)).collect();
    entries.iter().collect()
}

fn stored(entry: &Entry) -> Stored {
    let set_at = entry.revision().unwrap_or_default().0;
    Stored { value: entry.value().to_vec(), ttl: entry.ttl(), set_at }
}

fn copy(kvs: &Snapshot) -> State {
    kvs.iter().map(|entry| (entry.key().to_vec(), stored(entry))).collect()
}

fn same_contents(a: &State, b: &State) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((ka, va), (kb, vb))| ka == kb && va.same_content(vb))
}

/// All that a snapshot says of itself.
fn check_snapshot(kvs: &Snapshot, state: &State) {
    assert_eq!((kvs.len(), kvs.is_empty()), (state.len(), state.is_empty()));
    assert_eq!(kvs.iter().len(), state.len(), "a key occurs once");
    for key in KEYS {
        assert_eq!(kvs.get(key).map(stored), state.get(key).cloned(), "{}", key.escape_ascii());
    }
    let payload: usize = state.iter().map(|(key, stored)| key.len() + stored.value.len()).sum();
    assert_eq!(kvs.payload_bytes(), payload as u64);
    // The wire contract's definition, word for word.
    let hash = |(key, stored): (&Vec<u8>, &Stored)| {
        let length = u32::try_from(key.len()).expect("a short key").to_le_bytes();
        xxh3_128(&[&length[..], key, &stored.value].concat())
    };
    let digest = state.iter().map(hash).fold(0, u128::wrapping_add);
    assert_eq!(kvs.digest().to_string(), format!("{digest:032x}"));
}

/// Follows the deltas, which must be true in every word.
fn apply(before: &State, deltas: &[Delta], crumb: &Breadcrumb) -> State {
    let mut state = before.clone();
    let mut keys = BTreeSet::new();
    for Delta { kind, entry, revision } in deltas {
        assert!(keys.insert(entry.key()), "{} occurs twice in {crumb:?}", entry.key().escape_ascii());
        let new = stored(entry);
        let old = match kind {
            DeltaKind::Deleted => state.remove(entry.key()),
            DeltaKind::New | DeltaKind::Updated => {
                assert!(new.set_at <= revision.0);
                state.insert(entry.key().to_vec(), new.clone())
            }
        };
        match (kind, old) {
            (DeltaKind::New, None) | (DeltaKind::Deleted, Some(_)) => {}
            (DeltaKind::Updated, Some(old)) if !old.same_content(&new) => {}
            (kind, old) => panic!("{kind:?} of {entry:?} after {old:?} in {crumb:?}"),
        }
    }
    state
}

/// What changed inside a breadcrumb, one revision at a time: revision, key, whether it existed.
fn steps(crumb: &Breadcrumb) -> Vec<(Revision, Vec<u8>, bool)> {
    if crumb.steps().is_empty() {
        let deltas = crumb.deltas().iter();
        return deltas.map(|d| (d.revision, d.entry.key().to_vec(), d.kind != DeltaKind::New)).collect();
    }
    crumb.steps().iter().map(|step| (step.revision, step.entry.key().to_vec(), step.existed)).collect()
}

/// A client that stands at a revision inside the breadcrumb is told the last value of every key
/// that was touched later: that must lead it to the breadcrumb's state, and `existed` must be true of it.
fn check_continuation(
    steps: &[(Revision, Vec<u8>, bool)],
    revision: Revision,
    standing: &State,
    after: &State,
) {
    let mut first_later = BTreeMap::new();
    for (_, key, existed) in steps.iter().filter(|(at, ..)| *at > revision) {
        first_later.entry(key).or_insert(*existed);
    }
    for (key, existed) in &first_later {
        assert_eq!(*existed, standing.contains_key(*key), "{} at {revision}", key.escape_ascii());
    }
    for key in KEYS.iter().filter(|key| !first_later.contains_key(&key.to_vec())) {
        let same = match (standing.get(*key), after.get(*key)) {
            (Some(a), Some(b)) => a.same_content(b),
            (None, None) => true,
            _ => false,
        };
        assert!(same, "{} changed after {revision} and no step says so", key.escape_ascii());
    }
}

/// Found by the property below, once.
mod the_cache_once_differed {
    use super::*;

    fn setting(max_batch: usize) -> Setting {
        Setting { max_batch, max_count: 10_000, ring: false, history_is_known: false }
    }

    fn begin() -> Op {
        Op::Begin { other_history: false, whole_at: None }
    }

    #[test]
    fn where_a_resync_came_after_changes_that_undid_each_other() {
        let put = Wanted { key: 2, value: Some((0, None)), claim: None };
        let delete = Wanted { key: 2, value: None, claim: None };
        let undone = Op::ByRevision(vec![put, delete]);
        let status = Op::Status(SyncStatus::ResyncInProgress);
        run(&setting(3), &[vec![undone.clone()], vec![begin()], vec![status]]);
        run(&setting(9), &[vec![undone, begin(), begin()], vec![Op::End { revision: None, complete: true }]]);
    }

    #[test]
    fn where_a_resync_did_nothing_but_sweep() {
        let put = Wanted { key: 0, value: Some((0, None)), claim: None };
        let end = Op::End { revision: None, complete: true };
        run(&setting(1), &[vec![Op::ByRevision(vec![put]), begin(), end]]);
    }

    #[test]
    fn where_the_feed_lost_its_upstream_between_in_sync_and_the_end_of_a_resync() {
        let said = [SyncStatus::InSync, SyncStatus::WaitForDatastore].map(Op::Status).to_vec();
        let cut_off = Op::End { revision: None, complete: false };
        run(&setting(1), &[vec![begin()], said, vec![cut_off]]);
    }
}

/// Deep enough for a tree of several levels, with fewer looks at it.
#[tokio::test]
async fn a_large_state_equals_a_map() {
    const KEYS: usize = 5_000;
    let mut random = fastrand::Rng::with_seed(2);
    let buffer = Arc::new(IngestBuffer::channel(4).expect("a buffer"));
    let (cache, task) = Cache::new(CacheConfig::default(), Some(History::derive(b"large")), buffer);
    let task = tokio::spawn(task.run());
    let mut crumb = cache.current_breadcrumb();
    let mut model = State::new();
    let mut followed = State::new();
    for round in 1..=200u64 {
        let mut updates = Vec::new();
        for _ in 0..random.usize(1..200) {
            let key = format!("/registry/pods/{:05}", random.usize(..KEYS)).into_bytes();
            let update = if random.u8(..4) == 0 {
                model.remove(&key);
                Update::delete(&key)
            } else {
                let value = random.u8(..3).to_string().into_bytes();
                model.insert(key.clone(), Stored { value: value.clone(), ttl: None, set_at: round });
                Update::put(&key, &value)
            };
            updates.push(update.at(round));
        }
        updates.push(Update::put("round", round.to_string()).at(round));
        let value = round.to_string().into_bytes();
        model.insert(b"round".to_vec(), Stored { value, ttl: None, set_at: round });
        cache.on_updates(updates).await.expect("the cache has not stopped");
        crumb = crumb.next().await.expect("the round is published");
        assert_eq!(crumb.revision(), Revision(round));
        followed = apply(&followed, crumb.deltas(), &crumb);
        assert!(same_contents(&followed, &model), "after round {round}");
        if round % 20 == 0 {
            let state = copy(crumb.kvs());
            assert!(same_contents(&state, &model), "after round {round}");
            check_snapshot(crumb.kvs(), &state);
        }
    }
    cache.stop();
    task.await.expect("the ingest task ends");
}

/// 1,500 histories, or as many as `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_cache_equals_a_map(setting in setting(), bursts in history()) {
        run(&setting, &bursts);
    }
}
