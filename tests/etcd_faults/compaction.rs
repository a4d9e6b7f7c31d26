//! etcd forgets its history while the daemon is away.

use std::collections::BTreeMap;

use crate::support::etcd::{Net, Op};
use crate::support::eventually;
use crate::support::followed::{Followed, catch_up, fill, status, told};
use crate::support::http::Got;
use crate::support::record::Body;

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
