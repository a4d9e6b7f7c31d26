//! The memory of kept breadcrumbs stays within its limit when more would be kept.
//!
//! What the same work takes without anything being kept is measured in the same run, with another daemon: what requests,
//! the allocator and the state need is in it, and the limit is what may come on top.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use crumbd::cache::{Breadcrumb, Cache, CacheConfig, DeltaKind};
use crumbd::ingest::IngestBuffer;
use crumbd::model::{Entry, History, Update};
use support::daemon::Daemon;
use support::etcd::Etcd;
use support::eventually;
use support::followed::is;
use support::http::Http;

const MIB: usize = 1 << 20;
const KEEP: usize = 24 * MIB;
const VALUE: usize = 4 * MIB;
const ROUNDS: usize = 80;

/// The memory of a process, as the kernel counts it.
fn resident(daemon: &Daemon) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn daemon(feed: &str, keep: usize, more: &[&str]) -> Daemon {
    let keep = keep.to_string();
    Daemon::serve(&[&["--feed", feed, "--keep-bytes", &keep], more].concat())
}

fn large(round: usize) -> Vec<u8> {
    // No allocator and no kernel finds two pages of it the same.
    let mut rng = fastrand::Rng::with_seed(round as u64);
    std::iter::repeat_with(|| rng.u8(..)).take(VALUE).collect()
}

async fn put(http: &Http, key: &str, value: &[u8]) {
    http.put(key.as_bytes(), "application/octet-stream", value).await;
}

