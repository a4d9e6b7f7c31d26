//! Restarts: what the daemon told before, it tells after.

use std::path::Path;

use tempfile::TempDir;

use crate::client::Client;
use crate::etcd::kv::{CompactionRequest, Event, KeyValue, RangeRequest};
use crate::history::{self, Random};
use crate::servers::{Front, all_keys, client_of};
use crate::support::daemon::Daemon;
use crate::support::etcd::Etcd;
use crate::support::{eventually, in_time};
use crate::watches::recorded;

/// Every key, out of the daemon's memory.
async fn from_memory(client: &Client) -> Vec<KeyValue> {
    let request = RangeRequest { serializable: true, ..all_keys() };
    in_time("an answer out of memory", client.range(request)).await.unwrap().kvs
}

/// The revision and every key, by a linearizable read.
async fn newest(client: &Client) -> (i64, Vec<KeyValue>) {
    let answer = in_time("a linearizable answer", client.range(all_keys())).await.unwrap();
    (answer.header.unwrap().revision, answer.kvs)
}

async fn events(client: &Client, from: i64, to: i64) -> Vec<Event> {
    in_time("all events", recorded(client, from, to)).await
}

fn follower(etcd: &Etcd, dir: &Path, more: &[&str]) -> Front {
    let args = ["--state-dir", dir.to_str().unwrap(), "--state-interval", "10ms"];
    Front::start(&etcd.feed(""), &[&args, more].concat())
}

/// The revision of the first state that the daemon has saved. It saves every change after that.
fn first_saved(daemon: &Daemon) -> i64 {
    daemon.logged("that the state is saved", |line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_it = line["message"].as_str()?.starts_with("state saved in");
        is_it.then(|| line["revision"].as_i64())?
    })
}

