//! Ranges of one key and of many, over real breadcrumbs, against a map.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crumbd::cache::{Cache, CacheConfig, WindowLimits};
use crumbd::feed::Upstream;
use crumbd::http::KeysAfter;
use crumbd::ingest::IngestBuffer;
use crumbd::model::{Batch, Cursor, FeedEvent, Grouping, History, Key, ResyncClaim, Revision, Update};
use crumbd::value::Watcher;
use crumbd::view::{KeySelector, View, ViewConfig, ViewError};
use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::timeout;

use super::support::DEADLINE;

/// Some begin with others, and one is empty.
const KEYS: [&str; 7] = ["", "a", "a/1", "a/2", "a/22", "b", "b/1"];

/// Outside of every range but that of all keys: tells when a batch was applied.
const MARK: &str = "~";

/// So few breadcrumbs are kept that a watcher at rest soon loses its place.
const KEPT: usize = 4;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key of `KEYS`, and its new value or its end.
type Write = (usize, Option<u8>);

#[derive(Clone, Debug)]
enum Op {
    /// Each write is a revision of its own, and all may be one breadcrumb.
    Write(Vec<Write>),
    /// The whole state is read again, and looks like this.
    Resync(Vec<Write>, bool),
    /// A watcher begins as many revisions ago, with the keys under a prefix or with one key.
    Watch { ago: usize, key: usize, one: bool },
    /// A watcher gets so much, if there is so much.
    Get { watcher: usize, most: usize },
    /// A watcher gets everything.
    Drain { watcher: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let write = || (0..KEYS.len(), prop_oneof![3 => (0..3_u8).prop_map(Some), 2 => Just(None)]);
    prop_oneof![
        6 => vec(write(), 1..6).prop_map(Op::Write),
        1 => (vec(write(), 0..6), any::<bool>()).prop_map(|(writes, lossy)| Op::Resync(writes, lossy)),
        3 => (0..12_usize, 0..KEYS.len(), any::<bool>()).prop_map(|(ago, key, one)| Op::Watch { ago, key, one }),
        3 => (0..8_usize, 1..3_usize).prop_map(|(watcher, most)| Op::Get { watcher, most }),
        3 => (0..8_usize).prop_map(|watcher| Op::Drain { watcher }),
    ]
}

struct Watched {
    keys: KeysAfter,
    selected: KeySelector,
    after: Revision,
    /// What the consumer knows.
    held: State,
}

struct World {
    cache: Cache,
    view: View,
    state: State,
    /// The state at each revision, and the cursor there.
    past: Vec<(Cursor, State)>,
    watched: Vec<Watched>,
    marks: u64,
}

impl World {
    fn new() -> Self {
        let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
        let window = WindowLimits { max_count: KEPT, ..CacheConfig::default().window };
        let config = CacheConfig { window, ..CacheConfig::default() };
        let (cache, ingest) = Cache::new(config, Some(History::random()), buffer);
        tokio::spawn(ingest.run());
        let upstream = Arc::new(Upstream::local());
        let (view, fanout) = View::new(cache.reader(), upstream, &ViewConfig::default());
        tokio::spawn(fanout.run());
        let (state, past, watched) = Default::default();
        Self { cache, view, state, past, watched, marks: 0 }
    }

    /// Applies and waits until it is served; remembers each state on the way that a cursor can name.
    async fn apply(&mut self, updates: Vec<Update>, resync: Option<bool>) {
        let before = self.cache.current_breadcrumb();
        self.marks += 1;
        let mark = self.marks.to_string();
        let mut states = Vec::new();
        if resync.is_some() {
            self.state.clear();
        }
        for update in &updates {
            change(&mut self.state, update);
            states.push(self.state.clone());
        }
        let end = Update::put(MARK, &mark);
        change(&mut self.state, &end);
        let updates = Batch::new(updates.into_iter().chain([end]).collect(), Grouping::ByRevision);
        if let Some(lossy) = resync {
            let begin = FeedEvent::ResyncBegin { history: None, whole_at: None, lossy };
            self.cache.send(begin).await.unwrap();
        }
        self.cache.send(FeedEvent::Updates(updates)).await.unwrap();
        if resync.is_some() {
            let claim = ResyncClaim::default();
            let end = FeedEvent::ResyncEnd { revision: None, claim, complete: true };
            self.cache.send(end).await.unwrap();
        }
        let mut crumb = before;
        loop {
            crumb = timeout(DEADLINE, crumb.next()).await.expect("a breadcrumb in time").unwrap();
            if crumb.kvs().get(MARK.as_bytes()).is_some_and(|entry| entry.value() == mark.as_bytes()) {
                break;
            }
        }
        if resync == Some(true) {
            // Nobody knows what happened meanwhile.
            self.cache.send(FeedEvent::Past { end: crumb.revision(), past: None }).await.unwrap();
        }
        // The revisions inside of the breadcrumb, each of which changed something.
        let mut inside = crumb.steps().iter().filter(|_| resync.is_none()).peekable();
        let mut at = self.past.last().map_or_else(State::new, |(_, state)| state.clone());
        for state in states {
            if state != at
                && let Some(step) = inside.next()
                && let Some(check) = step.check
            {
                let cursor = Cursor { revision: step.revision, check, ..crumb.cursor() };
                self.past.push((cursor, state.clone()));
            }
            at = state;
        }
        self.past.push((crumb.cursor(), self.state.clone()));
        let served: State =
            crumb.kvs().iter().map(|entry| (entry.key().to_vec(), entry.value().to_vec())).collect();
        assert_eq!(served, self.state);
    }