/// The lowest that it comes to within a while: what is freed is given back with a delay, when something is allocated.
async fn settled(daemon: &Daemon, http: &Http, wanted: usize) -> usize {
    let mut lowest = usize::MAX;
    for round in 0..40 {
        put(http, "small", round.to_string().as_bytes()).await;
        lowest = lowest.min(resident(daemon));
        if lowest <= wanted {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    lowest
}

/// Does the same work twice, with and without keeping, and compares.
async fn stays_within_the_limit<F: Future<Output = ()>>(work: impl Fn(Http) -> F) {
    let bare = daemon("push:", 1, &[]);
    let kept = daemon("push:", KEEP, &[]);
    work(bare.http()).await;
    work(kept.http()).await;
    let base = settled(&bare, &bare.http(), 0).await;
    // Far less than what was written: otherwise the comparison would say nothing.
    assert!(base < ROUNDS * VALUE / 2, "{} MiB without keeping anything", base / MIB);
    let most = (base + KEEP) * 13 / 10;
    let now = settled(&kept, &kept.http(), most).await;
    assert!(now <= most, "{} MiB, {} without keeping anything", now / MIB, base / MIB);
    let status = kept.http().get("/v1/status").await.json();
    assert!(status["kept"]["bytes"].as_u64().unwrap() <= KEEP as u64, "{status}");
}

#[tokio::test]
async fn large_values_that_small_ones_replaced_count_among_what_is_kept() {
    stays_within_the_limit(|http| async move {
        for round in 0..ROUNDS {
            put(&http, &format!("job{round}"), &large(round)).await;
            put(&http, &format!("job{round}"), b"done").await;
        }
    })
    .await;
}

#[tokio::test]
async fn large_values_that_were_deleted_count_among_what_is_kept() {
    stays_within_the_limit(|http| async move {
        for round in 0..ROUNDS {
            put(&http, &format!("job{round}"), &large(round)).await;
            http.delete(format!("job{round}").as_bytes()).await;
        }
    })
    .await;
}

#[tokio::test]
async fn large_values_that_no_state_holds_are_not_kept_at_all() {
    let buffer = Arc::new(IngestBuffer::channel(4).unwrap());
    let (cache, task) = Cache::new(CacheConfig::default(), Some(History::derive(b"test")), buffer);
    tokio::spawn(task.run());
    let value = large(0);
    let before = cache.current_breadcrumb();
    // Several revisions in one breadcrumb: it says what each did, and the first two values of the key are in no state.
    let updates = vec![
        Update::put("job", &value).at(1),
        Update::put("other", &value).at(2),
        Update::put("job", [&value[..], b"again"].concat()).at(3),
        Update::put("job", "done").at(4),
        Update::delete("other").at(5),
        Update::put("gone", &value).at(6),
    ];
    cache.on_updates(updates).await.unwrap();
    let crumb = before.next().await.unwrap();
    assert_eq!(crumb.steps().len(), 6);
    let held = |crumb: &Breadcrumb| -> usize {
        let own = crumb.deltas().iter().filter(|delta| delta.kind == DeltaKind::Deleted);
        let entries = crumb.steps().iter().map(|step| &step.entry).chain(own.map(|delta| &delta.entry));
        let alone = entries
            .filter(|entry| crumb.kvs().get(entry.key()).is_none_or(|now| !now.same_allocation(entry)));
        alone.map(Entry::payload_bytes).sum()
    };
    assert!(held(&crumb) < 1000, "{} bytes", held(&crumb));
    assert!(cache.window_usage().bytes < VALUE / 2, "{} bytes", cache.window_usage().bytes);
    // What a deletion leaves is in the state before only, and counts as long as that is kept.
    cache.on_updates(vec![Update::delete("gone").at(7)]).await.unwrap();
    let gone = crumb.next().await.unwrap();
    assert!(held(&gone) < 1000, "{} bytes", held(&gone));
    assert!(
        (VALUE..VALUE + VALUE / 2).contains(&cache.window_usage().bytes),
        "{} bytes",
        cache.window_usage().bytes
    );
}

#[tokio::test]
async fn the_past_that_etcd_tells_counts_among_what_is_kept() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let long = |n: usize| format!("app/{n}/{}", "k".repeat(30_000)).into_bytes();
    for n in 0..400 {
        keys.put(&long(n % 40), &n.to_le_bytes()).await;
    }
    let keep = 4 * MIB;
    let daemon = daemon(&etcd.feed("app/"), keep, &[]);
    let http = daemon.http();
    is(&http, "in-sync").await;
    daemon.logged("the past", |line| line.contains("history read").then_some(()));
    // The newest breadcrumb stays whatever it weighs; the next one pushes it out, with all that it knows.
    let kept =
        |http: Http| async move { http.get("/v1/status").await.json()["kept"]["bytes"].as_u64().unwrap() };
    eventually("the past to count", || async { (kept(http.clone()).await > keep as u64 / 2).then_some(()) })
        .await;
    keys.put(b"app/small", b"1").await;
    eventually("the limit", || async { (kept(http.clone()).await <= keep as u64).then_some(()) }).await;
}

#[tokio::test]
async fn readers_of_one_large_value_share_it() {
    use tokio::io::AsyncWriteExt as _;
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    put(&http, "large", &large(1)).await;
    let base = settled(&daemon, &http, 0).await;
    let mut readers = Vec::new();
    for _ in 0..60 {
        let mut reader = daemon.connect().await;
        reader.write_all(b"GET /v1/kv/large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        readers.push(reader);
    }
    eventually("all to be answered", || async {
        let metrics = String::from_utf8(http.get("/metrics").await.ok(200).plain()).unwrap();
        let connections = metrics.lines().find_map(|line| line.strip_prefix("crumbd_connections ")).unwrap();
        (connections.parse::<f64>().unwrap() >= 60.0).then_some(())
    })
    .await;
    let most = (base + 60 * MIB / 2) * 13 / 10;
    let now = settled(&daemon, &http, most).await;
    assert!(now <= most, "{} MiB, {} before: 60 readers of {} MiB", now / MIB, base / MIB, VALUE / MIB);
    drop(readers);
}

#[tokio::test]
async fn pages_whose_clients_have_left_are_not_made() {
    use tokio::io::AsyncWriteExt as _;
    const CLIENTS: usize = 200;
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let value = "v".repeat(900);
    let put_key = |n| format!("{{\"type\":\"put\",\"key\":\"key/{n:06}\",\"value\":\"{value}\"}}");
    http.post(&(0..8000).map(put_key).collect::<Vec<_>>()).await;
    // One page, made and written, and what it takes.
    let page = http.get("/v1/kv?limit=100000").await.ok(200).body.len();
    assert!(page > 7 * MIB, "{page} bytes");
    let base = resident(&daemon);
    for _ in 0..CLIENTS {
        let mut client = daemon.connect().await;
        client
            .write_all(b"GET /v1/kv?limit=100000 HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
            .await
            .unwrap();
        drop(client);
    }
    let most = base + CLIENTS * page / 4;
    for round in 0..40 {
        put(&http, "small", round.to_string().as_bytes()).await;
        let now = resident(&daemon);
        assert!(
            now <= most,
            "{} MiB, {} before: {CLIENTS} pages of {} MiB",
            now / MIB,
            base / MIB,
            page / MIB
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn unread_bodies_of_ten_times_the_budget_are_not_made() {
    use tokio::io::AsyncWriteExt as _;
    const BUDGET: usize = 16 * MIB;
    let budget = BUDGET.to_string();
    let daemon = Daemon::push(&["--max-snapshot-bytes", &budget, "--body-cache-bytes", "1MiB"]);
    let http = daemon.http();
    let value = "v".repeat(900);
    let put_key = |n| format!("{{\"type\":\"put\",\"key\":\"key/{n:06}\",\"value\":\"{value}\"}}");
    let before = http.cursor().await;
    http.post(&(0..8000).map(put_key).collect::<Vec<_>>()).await;
    // One of each, made and written, and what it takes.
    let page = http.get("/v1/kv?limit=8000").await.ok(200).body.len();
    assert!(page > 7 * MIB, "{page} bytes");
    http.get("/v1/breadcrumbs/current").await.ok(200);
    let now = http.cursor().await;
    let base = resident(&daemon);
    let mut readers = Vec::new();
    for n in 0..10 * BUDGET / page {
        let limit = 7900 + n;
        for path in [
            format!("/v1/kv?limit={limit}"),
            format!("/v1/breadcrumbs/current?prefix={}", "key/"[..1 + n % 4].to_owned()),
            format!("/v1/breadcrumbs/{before}/diff/{now}"),
            format!("/v1/breadcrumbs/{before}/next"),
        ] {
            let mut reader = daemon.connect().await;
            let accept = if n % 2 == 0 { "application/json" } else { "application/x-ndjson" };
            let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
            reader.write_all(head.as_bytes()).await.unwrap();
            readers.push(reader);
        }
    }
    // Beside the budget there are the cached pages of a second format, the bodies that each core is making, and what the
    // allocator keeps of those before. Ten budgets were asked for.
    let most = base + 6 * BUDGET;
    let refused = || async {
        let now = resident(&daemon);
        assert!(now <= most, "{} MiB, {} before", now / MIB, base / MIB);
        let status = http.get("/v1/status").await.json();
        let refused = |limit| status["over_budget"][limit].as_u64().unwrap();
        (refused("max-snapshot-bytes") + refused("max-client-snapshot-bytes") > 4).then_some(())
    };
    eventually("refusals", refused).await;
    // Everybody else reads what is small, and waits for changes.
    let elsewhere = Http::from_address(daemon.url(), [127, 0, 0, 2]);
    let start =
        elsewhere.get(&format!("/v1/breadcrumbs/{now}/next?wait=0")).await.ok(204).cursor().to_owned();
    put(&elsewhere, "small", b"1").await;
    elsewhere.get(&format!("/v1/breadcrumbs/{start}/next")).await.ok(200);
    drop(readers);
    eventually("room", || async { (http.get("/v1/kv?limit=8000").await.status == 200).then_some(()) }).await;
}

#[tokio::test]
async fn snapshots_that_nobody_reads_stay_within_their_limit() {
    const BODY: usize = 32 * MIB;
    let daemon = Daemon::push(&["--snapshot-cache-bytes", "2MiB"]);
    let http = daemon.http();
    // Values as large as those of a Kubernetes cluster.
    let value = "v".repeat(4 << 10);
    let put_key = |n| format!("{{\"type\":\"put\",\"key\":\"key/{n:06}\",\"value\":\"{value}\"}}");
    for first in (0..BODY >> 12).step_by(1024) {
        http.post(&(first..first + 1024).map(put_key).collect::<Vec<_>>()).await;
    }
    let read = |media: &'static str| {
        let http = http.clone();
        async move {
            let got = http.get_with("/v1/breadcrumbs/current", &[("accept", media)]).await.ok(200);
            assert!(got.body.len() > BODY, "{media}: {} bytes", got.body.len());
        }
    };
    // What the newest body takes while it is sent, and what the allocator keeps of it.
    read("application/json").await;
    let base = settled(&daemon, &http, 0).await;
    for _ in 0..2 {
        for media in ["application/json", "application/x-ndjson", "application/vnd.crumbd.v1+bincode"] {
            read(media).await;
        }
    }
    // Three formats would be three bodies more. Bytes that nobody sends are dropped within about a second, and the allocator
    // gives them back later.
    let most = base + BODY;
    let mut now = 0;
    for _ in 0..5 {
        now = settled(&daemon, &http, most).await;
        if now <= most {
            break;
        }
    }
    assert!(now <= most, "{} MiB, {} before", now / MIB, base / MIB);
}

/// The memory of a daemon with so many keys in its feed, once it has read them.
async fn with_feed(path: &std::path::Path, keys: usize, more: &[&str]) -> usize {
    use std::io::Write as _;
    const VALUE: usize = 2000;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let mut rng = fastrand::Rng::with_seed(7);
    for key in 0..keys {
        let value: String = std::iter::repeat_with(|| rng.alphanumeric()).take(VALUE).collect();
        writeln!(file, r#"{{"type":"put","key":"key/{key}","value":"{value}"}}"#).unwrap();
    }
    drop(file);
    let daemon = daemon(&format!("file:{}", path.display()), 1, more);
    let status = is(&daemon.http(), "in-sync").await;
    assert_eq!(status["ingest"]["updates"].as_u64().unwrap(), keys as u64);
    resident(&daemon)
}

#[tokio::test]
async fn a_feed_of_ten_times_the_limit_takes_little_more_than_one_that_is_at_it() {
    const KEYS: usize = 5000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    let limit = KEYS.to_string();
    let at_it = with_feed(&path, KEYS, &["--max-keys", &limit]).await;
    let over = with_feed(&path, 10 * KEYS, &["--max-keys", &limit]).await;
    let unlimited = with_feed(&path, 10 * KEYS, &[]).await;
    // Otherwise the comparison would say nothing.
    assert!(unlimited > at_it + 80 * MIB, "{} MiB and {} MiB", at_it / MIB, unlimited / MIB);
    assert!(over < at_it + 25 * MIB, "{} MiB at the limit, {} MiB over it", at_it / MIB, over / MIB);
}
