//! What a real etcd and the daemon need of each other: the first load, a warm start, a resync.
//!
//! ```text
//! cargo bench --bench etcd                      # 100,000 and 1,000,000 keys, medians: some minutes
//! cargo bench --bench etcd -- --quick           # 100,000 keys, one run each
//! cargo bench --bench etcd -- 50000 2000000     # other sizes
//! cargo bench --bench etcd -- --only=warm       # or load, or resync
//! ```
//!
//! It starts an etcd of its own for each size, on free loopback ports, with its data in memory where there is
//! room. The floor of the load is the barest client: the same pages, decoded into the same messages by the
//! same gRPC library, a watch from the next revision on, and everything thrown away. The ratio is what
//! an entry of the state, the table, the digest and the process cost beside etcd's own work; all of them
//! share the machine's cores with etcd.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

mod bare;
mod daemon;
mod data;
mod load;
#[allow(unused_imports)] // those of its unit tests, which a benchmark does not run
#[path = "../../../src/wire/etcd/mod.rs"]
mod messages;
mod resync;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod warm;

use std::path::Path;
use std::time::{Duration, Instant};

use bare::Bare;
use support::etcd::Etcd;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Effort {
    runs: usize,
    sizes: Vec<usize>,
    only: Option<String>,
}

impl Effort {
    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

/// What was measured at one size; medians.
struct Figures {
    keys: usize,
    load: Option<Load>,
    warm: Option<Warm>,
    resync: Option<resync::Resynced>,
}

struct Load {
    floor: Duration,
    library: Duration,
    daemon: Duration,
}

struct Warm {
    file_bytes: u64,
    time: Duration,
    cpu: Duration,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let sizes: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let (runs, default_sizes) = match (has("--bench"), has("--quick")) {
        (_, true) => (1, vec![100_000]),
        (true, false) => (5, vec![100_000, 1_000_000]),
        // `cargo test --benches` runs this file too; it then only shows that it works.
        (false, false) => (1, vec![2_000]),
    };
    let sizes = if sizes.is_empty() { default_sizes } else { sizes };
    let only = arguments.iter().find_map(|argument| argument.strip_prefix("--only=")).map(str::to_owned);
    let effort = Effort { runs, sizes, only };
    if let Err(error) = std::process::Command::new("etcd").arg("--version").output() {
        eprintln!("this bench starts a real etcd, and there is none ({error}): apt-get install etcd-server");
        std::process::exit(1);
    }
    use_memory_for_data(effort.sizes.iter().copied().max().unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = Instant::now();
    let mut all = Vec::new();
    for keys in &effort.sizes {
        all.push(runtime.block_on(measure(*keys, &effort)));
    }
    print(&all, effort.runs, started.elapsed());
}

/// A memory file system, where one is large enough: the disk is not what is measured.
fn use_memory_for_data(keys: usize) {
    let shm = Path::new("/dev/shm");
    let free = std::process::Command::new("df").args(["--output=avail", "-B1", "/dev/shm"]).output().ok();
    let free = free.and_then(|out| String::from_utf8(out.stdout).ok()?.lines().nth(1)?.trim().parse().ok());
    // etcd's pages and log, and the daemon's two state files, take some 1,500 bytes a key.
    if free.unwrap_or(0_usize) > (4 << 30) + 2_000 * keys {
        _ = tempfile::env::override_temp_dir(shm);
    }
}

async fn measure(keys: usize, effort: &Effort) -> Figures {
    let runs = effort.runs;
    let step = |what: &str| eprint!("\r{:<80}", format!("{} keys: {what} …", thousands(keys as f64)));
    step("filling etcd");
    let etcd = Etcd::start_with(&[
        "--max-txn-ops",
        "5000",
        "--quota-backend-bytes",
        "8589934592",
        "--experimental-compaction-batch-limit",
        "100000",
    ])
    .await;
    let endpoint = etcd.endpoint();
    Bare::connect(&endpoint).await.fill(keys).await;
    let feed = etcd.feed(data::PREFIX);

    let mut figures = Figures { keys, load: None, warm: None, resync: None };
    if effort.wants("load") {
        // In turn, so that a machine that changes its pace changes it for all of them.
        let (mut floor, mut library, mut daemon) = (Vec::new(), Vec::new(), Vec::new());
        for run in 1..=runs {
            step(&format!("first load, {run} of {runs}"));
            floor.push(load::floor(&endpoint, keys).await);
            library.push(load::library(&endpoint, keys).await);
            daemon.push(load::daemon(&feed, keys).await);
        }
        let [floor, library, daemon] = [floor, library, daemon].map(median);
        figures.load = Some(Load { floor, library, daemon });
    }
    if effort.wants("warm") {
        step("keeping a state");
        let dir = tempfile::tempdir().unwrap();
        let file_bytes = warm::keep(&feed, dir.path()).await;
        let mut times = Vec::new();
        for run in 1..=runs {
            step(&format!("warm start, {run} of {runs}"));
            times.push(warm::start(&feed, dir.path(), keys).await);
        }
        let (times, cpu) = times.into_iter().unzip();
        figures.warm = Some(Warm { file_bytes, time: median(times), cpu: median(cpu) });
    }
    if effort.wants("resync") {
        step("resync");
        let resync = resync::resync(&endpoint, keys).await;
        let updates = resync.updates;
        assert_eq!(updates, resync::DIFFERENCES, "a client hears of what differs, and of nothing else");
        figures.resync = Some(resync);
    }
    eprint!("\r{:<80}\r", "");
    figures
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn print(all: &[Figures], runs: usize, took: Duration) {
    let rate = |figures: &Figures, time: Duration| thousands(figures.keys as f64 / time.as_secs_f64());
    let ratio = |of: Duration, to: Duration| format!("{:.2}", to.as_secs_f64() / of.as_secs_f64());
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    type Cell<'a> = Box<dyn Fn(&Figures) -> Option<String> + 'a>;
    let rows: Vec<(&str, Cell<'_>)> = vec![
        (
            "first load, bare range and watch, updates/s",
            Box::new(|f| f.load.as_ref().map(|load| rate(f, load.floor))),
        ),
        (
            "first load, crumbd as a library, updates/s",
            Box::new(|f| f.load.as_ref().map(|load| rate(f, load.library))),
        ),
        (
            "… as a ratio to the bare client",
            Box::new(|f| f.load.as_ref().map(|load| ratio(load.library, load.floor))),
        ),
        (
            "first load, the daemon from its start, updates/s",
            Box::new(|f| f.load.as_ref().map(|load| rate(f, load.daemon))),
        ),
        (
            "… as a ratio to the bare client",
            Box::new(|f| f.load.as_ref().map(|load| ratio(load.daemon, load.floor))),
        ),
        (
            "warm start, from its start until served",
            Box::new(|f| f.warm.as_ref().map(|warm| seconds(warm.time))),
        ),
        ("… CPU time of that", Box::new(|f| f.warm.as_ref().map(|warm| seconds(warm.cpu)))),
        ("… from a file of", Box::new(|f| f.warm.as_ref().map(|warm| mebibytes(warm.file_bytes)))),
        (
            "resync with 1,000 differences, until a client has them",
            Box::new(|f| f.resync.as_ref().map(|resync| seconds(resync.time))),
        ),
        (
            "… updates that the client received",
            Box::new(|f| f.resync.as_ref().map(|resync| thousands(resync.updates as f64))),
        ),
        ("… memory before it", Box::new(|f| f.resync.as_ref().map(|resync| mebibytes(resync.steady_bytes)))),
        (
            "… at most during it, as a ratio",
            Box::new(|f| {
                let resync = f.resync.as_ref()?;
                Some(format!("{:.2}", resync.peak_bytes as f64 / resync.steady_bytes as f64))
            }),
        ),
    ];
    let cell = |cell: &Cell<'_>, figures: &Figures| cell(figures).unwrap_or_else(|| "–".to_owned());
    println!("{}", "=".repeat(91));
    println!("cargo bench --bench etcd   ({} s; {})", took.as_secs(), machine());
    println!(
        "keys of {} bytes, values of {}; loads and starts are medians of {runs}, the resync is one\n",
        data::KEY_BYTES,
        data::VALUE_BYTES
    );
    for (name, row) in &rows {
        let cells: String = all.iter().map(|figures| format!("{:>16}", cell(row, figures))).collect();
        println!("{name:<56}{cells}");
    }
    println!("\nfor the README:\n");
    let line = |name: &str, cells: Vec<String>| println!("| {name} | {} |", cells.join(" | "));
    line("", all.iter().map(|figures| format!("{} keys", thousands(figures.keys as f64))).collect());
    line("---", all.iter().map(|_| "---".to_owned()).collect());
    for (name, row) in &rows {
        line(name, all.iter().map(|figures| cell(row, figures)).collect());
    }
}

/// What it was measured on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let etcd = std::process::Command::new("etcd").arg("--version").output().ok();
    let etcd = etcd.and_then(|out| Some(String::from_utf8(out.stdout).ok()?.lines().next()?.to_owned()));
    let model = model.map_or("unknown processor", |(_, model)| model);
    format!("{cores} cores, {model}; {}", etcd.unwrap_or_default())
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}
