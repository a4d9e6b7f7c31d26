//! Readers that have gone leave no memory behind.
//!
//! Thousands of them come and go while a hundred thousand breadcrumbs are published, and then there is as
//! much memory in use as before. Counted by an allocator, in a process of its own, so that nothing
//! else is counted. A test of its own for the same reason: it is one function.

use std::alloc::System;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use crumbd::cache::{Cache, CacheConfig, WindowLimits};
use crumbd::feed::Upstream;
use crumbd::ingest::IngestBuffer;
use crumbd::model::{Cursor, History, Key, KeySelector, Sequence, SyncStatus, Update};
use crumbd::value::{GetError, RangedValue, Value, Watcher};
use crumbd::view::{Account, Stream, StreamEvent, View, ViewConfig};
use crumbd::wire::Values;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CYCLES: u64 = 10_000;
const PUBLISHES_A_CYCLE: u64 = 10;
const KEYS: u64 = 64;
const KEPT: usize = 100;

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

fn key(number: u64) -> String {
    format!("k/{number:02}")
}

struct World {
    cache: Cache,
    view: View,
    /// Updates that were published.
    published: u64,
    /// The cursor after the last of them.
    newest: Cursor,
    /// Read now and then.
    standing: Vec<Stream>,
    /// Told the state and never read again, as an HTTP front does for a reader that takes nothing.
    _stalled: Vec<Stream>,
    value: Value<Arc<[u8]>>,
    range: RangedValue<u64, Arc<[u8]>>,
}

impl World {
    async fn new() -> Result<Self, Box<dyn Error>> {
        let buffer = Arc::new(IngestBuffer::channel(64)?);
        let window = WindowLimits { max_count: KEPT, ..CacheConfig::default().window };
        let config = CacheConfig { window, ..CacheConfig::default() };
        let (cache, ingest) = Cache::new(config, Some(History::random()), buffer);
        tokio::spawn(ingest.run());
        let config = ViewConfig { body_cache_bytes: 1 << 20, ..ViewConfig::default() };
        let (view, fanout) = View::new(cache.reader(), Arc::new(Upstream::local()), &config);
        tokio::spawn(fanout.run());
        cache.on_status_updated(SyncStatus::InSync).await?;
        cache.on_updates((0..KEYS).map(|number| Update::put(key(number), "0")).collect()).await?;
        view.delivered_after(Sequence(1)).await.ok_or("the cache has stopped")?;
        let newest = view.newest()?.cursor();
        let follow = |number: u64| {
            let keys = KeySelector::prefix(Key::from(&*key(number)));
            view.stream(&keys, Values::Json, Some(newest), &Account::unlimited())
        };
        let standing: Result<Vec<_>, _> = (0..KEYS).step_by(2).map(follow).collect();
        let standing = standing?;
        let mut stalled = Vec::new();
        for _ in 0..KEYS {
            let mut stream = view.stream(&KeySelector::ALL, Values::Json, None, &Account::unlimited())?;
            stream.next(std::future::pending()).await?;
            stream.release();
            stalled.push(stream);
        }
        let value = Value::of(Arc::from(vec![0; 64]));
        let range = RangedValue::new();
        Ok(Self { cache, view, published: 0, newest, standing, _stalled: stalled, value, range })
    }

    /// Readers come, read something or nothing, and go, while things are published.
    async fn turn(&mut self, cycles: u64) -> Result<(), Box<dyn Error>> {
        for cycle in 0..cycles {
            for _ in 0..PUBLISHES_A_CYCLE {
                self.published += 1;
                let value = format!("{:064}", self.published);
                self.cache.on_updates(vec![Update::put(key(self.published % KEYS), value)]).await?;
            }
            while self.view.newest()?.revision().0 < self.published {
                tokio::task::yield_now().await;
            }
            let before = std::mem::replace(&mut self.newest, self.view.newest()?.cursor());
            let content: Arc<[u8]> = Arc::from(vec![0; 64]);
            self.value.set(Arc::clone(&content));
            self.range.set(cycle % KEYS, content);
            self.range.remove(&((cycle + KEYS / 2) % KEYS));

            let one = KeySelector::prefix(Key::from(&*key(cycle % KEYS)));
            let keys = if cycle % 7 == 0 { KeySelector::ALL } else { one };
            let from = [None, Some(before), Some(self.newest)][(cycle % 3) as usize];
            let mut reader = self.view.stream(&keys, Values::Json, from, &Account::unlimited())?;
            match cycle % 4 {
                0 => {}
                1 => {
                    let told = reader.next(std::future::ready(())).await?;
                    assert_eq!(matches!(told, StreamEvent::Snapshot(_)), from.is_none());
                }
                // Dropped while it waits.
                _ => _ = tokio::time::timeout(Duration::ZERO, reader.next(std::future::pending())).await,
            }
            let (mut value, mut range) = (self.value.watch(), self.range.watch_range(..));
            value.get().await?;
            let mut backlog = (&mut range).backlog_only();
            while backlog.get().await != Err(GetError::BacklogDone) {}

            if cycle % 16 == 0 {
                for reader in &mut self.standing {
                    while !matches!(reader.next(std::future::ready(())).await?, StreamEvent::Heartbeat(_)) {}
                }
            }
        }
        // Bodies that are still shared go when nobody has asked for a while.
        tokio::time::sleep(Duration::from_secs(600)).await;
        Ok(())
    }
}

#[test]
fn thousands_of_readers_and_a_hundred_thousand_breadcrumbs_leave_nothing() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(async {
        let mut world = World::new().await?;
        // Until the window and the caches are full, and the allocator has its pages.
        world.turn(CYCLES / 2).await?;
        let (before, resident_before) = (in_use(), resident_kib()?);
        world.turn(CYCLES).await?;
        let (after, resident_after) = (in_use(), resident_kib()?);
        println!("before: {before:?}, {resident_before} KiB; after: {after:?}, {resident_after} KiB");
        assert!(world.published > 100_000);
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
