//! How many updates the cache takes in a second, what a breadcrumb costs, and what an entry weighs.
//!
//! ```text
//! cargo bench --bench ingest              # about three minutes
//! cargo bench --bench ingest -- --quick   # about half a minute, fewer and shorter runs
//! ```
//!
//! Everything goes through the public interface: a producer task makes the entries, as a feed does,
//! and hands them to `Cache::on_updates`. The cache is compared with the bare map under it doing the
//! same inserts on one thread, with the entries made beforehand: that is the floor, and the ratio is what
//! batching, no-op suppression, digest, deltas, window and breadcrumbs cost, or the better map gains.
//!
//! A main of its own rather than criterion's: a run is seconds of two threads at work on a state of
//! 300 MB, and what matters is one table of ratios. Figures are medians of several runs, each row and
//! size in a process of its own.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crumbd::cache::{Breadcrumb, Cache, CacheConfig, WindowLimits};
use crumbd::ingest::IngestBuffer;
use crumbd::model::{Entry, FeedEvent, History, ResyncClaim, Revision, Update};
use crumbd_bench::load::own_cpu_time;
use fastrand::Rng;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY_BYTES: usize = 40;
const VALUE_BYTES: usize = 200;

/// Events between the producer and the cache: the daemon's default.
const BUFFER: usize = 1024;

/// Updates of one event while a cache is filled.
const FILLING: usize = 100;

#[derive(Clone, Copy)]
struct Effort {
    runs: usize,
    updates: usize,
    sizes: &'static [usize],
}

const FULL: Effort = Effort { runs: 9, updates: 100_000, sizes: &[10_000, 100_000, 1_000_000] };
const QUICK: Effort = Effort { runs: 3, updates: 40_000, sizes: &[10_000, 100_000, 1_000_000] };
/// `cargo test --benches` runs this file too; it then only shows that it works.
const SMOKE: Effort = Effort { runs: 1, updates: 1_000, sizes: &[1_000] };

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(probe) = arguments.iter().find_map(|argument| argument.strip_prefix("--probe=")) {
        let figures: Vec<String> = run_probe(probe).iter().map(f64::to_string).collect();
        return println!("{}", figures.join(" "));
    }
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let (effort, command) = match (has("--bench"), has("--quick")) {
        (_, true) => (QUICK, "cargo bench --bench ingest -- --quick"),
        (true, false) => (FULL, "cargo bench --bench ingest"),
        (false, false) => (SMOKE, "smoke test; for figures: cargo bench --bench ingest"),
    };
    let started = Instant::now();
    let table = measure(effort);
    println!("{}", "=".repeat(91));
    println!("{command}   ({} s, {} cores)", started.elapsed().as_secs(), cores());
    println!(
        "keys of {KEY_BYTES} bytes, values of {VALUE_BYTES}; {} runs of {} updates each, medians; mimalloc\n",
        effort.runs, effort.updates
    );
    print!("{}", table.text());
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

// ---- what is measured ----------------------------------------------------------------------

fn measure(effort: Effort) -> Table {
    let mut table = Table::new(effort.sizes);
    let mut rate = |name: &str, probe: &str| -> Vec<f64> {
        let rates: Vec<f64> =
            effort.sizes.iter().map(|keys| probe_at(effort, name, probe, *keys)[0]).collect();
        table.row(name, rates.iter().map(|rate| thousands(*rate)));
        rates
    };
    let bare = rate("bare map, no snapshot held        /s", "bare");
    let kept = rate("bare map, a clone kept per 100    /s", "bare-kept");
    rate("bare map of our entries, the same /s", "thin-kept");
    let hundred = rate("cache, 100 updates per breadcrumb /s", "cache-100");
    rate("  the same, window of 16          /s", "cache-100-16");
    let one = rate("cache, 1 update per breadcrumb    /s", "cache-1");
    let load = rate("cache, one by one, default batch  /s", "cache-load");
    table.rule();
    let mut ratio = |name: &str, cache: &[f64], floor: &[f64]| {
        table.row(name, cache.iter().zip(floor).map(|(cache, floor)| format!("{:.2}", cache / floor)));
    };
    ratio("cache, 100 : bare map with clones", &hundred, &kept);
    ratio("cache, 100 : bare map without", &hundred, &bare);
    ratio("cache, 1   : bare map with clones", &one, &kept);
    ratio("cache, load: bare map with clones", &load, &kept);
    table.rule();

    let published: Vec<_> =
        effort.sizes.iter().map(|keys| probe_at(effort, "publishing one delta", "publish", *keys)).collect();
    let rows = [
        "one delta, one thread, all work    µs",
        "one delta, two workers, until read µs",
        "  CPU of both                      µs",
    ];
    for (row, name) in rows.into_iter().enumerate() {
        table.row(name, published.iter().map(|figures| format!("{:.1}", figures[row])));
    }
    table.rule();

    for (name, probe) in [
        ("bytes a key over payload, no window", "weigh-alone"),
        ("  with the default window", "weigh-window"),
        ("  filled by one resync", "weigh-resync"),
        ("  every key updated once", "weigh-churn"),
    ] {
        let weights = effort.sizes.iter().map(|keys| {
            let figures = probe_at(effort, "memory", probe, *keys);
            format!("{:.0} (peak {:.0})", figures[0], figures[1])
        });
        table.row(name, weights);
    }
    table
}

