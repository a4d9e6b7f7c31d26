//! How a connection begins and ends.

use std::time::Duration;

use h2::Reason;
use h2::client::Builder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{Connection, Trickle, whole};
use crate::support::daemon::Daemon;
use crate::support::http::Http;
use crate::support::tls::{Authority, client_config, connect};
use crate::support::{eventually, in_time};
use crate::{FRONTS, waiters};

#[tokio::test]
async fn a_preface_in_pieces_is_understood_and_so_is_a_request_that_begins_like_one() {
    for front in FRONTS {
        let daemon = Daemon::push(&front);
        daemon.http().put(b"a", "text/plain", b"one").await;
        let stream = Trickle(daemon.connect().await);
        let mut connection = Connection::over(&daemon, stream, &Builder::new()).await;
        let (status, body) = connection.get("/v1/kv/a").await.unwrap();
        assert_eq!((status.as_u16(), &body[..]), (200, &b"one"[..]), "{front:?}");
        for (sent, wanted) in [
            ("PUT /v1/kv/b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1", "200"),
            ("PR /v1/kv/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "405"),
            ("PRI * HTTP/2.0\r\n\r\nno preface", "4"),
        ] {
            let mut stream = daemon.connect().await;
            for byte in sent.bytes() {
                stream.write_all(&[byte]).await.unwrap();
            }
            let mut heard = String::new();
            _ = in_time("an answer", stream.read_to_string(&mut heard)).await;
            assert!(heard.starts_with(&format!("HTTP/1.1 {wanted}")), "{front:?} {sent:?}: {heard:?}");
        }
    }
}

#[tokio::test]
async fn nobody_is_upgraded() {
    let daemon = Daemon::push(&[]);
    let headers = [
        ("connection", "upgrade, http2-settings"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
    ];
    daemon.http().get_with("/v1/kv", &headers).await.ok(200);
}

#[tokio::test]
async fn a_hundred_waiters_on_one_connection_are_all_woken_by_one_write() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let start = http.put(b"a", "application/json", b"1").await;
    let mut connection = Connection::to(&daemon).await;
    let mut answers = Vec::new();
    for _ in 0..100 {
        answers.push(connection.begin(&format!("/v1/breadcrumbs/{start}/next?wait=30s")).await.unwrap());
    }
    waiters(&http, 100).await;
    // One that gives up is a place at once.
    drop(answers.pop());
    waiters(&http, 99).await;
    http.put(b"a", "application/json", b"2").await;
    for answer in answers {
        let (status, body) = whole(answer).await.unwrap();
        assert_eq!(status.as_u16(), 200);
        assert!(String::from_utf8(body).unwrap().contains("\"mode\":\"delta\""));
    }
    waiters(&http, 0).await;
    // And a connection that is lost is as many.
    for _ in 0..10 {
        let path = format!("/v1/breadcrumbs/{}/next?wait=30s", http.cursor().await);
        drop(tokio::spawn(connection.begin(&path).await.unwrap()));
    }
    waiters(&http, 10).await;
    connection.driver.abort();
    drop(connection);
    waiters(&http, 0).await;
}

#[tokio::test]
async fn sigterm_answers_all_waiters_and_says_goodbye() {
    for front in FRONTS {
        let mut daemon = Daemon::push(&front);
        let http = daemon.http();
        let cursor = http.cursor().await;
        let mut connection = Connection::to(&daemon).await;
        let idle = Connection::to(&daemon).await;
        let mut answers = Vec::new();
        for _ in 0..50 {
            answers.push(connection.begin(&format!("/v1/breadcrumbs/{cursor}/next?wait=30s")).await.unwrap());
        }
        let stream = connection.begin("/v1/stream").await.unwrap();
        waiters(&http, 51).await;
        daemon.terminate();
        for answer in answers {
            let head = in_time("an answer", answer).await.unwrap();
            assert_eq!(head.status().as_u16(), 204);
            assert_eq!(head.headers()["crumbd-reason"], "shutting-down");
            assert!(!head.headers().contains_key("connection"));
        }
        whole(stream).await.expect("a stream that ends in order");
        connection.ends_well().await;
        idle.ends_well().await;
        assert!(daemon.wait_exit().success());
    }
}

#[tokio::test]
async fn an_old_connection_says_goodbye_and_its_waiters_stay() {
    let daemon = Daemon::push(&["--max-connection-age", "300ms"]);
    let http = daemon.http();
    let cursor = http.put(b"a", "application/json", b"1").await;
    let mut connection = Connection::to(&daemon).await;
    let waiter = connection.begin(&format!("/v1/breadcrumbs/{cursor}/next?wait=30s")).await.unwrap();
    waiters(&http, 1).await;
    eventually("an end of new requests", || async {
        connection.requests.clone().ready().await.err().map(|error| {
            assert_eq!(error.reason(), Some(Reason::NO_ERROR));
        })
    })
    .await;
    waiters(&daemon.http(), 1).await;
    daemon.http().put(b"a", "application/json", b"2").await;
    assert_eq!(whole(waiter).await.unwrap().0.as_u16(), 200);
    connection.ends_well().await;
}

/// As one of HTTP/1.1 does: a client that has just connected does not send its request again by itself.
#[tokio::test]
async fn a_connection_that_is_too_old_at_once_still_takes_one_request() {
    let daemon = Daemon::push(&["--max-connection-age", "1ms"]);
    for _ in 0..5 {
        let mut connection = Connection::to(&daemon).await;
        // It is old by now.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(connection.get("/livez").await.unwrap().0.as_u16(), 200);
        connection.ends_well().await;
    }
}

#[tokio::test]
async fn a_connection_without_a_stream_is_closed_and_one_with_a_stream_is_not() {
    let daemon = Daemon::push(&["--idle-timeout", "400ms", "--header-timeout", "60s"]);
    let cursor = daemon.http().cursor().await;
    let (mut idle, mut waits) = (Connection::to(&daemon).await, Connection::to(&daemon).await);
    idle.get("/livez").await.unwrap();
    let waiter = waits.begin(&format!("/v1/breadcrumbs/{cursor}/next?wait=2s")).await.unwrap();
    idle.ends_well().await;
    assert_eq!(whole(waiter).await.unwrap().0.as_u16(), 204);
    waits.ends_well().await;
    // One that asks nothing has the time of a head.
    let daemon = Daemon::push(&["--header-timeout", "200ms", "--idle-timeout", "60s"]);
    Connection::to(&daemon).await.ends_well().await;
    // So has one that does not begin, or stops in the middle of its preface.
    for begun in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n"] {
        let mut stream = daemon.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        _ = in_time("the end", stream.read_to_end(&mut heard)).await;
    }
}

