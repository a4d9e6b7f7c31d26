//! What streams promise. Each test that has a counterpart among the tests of Consul's
//! `agent/consul/stream` and `agent/submatview` is named in [`crate::cases`].

mod closing;
mod model;
mod sharing;
mod skipping;
mod snapshot;
mod subscribing;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{
    Event, EventPublisher, Message, Outcome, SnapFn, SnapFuture, SnapshotBuffer, StreamConfig, StreamError,
    SubscribeRequest, Subscription, Subscriptions,
};

/// As long as silence is listened to. The clock of most tests stands still but for this.
const SILENCE: Duration = Duration::from_millis(25);

/// As long as anything may take before a test is called hung.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Subject {
    Key(String),
    Prefix(String),
    All,
}

fn key(key: &str) -> Subject {
    Subject::Key(key.to_owned())
}

#[derive(Clone, PartialEq, Eq)]
struct Change {
    key: String,
    value: u64,
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl Event for Change {
    type Subject = Subject;

    fn subjects(&self) -> impl IntoIterator<Item = Subject> {
        let prefixes = (0..=self.key.len()).map(|end| Subject::Prefix(self.key[..end].to_owned()));
        [Subject::All, key(&self.key)].into_iter().chain(prefixes)
    }

    fn bytes(&self) -> usize {
        1
    }
}

fn set(key: &str, value: u64) -> Change {
    Change { key: key.to_owned(), value }
}

/// What snapshots are made of, and how they are kept from being made.
struct Store {
    state: Mutex<(u64, BTreeMap<String, u64>)>,
    /// The number of snapshots begun.
    begun: AtomicUsize,
    /// A snapshot takes one to begin, and one to end.
    gate: Semaphore,
    broken: Mutex<Option<&'static str>>,
}

impl Store {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            begun: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            broken: Mutex::new(None),
        })
    }

    fn with(index: u64, entries: &[(&str, u64)]) -> Arc<Self> {
        let store = Self::new();
        *store.state.lock() =
            (index, entries.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect());
        store
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// Snapshots wait from now on.
    fn shut_the_gate(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    fn break_down(&self, why: &'static str) {
        *self.broken.lock() = Some(why);
    }

    /// Sets keys here and publishes that.
    fn set(&self, publisher: &EventPublisher<Change>, index: u64, changes: &[(&str, u64)]) {
        {
            let mut state = self.state.lock();
            state.0 = index;
            state.1.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), *value)));
        }
        publisher.publish(index, changes.iter().map(|(key, value)| set(key, *value))).expect("published");
    }
}

struct Snap(Arc<Store>);

impl SnapFn<Change> for Snap {
    fn snap<'a>(&'a self, subject: &'a Subject, into: &'a mut SnapshotBuffer<Change>) -> SnapFuture<'a> {
        Box::pin(async move {
            self.0.begun.fetch_add(1, Ordering::SeqCst);
            self.0.gate.acquire().await.expect("open").forget();
            let (index, all) = self.0.state.lock().clone();
            let wanted = all.iter().filter(|(key, _)| match subject {
                Subject::Key(wanted) => *key == wanted,
                Subject::Prefix(prefix) => key.starts_with(prefix),
                Subject::All => true,
            });
            into.append(index, wanted.map(|(key, value)| set(key, *value)).collect::<Vec<_>>());
            self.0.gate.acquire().await.expect("open").forget();
            match *self.0.broken.lock() {
                Some(why) => Err(Box::<dyn std::error::Error + Send + Sync>::from(why).into()),
                None => Ok(index),
            }
        })
    }
}

/// No snapshot is shared once it is done.
const UNSHARED: StreamConfig =
    StreamConfig { snapshot_ttl: Duration::ZERO, max_lag_bytes: 1 << 20, max_subscriptions: 10_000 };

/// A snapshot is shared for a while.
const SHARED: StreamConfig = StreamConfig { snapshot_ttl: Duration::from_secs(60), ..UNSHARED };

fn publisher(config: StreamConfig, store: &Arc<Store>) -> (EventPublisher<Change>, Subscriptions<Change>) {
    let index = store.state.lock().0;
    let publisher = EventPublisher::new(config, index, Snap(Arc::clone(store)));
    let subscriptions = publisher.subscriptions();
    (publisher, subscriptions)
}

fn from_the_beginning(subscriptions: &Subscriptions<Change>, subject: Subject) -> Subscription<Change> {
    subscriptions.subscribe(SubscribeRequest::from_the_beginning(subject)).expect("a subscription")
}

fn after(subscriptions: &Subscriptions<Change>, subject: Subject, index: u64) -> Subscription<Change> {
    subscriptions.subscribe(SubscribeRequest::after(subject, index)).expect("a subscription")
}

/// The next message, as text.
async fn next(subscription: &mut Subscription<Change>) -> String {
    match timeout(PATIENCE, subscription.next()).await.expect("a message in time") {
        Ok(message) => format!("{message:?}"),
        Err(error) => error.to_string(),
    }
}

async fn next_messages(subscription: &mut Subscription<Change>, count: usize) -> Vec<String> {
    let mut messages = Vec::new();
    while messages.len() < count {
        messages.push(next(subscription).await);
    }
    messages
}

async fn nothing_comes(subscription: &mut Subscription<Change>) {
    let message = timeout(SILENCE, subscription.next()).await;
    assert!(message.is_err(), "{message:?} came");
}
