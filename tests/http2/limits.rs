//! What a client cannot do.

use std::collections::BTreeSet;

use h2::Reason;
use h2::client::Builder;
use tokio::task::JoinSet;

use crate::client::{Connection, whole};
use crate::support::daemon::Daemon;
use crate::support::in_time;
use crate::{until, waiters};

#[tokio::test]
async fn headers_that_are_too_long_are_a_431() {
    let daemon = Daemon::push(&[]);
    let mut connection = Connection::to(&daemon).await;
    for (length, wanted) in [(100 << 10, 200), (150 << 10, 431)] {
        let answer = connection.begin_with("/v1/kv", &[("x-long", &"x".repeat(length))]).await.unwrap();
        assert_eq!(whole(answer).await.unwrap().0.as_u16(), wanted, "{length}");
    }
    // Without end, they end the connection.
    let answer = connection.begin_with("/v1/kv", &[("x-long", &"x".repeat(4 << 20))]).await.unwrap();
    let error = whole(answer).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
    assert_eq!(Connection::to(&daemon).await.get("/v1/kv").await.unwrap().0.as_u16(), 200);
}

#[tokio::test]
async fn streams_over_the_limit_wait_for_others_to_end() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let cursor = http.cursor().await;
    let mut connection = Connection::to(&daemon).await;
    connection.get("/livez").await.unwrap();
    assert_eq!(connection.requests.current_max_send_streams(), 250);
    let mut answers = JoinSet::new();
    for _ in 0..250 {
        let path = format!("/v1/breadcrumbs/{cursor}/next?wait=30s");
        answers.spawn(whole(connection.begin(&path).await.unwrap()));
    }
    waiters(&http, 250).await;
    http.put(b"a", "application/json", b"1").await;
    let mut statuses = BTreeSet::new();
    while let Some(answer) = in_time("an answer", answers.join_next()).await {
        statuses.insert(answer.unwrap().unwrap().0.as_u16());
    }
    assert_eq!(statuses, BTreeSet::from([200]));
}

#[tokio::test]
async fn requests_that_are_reset_at_once_leave_nothing_and_keep_nobody_waiting() {
    let daemon = Daemon::push(&["--max-waiters", "100000", "--max-client-waiters", "100000"]);
    let http = daemon.http();
    let cursor = http.cursor().await;
    let path = format!("/v1/breadcrumbs/{cursor}/next?wait=30s");
    let mut connection =
        Connection::with(&daemon, Builder::new().max_concurrent_reset_streams(100_000)).await;
    let mut sent = 0;
    // The library may end the connection of such a client; either is well.
    while sent < 20_000 {
        match connection.begin(&path).await {
            Ok(answer) => drop(answer),
            Err(error) => {
                assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM), "{error}");
                break;
            }
        }
        sent += 1;
        if sent % 1000 == 0 {
            in_time("somebody else", http.get("/livez")).await.ok(200);
        }
    }
    until(&http, "nobody to wait", |status| status["waiters"] == 0).await;
    http.put(b"a", "application/json", b"1").await;
}

#[tokio::test]
async fn streams_of_one_connection_and_of_several_are_one_client() {
    // Nothing comes back while the test runs.
    let daemon = Daemon::push(&["--max-client-rate", "2/h", "--max-client-streams", "1"]);
    let poll = format!("/v1/breadcrumbs/{}/next?wait=0", daemon.http().cursor().await);
    let mut connection = Connection::to(&daemon).await;
    let stream = connection.begin("/v1/stream").await.unwrap();
    // Held, because a stream that nobody holds is reset.
    let first = in_time("a stream", stream).await.unwrap();
    assert_eq!(first.status().as_u16(), 200);
    let (status, body) = connection.get("/v1/stream").await.unwrap();
    assert_eq!(status.as_u16(), 503);
    assert!(String::from_utf8(body).unwrap().contains("(--max-client-streams)"));
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(connection.get(&poll).await.unwrap().0.as_u16());
    }
    assert_eq!(statuses, [[204; 7].as_slice(), &[429; 3]].concat());
    let mut other = Connection::to(&daemon).await;
    for path in [poll.as_str(), "/v1/kv/a", "/v1/breadcrumbs/current"] {
        let (status, body) = other.get(path).await.unwrap();
        assert_eq!(status.as_u16(), 429, "{path}");
        assert!(String::from_utf8(body).unwrap().contains("(--max-client-rate)"));
    }
    assert_eq!(other.get("/livez").await.unwrap().0.as_u16(), 200);
    drop(first);
}