/// Measures in a process of its own: what an allocator has been through shows in all that follows.
fn probe_at(effort: Effort, name: &str, probe: &str, keys: usize) -> Vec<f64> {
    eprint!("\r{:<80}", format!("{} at {} keys …", name.trim(), thousands(keys as f64)));
    let argument = format!("--probe={probe},{keys},{},{}", effort.runs, effort.updates);
    let output = std::process::Command::new(std::env::current_exe().unwrap()).arg(argument).output().unwrap();
    eprint!("\r{:<80}\r", "");
    assert!(output.status.success(), "{probe}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_ascii_whitespace().map(|figure| figure.parse().unwrap()).collect()
}

fn run_probe(probe: &str) -> Vec<f64> {
    let mut parts = probe.split(',');
    let name = parts.next().unwrap();
    let [keys, runs, updates] = std::array::from_fn(|_| parts.next().unwrap().parse().unwrap());
    let effort = Effort { runs, updates, sizes: &[] };
    let (window, max_batch) = (CacheConfig::default().window, CacheConfig::default().max_batch);
    vec![match name {
        "bare" => bare_map(effort, keys, false),
        "bare-kept" => bare_map(effort, keys, true),
        "thin-kept" => thin_map(effort, keys),
        "cache-100" => cache_rate(effort, keys, 100, 100, window),
        "cache-100-16" => cache_rate(effort, keys, 100, 100, WindowLimits { max_count: 16, ..window }),
        "cache-1" => cache_rate(effort, keys, 1, 1, window),
        "cache-load" => cache_rate(effort, keys, 1, max_batch, window),
        "publish" => return publish_cost(effort, keys),
        _ => return weigh(name, keys),
    }]
}

/// The bare map under the cache, keys and values in buffers of their own.
fn bare_map(effort: Effort, keys: usize, keep: bool) -> f64 {
    let mut map = im::HashMap::new();
    let pair = |index: usize, version: u64| {
        let mut text = Text::default();
        (Bytes::copy_from_slice(text.key(index)), Bytes::copy_from_slice(text.value(index, version)))
    };
    for index in 0..keys {
        let (key, value) = pair(index, 0);
        map.insert(key, value);
    }
    inserts(effort, keys, pair, |updates| {
        let mut kept = None;
        for hundred in updates.chunks(100) {
            for (key, value) in hundred {
                map.insert(key.clone(), value.clone());
            }
            kept = keep.then(|| map.clone());
        }
        drop(kept);
    })
}

/// An entry as the cache keeps it: found by its key.
#[derive(Clone)]
struct Keyed(Entry);

impl Hash for Keyed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key().hash(state);
    }
}

