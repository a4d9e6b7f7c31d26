//! What durability costs beside the bare database, in one run: a durable write, and a warm start.
//!
//! `cargo bench --bench state -- [--keys 1000000] [--writes 2000]`

#![allow(clippy::unwrap_used)] // a bench may unwrap

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crumbd::cache::{BreadcrumbRecord, Cache, CacheConfig};
use crumbd::ingest::{Buffer, IngestBuffer};
use crumbd::model::{
    Batch, Check, Cursor, Digest, FeedEvent, Grouping, ReplyTo, Revision, SyncStatus, Update,
};
use crumbd::state::{FeedIdentity, StateDir};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("rows");
const ROUNDS: usize = 5;

fn key(n: usize) -> Vec<u8> {
    format!("services/{:031}", n.wrapping_mul(2_654_435_761) % 1_000_000_007).into_bytes()
}

fn argument(name: &str, default: usize) -> usize {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1).map_or(default, |value| value.parse().unwrap())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Durable commits of one row each, one after the other, in a database that holds so many.
fn bare_commits(database: &Database, writes: usize) -> Duration {
    let mut times = Vec::new();
    for n in 0..writes {
        let started = Instant::now();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(ROWS).unwrap().insert(&*key(n), &*vec![n as u8; 200]).unwrap();
        transaction.commit().unwrap();
        times.push(started.elapsed());
    }
    median(times)
}

fn bare_fill(path: &Path, keys: usize) -> Database {
    let database = Database::create(path).unwrap();
    for from in (0..keys).step_by(50_000) {
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(ROWS).unwrap();
        for n in from..(from + 50_000).min(keys) {
            table.insert(&*key(n), &*vec![1; 200]).unwrap();
        }
        drop(table);
        transaction.commit().unwrap();
    }
    database
}

fn bare_scan(path: &Path) -> Duration {
    let started = Instant::now();
    let database = Database::open(path).unwrap();
    let table = database.begin_read().unwrap().open_table(ROWS).unwrap();
    let bytes: usize = table.iter().unwrap().map(|row| row.unwrap().1.value().len()).sum();
    assert!(bytes > 0);
    started.elapsed()
}

struct Store {
    cache: Cache,
    buffer: Arc<IngestBuffer<FeedEvent>>,
    task: tokio::task::JoinHandle<()>,
}

impl Store {
    fn open(dir: &Path) -> Self {
        let config = CacheConfig::default();
        let identity = FeedIdentity { name: "push:".to_owned(), history: None };
        let store = StateDir::new(dir.to_owned(), identity, config.window).open_store().unwrap();
        let kept = store.kept;
        let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
        let state = (kept.state, kept.timestamp);
        let restored = Cache::restored(config, state, kept.breadcrumbs, false, Arc::clone(&buffer));
        let (cache, task) = restored.unwrap();
        let task = task.with_journal(store.journal).spawn();
        Self { cache, buffer, task }
    }

    async fn write(&self, updates: Vec<Update>) {
        let (ack, answer) = crumbd::ingest::reply_channel();
        let batch = Batch { ack: Some(ReplyTo::new(ack)), ..Batch::new(updates, Grouping::Whole) };
        self.cache.send(FeedEvent::Updates(batch)).await.unwrap();
        answer.await.unwrap().unwrap();
    }

    async fn close(self) {
        self.buffer.close();
        self.task.await.unwrap();
    }
}

#[tokio::main]
async fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let (keys, writes) = (argument("--keys", 1_000_000), argument("--writes", 2000));
    let dir = tempfile::tempdir().unwrap();
    let (bare_path, store_path) = (dir.path().join("bare"), dir.path().join("store"));
    let bare = bare_fill(&bare_path, keys);
    let store = Store::open(&store_path);
    for from in (0..keys).step_by(5000) {
        let put = |n| Update::put(String::from_utf8(key(n)).unwrap(), vec![1; 200]);
        store.write((from..(from + 5000).min(keys)).map(put).collect()).await;
    }
    println!("{keys} keys of 40 bytes, values of 200");
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        floor.push(bare_commits(&bare, writes / ROUNDS));
        let mut times = Vec::new();
        for n in 0..writes / ROUNDS {
            let update = Update::put(String::from_utf8(key(n)).unwrap(), vec![round as u8 + 2; 200]);
            let started = Instant::now();
            store.write(vec![update]).await;
            times.push(started.elapsed());
        }
        ours.push(median(times));
    }
    let floor = median(floor);
    report("durable write of one key", median(ours), floor);
    report("the same, eight writers at once, each", together(&store, writes).await, floor);
    store.close().await;
    report(
        "the journal alone, without the way to it",
        journal_alone(&dir.path().join("journal"), writes),
        floor,
    );
    drop(bare);
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        floor.push(bare_scan(&bare_path));
        let started = Instant::now();
        let store = Store::open(&store_path);
        ours.push(started.elapsed());
        assert_eq!(store.cache.current_breadcrumb().kvs().len(), keys);
        store.close().await;
    }
    report("warm start, state restored and proved", median(ours), median(floor));
    let size = |path: &Path| std::fs::metadata(path).unwrap().len() >> 20;
    println!("on disk {} MiB, bare {} MiB", size(&store_path.join("state.crumbd")), size(&bare_path));
}

/// What a write takes when eight write at once: they share commits.
async fn together(store: &Store, writes: usize) -> Duration {
    const WRITERS: usize = 8;
    let started = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let cache = store.cache.clone();
        writers.spawn(async move {
            for n in 0..writes / WRITERS {
                let update = Update::put(String::from_utf8(key(n * WRITERS + writer)).unwrap(), vec![9; 200]);
                let (ack, answer) = crumbd::ingest::reply_channel();
                let batch =
                    Batch { ack: Some(ReplyTo::new(ack)), ..Batch::new(vec![update], Grouping::Whole) };
                cache.send(FeedEvent::Updates(batch)).await.unwrap();
                answer.await.unwrap().unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    started.elapsed() / writes as u32
}

/// What the journal takes for a breadcrumb, on the thread that calls it.
fn journal_alone(dir: &Path, writes: usize) -> Duration {
    let identity = FeedIdentity { name: "push:".to_owned(), history: None };
    let store = StateDir::new(dir.to_owned(), identity, CacheConfig::default().window).open_store().unwrap();
    let (history, mut journal) = (store.kept.state.history(), store.journal);
    let mut times = Vec::new();
    for n in 0..writes as u64 {
        let (revision, digest) = (Revision(n + 1), Digest::default());
        let cursor = Cursor { history, revision, status: SyncStatus::InSync, check: Check::from(digest) };
        let record = BreadcrumbRecord {
            cursor,
            first_revision: revision,
            timestamp: SystemTime::now(),
            digest,
            count: 0,
            deltas: &[],
            steps: &[],
        };
        let started = Instant::now();
        journal.append(&record).unwrap();
        times.push(started.elapsed());
    }
    median(times)
}

fn report(what: &str, ours: Duration, floor: Duration) {
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    println!("{what}: {ours:.2?}, bare database {floor:.2?}, ratio {ratio:.2}");
}