#[tokio::test]
async fn who_answers_no_ping_has_gone() {
    let daemon = Daemon::push(&["--stall-timeout", "100ms", "--header-timeout", "60s"]);
    let mut stream = daemon.connect().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut heard = Vec::new();
    in_time("the end", stream.read_to_end(&mut heard)).await.unwrap();
    let ping = b"\0\0\x08\x06\0\0\0\0\0";
    assert!(heard.windows(ping.len()).any(|frame| frame == ping), "{heard:?}");
    // Whoever answers stays, also with nothing to do.
    let mut connection = Connection::to(&daemon).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(connection.get("/livez").await.unwrap().0.as_u16(), 200);
}

#[tokio::test]
async fn over_tls_the_handshake_decides() {
    let authority = Authority::new("authority");
    let identity = authority.server();
    let daemon = Daemon::push(&identity.served()).vouched_for_by(&authority);
    let config = |offered: &[&str]| {
        let mut config = client_config(&[&authority.ca], None);
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    let stream = connect(&daemon, config(&["h2", "http/1.1"])).await.unwrap();
    let mut connection = Connection::over(&daemon, stream, &Builder::new()).await;
    assert_eq!(connection.get("/livez").await.unwrap().0.as_u16(), 200);
    // Who has not agreed on HTTP/2 speaks HTTP/1.1.
    for offered in [&["http/1.1"][..], &[]] {
        let mut stream = connect(&daemon, config(offered)).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        _ = in_time("the end", stream.read_to_end(&mut heard)).await;
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 4"), "{heard:?}");
    }
    // Without TLS the refusal is in the client's own protocol.
    let plain = tokio::net::TcpStream::connect(daemon.address()).await.unwrap();
    let mut connection = Connection::over(&daemon, plain, &Builder::new()).await;
    let (status, body) = connection.get("/livez").await.unwrap();
    assert_eq!(status.as_u16(), 400, "{}", String::from_utf8_lossy(&body));
    assert!(String::from_utf8_lossy(&body).contains("tls-wanted"));
}

#[tokio::test]
async fn an_authority_is_a_host() {
    let daemon = Daemon::push(&[]);
    let mut connection = Connection::to(&daemon).await;
    let answer = connection.begin_with("/v1/kv", &[("host", "other.example")]).await.unwrap();
    assert_eq!(whole(answer).await.unwrap().0.as_u16(), 400, "two names");
    let answer = connection.begin_with("/v1/kv", &[("host", daemon.address())]).await.unwrap();
    assert_eq!(whole(answer).await.unwrap().0.as_u16(), 200, "the same name twice");
    let port = daemon.address().rsplit_once(':').unwrap().1;
    for (name, wanted) in [("evil.example", 421), ("localhost", 200)] {
        let request = axum::http::Request::get(format!("http://{name}:{port}/v1/kv")).body(()).unwrap();
        let answer = connection.requests.clone().ready().await.unwrap().send_request(request, true).unwrap();
        assert_eq!(whole(answer.0).await.unwrap().0.as_u16(), wanted, "{name}");
    }
    // One connection too many is told so in its own protocol.
    let daemon = Daemon::push(&["--max-connections", "1"]);
    let http = Http::new(daemon.url());
    http.get("/livez").await.ok(200);
    let mut connection = Connection::to(&daemon).await;
    let (status, body) = connection.get("/livez").await.unwrap();
    assert_eq!(status.as_u16(), 503, "{}", String::from_utf8_lossy(&body));
    assert!(String::from_utf8_lossy(&body).contains("--max-connections"));
    http.get("/livez").await.ok(200);
}