impl PartialEq for Keyed {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for Keyed {}

/// The bare map with the cache's own entries: what the cache could reach if all else were free.
fn thin_map(effort: Effort, keys: usize) -> f64 {
    let mut map = im::HashMap::new();
    let entry = |index: usize, version: u64| {
        let mut text = Text::default();
        let key = text.key(index).to_vec();
        Keyed(Entry::new(&key, text.value(index, version), None))
    };
    for index in 0..keys {
        map.insert(entry(index, 0), ());
    }
    inserts(effort, keys, entry, |updates| {
        let mut kept = None;
        for hundred in updates.chunks(100) {
            for keyed in hundred {
                map.insert(keyed.clone(), ());
            }
            kept = Some(map.clone());
        }
        drop(kept);
    })
}

/// Times `insert` with entries that are made beforehand.
fn inserts<T>(
    effort: Effort,
    keys: usize,
    make: impl Fn(usize, u64) -> T,
    mut insert: impl FnMut(&[T]),
) -> f64 {
    let mut random = Rng::with_seed(1);
    let mut version = 0;
    median(effort.runs, || {
        version += 1;
        let updates: Vec<T> = (0..effort.updates).map(|_| make(random.usize(..keys), version)).collect();
        let started = Instant::now();
        insert(&updates);
        per_second(effort.updates, started.elapsed())
    })
}

/// Updates in slices of `slice`, at most `batch` of them in a breadcrumb.
fn cache_rate(effort: Effort, keys: usize, slice: usize, batch: usize, window: WindowLimits) -> f64 {
    let config = CacheConfig { max_batch: batch, window, ..CacheConfig::default() };
    two_workers().block_on(async move {
        let cache = filled(config, keys).await;
        let mut run = 0;
        let mut once = async || {
            run += 1;
            let crumbs = cache.stats().breadcrumbs.get();
            let last = cache.current_breadcrumb().revision().0 + effort.updates as u64;
            let started = Instant::now();
            let produced = tokio::spawn(produce(cache.clone(), effort.updates, keys, slice, run));
            reach(&cache, Revision(last)).await;
            let elapsed = started.elapsed();
            produced.await.unwrap();
            let crumbs = cache.stats().breadcrumbs.get() - crumbs;
            if slice == batch {
                assert_eq!(crumbs as usize, effort.updates.div_ceil(batch), "a breadcrumb for each slice");
            }
            per_second(effort.updates, elapsed)
        };
        // Not counted: the window fills, and what it lets go of is then freed beside the work.
        once().await;
        let mut rates = Vec::new();
        for _ in 0..effort.runs {
            rates.push(once().await);
        }
        middle(rates)
    })
}

async fn produce(cache: Cache, updates: usize, keys: usize, slice: usize, version: u64) {
    let mut random = Rng::with_seed(version);
    let mut text = Text::default();
    for first in (0..updates).step_by(slice) {
        let slice = slice.min(updates - first);
        // No two updates of a run are the same, so that none is suppressed.
        let updates =
            (first..first + slice).map(|i| text.update(random.usize(..keys), version << 32 | i as u64));
        cache.on_updates(updates.collect()).await.unwrap();
    }
}

/// A reader that follows the trail until there.
async fn reach(cache: &Cache, revision: Revision) {
    let mut crumb = cache.current_breadcrumb();
    while crumb.revision() < revision {
        crumb = crumb.next().await.unwrap();
    }
}

async fn filled(config: CacheConfig, keys: usize) -> Cache {
    let buffer = Arc::new(IngestBuffer::channel(BUFFER).unwrap());
    let (cache, task) = Cache::new(config, Some(History::derive(b"bench")), buffer);
    tokio::spawn(task.run());
    fill(&cache, keys, 0).await;
    cache
}

/// Sets every key once.
async fn fill(cache: &Cache, keys: usize, version: u64) {
    let last = cache.current_breadcrumb().revision().0 + keys as u64;
    for first in (0..keys).step_by(FILLING) {
        cache.on_updates(slice_of(first, keys, version)).await.unwrap();
    }
    reach(cache, Revision(last)).await;
}

fn slice_of(first: usize, keys: usize, version: u64) -> Vec<Update> {
    let mut text = Text::default();
    (first..keys.min(first + FILLING)).map(|index| text.update(index, version)).collect()
}

fn two_workers() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

// ---- one delta -----------------------------------------------------------------------------

/// Producer, cache and reader on one thread, which is all the work there is and no waking of
/// threads; on two workers, as in the daemon; and the CPU time of that.
fn publish_cost(effort: Effort, keys: usize) -> Vec<f64> {
    let (one, _) = one_thread().block_on(publish_one_by_one(effort, keys));
    let (two, cpu) =
        two_workers().block_on(async move { tokio::spawn(publish_one_by_one(effort, keys)).await.unwrap() });
    [one, two, cpu].iter().map(|time| time.as_secs_f64() * 1e6).collect()
}

/// From the call of `on_updates` until a reader that waits has the breadcrumb: median, and CPU time.
async fn publish_one_by_one(effort: Effort, keys: usize) -> (Duration, Duration) {
    let cache = filled(CacheConfig::default(), keys).await;
    let rounds = effort.updates / 10;
    let mut random = Rng::with_seed(3);
    let mut text = Text::default();
    let mut crumb: Breadcrumb = cache.current_breadcrumb();
    let mut times = Vec::with_capacity(rounds);
    let mut cpu = Duration::ZERO;
    for round in 0..2 * rounds {
        if round == rounds {
            // The first half has filled the window.
            times.clear();
            cpu = own_cpu_time();
        }
        let update = text.update(random.usize(..keys), 1 << 40 | round as u64);
        let started = Instant::now();
        cache.on_updates(vec![update]).await.unwrap();
        crumb = crumb.next().await.unwrap();
        times.push(started.elapsed());
        assert_eq!(crumb.deltas().len(), 1);
    }
    let cpu = own_cpu_time().saturating_sub(cpu) / u32::try_from(rounds).unwrap();
    times.sort_unstable();
    (times[times.len() / 2], cpu)
}

// ---- memory --------------------------------------------------------------------------------

/// Bytes a key beyond its payload: resident in the end, and at most.
fn weigh(how: &str, keys: usize) -> Vec<f64> {
    two_workers().block_on(async move {
        let warm = filled(CacheConfig::default(), 10).await;
        drop(warm);
        let (before, _) = memory();
        let config = CacheConfig::default();
        let alone = CacheConfig { window: WindowLimits { max_count: 1, ..config.window }, ..config.clone() };
        let cache = match how {
            "weigh-resync" => resynced(config, keys).await,
            "weigh-alone" => filled(alone, keys).await,
            _ => filled(config, keys).await,
        };
        if how == "weigh-churn" {
            fill(&cache, keys, 1).await;
        }
        // What is freed beside the work, and what the allocator gives back a little later.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let payload = cache.current_breadcrumb().kvs().payload_bytes();
        assert_eq!(payload, (keys * (KEY_BYTES + VALUE_BYTES)) as u64);
        let (resident, peak) = memory();
        let over = |bytes: u64| bytes.saturating_sub(before + payload) as f64 / keys as f64;
        vec![over(resident), over(peak)]
    })
}

async fn resynced(config: CacheConfig, keys: usize) -> Cache {
    let cache = filled(config, 0).await;
    let mut crumb = cache.current_breadcrumb();
    let whole_at = Some(Revision(7));
    cache.send(FeedEvent::ResyncBegin { history: None, whole_at, lossy: false }).await.unwrap();
    for first in (0..keys).step_by(FILLING) {
        cache.on_updates(slice_of(first, keys, 0)).await.unwrap();
    }
    let claim = ResyncClaim::default();
    cache.send(FeedEvent::ResyncEnd { revision: whole_at, claim, complete: true }).await.unwrap();
    while crumb.kvs().len() < keys {
        crumb = crumb.next().await.unwrap();
    }
    cache
}

/// Resident bytes now, and at most.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    (field("VmRSS:").unwrap_or(0) * 1024, field("VmHWM:").unwrap_or(0) * 1024)
}

