//! `--access-log`: a line for each request, with who asked, what came of it, and nothing that is secret.
#![allow(clippy::unwrap_used)] // a test may unwrap

mod support;

use serde_json::Value;
use support::daemon::Daemon;
use support::http::{Http, OVER_HTTP2};
use support::tokens::TokenFile;
use support::{eventually, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The lines of the access log so far.
fn lines(daemon: &Daemon) -> Vec<Value> {
    let log = daemon.log();
    let all = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|line| line["target"] == "crumbd::http::access_log").collect()
}

/// Waits for the line of the request with this id.
async fn line_of(daemon: &Daemon, id: &str) -> Value {
    let found = async || lines(daemon).into_iter().find(|line| line["request_id"] == id);
    eventually(&format!("a line of {id}"), found).await
}

/// Waits until a request waits.
async fn one_waits(http: &Http) {
    let has_waiter = async || {
        let metrics = http.get("/metrics").await.plain();
        String::from_utf8_lossy(&metrics)
            .lines()
            .any(|line| ["crumbd_waiters 1", "crumbd_waiters 1.0"].contains(&line))
            .then_some(())
    };
    eventually("a waiter", has_waiter).await;
}

async fn send(http: &Http, id: &str, path: &str) -> support::http::Got {
    let headers = [("x-request-id", id), ("traceparent", TRACE), ("crumbd-client", "agent-17/2.4.0")];
    http.get_with(path, &headers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_has_a_line_that_says_what_came_of_it() {
    // The lines are there at any level of the others.
    let daemon = Daemon::push(&["--access-log", "all", "--log-level", "info,crumbd::cache=warn"]);
    let http = daemon.http();
    let protocol = if OVER_HTTP2 { "HTTP/2" } else { "HTTP/1.1" };
    http.put(b"greeting", "text/plain", b"a secret value").await;

    let current = send(&http, "current", "/v1/breadcrumbs/current?prefix=gree").await.ok(200);
    let line = line_of(&daemon, "current").await;
    assert_eq!(line["method"], "GET");
    assert_eq!(line["path"], "/v1/breadcrumbs/current?prefix=gree");
    assert_eq!((&line["protocol"], &line["status"]), (&protocol.into(), &200.into()));
    assert_eq!((&line["mode"], &line["reason"]), (&"snapshot".into(), &"current".into()));
    assert_eq!((&line["cursor"], &line["complete"]), (&current.cursor().into(), &true.into()));
    assert_eq!((&line["traceparent"], &line["client"]), (&TRACE.into(), &"agent-17/2.4.0".into()));
    assert_eq!(line["address"], "127.0.0.1");
    assert!(
        line["bytes"].as_u64().unwrap() > 0 && line["wait_ms"].is_number() && line["write_ms"].is_number()
    );

    // A long poll that is behind, one that waits, and one without news.
    let cursor = current.cursor().to_owned();
    http.put(b"greeting", "text/plain", b"another").await;
    http.put(b"greeting", "text/plain", b"a third").await;
    let next = format!("/v1/breadcrumbs/{cursor}/next");
    let behind = send(&http, "behind", &next).await.ok(200);
    let line = line_of(&daemon, "behind").await;
    assert_eq!((&line["lag_revisions"], &line["cursor"]), (&2.into(), &behind.cursor().into()));
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &true.into()));
    assert_eq!(line["bytes"], behind.body.len() as u64);

    let next = format!("/v1/breadcrumbs/{}/next", behind.cursor());
    let waits = tokio::spawn({
        let (http, next) = (http.clone(), next.clone());
        async move { send(&http, "waits", &next).await.ok(200) }
    });
    one_waits(&http).await;
    http.put(b"greeting", "text/plain", b"a fourth").await;
    in_time("the answer", waits).await.unwrap();
    let line = line_of(&daemon, "waits").await;
    assert_eq!((&line["lag_revisions"], &line["path"]), (&0.into(), &next.into()));
    assert!(line["wait_ms"].as_f64().unwrap() > 0.0, "{line}");

    let cursor = http.cursor().await;
    send(&http, "nothing", &format!("/v1/breadcrumbs/{cursor}/next?wait=0s")).await.ok(204);
    assert_eq!(line_of(&daemon, "nothing").await["status"], 204);
    send(&http, "lost", "/v1/nothing?token=hidden&prefix=a").await.ok(404);
    let line = line_of(&daemon, "lost").await;
    assert_eq!((&line["status"], &line["path"]), (&404.into(), &"/v1/nothing?token=…&prefix=a".into()));
    let log = daemon.log();
    assert!(!log.contains("secret value") && !log.contains("hidden") && !log.contains("a fourth"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_has_a_line_too() {
    let daemon = Daemon::push(&["--access-log", "errors"]);
    let cursor = daemon.http().cursor().await;
    for path in [format!("/v1/breadcrumbs/{cursor}/next"), "/v1/readyz".to_owned()] {
        let mut stream = tokio::net::TcpStream::connect(daemon.address()).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-Id: left\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        if path.contains("next") {
            one_waits(&daemon.http()).await;
            drop(stream);
        } else {
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 404");
        }
        let found = async || lines(&daemon).into_iter().find(|line| line["path"] == *path);
        let line = eventually(&format!("a line of {path}"), found).await;
        assert_eq!(line["request_id"], "left");
        let status = if path.contains("next") { Value::Null } else { 404.into() };
        assert_eq!(line["status"], status, "{line}");
    }
    // What went well has none.
    daemon.http().get("/v1/breadcrumbs/current").await.ok(200);
    send(&daemon.http(), "later", "/v1/nothing").await.ok(404);
    line_of(&daemon, "later").await;
    assert!(lines(&daemon).iter().all(|line| line["path"] != "/v1/breadcrumbs/current"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_named_and_never_shown() {
    let mut tokens = TokenFile::new();
    let edge = tokens.add_with(&["--name", "edge", "--read", "edge/"]);
    tokens.save();
    let daemon = tokens.daemon(&["--access-log", "all"]);
    let http = Http::new(daemon.url()).with_token(&edge.text);
    let current = send(&http, "named", "/v1/breadcrumbs/current").await.ok(200);
    assert_eq!(line_of(&daemon, "named").await["token"], "edge");
    send(&http, "polls", &format!("/v1/breadcrumbs/{}/next?wait=0s", current.cursor())).await.ok(204);
    assert_eq!(line_of(&daemon, "polls").await["token"], "edge");
    send(&Http::new(daemon.url()).with_token("wrong-token"), "unknown", "/v1/breadcrumbs/current")
        .await
        .ok(401);
    let line = line_of(&daemon, "unknown").await;
    assert_eq!((&line["status"], &line["token"]), (&401.into(), &Value::Null));
    let log = daemon.log();
    assert!(!log.contains(&edge.text) && !log.contains("wrong-token"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_one_line_at_its_end() {
    let daemon = Daemon::push(&["--access-log", "all"]);
    let http = daemon.http();
    http.put(b"a", "text/plain", b"1").await;
    let mut stream = tokio::net::TcpStream::connect(daemon.address()).await.unwrap();
    stream.write_all(b"GET /v1/stream HTTP/1.1\r\nHost: a\r\nX-Request-Id: stream\r\n\r\n").await.unwrap();
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    let mut until = async |wanted: &str| {
        while !String::from_utf8_lossy(&read).contains(wanted) {
            let count = in_time("bytes of the stream", stream.read(&mut buffer)).await.unwrap();
            assert!(count > 0);
            read.extend_from_slice(&buffer[..count]);
        }
    };
    until("\"a\"").await;
    http.put(b"later", "text/plain", b"1").await;
    until("\"later\"").await;
    assert!(lines(&daemon).iter().all(|line| line["request_id"] != "stream"), "it goes on");
    drop(stream);
    let line = line_of(&daemon, "stream").await;
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &false.into()), "{line}");
    assert!(line["bytes"].as_u64().unwrap() > 50, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_setting_alone_decides_whether_there_are_lines() {
    let off = Daemon::push(&["--log-level", "debug"]);
    send(&off.http(), "one", "/v1/nothing").await.ok(404);
    assert!(lines(&off).is_empty());

    // Another level of the daemon's own lines does not hide them.
    let quiet = Daemon::push(&["--access-log", "all", "--log-level", "info,crumbd::http=warn"]);
    send(&quiet.http(), "one", "/v1/nothing").await.ok(404);
    line_of(&quiet, "one").await;

    let wrong = Daemon::serve_and_end(&["--feed", "push:", "--access-log", "some"]);
    assert!(
        wrong.stderr.contains("--access-log \"some\" is none of the possible values: off and errors and all")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_an_etcd_client_names_its_token_and_code() {
    let mut tokens = TokenFile::new();
    let edge = tokens.add_with(&["--name", "edge", "--read", "edge/"]);
    tokens.save();
    let daemon = tokens.daemon(&["--access-log", "all", "--etcd-listen", "127.0.0.1:0"]);
    let endpoint = daemon.logged("the address for etcd's clients", |line| {
        let line: Value = serde_json::from_str(line).unwrap();
        let is_wanted = line["message"] == "listening for etcd's clients";
        is_wanted.then(|| line["url"].as_str().unwrap().to_owned())
    });
    let user = format!("edge:{}", edge.text);
    let done = support::etcd::etcdctl(&endpoint).args(["--user", &user, "get", "edge/a"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let found = async || lines(&daemon).into_iter().find(|line| line["path"] == "/etcdserverpb.KV/Range");
    let line = eventually("a line of the range", found).await;
    assert_eq!((&line["token"], &line["grpc_code"]), (&"edge".into(), &0.into()), "{line}");
    assert!(!daemon.log().contains(&edge.text), "{}", daemon.log());
}
