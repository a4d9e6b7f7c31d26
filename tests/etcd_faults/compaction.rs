//! etcd forgets its history while the daemon is away.

use std::collections::BTreeMap;

use crate::support::etcd::{Net, Op};
use crate::support::eventually;
use crate::support::followed::{Followed, catch_up, fill, status, told};
use crate::support::http::{Got, Http};
use crate::support::record::Body;
use crate::support::state::{digest, hex};

#[tokio::test]
async fn compaction_while_the_network_is_cut_is_an_ordinary_delta_to_clients() {
    let followed = Followed::with(300).await;
    let Followed { keys, net, http, .. } = &followed;
    let mut mirror = followed.mirror().await;
    assert_eq!(mirror.state.len(), 300);
    let before = mirror.cursor.clone();

    net.set(Net::Cut);
    told(&mut mirror, "resync-in-progress").await;
    // It goes on serving, and says how old it is.
    let age = |got: &Got| got.need("crumbd-age").parse::<f64>().unwrap();
    eventually("the age to grow", || async {
        let got = http.get("/v1/breadcrumbs/current").await.ok(200);
        (age(&got) > 0.5).then_some(())
    })
    .await;
    assert_eq!(&*http.get("/v1/kv/app%2F00007").await.ok(200).body, b"before 7");
    http.get("/readyz").await.ok(200);

    fill(keys, 0, 20, "while away").await;
    keys.txn(&[Op::DeleteRange(b"app/00100".to_vec(), b"app/00150".to_vec())]).await;
    // Deleted and set again; made and deleted again.
    keys.delete(b"app/00200").await;
    keys.put(b"app/00200", b"again").await;
    keys.put(b"app/short", b"lived").await;
    keys.delete(b"app/short").await;
    fill(keys, 400, 410, "new").await;
    keys.compact(keys.revision().await).await;
    net.set(Net::Open);

    let mut seen = catch_up(&mut mirror, keys).await;
    seen.dedup();
    assert_eq!(seen, ["resync-in-progress", "in-sync"]);
    assert_eq!(mirror.seen.snapshots, 1);
    assert_eq!(mirror.revision, keys.revision().await as u64);
    // And from the cursor of before in one answer: the difference, and nothing but the difference.
    let got = http.get(&format!("/v1/breadcrumbs/{before}/next?wait=0")).await.ok(200).standing();
    let body = Body::read(got.need("content-type"), &got.plain());
    let kinds = body.records.iter().filter(|r| r.kind != "status").fold(BTreeMap::new(), |mut kinds, r| {
        *kinds.entry(r.kind.clone()).or_insert(0) += 1;
        kinds
    });
    let expected = [("deleted", 50), ("new", 10), ("updated", 21)];
    assert!(kinds.iter().map(|(k, n)| (&**k, *n)).eq(expected), "{kinds:?}");
    let status = status(http).await;
    assert_eq!(status["ingest"]["swept"], 50, "{status}");
}

/// Debian's etcd forgets the deletions *of* the revision to which it is compacted, and still lets one watch from that
/// revision on (etcd issue 19179).
#[tokio::test]
async fn a_deletion_at_the_very_revision_of_a_compaction_is_not_missed() {
    let followed = Followed::with(50).await;
    let Followed { keys, net, .. } = &followed;
    let mut mirror = followed.mirror().await;
    let changes = [
        vec![Op::Put(b"app/new".to_vec(), b"1".to_vec()), Op::Delete(b"app/00007".to_vec())],
        vec![Op::Delete(b"app/00008".to_vec())],
    ];
    for change in changes {
        net.set(Net::Cut);
        told(&mut mirror, "resync-in-progress").await;
        let at = keys.txn(&change).await;
        keys.compact(at).await;
        net.set(Net::Open);
        catch_up(&mut mirror, keys).await;
    }
    assert_eq!(mirror.state.len(), 49);
    assert_eq!(mirror.seen.snapshots, 1);
}

/// The same without anything being cut: a daemon that does not get to read falls behind, and etcd, which keeps some
/// messages for it, goes on from its history later on; from the very revision to which it is compacted, and so
/// without the deletion there.
#[tokio::test]
async fn a_deletion_at_a_compaction_is_not_missed_by_a_daemon_that_lags_behind() {
    let followed = Followed::with(50).await;
    let Followed { keys, http, daemon, etcd, .. } = &followed;
    let mut mirror = followed.mirror().await;
    let metrics = Http::new(&format!("http://{}", etcd.endpoint()));
    let behind = async || {
        let text = String::from_utf8(metrics.get("/metrics").await.ok(200).body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("etcd_debugging_mvcc_slow_watcher_total "));
        line.unwrap() != "0"
    };
    for (gone, more_to_come) in [(7, false), (8, true)] {
        // The one who read the past has gone once the daemon has seen something new.
        keys.put(b"app/00000", format!("seen before {gone} goes").as_bytes()).await;
        catch_up(&mut mirror, keys).await;
        eventually("nobody to be behind", || async { (!behind().await).then_some(()) }).await;

        daemon.pause();
        // More than the connection holds, and then as many messages as etcd keeps for it: one more is one too many.
        for _ in 0..4 {
            keys.put(b"app/00001", &[b'x'; 1 << 20]).await;
        }
        for n in 0.. {
            assert!(n < 5000, "etcd never takes the daemon for slow");
            keys.put(b"app/00002", n.to_string().as_bytes()).await;
            if behind().await {
                break;
            }
        }
        let deleted = keys.delete(format!("app/{gone:05}").as_bytes()).await;
        keys.compact(deleted).await;
        if more_to_come {
            keys.put(b"app/00003", b"what comes next").await;
        }
        daemon.go_on();
        catch_up(&mut mirror, keys).await;
    }
    assert_eq!((mirror.state.len(), mirror.seen.snapshots), (48, 1));
    assert_eq!(status(http).await["digest"], hex(digest(&mirror.state)));
}
