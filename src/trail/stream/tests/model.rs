//! Many writers and readers against a model: what a reader has at an index is what was true there.

use super::*;

/// Something to be random with, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The store of the other tests, which also remembers the state at each index.
struct History {
    store: Arc<Store>,
    states: Mutex<Vec<BTreeMap<String, u64>>>,
}

const LAST: u64 = 200;

/// Follows a subject through snapshots and events, leaves and comes back, and checks the state at
/// each index against the model.
async fn follow(subscriptions: Subscriptions<Change>, history: Arc<History>, prefix: &str, mut dice: Dice) {
    let subject = || Subject::Prefix(prefix.to_owned());
    let (mut index, mut state, mut checked) = (0, BTreeMap::new(), 0);
    while index < LAST {
        let mut reader = after(&subscriptions, subject(), index);
        let mut fresh = None;
        if reader.outcome() == Outcome::Snapshot {
            fresh = Some(BTreeMap::new());
        }
        for _ in 0..=dice.roll(40) {
            let message = timeout(PATIENCE, reader.next()).await.expect("in time").expect("no end");
            match message {
                Message::NewSnapshotToFollow => fresh = Some(BTreeMap::new()),
                Message::EndOfSnapshot { index: at } => {
                    state = fresh.take().expect("the end of something");
                    index = at;
                }
                Message::Events(events) => {
                    let into = fresh.as_mut().unwrap_or(&mut state);
                    into.extend(events.as_slice().iter().map(|change| (change.key.clone(), change.value)));
                    if fresh.is_none() {
                        assert!(events.index() > index, "nothing twice and nothing back");
                        index = events.index();
                    }
                }
            }
            if fresh.is_none() {
                let states = history.states.lock();
                let then = &states[usize::try_from(index).expect("small")];
                let wanted = then.iter().filter(|(key, _)| key.starts_with(prefix));
                assert!(wanted.eq(state.iter()), "at {index} it was {then:?}, and {prefix} sees {state:?}");
                checked += 1;
            }
            if index >= LAST {
                break;
            }
            if dice.roll(4) == 0 {
                tokio::time::sleep(Duration::from_micros(dice.roll(3000))).await;
            }
        }
    }
    assert!(checked > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_that_a_reader_sees_is_the_models_at_that_index() {
    for (ttl_ms, max_lag_bytes) in [(10, 1 << 20), (0, 1 << 20), (10, 16)] {
        let config = StreamConfig { snapshot_ttl: Duration::from_millis(ttl_ms), max_lag_bytes, ..UNSHARED };
        // Index 0 would be told as 1.
        let store = Store::with(1, &[]);
        let (publisher, subscriptions) = publisher(config, &store);
        let publisher = Arc::new(publisher);
        let history = Arc::new(History { store, states: Mutex::new(vec![BTreeMap::new(); 2]) });

        let consumers: Vec<_> = (0..6u64)
            .map(|id| {
                let (subscriptions, history) = (subscriptions.clone(), Arc::clone(&history));
                // The last index goes to everyone.
                let prefix = ["", "a", "b", "", "a", "c"][usize::try_from(id).expect("small")];
                tokio::spawn(follow(subscriptions, history, prefix, Dice(id)))
            })
            .collect();
        let producers: Vec<_> = (0..3u64)
            .map(|id| {
                let (publisher, history) = (Arc::clone(&publisher), Arc::clone(&history));
                let mut dice = Dice(1000 + id);
                tokio::spawn(async move {
                    while produce(&publisher, &history, &mut dice) {
                        tokio::time::sleep(Duration::from_micros(dice.roll(2000))).await;
                    }
                })
            })
            .collect();
        for task in producers.into_iter().chain(consumers) {
            timeout(PATIENCE, task).await.expect("in time").expect("no failed assertion");
        }
        assert_eq!(subscriptions.stats().topics, 0);
    }
}

/// Makes one change at the next index, unless that was the last.
fn produce(publisher: &EventPublisher<Change>, history: &History, dice: &mut Dice) -> bool {
    let mut states = history.states.lock();
    let index = states.len() as u64;
    if index > LAST {
        return false;
    }
    let keys = ["a1", "a2", "b1", "b2", "b3", "c1"];
    let mut changes: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..=dice.roll(3) {
        changes.insert(keys[usize::try_from(dice.roll(6)).expect("small")], index * 10 + dice.roll(10));
    }
    if index == LAST {
        changes.extend(["a1", "b1", "c1"].map(|key| (key, LAST)));
    }
    let mut state = states.last().cloned().expect("the first");
    state.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), *value)));
    states.push(state);
    let changes: Vec<_> = changes.into_iter().collect();
    history.store.set(publisher, index, &changes);
    true
}

/// The shape of Consul's test of its subscribe backend: a canary that is never missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_readers_that_join_at_any_time_miss_no_beat_of_a_canary() {
    const BEATS: u64 = 100;
    const INSTANCES: u64 = 1000;
    let store = Store::new();
    let entries = (0..INSTANCES).map(|id| (format!("instance/{id:04}"), id));
    *store.state.lock() = (1, entries.chain([("canary".to_owned(), 0)]).collect());
    let (publisher, subscriptions) = publisher(UNSHARED, &store);
    let readers: Vec<_> = (0..5u64)
        .map(|id| {
            let subscriptions = subscriptions.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(id * 7)).await;
                let mut reader = from_the_beginning(&subscriptions, Subject::All);
                let (mut canary, mut whole, mut live) = (None, false, 0);
                while canary != Some(BEATS) {
                    let message = timeout(PATIENCE, reader.next()).await.expect("in time").expect("no end");
                    whole |= message.is_end_of_snapshot();
                    for change in message.events().map_or(&[][..], |events| events.as_slice()) {
                        if change.key == "canary" {
                            assert!(!whole || canary == Some(change.value - 1), "a beat was missed");
                            live += u64::from(whole);
                            canary = Some(change.value);
                        }
                    }
                }
                live
            })
        })
        .collect();
    for beat in 1..=BEATS {
        store.set(&publisher, beat + 1, &[("canary", beat)]);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut live = 0;
    for reader in readers {
        live += timeout(PATIENCE, reader).await.expect("in time").expect("no failed assertion");
    }
    assert!(live > 0, "somebody saw a beat live");
}
