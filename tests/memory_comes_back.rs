//! What readers leave behind when they have gone: nothing.
//!
//! A hundred thousand of them come and go while a million things are published, and then there is as
//! much memory in use as before. Counted by an allocator, in a process of its own, so that nothing
//! else is counted. A test of its own for the same reason: it is one function.

use std::alloc::System;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crumbd::trail::stream::{
    Event, EventPublisher, Outcome, SnapFn, SnapFuture, SnapshotBuffer, StreamConfig, SubscribeRequest,
    Subscription, Subscriptions,
};
use crumbd::value::{GetError, RangedValue, Value, Watcher};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CYCLES: u64 = 100_000;
const PUBLISHES_A_CYCLE: u64 = 10;
const KEYS: u64 = 64;

/// What is in use: allocations and their bytes.
#[derive(Debug, Clone, Copy)]
struct InUse {
    count: usize,
    bytes: usize,
}

fn in_use() -> InUse {
    let stats = ALLOCATOR.stats();
    // A reallocation that grows counts as allocated, one that shrinks as freed.
    InUse {
        count: stats.allocations - stats.deallocations,
        bytes: stats.bytes_allocated - stats.bytes_deallocated,
    }
}

/// The process as the kernel sees it, in KiB.
fn resident_kib() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[derive(Clone)]
struct Change {
    key: u64,
    payload: Arc<[u8]>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Subject {
    Key(u64),
    All,
}

impl Event for Change {
    type Subject = Subject;

    fn subjects(&self) -> impl IntoIterator<Item = Subject> {
        [Subject::Key(self.key), Subject::All]
    }

    fn bytes(&self) -> usize {
        self.payload.len()
    }
}

fn change(key: u64) -> Change {
    Change { key, payload: Arc::from(vec![0; 64]) }
}

/// Every key has a value, and the publisher is never behind.
struct Snap(tokio::sync::watch::Receiver<u64>);

impl SnapFn<Change> for Snap {
    fn snap<'a>(&'a self, subject: &'a Subject, into: &'a mut SnapshotBuffer<Change>) -> SnapFuture<'a> {
        Box::pin(async move {
            let index = *self.0.borrow();
            match subject {
                Subject::Key(key) => into.append(index, [change(*key)]),
                Subject::All => into.append(index, (0..KEYS).map(change).collect::<Vec<_>>()),
            }
            tokio::task::yield_now().await;
            Ok(index)
        })
    }
}

struct World {
    publisher: EventPublisher<Change>,
    subscriptions: Subscriptions<Change>,
    index: tokio::sync::watch::Sender<u64>,
    /// Read now and then.
    standing: Vec<Subscription<Change>>,
    /// Never read.
    _stalled: Vec<Subscription<Change>>,
    value: Value<Arc<[u8]>>,
    range: RangedValue<u64, Arc<[u8]>>,
}

impl World {
    fn new() -> Result<Self, Box<dyn Error>> {
        let (index, seen) = tokio::sync::watch::channel(1);
        let config = StreamConfig { max_lag_bytes: 64 << 10, ..StreamConfig::default() };
        let publisher = EventPublisher::new(config, 1, Snap(seen));
        let subscriptions = publisher.subscriptions();
        let follow = |subject| subscriptions.subscribe(SubscribeRequest::after(subject, 1));
        let standing: Result<Vec<_>, _> = (0..KEYS).step_by(2).map(Subject::Key).map(follow).collect();
        let stalled: Result<Vec<_>, _> = (0..KEYS).map(|_| follow(Subject::All)).collect();
        let (standing, _stalled) = (standing?, stalled?);
        let (value, range) = (Value::of(change(0).payload), RangedValue::new());
        Ok(Self { publisher, subscriptions, index, standing, _stalled, value, range })
    }

    /// Readers come, read something or nothing, and go, while things are published.
    async fn turn(&mut self, cycles: u64) -> Result<(), Box<dyn Error>> {
        for cycle in 0..cycles {
            let now = *self.index.borrow();
            for index in now + 1..=now + PUBLISHES_A_CYCLE {
                self.index.send_replace(index);
                self.publisher.publish(index, [change(index % KEYS)])?;
            }
            self.value.set(change(0).payload);
            self.range.set(cycle % KEYS, change(0).payload);
            self.range.remove(&((cycle + KEYS / 2) % KEYS));

            let subject = if cycle % 7 == 0 { Subject::All } else { Subject::Key(cycle % KEYS) };
            let index = [0, 1, u64::MAX][(cycle % 3) as usize];
            let mut reader = self.subscriptions.subscribe(SubscribeRequest::after(subject, index))?;
            match cycle % 4 {
                0 => {}
                1 if reader.outcome() != Outcome::Resumed => {
                    while !reader.next().await?.is_end_of_snapshot() {}
                }
                2 if reader.outcome() != Outcome::Resumed => drop(reader.next().await?),
                _ => reader.unsubscribe(),
            }
            let (mut value, mut range) = (self.value.watch(), self.range.watch_range(..));
            value.get().await?;
            let mut backlog = (&mut range).backlog_only();
            while backlog.get().await != Err(GetError::BacklogDone) {}

            if cycle % 16 == 0 {
                for reader in &mut self.standing {
                    while let Ok(message) = tokio::time::timeout(Duration::ZERO, reader.next()).await {
                        message?;
                    }
                }
            }
        }
        // Snapshots that are still shared go when their time is over.
        tokio::time::sleep(2 * StreamConfig::default().snapshot_ttl).await;
        Ok(())
    }
}

#[test]
fn a_hundred_thousand_readers_and_a_million_publishes_leave_nothing() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let mut world = World::new()?;
        // Until the stalled readers were left behind, and the allocator has its pages.
        world.turn(CYCLES / 10).await?;
        let (before, resident_before) = (in_use(), resident_kib()?);
        world.turn(CYCLES).await?;
        let (after, resident_after) = (in_use(), resident_kib()?);
        println!("before: {before:?}, {resident_before} KiB; after: {after:?}, {resident_after} KiB");
        assert!(*world.index.borrow() > 1_000_000);
        for (what, before, after) in [
            ("allocations", before.count, after.count),
            ("bytes", before.bytes, after.bytes),
            ("resident KiB", resident_before, resident_after),
        ] {
            assert!(after <= before + before / 10, "{what}: {before} before, {after} after");
        }
        Ok(())
    })
}