// ---- keys, values, tables ------------------------------------------------------------------

/// Makes keys and values in place, so that making them costs what a feed's parsing does or less.
#[derive(Default)]
struct Text {
    key: String,
    value: String,
}

impl Text {
    fn key(&mut self, index: usize) -> &[u8] {
        self.key.clear();
        // Neighbours in number are not neighbours in the tree.
        let scrambled = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        write!(self.key, "/registry/pods/{scrambled:016x}-{index:08}").unwrap();
        debug_assert_eq!(self.key.len(), KEY_BYTES);
        self.key.as_bytes()
    }

    /// A JSON object, as most values are.
    fn value(&mut self, index: usize, version: u64) -> &[u8] {
        const FILLER: &str = "a value as long as the status of a small pod: running and ready, with one \
             container, no restarts, scheduled on a node whose name is long enough, and so on, and so on";
        self.value.clear();
        write!(self.value, r#"{{"index":{index:08},"version":"{version:016x}","text":""#).unwrap();
        let room = VALUE_BYTES - 2 - self.value.len();
        self.value.push_str(&FILLER[..room]);
        self.value.push_str("\"}");
        debug_assert_eq!(self.value.len(), VALUE_BYTES);
        self.value.as_bytes()
    }

    fn update(&mut self, index: usize, version: u64) -> Update {
        self.key(index);
        self.value(index, version);
        Update::put(&self.key, &self.value)
    }
}

struct Table {
    lines: Vec<String>,
    columns: usize,
}

impl Table {
    fn new(sizes: &[usize]) -> Self {
        let mut table = Self { lines: Vec::new(), columns: sizes.len() };
        table.row("keys", sizes.iter().map(|keys| thousands(*keys as f64)));
        table.rule();
        table
    }

    fn row(&mut self, name: &str, cells: impl Iterator<Item = String>) {
        let cells: Vec<String> = cells.map(|cell| format!("{cell:>17}")).collect();
        self.lines.push(format!("{name:<40}{}", cells.concat()));
    }

    fn rule(&mut self) {
        self.lines.push("-".repeat(40 + 17 * self.columns));
    }

    fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

fn median(runs: usize, mut run: impl FnMut() -> f64) -> f64 {
    run();
    middle((0..runs).map(|_| run()).collect())
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
