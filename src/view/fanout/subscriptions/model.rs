//! The subscription index against a plain list of waiters.

#![allow(clippy::unwrap_used)] // a test may unwrap

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;
use crate::cache::{Cache, CacheConfig};
use crate::ingest::IngestBuffer;
use crate::model::{History, SyncStatus, Update};

/// A cache whose breadcrumbs are delivered to an index one by one.
struct World {
    cache: Cache,
    subscriptions: Arc<Subscriptions>,
    newest: Breadcrumb,
}

/// A subscription and its keys.
struct Waiter {
    keys: KeySelector,
    subscription: Subscription,
}

impl World {
    fn new() -> Self {
        let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
        let (cache, ingest) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
        tokio::spawn(ingest.run());
        let newest = cache.current_breadcrumb();
        Self { cache, subscriptions: Arc::default(), newest }
    }

    fn subscribe(&self, keys: KeySelector) -> Waiter {
        let subscription = self.subscriptions.subscribe(&keys, self.newest.sequence(), None);
        Waiter { keys, subscription: subscription.expect("every breadcrumb was seen") }
    }

    /// Delivers the next breadcrumb. Returns the keys that it changed and the cursor before it.
    async fn deliver(&mut self) -> (Vec<Vec<u8>>, Cursor) {
        self.newest = self.newest.next().await.unwrap();
        self.subscriptions.deliver(&self.newest, true);
        let keys = self.newest.deltas().iter().map(|delta| delta.entry.key().to_vec()).collect();
        (keys, self.newest.from())
    }

    async fn put(
        &mut self,
        keys: impl IntoIterator<Item = Vec<u8>>,
        value: String,
    ) -> (Vec<Vec<u8>>, Cursor) {
        let updates = keys.into_iter().map(|key| Update::put(key, value.clone())).collect();
        self.cache.on_updates(updates).await.unwrap();
        self.deliver().await
    }
}

impl Waiter {
    /// The cursor right before one of the keys changed, if one has.
    fn touched(&self) -> Option<Cursor> {
        let slot = &self.subscription.slot;
        slot.untouched.is_closed().then(|| *slot.before.get().unwrap())
    }
}

fn under(prefix: &[u8]) -> KeySelector {
    KeySelector::prefix(Key::copy_from(prefix))
}

fn is_empty(subscriptions: &Subscriptions) -> bool {
    let index = subscriptions.index.lock();
    index.slots.is_empty() && index.lengths.is_empty()
}

#[derive(Clone, Debug)]
enum Step {
    Wait(KeySelector),
    Leave(prop::sample::Index),
    Put(Vec<Vec<u8>>),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![b'a', b'b', 0xff]), 0..4)
}

fn keys() -> impl Strategy<Value = KeySelector> {
    let prefixes = prop::collection::vec(key(), 1..4);
    prop_oneof![
        3 => key().prop_map(|prefix| under(&prefix)),
        1 => key().prop_map(|key| KeySelector::key(Key::new(key))),
        2 => prefixes.prop_map(|prefixes| KeySelector::prefixes(prefixes.into_iter().map(Key::new))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => keys().prop_map(Step::Wait),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        2 => prop::collection::vec(key(), 1..4).prop_map(Step::Put),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_waiter_is_touched_exactly_when_one_of_its_keys_changes(steps in prop::collection::vec(step(), 1..40)) {
        Runtime::new().unwrap().block_on(async move {
            let mut world = World::new();
            let mut waiters: Vec<(Waiter, Option<Cursor>)> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Wait(keys) => waiters.push((world.subscribe(keys), None)),
                    Step::Leave(_) if waiters.is_empty() => {}
                    Step::Leave(at) => drop(waiters.swap_remove(at.index(waiters.len()))),
                    Step::Put(keys) => {
                        let (changed, before) = world.put(keys, n.to_string()).await;
                        for (waiter, expected) in &mut waiters {
                            if changed.iter().any(|key| waiter.keys.matches(key)) {
                                expected.get_or_insert(before);
                            }
                        }
                    }
                }
                for (waiter, expected) in &waiters {
                    assert_eq!(waiter.touched(), *expected, "{:?}", waiter.keys);
                    let until = waiter.subscription.untouched_until();
                    assert!(until.is_none() || (expected.is_none() && until == Some(world.newest.cursor())));
                }
            }
            waiters.clear();
            assert!(is_empty(&world.subscriptions), "slots are left without waiters");
        });
    }
}

#[tokio::test]
async fn a_change_of_status_touches_every_waiter() {
    let mut world = World::new();
    let waiters = [world.subscribe(under(b"a")), world.subscribe(under(b"b"))];
    world.cache.on_status_updated(SyncStatus::ResyncInProgress).await.unwrap();
    world.deliver().await;
    assert!(waiters.iter().all(|waiter| waiter.touched().is_some()));
    assert!(is_empty(&world.subscriptions));
}

#[tokio::test]
async fn a_breadcrumb_with_too_many_look_ups_touches_every_waiter() {
    let mut world = World::new();
    let lengths = 200;
    let waiters: Vec<Waiter> =
        (1..=lengths).map(|length| world.subscribe(under(&vec![b'z'; length]))).collect();
    let few = (0..100).map(|n| format!("a{n}").into_bytes());
    world.put(few, "1".into()).await;
    assert!(waiters.iter().all(|waiter| waiter.touched().is_none()));
    let many = (0..=MAX_LOOKUPS / lengths).map(|n| format!("a{n}").into_bytes());
    world.put(many, "2".into()).await;
    assert!(waiters.iter().all(|waiter| waiter.touched().is_some()));
    assert!(is_empty(&world.subscriptions));
}

#[tokio::test]
async fn a_reader_that_is_behind_is_not_subscribed_and_the_end_wakes_every_waiter() {
    let mut world = World::new();
    let seen = world.newest.sequence();
    world.put([b"a".to_vec()], "1".into()).await;
    let subscribe = |seen| world.subscriptions.subscribe(&under(b"a"), seen, None).err();
    assert_eq!(subscribe(seen), Some(NotSubscribed::Behind));
    let waiter = world.subscribe(under(b"a"));
    world.subscriptions.end();
    assert_eq!(waiter.subscription.touched().await, None);
    assert_eq!(subscribe(world.newest.sequence()), Some(NotSubscribed::Ended));
}
