//! A resync: etcd forgets what happened while the daemon was cut off, so everything is read again.
//! What a client hears of it, and what memory it takes.

use std::time::{Duration, Instant};

use crumbd::model::Digest;
use crumbd::wire::{MediaType, Record, RecordReader};
use tokio::task::JoinHandle;

use crate::bare::{self, Bare};
use crate::daemon::{PATIENCE, Watched};
use crate::data::{PREFIX, entry};
use crate::support::etcd::{Net, Proxy};
use crate::support::http::Http;

/// Keys that differ afterwards: most have another value, some are new, some are gone.
const UPDATED: usize = 900;
const NEW: usize = 50;
const DELETED: usize = 50;
pub const DIFFERENCES: usize = UPDATED + NEW + DELETED;

pub struct Resynced {
    /// From the moment at which etcd can be reached again until a client has everything.
    pub time: Duration,
    /// Updates that the client received.
    pub updates: usize,
    pub steady_bytes: u64,
    pub peak_bytes: u64,
}

pub async fn resync(endpoint: &str, keys: usize) -> Resynced {
    let proxy = Proxy::before(endpoint.to_owned()).await;
    let daemon = Watched::start(&["--feed", &proxy.feed(PREFIX)]).await;
    let status = daemon.in_sync().await;
    let text = |field: &str| status[field].as_str().unwrap().to_owned();
    let mut expected: Digest = text("digest").parse().unwrap();
    let cursor = text("cursor");

    let steady_bytes = daemon.steady_bytes().await;
    proxy.set(Net::Cut);
    daemon.until("the loss to be noticed", |status| status["status"] == "resync-in-progress").await;
    change(endpoint, keys, &mut expected).await;
    let follower = follow(daemon.http.clone(), cursor, expected);
    daemon.forget_peak();
    let started = Instant::now();
    proxy.set(Net::Open);
    let updates = follower.await.unwrap();
    let time = started.elapsed();
    let status = daemon.in_sync().await;
    assert_eq!(status["digest"], expected.to_string());
    assert_eq!(status["count"], keys + NEW - DELETED);
    assert_eq!(status["ingest"]["resyncs"], 2, "it had to read everything again: {status}");
    daemon.steady_bytes().await;
    Resynced { time, updates, steady_bytes, peak_bytes: daemon.peak_bytes() }
}

/// Makes the differences, and then forgets how they came about.
async fn change(endpoint: &str, keys: usize, digest: &mut Digest) {
    let etcd = Bare::connect(endpoint).await;
    let step = keys / (UPDATED + DELETED);
    let mut ops = Vec::with_capacity(DIFFERENCES);
    for n in 0..UPDATED + DELETED {
        let index = n * step;
        digest.remove(&entry(index, 0));
        if n < UPDATED {
            digest.add(&entry(index, 1));
            ops.push(bare::put(index, 1));
        } else {
            ops.push(bare::delete(index));
        }
    }
    for index in keys..keys + NEW {
        digest.add(&entry(index, 0));
        ops.push(bare::put(index, 0));
    }
    etcd.txn(ops).await;
    etcd.forget_the_past().await;
}

/// Follows from a cursor until the digest is the expected one; returns how many updates came. The client
/// knows every entry already, so it keeps a digest instead of a copy.
fn follow(http: Http, mut cursor: String, expected: Digest) -> JoinHandle<usize> {
    tokio::spawn(async move {
        let mut updates = 0;
        let end = Instant::now() + PATIENCE;
        loop {
            assert!(
                Instant::now() < end,
                "after {updates} updates the client stands at {cursor} without the state"
            );
            let path = format!("/v1/breadcrumbs/{cursor}/next?wait=30s");
            let got = http.get_with(&path, &[("accept", MediaType::Bincode.as_str())]).await;
            assert!(got.status == 200 || got.status == 204, "{} to {path}", got.status);
            cursor = got.cursor().to_owned();
            let mut reader = RecordReader::new(MediaType::Bincode);
            reader.push(&got.body);
            while let Some(record) = reader.next_record().unwrap() {
                match record {
                    Record::Put { .. } | Record::Deleted { .. } => updates += 1,
                    Record::Snapshot(_) => panic!("a client that follows must not be sent the whole state"),
                    Record::End(end) if end.digest == Some(expected) => return updates,
                    _ => {}
                }
            }
        }
    })
}
