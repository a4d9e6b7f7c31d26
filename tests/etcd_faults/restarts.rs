//! etcd is killed: all of it, one member, or a majority.

use serde_json::Value;

use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::followed::{agrees_with, catch_up, current, fill, follow, mirror, status, told};
use crate::support::state::assert_same;

#[tokio::test]
async fn etcd_killed_and_restarted_is_survived_with_every_cursor() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 100, "before").await;
    let daemon = follow(&etcd.feed("app/"));
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    for round in 0..2 {
        let before = mirror.cursor.clone();
        etcd.kill();
        told(&mut mirror, "resync-in-progress").await;
        assert_same("while etcd is dead", &current(&http).await, &mirror.state);
        http.get(&format!("/v1/breadcrumbs/{before}")).await.ok(200);
        let age = |status: &Value| status["age_seconds"].as_f64().unwrap();
        let first = age(&status(&http).await);
        eventually("the age to grow", || async { (age(&status(&http).await) > first + 0.3).then_some(()) })
            .await;
        etcd.restart().await;
        fill(&keys, 50, 120, &format!("after {round}")).await;
        catch_up(&mut mirror, &keys).await;
        let got = http.get(&format!("/v1/breadcrumbs/{before}/next?wait=0")).await.ok(200).standing();
        assert_eq!(got.cursor(), mirror.cursor);
    }
    assert_eq!(mirror.seen.snapshots, 1);
}

#[tokio::test]
async fn a_daemon_that_starts_before_etcd_serves_as_soon_as_it_is_there() {
    let mut etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 10, "here").await;
    etcd.kill();
    let daemon = follow(&etcd.feed("app/"));
    let http = daemon.http();
    http.get("/livez").await.ok(200);
    http.get("/readyz").await.problem(503);
    let early = http.get("/v1/breadcrumbs/current").await;
    early.problem(503);
    early.need("retry-after");
    etcd.restart().await;
    assert_eq!(agrees_with(&http, &keys).await.state.len(), 10);
    http.get("/readyz").await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_one_member_and_its_majority_and_the_client_keeps_its_cursor() {
    let mut members = Etcd::cluster(3).await;
    let all: Vec<String> = members.iter().map(Etcd::endpoint).collect();
    fill(&members[0].keys(), 0, 50, "before").await;
    let daemon = follow(&format!("etcd://{}/app/", all.join(",")));
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    // The member that it speaks to is killed: it goes on with another one.
    let connected = daemon.logged("the endpoint", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["endpoint"].as_str().map(str::to_owned)
    });
    let killed = all.iter().position(|one| *one == connected).unwrap();
    members[killed].kill();
    let living: Vec<usize> = (0..3).filter(|n| *n != killed).collect();
    let keys = members[living[0]].keys();
    eventually("the other two to have a leader", || async { keys.try_revision().await.ok() }).await;
    fill(&keys, 20, 70, "with two").await;
    catch_up(&mut mirror, &keys).await;
    // Without a majority there is no leader: what is served may be old, and it says so.
    members[living[1]].kill();
    told(&mut mirror, "resync-in-progress").await;
    members[killed].run();
    eventually("a leader", || async { keys.try_revision().await.ok() }).await;
    fill(&keys, 60, 80, "with two others").await;
    catch_up(&mut mirror, &keys).await;
    assert_eq!(mirror.seen.snapshots, 1);
}
