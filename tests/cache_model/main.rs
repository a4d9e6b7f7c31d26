//! Random histories through the public interface of the cache, against a plain map.
//!
//! The model says in the simplest words what a feed's events mean: a `BTreeMap`, a list of
//! the states that it went through, and nothing persistent, shared or batched. The cache may cut its
//! breadcrumbs where it likes, but each of them must be one of those states, and everything that a
//! breadcrumb says about itself and about its neighbours must follow from the model.

mod generator;
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crumbd::cache::{Breadcrumb, Cache, CacheConfig, Delta, DeltaKind, Position, Snapshot, WindowLimits};
use crumbd::ingest::IngestBuffer;
use crumbd::model::{
    Batch, Change, Check, Committed, Condition, Cursor, Digest, Entry, FeedEvent, Grouping, History, Key,
    Past, PastStep, PastValue, Refusal, ReplyTo, ResyncClaim, Revision, SyncStatus, Ttl, Update,
};
use generator::{Burst, Guard, Op, Setting, Wanted};
use model::{Answer, Model, Point, State, Stored, Told, same_contents, stored};
use proptest::prelude::*;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_128;

const MAX_KEY_BYTES: usize = 4;
const MAX_VALUE_BYTES: usize = 8;

/// Few keys, so that they collide: the empty one, prefixes of each other, bytes that are no text, and one
/// that is over the limit.
const KEYS: [&[u8]; 7] = [b"", b"a", b"ab", b"abc", b"\xff", b"b", b"too long"];

