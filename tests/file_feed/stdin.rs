//! `stdin:` is in-sync when its input is known to be complete, not merely after a pause.

use super::support::daemon::Daemon;
use super::support::eventually;
use super::support::http::{Http, lines};
use super::support::workload::put;
use super::{becomes, state};

async fn has(http: &Http, key: &str) {
    eventually(key, || async { (http.get(&format!("/v1/kv/{key}")).await.status == 200).then_some(()) })
        .await;
}

async fn status(http: &Http) -> String {
    http.get("/v1/status").await.json()["status"].as_str().unwrap().to_owned()
}

async fn status_is(http: &Http, wanted: &str) {
    eventually(wanted, || async { (status(http).await == wanted).then_some(()) }).await;
}

#[tokio::test]
async fn a_pause_is_no_end_and_the_end_is_one() {
    let mut daemon = Daemon::serve_stdin(&["--feed", "stdin:"]);
    let http = daemon.http();
    for key in ["a", "b", "c"] {
        daemon.feed(&lines(&[put(key, "1")]));
        has(&http, key).await;
        assert_eq!(status(&http).await, "resync-in-progress");
        http.get("/readyz").await.ok(503);
    }
    daemon.end_of_feed();
    becomes(&http, &state(&[("a", "1"), ("b", "1"), ("c", "1")])).await;
}

#[tokio::test]
async fn the_end_of_a_snapshot_is_in_sync_and_an_open_one_is_not() {
    let mut daemon = Daemon::serve_stdin(&["--feed", "stdin:"]);
    let http = daemon.http();
    let (begin, end) = ("{\"type\":\"snapshot\"}".to_owned(), "{\"type\":\"end\"}".to_owned());
    daemon.feed(&lines(&[begin.clone(), put("a", "1"), end.clone()]));
    becomes(&http, &state(&[("a", "1")])).await;
    daemon.feed(&lines(&[begin, put("b", "1")]));
    status_is(&http, "resync-in-progress").await;
    daemon.feed(&lines(&[end]));
    becomes(&http, &state(&[("b", "1")])).await;
}

#[tokio::test]
async fn a_status_record_says_it() {
    let mut daemon = Daemon::serve_stdin(&["--feed", "stdin:"]);
    let http = daemon.http();
    daemon.feed(&lines(&[put("a", "1"), "{\"type\":\"status\",\"status\":\"in-sync\"}".to_owned()]));
    becomes(&http, &state(&[("a", "1")])).await;
    daemon.feed(&lines(&["{\"type\":\"status\",\"status\":\"wait-for-datastore\"}"]));
    status_is(&http, "wait-for-datastore").await;
}

#[tokio::test]
async fn a_pipe_that_is_cut_off_is_never_in_sync() {
    let snapshot = "{\"type\":\"snapshot\"}".to_owned();
    for (text, key) in [
        (lines(&[put("a", "1"), put("b", "1")])[..50].to_vec(), "a"),
        (lines(&[snapshot, put("b", "1")]), "b"),
    ] {
        let mut daemon = Daemon::serve_stdin(&["--feed", "stdin:"]);
        daemon.feed(&text);
        daemon.end_of_feed();
        daemon.logged("was cut off", |line| line.contains("was cut off: what it says").then_some(()));
        has(&daemon.http(), key).await;
        assert_eq!(status(&daemon.http()).await, "resync-in-progress");
    }
}
