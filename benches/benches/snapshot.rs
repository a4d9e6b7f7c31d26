//! What a snapshot costs to prepare: the first one, and the next one after some keys have changed.
//!
//! ```text
//! cargo bench --bench snapshot              # about two minutes
//! cargo bench --bench snapshot -- --quick   # only 100,000 keys
//! cargo bench --bench snapshot -- --memory  # only what 1,000,000 keys weigh
//! ```
//!
//! Everything goes through the public interface, `View::current`, as a request does: map, pages, encoding,
//! compression and the list of the body's parts, up to where the parts would be written to sockets.
//! CPU time of all threads of the process; the changes are applied before the clock starts. *order* is
//! to sort the map into pages, *encode* all that comes after it in the first snapshot of that format,
//! and the ratio is that of *encode* alone to the next snapshot, so that the sorting, which the next
//! one does without too, is not even counted.
//!
//! A main of its own rather than criterion's: what matters is one table of ratios on a state of some
//! hundred megabytes. Medians; the first snapshots are single runs.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crumbd::cache::{Cache, CacheConfig};
use crumbd::feed::Upstream;
use crumbd::ingest::IngestBuffer;
use crumbd::model::{FeedEvent, History, ResyncClaim, Revision, SyncStatus, Update};
use crumbd::view::{Account, Answer, Body, Format, KeySelector, Page, View, ViewConfig};
use crumbd::wire::{Coding, MediaType};
use crumbd_bench::load::own_cpu_time;
use fastrand::Rng;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 200;

/// Keys that change from one snapshot to the next.
const CHANGES: [usize; 3] = [1, 100, 10_000];

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    // `cargo test --benches` runs this file too; it then only shows that it works.
    let (sizes, rounds): (&[usize], _) = match (has("--bench"), has("--quick"), has("--memory")) {
        (_, _, true) => (&[1_000_000], 0),
        (_, true, _) => (&[100_000], 5),
        (true, ..) => (&[100_000, 1_000_000], 9),
        _ => (&[1_000], 1),
    };
    for keys in sizes {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(measure(*keys, rounds));
    }
}

async fn measure(keys: usize, rounds: usize) {
    let cache = filled(keys).await;
    // First, while the allocator has nothing free that was used before.
    memory_of(&cache, keys).await;
    if rounds == 0 {
        return;
    }
    println!("\n{keys} keys of 40 bytes, values of {VALUE_BYTES}; CPU time in ms, {rounds} rounds\n");
    println!(
        "{:<17}{:>7}{:>8}{:>9}{:>9}{:>9}{:>9}   {:<17}{:>7}",
        "", "order", "encode", "after 1", "100", "10,000", "ratio@100", "MB (whole)", "parts"
    );
    let mut revision = 100;
    for coding in Coding::ALL {
        for media in MediaType::ALL {
            let format = Format { media, coding };
            let view = view(&cache);
            let order = cpu(|| listed(&view)).await;
            let encode = cpu(|| snapshot(&view, format)).await;
            let mut after = Vec::new();
            for changes in CHANGES.map(|changes| changes.min(keys)) {
                let mut times = Vec::new();
                for _ in 0..rounds {
                    revision += 1;
                    change(&cache, keys, changes, revision).await;
                    times.push(cpu(|| snapshot(&view, format)).await);
                }
                after.push(middle(times));
            }
            let body = snapshot(&view, format).await.body;
            let whole = match coding {
                Coding::Identity => body.len() as usize,
                _ => coding
                    .encode(&plain(&snapshot(&view, Format { coding: Coding::Identity, media }).await.body))
                    .unwrap()
                    .len(),
            };
            let megabytes = format!("{:.1} ({:.1})", mega(body.len() as usize), mega(whole));
            println!(
                "{:<17}{:>7.0}{:>8.0}{:>9.3}{:>9.2}{:>9.1}{:>9.0}   {:<17}{:>7}",
                format!("{media:?} {}", coding.as_str()),
                order,
                encode,
                after[0],
                after[1],
                after[2],
                encode / after[1],
                megabytes,
                (0..).map_while(|run| body.run(run)).map(<[_]>::len).sum::<usize>(),
            );
        }
    }
}

