//! What the feed of a Kubernetes cluster costs beside a bare client: the first load, and the latency of a change.
//!
//! ```text
//! cargo bench --bench kubernetes                # 50,000 objects, medians: about two minutes
//! cargo bench --bench kubernetes -- --quick     # 10,000 objects, one load
//! ```
//!
//! The server is a real kube-apiserver before a real etcd, which `.ci/setup` builds; both share the machine's cores with
//! the daemon. The floors use the daemon's own client library, `kube`: pages of a list whose objects are thrown away, and a
//! watch whose lines are searched for a name. Each change is timed at the watch and at a client of the daemon that waits.

// A benchmark may unwrap, and its table is its output.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use axum::http::Request;
use crumbd::client::{Client, Follower};
use futures_util::{AsyncBufReadExt as _, TryStreamExt as _};
use kube::client::ClientBuilder;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use support::daemon::Daemon;
use support::etcd::{Keys, Op};
use support::kubernetes::Cluster;
use tokio::sync::mpsc;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PATH: &str = "/api/v1/namespaces/bench/configmaps";

/// The bytes of an object's text.
const TEXT: usize = 1024;

/// Objects on a page of the bare list: about 2 MiB, as on a page of the feed.
const PAGE: usize = 1500;

struct Effort {
    objects: usize,
    loads: usize,
    changes: usize,
}

fn main() {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    let effort = match (has("--bench"), has("--quick")) {
        (true, false) => Effort { objects: 50_000, loads: 3, changes: 200 },
        (_, true) => Effort { objects: 10_000, loads: 1, changes: 50 },
        // `cargo test --benches` runs this file too; it then only shows that it works.
        (false, false) => Effort { objects: 300, loads: 1, changes: 5 },
    };
    // The tests' tools are named from there.
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(&effort));
}

async fn measure(effort: &Effort) {
    let cluster = Cluster::start().await;
    cluster.api().create_namespace("bench").await;
    fill(&cluster, effort.objects).await;
    let bare = Bare::new(&cluster.kubeconfig()).await;
    let (mut floors, mut loads) = (Vec::new(), Vec::new());
    let mut daemon = None;
    // In turn, so that both see the same noise.
    for _ in 0..effort.loads {
        drop(daemon.take());
        let started = Instant::now();
        assert_eq!(bare.list().await.0, effort.objects);
        floors.push(started.elapsed());
        let started = Instant::now();
        let fresh = cluster.follow("resource=v1/configmaps&namespace=bench");
        assert_eq!(fresh.http().get("/readyz?wait=120s").await.status, 200);
        loads.push(started.elapsed());
        let status = fresh.http().get("/v1/status").await.json();
        assert_eq!((&status["status"], &status["count"]), (&"in-sync".into(), &effort.objects.into()));
        daemon = Some(fresh);
    }
    let (floor, load) = (median(floors), median(loads));
    let [watched, waited] = changes(&cluster, &bare, &daemon.unwrap(), effort.changes).await;

    println!("\n{} objects of {TEXT} bytes of text\n", effort.objects);
    println!("| | time | beside the bare client |\n|---|---|---|");
    println!("| bare list | {:.2} s | 1 |", floor.as_secs_f64());
    let speed = floor.as_secs_f64() / load.as_secs_f64();
    println!(
        "| daemon, from its start until it is in-sync | {:.2} s | {speed:.2} of the speed |",
        load.as_secs_f64()
    );
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("| a change until the bare watch has it, p50 | {:.2} ms | 1 |", ms(watched));
    let latency = ms(waited) / ms(watched);
    println!("| a change until a client of the daemon has it, p50 | {:.2} ms | {latency:.2} |", ms(waited));
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Puts copies of an object straight into etcd. The server takes a few hundred objects a second at best.
async fn fill(cluster: &Cluster, objects: usize) {
    let name = |number: usize| format!("object-{number:06}");
    cluster.api().put_config_map("bench", &name(0), &"x".repeat(TEXT)).await;
    let keys: Keys = cluster.etcd.keys();
    let stored = keys.range(b"/registry/configmaps/bench/").await.state;
    let (key, value) = stored.iter().find(|(key, _)| key.ends_with(name(0).as_bytes())).unwrap();
    let renamed = |bytes: &[u8], number: usize| {
        let (old, new) = (name(0), name(number));
        let mut bytes = bytes.to_vec();
        // Names are of one length, so the lengths in the object stay right.
        while let Some(at) = bytes.windows(old.len()).position(|part| part == old.as_bytes()) {
            bytes[at..at + old.len()].copy_from_slice(new.as_bytes());
        }
        bytes
    };
    let numbers: Vec<usize> = (1..objects).collect();
    for some in numbers.chunks(100) {
        let ops: Vec<Op> =
            some.iter().map(|&number| Op::Put(renamed(key, number), renamed(value, number))).collect();
        keys.txn(&ops).await;
    }
}

/// The barest client of the server.
struct Bare(kube::Client);

impl Bare {
    async fn new(kubeconfig: &str) -> Self {
        let file = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        Self(ClientBuilder::try_from(config).unwrap().build())
    }

    /// Reads all pages. Returns the number of objects, and the revision.
    async fn list(&self) -> (usize, String) {
        let (mut objects, mut token) = (0, String::new());
        loop {
            let path = format!("{PATH}?limit={PAGE}&continue={token}");
            let page = self.0.request_text(Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
            objects += page.matches("\"name\":\"object-").count();
            // The list's own metadata come first.
            let head = &page[..page.find("\"items\":").unwrap()];
            let metadata = &head[head.find("\"metadata\":").unwrap() + "\"metadata\":".len()..];
            let metadata: Value = serde_json::from_str(metadata.trim_end_matches(',')).unwrap();
            token = metadata["continue"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                return (objects, metadata["resourceVersion"].as_str().unwrap().to_owned());
            }
        }
    }
}

/// The median times from the start of a change until the bare watch has it, and until a client of the daemon has it.
async fn changes(cluster: &Cluster, bare: &Bare, daemon: &Daemon, count: usize) -> [Duration; 2] {
    let (sender, mut heard) = mpsc::channel::<(usize, Instant)>(8);
    let path = format!("{PATH}?watch=1&resourceVersion={}", bare.list().await.1);
    let lines = bare.0.request_stream(Request::get(path).body(Vec::new()).unwrap()).await.unwrap();
    let watching = tokio::spawn({
        let sender = sender.clone();
        async move {
            let mut lines = Box::pin(lines.lines());
            while let Ok(Some(line)) = lines.try_next().await {
                if line.contains("object-") && sender.send((0, Instant::now())).await.is_err() {
                    break;
                }
            }
        }
    });
    let mut follower = Follower::of(Client::new(daemon.url()).unwrap()).start();
    follower.next_change().await.unwrap();
    let following = tokio::spawn(async move {
        while let Ok(step) = follower.next_change().await {
            if !step.changes.is_empty() && sender.send((1, Instant::now())).await.is_err() {
                break;
            }
        }
    });
    let (api, mut times) = (cluster.api(), [Vec::new(), Vec::new()]);
    for number in 0..count {
        let begun = Instant::now();
        api.put_config_map("bench", "object-000000", &format!("{number:0TEXT$}")).await;
        for _ in 0..2 {
            let next = tokio::time::timeout(Duration::from_secs(10), heard.recv());
            let (which, at) = next.await.expect("watch and client to have the change").unwrap();
            times[which].push(at - begun);
        }
    }
    watching.abort();
    following.abort();
    times.map(median)
}