/// A daemon is stopped, and started again while etcd is away. Its memory is the same then; and once etcd is there again,
/// its watches begin before the restart. With `compact` etcd itself knows nothing from before any more.
async fn restart(seed: u64, more: &[&str], compact: bool) {
    let dir = TempDir::new().unwrap();
    let mut etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let mut random = Random::new(seed);
    history::write(&theirs, &mut random, 50).await;
    let front = follower(&etcd, dir.path(), more);
    let oldest = first_saved(&front.daemon) + 1;
    history::write(&theirs, &mut random, 400).await;
    let (stopped_at, kvs) = newest(&theirs).await;
    assert_eq!(newest(&front.ready().await).await, (stopped_at, kvs.clone()));
    front.terminate();

    let mut told = events(&theirs, oldest, stopped_at).await;
    if compact {
        theirs.compact(CompactionRequest { revision: stopped_at, physical: true }).await.unwrap();
    }
    etcd.kill();
    let front = follower(&etcd, dir.path(), more);
    let ours = front.client();
    assert_eq!(from_memory(&ours).await, kvs);

    etcd.restart().await;
    let theirs = client_of(&etcd);
    history::write(&theirs, &mut random, 100).await;
    let (revision, kvs) = newest(&theirs).await;
    told.extend(events(&theirs, stopped_at + 1, revision).await);
    let caught_up = || async { ours.range(all_keys()).await.ok().map(drop) };
    eventually("the daemon to follow etcd again", caught_up).await;
    assert_eq!(newest(&ours).await, (revision, kvs));
    assert!(front.daemon.log().contains("etcd is the store it was"), "{}", front.daemon.log());
    let again = events(&ours, oldest, revision).await;
    for (ours, theirs) in again.iter().zip(&told) {
        assert_eq!(ours, theirs, "crumbd, then etcd");
    }
    assert_eq!(again.len(), told.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_etcd_go_on_after_a_restart() {
    restart(5, &[], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_of_etcd_go_on_inside_breadcrumbs_of_many_revisions() {
    restart(6, &["--min-interval", "300ms"], true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_etcd_still_knows_is_not_told_twice() {
    restart(7, &["--min-interval", "300ms"], false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_without_the_counts_of_writes_is_not_served_to_etcds_clients() {
    let dir = TempDir::new().unwrap();
    let mut etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let mut random = Random::new(8);
    history::write(&theirs, &mut random, 50).await;
    let front = follower(&etcd, dir.path(), &[]);
    first_saved(&front.daemon);
    front.terminate();

    // Without the flag the same state is served, and stored without what etcd's clients want to know.
    let (feed, path) = (etcd.feed(""), dir.path().to_str().unwrap());
    let args = ["--feed", &feed, "--state-dir", path, "--state-interval", "10ms"];
    let mut daemon = Daemon::serve(&args);
    assert!(daemon.log().contains("state of the last run restored"), "{}", daemon.log());
    first_saved(&daemon);
    daemon.terminate();
    assert!(daemon.wait_exit().success());

    etcd.kill();
    let front = follower(&etcd, dir.path(), &[]);
    assert!(front.daemon.log().contains("stored without --etcd-listen"), "{}", front.daemon.log());
    let request = RangeRequest { serializable: true, ..all_keys() };
    let answer = in_time("an answer", front.client().range(request)).await;
    assert!(answer.is_err(), "there is nothing to serve: {answer:?}");
    etcd.restart().await;
    let (revision, kvs) = newest(&client_of(&etcd)).await;
    assert_eq!(newest(&front.ready().await).await, (revision, kvs));
}

/// A client that has watched an empty store goes on after what it knows, which is not "from now on".
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_has_a_revision_to_go_on_from() {
    let dir = TempDir::new().unwrap();
    for with_state in [false, true] {
        let state = ["--state-dir", dir.path().to_str().unwrap()];
        let start = || Front::start("push:", if with_state { &state[..] } else { &[] });
        let front = start();
        let ours = front.ready().await;
        let (revision, kvs) = newest(&ours).await;
        assert_eq!((revision, kvs.len()), (1, 0));
        front.daemon.http().put(b"k", "text/plain", b"1").await;
        let told = events(&ours, revision + 1, 2).await;
        assert_eq!(told.len(), 1);
        if with_state {
            // Killed at once.
            drop(front);
            let front = start();
            assert_eq!(events(&front.ready().await, revision + 1, 2).await, told);
        }
    }
}

/// Puts of one key are counted from the put that created it.
#[tokio::test(flavor = "multi_thread")]
async fn pushed_writes_are_counted_on_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let start = || Front::start("push:", &["--state-dir", dir.path().to_str().unwrap()]);
    let mut front = start();
    let mut random = fastrand::Rng::with_seed(9);
    let mut model = std::collections::BTreeMap::<String, (i64, i64)>::new();
    let mut told = Vec::new();
    for round in 0..3 {
        let (ours, http) = (front.ready().await, front.daemon.http());
        for write in 0..60 {
            let key = format!("k{}", random.u32(..8));
            if random.u32(..5) == 0 {
                if model.remove(&key).is_some() {
                    http.delete(key.as_bytes()).await;
                }
                continue;
            }
            http.put(key.as_bytes(), "text/plain", format!("{round} {write}").as_bytes()).await;
            let (revision, _) = newest(&ours).await;
            model.entry(key).and_modify(|(_, version)| *version += 1).or_insert((revision, 1));
        }
        let (revision, kvs) = newest(&ours).await;
        let counted = kvs.iter().map(|kv| {
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            (key, (kv.create_revision, kv.version))
        });
        assert_eq!(counted.collect::<std::collections::BTreeMap<_, _>>(), model, "round {round}");
        let again = events(&ours, 1, revision).await;
        assert_eq!(again[..told.len()], told, "round {round}");
        told = again;
        match round {
            0 => front.terminate(),
            // Killed at once.
            _ => drop(front),
        }
        front = start();
        assert_eq!(from_memory(&front.ready().await).await, kvs, "round {round}");
    }
}