/// What is held for snapshots, beyond the map: pages, and one plain encoding.
async fn memory_of(cache: &Cache, keys: usize) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let view = view(cache);
    let format = Format { media: MediaType::Ndjson, coding: Coding::Identity };
    let before = resident();
    let plain = snapshot(&view, format).await.body.len();
    let held = resident().saturating_sub(before);
    println!(
        "\nresident bytes a key for pages and one plain encoding (NDJSON): {:.0}, of which {:.0} are the body",
        held as f64 / keys as f64,
        plain as f64 / keys as f64,
    );
}

// ---- what is measured ----------------------------------------------------------------------

fn view(cache: &Cache) -> View {
    View::new(cache.reader(), Arc::new(Upstream::remote()), &ViewConfig::default()).0
}

async fn snapshot(view: &View, format: Format) -> Answer {
    let newest = view.newest().unwrap().sequence();
    view.current(newest, &KeySelector::ALL, format, &Account::unlimited()).await.unwrap()
}

/// A listing of one key needs the order and encodes nothing.
async fn listed(view: &View) -> Answer {
    let format = Format { media: MediaType::Json, coding: Coding::Identity };
    let page = Page { keys: KeySelector::ALL, start_after: None, limit: 1 };
    view.page(page, None, format, &Account::unlimited(), tokio::time::Instant::now()).await.unwrap()
}

fn plain(body: &Body) -> Vec<u8> {
    (0..).map_while(|run| body.run(run)).map(<[_]>::concat).collect::<Vec<_>>().concat()
}

/// CPU time in milliseconds; what is made is dropped after the clock has stopped.
async fn cpu<T, F: Future<Output = T>>(work: impl FnOnce() -> F) -> f64 {
    let before = own_cpu_time();
    let made = work().await;
    let time = own_cpu_time().saturating_sub(before);
    drop(made);
    time.as_secs_f64() * 1e3
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

// ---- the state -----------------------------------------------------------------------------

async fn filled(keys: usize) -> Cache {
    let buffer = Arc::new(IngestBuffer::channel(1024).unwrap());
    let (cache, task) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
    tokio::spawn(task.run());
    let mut crumb = cache.current_breadcrumb();
    let whole_at = Some(Revision(7));
    cache.send(FeedEvent::ResyncBegin { history: None, whole_at, lossy: false }).await.unwrap();
    let mut rng = Rng::with_seed(1);
    for first in (0..keys).step_by(100) {
        let updates = (first..keys.min(first + 100)).map(|index| update(index, &mut rng)).collect();
        cache.on_updates(updates).await.unwrap();
    }
    let claim = ResyncClaim::default();
    cache.send(FeedEvent::ResyncEnd { revision: whole_at, claim, complete: true }).await.unwrap();
    cache.on_status_updated(SyncStatus::InSync).await.unwrap();
    while crumb.kvs().len() < keys || crumb.sync_status() != SyncStatus::InSync {
        crumb = crumb.next().await.unwrap();
    }
    cache
}

/// Changes so many keys anywhere, in one revision, and waits until readers see it.
async fn change(cache: &Cache, keys: usize, changes: usize, revision: u64) {
    let mut rng = Rng::with_seed(revision);
    let revision = Revision(revision);
    let updates = (0..changes).map(|_| {
        let index = rng.usize(..keys);
        Update { revision: Some(revision), ..update(index, &mut rng) }
    });
    cache.on_updates(updates.collect()).await.unwrap();
    let started = Instant::now();
    while cache.current_breadcrumb().revision() < revision {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

/// Neighbours in number are not neighbours in order. The value is a JSON object, as most are: names and
/// words that repeat, and an identifier, a time and a checksum that do not.
fn update(index: usize, rng: &mut Rng) -> Update {
    let scrambled = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let key = format!("/registry/pods/{scrambled:016x}-{index:08}");
    let mut value = format!(
        r#"{{"index":{index:08},"uid":"{:016x}{:016x}","node":"node-{:03}","at":{},"phase":"Running","text":""#,
        rng.u64(..),
        rng.u64(..),
        rng.u32(..300),
        rng.u32(1_700_000_000..1_800_000_000),
    );
    const WORDS: [&str; 8] =
        ["ready", "restarted", "scheduled", "image", "pulled", "started", "volume", "bound"];
    while value.len() < VALUE_BYTES - 2 {
        write!(value, "{} ", WORDS[rng.usize(..WORDS.len())]).unwrap();
    }
    value.truncate(VALUE_BYTES - 2);
    value.push_str("\"}");
    Update::put(&key, &value)
}

fn mega(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