/// The last but one is over the limit, the last one is not readable.
const VALUES: [&[u8]; 7] = [b"", b"1", b"[1]", b"\xfe\x00", b"text", b"far too long", b""];
const UNREADABLE: usize = VALUES.len() - 1;

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
        let window = WindowLimits {
            max_count: setting.max_count,
            max_bytes: usize::MAX,
            max_age: Duration::from_secs(999),
        };
        let config = CacheConfig {
            max_batch: setting.max_batch,
            max_value_bytes: MAX_VALUE_BYTES,
            max_key_bytes: MAX_KEY_BYTES,
            window,
            ..CacheConfig::default()
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
                let (ack, answer) = crumbd::ingest::reply_channel();
                self.writes.push((self.model.write(&updates, &conditions, replace), answer));
                FeedEvent::Updates(Batch { updates, grouping, conditions, ack: Some(ReplyTo::new(ack)) })
            }
            Op::Status(status) => {
                self.model.say(*status);
                FeedEvent::Status(*status)
            }
            Op::Past { right, reach } => {
                let end = self.model.blind_at().unwrap_or(7) + u64::from(!right);
                let reach = reach.map(|(base, through)| {
                    (
                        end.saturating_sub((base + through).unsigned_abs()),
                        end.saturating_sub(through.unsigned_abs()),
                    )
                });
                self.model.tell(end, reach);
                let past = reach.map(|(base, through)| {
                    let step = PastStep {
                        revision: Revision(through),
                        key: Key::from("a"),
                        before: PastValue::Unknown,
                        after: PastValue::Unknown,
                        entry: None,
                    };
                    Past {
                        base: Revision(base),
                        through: Revision(through),
                        leads_to_the_end: false,
                        steps: vec![step],
                    }
                });
                FeedEvent::Past { end: Revision(end), past }
            }
            Op::Begin { other_history, whole_at, lossy } => {
                let whole_at = whole_at.map(at);
                self.histories += u32::from(*other_history);
                let history = other_history.then(|| History::derive(&self.histories.to_le_bytes()));
                self.model.begin(history, whole_at, *lossy);
                FeedEvent::ResyncBegin { history, whole_at, lossy: *lossy }
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
        if same_history {
            assert_eq!(led_to, *state, "the deltas of {crumb:?} tell when each key was set");
        }

        let status_changed = crumb.sync_status() != before.sync_status();
        let changed = !crumb.deltas().is_empty() || !crumb.steps().is_empty();
        let read_anew = self.told(crumb.cursor()).is_some() && revision > before.revision();
        assert!(changed || status_changed || !same_history || read_anew, "{crumb:?} says nothing new");
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
        assert!(self.cache.window_usage().breadcrumbs <= self.setting.max_count, "the window is bounded");
        let (stats, counted) = (self.cache.stats(), &self.model.counted);
        assert_eq!(stats.breadcrumbs.get() + 1, current.sequence().0);
        assert_eq!(
            (stats.updates.get(), stats.suppressed.get(), stats.refused.get()),
            (counted.updates, counted.suppressed, counted.refused),
            "updates, suppressed, refused"
        );
        assert_eq!((stats.resyncs.get(), stats.swept.get()), (counted.resyncs, counted.swept));
        let refused = self.cache.refused_keys();
        let named: BTreeSet<_> = refused.named().iter().map(|named| named.key.as_bytes().to_vec()).collect();
        assert_eq!(&named, self.model.refused_now(), "the refused keys are named, and no others");
        assert!(refused.is_exact() && refused.len() == named.len());
        assert!(named.iter().all(|key| !self.newest().state.contains_key(key)), "what is refused is absent");
    }

    fn check_writes(&mut self) {
        for (expected, mut answer) in std::mem::take(&mut self.writes) {
            let answer = answer.try_recv().expect("a writer is answered once its write can be read");
            match (expected, answer) {
                (Answer::ConditionFailed, Err(Refusal::ConditionFailed { .. }))
                | (Answer::Refused, Err(Refusal::TooLarge { .. } | Refusal::Unreadable { .. })) => {}
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
                    Position::Before { within, past } => {
                        let Some(Told::From { base, through }) = self.told(within.cursor()) else {
                            panic!("nobody told what was before {within:?}");
                        };
                        assert!((base..=through).contains(&revision.0), "{cursor} is not in what was told");
                        assert!(past.steps().iter().all(|step| step.revision.0 == through));
                    }
                    Position::Awaited(past) => match self.told(past.end()) {
                        Some(Told::Nothing) => {}
                        Some(Told::From { through, .. }) if revision.0 > through => {}
                        told => panic!("{cursor} is before {:?}, of which {told:?} was told", past.end()),
                    },
                    Position::Gone if revision < oldest.revision() => {}
                    Position::Gone => {
                        let after = self.trail.iter().find(|seen| {
                            seen.crumb.revision() > revision && seen.crumb.kvs().history() == history
                        });
                        match after.and_then(|seen| self.told(seen.crumb.cursor())) {
                            Some(Told::Unknown) => {}
                            Some(Told::From { base, .. }) if revision.0 < base => {}
                            _ => panic!("{cursor} is kept"),
                        }
                    }
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

    /// What the feed said of the way to the breadcrumb at this cursor, when it ended a lossy resync.
    fn told(&self, at: Cursor) -> Option<Told> {
        let here = |point: &&Point| (point.history, point.revision) == (at.history, at.revision.0);
        self.model.points.iter().filter(here).find_map(|point| point.past)
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
        Some((UNREADABLE, _)) => Change::Unreadable(Key::copy_from(key), "no record".to_owned()),
        Some((value, ttl)) => Change::Put(Entry::new(key, VALUES[value], ttl.map(Ttl))),
        None => Change::Delete(Key::copy_from(key)),
    };
    Update { change, revision: wanted.claim.map(at) }
}

fn digest(state: &State) -> Digest {
    let entries: Vec<Entry> = state.iter().map(|(key, now)| Entry::new(key, &now.value, None)).collect();
    entries.iter().collect()
}

fn copy(kvs: &Snapshot) -> State {
    kvs.iter().map(|entry| (entry.key().to_vec(), stored(entry))).collect()
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
            (DeltaKind::Updated, Some(old)) if old != new => {}
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
        Op::Begin { other_history: false, whole_at: None, lossy: false }
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
    fn where_an_empty_resync_followed_an_empty_lossy_one() {
        let lossy = Op::Begin { other_history: false, whole_at: None, lossy: true };
        let end = |revision| Op::End { revision, complete: true };
        run(&setting(1), &[vec![lossy, end(Some(3)), begin(), end(None)]]);
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
    fn the_cache_equals_a_map(setting in generator::setting(), bursts in generator::history()) {
        run(&setting, &bursts);
    }
}
