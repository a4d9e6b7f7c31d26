//! The network between the daemon and etcd: cut, silent, slow, or without a server.

use crate::support::etcd::{Etcd, Net, free_port};
use crate::support::followed::{Followed, agrees_with, catch_up, fill, follow, is, mirror, status, told};
use crate::support::mirror::Step;
use crate::support::{eventually, in_time};

#[tokio::test]
async fn a_network_that_falls_silent_is_noticed_and_mended() {
    let followed = Followed::with(50).await;
    let Followed { keys, net, http, .. } = &followed;
    let mut mirror = followed.mirror().await;
    net.set(Net::Silent);
    fill(keys, 40, 60, "while silent").await;
    told(&mut mirror, "resync-in-progress").await;
    let age = status(http).await["age_seconds"].as_f64().unwrap();
    assert!(age > 1.0, "{age}");
    net.set(Net::Open);
    catch_up(&mut mirror, keys).await;
    assert_eq!(mirror.seen.snapshots, 1);
    eventually("the age to be small again", || async {
        (status(http).await["age_seconds"].as_f64()? < 1.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_breaks_and_comes_back_at_once_costs_nothing() {
    let followed = Followed::with(50).await;
    let Followed { keys, net, http, .. } = &followed;
    let mut mirror = followed.mirror().await;
    let resyncs = status(http).await["ingest"]["resyncs"].clone();
    for round in 0..5_u64 {
        let reconnects = status(http).await["ingest"]["reconnects"].as_u64().unwrap();
        net.set(Net::Cut);
        eventually("the daemon to notice", || async {
            (status(http).await["ingest"]["reconnects"].as_u64()? > reconnects).then_some(())
        })
        .await;
        fill(keys, 0, 10, &format!("round {round}")).await;
        net.set(Net::Open);
        catch_up(&mut mirror, keys).await;
    }
    assert_eq!(mirror.seen.snapshots, 1);
    let after = status(http).await;
    assert_eq!(after["ingest"]["resyncs"], resyncs, "what etcd still knows is not read anew: {after}");
}

#[tokio::test]
async fn a_cursor_ahead_of_a_replica_waits_while_etcd_may_be_ahead() {
    let lagging = Followed::with(10).await;
    let Followed { keys, net, http, .. } = &lagging;
    let leading = follow(&lagging.etcd.feed("app/"));
    let mut client = mirror(&leading.http()).await;
    net.set(Net::Cut);
    is(http, "resync-in-progress").await;
    fill(keys, 0, 5, "while the other is cut off").await;
    catch_up(&mut client, keys).await;
    let (cursor, revision) = (client.cursor.clone(), client.revision);
    client.move_to(http.clone());
    assert_eq!(client.next("0").await, Step::Nothing);
    assert_eq!((&client.cursor, client.revision), (&cursor, revision), "a 204 never moves a client back");
    let path = format!("/v1/breadcrumbs/{cursor}/next?wait=20s");
    let waiting = {
        let http = http.clone();
        tokio::spawn(async move { http.get(&path).await })
    };
    eventually("the request to wait", || async {
        (status(http).await["waiters"].as_u64()? >= 1).then_some(())
    })
    .await;
    fill(keys, 5, 7, "more").await;
    net.set(Net::Open);
    let got = in_time("the waiter", waiting).await.unwrap().ok(200).standing();
    assert!(got.need("crumbd-revision").parse::<u64>().unwrap() > revision);
    catch_up(&mut client, keys).await;
    assert_eq!(client.seen.snapshots, 1);
}

#[tokio::test]
async fn a_dead_endpoint_in_the_list_is_passed_over() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 10, "here").await;
    let dead = free_port();
    for feed in [
        format!("etcd://127.0.0.1:{dead},{}/app/", etcd.endpoint()),
        format!("etcd://{},127.0.0.1:{dead}/app/", etcd.endpoint()),
    ] {
        let daemon = follow(&feed);
        assert_eq!(agrees_with(&daemon.http(), &keys).await.state.len(), 10);
    }
}
