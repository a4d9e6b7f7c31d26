//! The index against a plain list of who waits for what.

#![allow(clippy::unwrap_used)] // a test may unwrap

use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::*;
use crate::cache::{Cache, CacheConfig};
use crate::ingest::IngestBuffer;
use crate::model::{History, SyncStatus, Update};

/// A cache whose breadcrumbs go through an index one by one.
struct World {
    cache: Cache,
    interest: Arc<Interest>,
    newest: Breadcrumb,
}

/// Somebody who waits.
struct Waiter {
    prefix: Vec<u8>,
    registration: Registration,
}

impl World {
    fn new() -> Self {
        let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
        let (cache, ingest) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
        tokio::spawn(ingest.run());
        let newest = cache.current_breadcrumb();
        Self { cache, interest: Arc::default(), newest }
    }

    fn register(&self, prefix: &[u8]) -> Waiter {
        match self.interest.register(&Key::new(prefix.to_vec()), self.newest.sequence()) {
            Registered::Waiting(registration) => Waiter { prefix: prefix.to_vec(), registration },
            Registered::Not(_) => panic!("everything has been looked at"),
        }
    }

    /// Says the keys that changed and where the state was before.
    async fn deliver(&mut self) -> (Vec<Vec<u8>>, Cursor) {
        self.newest = self.newest.next().await.unwrap();
        self.interest.deliver(&self.newest);
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
    /// Where the state was right before the prefix was touched, if it was.
    fn touched(&self) -> Option<Cursor> {
        self.registration.slot.untouched.is_closed().then(|| *self.registration.slot.before.get().unwrap())
    }
}

fn is_empty(interest: &Interest) -> bool {
    let index = interest.index.lock();
    index.slots.is_empty() && index.lengths.is_empty()
}

#[derive(Clone, Debug)]
enum Step {
    Wait(Vec<u8>),
    Leave(prop::sample::Index),
    Put(Vec<Vec<u8>>),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(vec![b'a', b'b', 0xff]), 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => key().prop_map(Step::Wait),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        2 => prop::collection::vec(key(), 1..4).prop_map(Step::Put),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_waiter_is_touched_exactly_when_a_key_under_its_prefix_changes(steps in prop::collection::vec(step(), 1..40)) {
        Runtime::new().unwrap().block_on(async move {
            let mut world = World::new();
            let mut waiters: Vec<(Waiter, Option<Cursor>)> = Vec::new();
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Wait(prefix) => waiters.push((world.register(&prefix), None)),
                    Step::Leave(_) if waiters.is_empty() => {}
                    Step::Leave(at) => drop(waiters.swap_remove(at.index(waiters.len()))),
                    Step::Put(keys) => {
                        let (changed, before) = world.put(keys, n.to_string()).await;
                        for (waiter, expected) in &mut waiters {
                            if changed.iter().any(|key| key.starts_with(&waiter.prefix)) {
                                expected.get_or_insert(before);
                            }
                        }
                    }
                }
                for (waiter, expected) in &waiters {
                    assert_eq!(waiter.touched(), *expected, "{:?}", waiter.prefix);
                    let until = waiter.registration.untouched_until();
                    assert!(until.is_none() || (expected.is_none() && until == Some(world.newest.cursor())));
                }
            }
            waiters.clear();
            assert!(is_empty(&world.interest), "nobody waits, and nothing is kept for anybody");
        });
    }
}

#[tokio::test]
async fn a_change_of_status_touches_everybody() {
    let mut world = World::new();
    let waiters = [world.register(b"a"), world.register(b"b")];
    world.cache.on_status_updated(SyncStatus::ResyncInProgress).await.unwrap();
    world.deliver().await;
    assert!(waiters.iter().all(|waiter| waiter.touched().is_some()));
    assert!(is_empty(&world.interest));
}

#[tokio::test]
async fn more_look_ups_than_are_worth_it_touch_everybody_and_lose_nobody() {
    let mut world = World::new();
    let lengths = 200;
    let waiters: Vec<Waiter> = (1..=lengths).map(|length| world.register(&vec![b'z'; length])).collect();
    let few = (0..100).map(|n| format!("a{n}").into_bytes());
    world.put(few, "1".into()).await;
    assert!(waiters.iter().all(|waiter| waiter.touched().is_none()));
    let many = (0..=MAX_LOOKUPS / lengths).map(|n| format!("a{n}").into_bytes());
    world.put(many, "2".into()).await;
    assert!(waiters.iter().all(|waiter| waiter.touched().is_some()));
    assert!(is_empty(&world.interest));
}

#[tokio::test]
async fn who_has_not_looked_at_the_newest_does_not_wait_and_the_end_sends_everybody_away() {
    let mut world = World::new();
    let looked_at = world.newest.sequence();
    world.put([b"a".to_vec()], "1".into()).await;
    let prefix = Key::new(b"a".to_vec());
    assert!(matches!(world.interest.register(&prefix, looked_at), Registered::Not(Woken::Look)));
    let waiter = world.register(b"a");
    world.interest.end();
    assert_eq!(waiter.registration.touched().await, None);
    assert!(matches!(
        world.interest.register(&prefix, world.newest.sequence()),
        Registered::Not(Woken::Over(_))
    ));
}