    async fn watch(&mut self, ago: usize, key: usize, one: bool) {
        let Some((cursor, state)) = self.past.iter().rev().nth(ago) else { return };
        let key = Key::from(KEYS[key]);
        let selected = if one { KeySelector::key(key) } else { KeySelector::prefix(key) };
        let begun = KeysAfter::new(&self.view, selected.clone(), *cursor);
        match timeout(DEADLINE, begun).await.expect("a beginning in time") {
            Ok(keys) => {
                let held = within(&selected, state);
                self.watched.push(Watched { keys, selected, after: cursor.revision, held });
            }
            // No more breadcrumbs are kept.
            Err(ViewError::Gone { .. }) => assert!(ago > 0, "the newest is always kept"),
            Err(error) => panic!("{error}"),
        }
    }
}

impl Watched {
    /// Takes one change; each is one that makes sense to this consumer.
    fn take(&mut self, change: crumbd::value::KeyChange<Key, crumbd::model::Entry>) -> Vec<u8> {
        let key = change.key.as_bytes().to_vec();
        match change.value {
            Some(entry) => {
                assert!(entry.revision() > Some(self.after), "{key:?} is as it was at the beginning");
                self.held.insert(key.clone(), entry.value().to_vec());
            }
            None => {
                self.held.remove(&key).expect("a deletion is told to who knows the key, and once");
            }
        }
        key
    }

    /// Gets everything up to now: each key at most once, and the end is the model's state.
    async fn drain(&mut self, state: &State, newest: Cursor) {
        let (wanted, mut told) = (within(&self.selected, state), BTreeSet::new());
        while self.held != wanted {
            let change = timeout(DEADLINE, self.keys.get()).await.expect("a change in time").unwrap();
            assert!(told.insert(self.take(change)), "what came together is one change");
        }
        // There may be more of what is equal in the end; then nothing.
        while let Some(change) = self.keys.get().now_or_never() {
            assert!(told.insert(self.take(change.unwrap())), "what came together is one change");
            assert_eq!(self.held, wanted);
        }
        assert!(self.keys.cursor().revision <= newest.revision);
    }
}

fn change(state: &mut State, update: &Update) {
    match &update.change {
        crumbd::model::Change::Put(entry) => state.insert(entry.key().to_vec(), entry.value().to_vec()),
        crumbd::model::Change::Delete(key) | crumbd::model::Change::Unreadable(key, _) => {
            state.remove(key.as_bytes())
        }
    };
}

fn within(selected: &KeySelector, state: &State) -> State {
    state
        .iter()
        .filter(|(key, _)| selected.matches(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn updates(writes: &[Write]) -> Vec<Update> {
    let update = |&(key, value): &Write| match value {
        // 0 is the empty value.
        Some(value) => Update::put(KEYS[key], "v".repeat(value.into())),
        None => Update::delete(KEYS[key]),
    };
    writes.iter().map(update).collect()
}

async fn run(ops: Vec<Op>) {
    let mut world = World::new();
    world.apply(Vec::new(), None).await;
    for op in ops {
        match op {
            Op::Write(writes) => world.apply(updates(&writes), None).await,
            Op::Resync(writes, lossy) => world.apply(updates(&writes), Some(lossy)).await,
            Op::Watch { ago, key, one } => world.watch(ago, key, one).await,
            Op::Get { watcher, most } => {
                let Some(watched) = world.watched.get_mut(watcher) else { continue };
                for _ in 0..most {
                    let Some(change) = watched.keys.get().now_or_never() else { break };
                    watched.take(change.unwrap());
                }
            }
            Op::Drain { watcher } => {
                let newest = world.cache.current_breadcrumb().cursor();
                let Some(watched) = world.watched.get_mut(watcher) else { continue };
                watched.drain(&world.state, newest).await;
            }
        }
    }
    let newest = world.cache.current_breadcrumb().cursor();
    for watched in &mut world.watched {
        watched.drain(&world.state, newest).await;
    }
    // Who waits is told that nothing will come any more.
    world.cache.stop();
    for watched in &mut world.watched {
        let end = async { while watched.keys.get().await.is_ok() {} };
        timeout(DEADLINE, end).await.expect("the end in time");
        assert!(matches!(watched.keys.closed_by(), ViewError::Stopped));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_watcher_of_a_range_holds_what_a_map_does(ops in vec(op(), 1..40)) {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
            .block_on(run(ops));
    }
}
