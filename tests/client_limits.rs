//! The limits of each client: connections, streams and requests. A client over its limit is refused, and another one is
//! served meanwhile. What is remembered of addresses does not grow.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::daemon::Daemon;
use support::http::{Got, Http};
use support::tls::Authority;
use support::tokens::TokenFile;
use support::workload::put;
use support::{eventually, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const HERE: [u8; 4] = [127, 0, 0, 1];
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

async fn connect(daemon: &Daemon, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let address = daemon.url().split_once("://").unwrap().1.parse().unwrap();
    in_time("a connection", socket.connect(address)).await.unwrap()
}

/// Sends a request, and returns the beginning of the answer, of which the head is a part.
async fn ask(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        let read = in_time("an answer", stream.read_buf(&mut answer)).await;
        assert!(read.unwrap() > 0, "cut off: {}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

async fn metrics(http: &Http) -> String {
    String::from_utf8(http.get("/metrics").await.ok(200).plain()).unwrap()
}

/// The value of a metric without labels.
fn sample(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

fn refusals(metrics: &str, flag: &str) -> f64 {
    sample(metrics, &format!("crumbd_over_budget_total{{limit=\"{flag}\"}}"))
}

/// The refusal of a client over a limit, which names the flag.
fn refused(got: &Got, status: u16, kind: &str, flag: &str) {
    let problem = got.problem(status);
    assert_eq!(problem["type"], format!("urn:crumbd:problem:{kind}"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(&format!("(--{flag})")), "{problem}");
    let seconds: u64 = got.need("retry-after").parse().unwrap();
    assert!(seconds >= 1 && problem["retry_after"] == seconds, "{problem}");
}

fn rate_limited(got: &Got) {
    refused(got, 429, "rate-limited", "max-client-rate");
}

#[tokio::test]
async fn an_address_has_a_share_of_the_connections() {
    let daemon = Daemon::push(&["--max-connections", "20", "--max-client-connections", "2"]);
    let mut held = [connect(&daemon, ELSEWHERE).await, connect(&daemon, ELSEWHERE).await];
    for stream in &mut held {
        assert!(ask(stream, "/livez").await.starts_with("HTTP/1.1 200 "));
    }
    let mut third = connect(&daemon, ELSEWHERE).await;
    let mut answer = String::new();
    third.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    in_time("a refusal", third.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for part in [
        "retry-after: ",
        "connection: close",
        ":over-budget",
        "2 connections of this address",
        "(--max-client-connections)",
    ] {
        assert!(answer.contains(part), "{part:?} is not in {answer}");
    }
    let http = daemon.http();
    let told = metrics(&http).await;
    assert_eq!(sample(&told, "crumbd_client_connections_limit"), 2.0);
    assert_eq!(refusals(&told, "max-client-connections"), 1.0);
    assert_eq!(refusals(&told, "max-connections"), 0.0);
    assert!(sample(&told, "crumbd_connections_refused_total") >= 1.0);
    let [one, _two] = held;
    drop(one);
    eventually("room", || async {
        let mut stream = connect(&daemon, ELSEWHERE).await;
        ask(&mut stream, "/livez").await.starts_with("HTTP/1.1 200 ").then_some(())
    })
    .await;
    assert_eq!(sample(&metrics(&http).await, "crumbd_over_budget_total{limit=\"max-connections\"}"), 0.0);
}

#[tokio::test]
async fn without_the_flag_an_address_has_nine_tenths_of_the_connections() {
    let daemon = Daemon::push(&["--max-connections", "10"]);
    assert_eq!(sample(&metrics(&daemon.http()).await, "crumbd_client_connections_limit"), 9.0);
}

#[tokio::test]
async fn an_address_over_its_share_gets_few_handshakes_and_others_theirs() {
    let authority = Authority::new("the daemons'");
    let files = authority.server();
    let limits = ["--max-client-connections", "2"];
    let daemon = Daemon::push(&[&limits[..], &files.served()].concat()).vouched_for_by(&authority);
    let _held = [connect(&daemon, HERE).await, connect(&daemon, HERE).await];
    let over = eventually("a refusal", || async {
        daemon.http().try_send("GET", "/livez", &[], None).await.ok().filter(|got| got.status == 503)
    });
    refused(&over.await, 503, "over-budget", "max-client-connections");
    // Most are closed before their handshake: nothing is answered to what is no TLS either.
    let mut unanswered = 0;
    let mut streams = Vec::new();
    for _ in 0..12 {
        streams.push(connect(&daemon, HERE).await);
    }
    for mut stream in streams {
        _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut answer = Vec::new();
        _ = in_time("the end", stream.read_to_end(&mut answer)).await;
        unanswered += usize::from(answer.is_empty());
    }
    assert!(unanswered >= 10, "{unanswered}");
    let answer = ask(&mut connect(&daemon, ELSEWHERE).await, "/livez").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 "),
        "served, with the sentence that this port speaks TLS: {answer}"
    );
}

#[tokio::test]
async fn a_client_has_a_share_of_streams_and_waits_for_a_key() {
    for front in ["on", "off"] {
        let limits = ["--max-client-streams", "2", "--lean-front", front];
        let daemon = Daemon::push(&limits);
        let http = daemon.http();
        let before = http.cursor().await;
        let now = http.post(&[put("a", "1")]).await;
        let wait = format!("/v1/kv/a?after={now}&wait=30s");
        let mut stream = connect(&daemon, HERE).await;
        assert!(ask(&mut stream, "/v1/stream").await.starts_with("HTTP/1.1 200 "));
        let mut key = connect(&daemon, HERE).await;
        key.write_all(format!("GET {wait} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let status = || async { http.get("/v1/status").await.ok(200).json() };
        eventually("both to wait", || async { (status().await["waiters"] == 2).then_some(()) }).await;
        for path in ["/v1/stream", &wait] {
            let over = http.get(path).await;
            refused(&over, 503, "over-budget", "max-client-streams");
            assert!(over.json()["detail"].as_str().unwrap().contains("this address"));
        }
        // A key that has changed already needs no wait, and a long poll is no stream.
        http.get(&format!("/v1/kv/a?after={before}")).await.ok(200);
        let poll = format!("/v1/breadcrumbs/{now}/next?wait=200ms");
        http.get(&poll).await.ok(204);
        let mut other = connect(&daemon, ELSEWHERE).await;
        assert!(ask(&mut other, "/v1/stream").await.starts_with("HTTP/1.1 200 "));
        let told = metrics(&http).await;
        assert_eq!(refusals(&told, "max-client-streams"), 2.0, "{front}");
        assert_eq!(sample(&told, "crumbd_client_streams_limit"), 2.0);
        drop(stream);
        eventually("room for a stream", || async {
            let mut stream = connect(&daemon, HERE).await;
            ask(&mut stream, "/v1/stream").await.starts_with("HTTP/1.1 200 ").then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_over_its_rate_is_refused_everywhere_but_for_its_health_and_others_are_served() {
    for front in ["on", "off"] {
        // Nothing comes back while the test runs.
        let daemon = Daemon::push(&["--max-client-rate", "2/h", "--lean-front", front]);
        let (http, other) = (daemon.http(), Http::from_address(daemon.url(), ELSEWHERE));
        let cursor = http.cursor().await;
        let poll = format!("/v1/breadcrumbs/{cursor}/next?wait=0");
        for n in 1..10 {
            assert_eq!(http.get(&poll).await.status, 204, "{n} of the burst");
            // They count nowhere.
            http.get("/livez").await.ok(200);
        }
        let events = [("accept", "text/event-stream")];
        for path in
            [&poll, "/v1/breadcrumbs/current", "/v1/kv/a", "/v1/stream", "/v1/nothing", "/metrics", "/"]
        {
            let over = http.get(path).await;
            rate_limited(&over);
            let detail = over.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains("this address sends more than 2/h requests"), "{path}: {detail}");
            let seconds: u64 = over.need("retry-after").parse().unwrap();
            assert!((1000..=3600).contains(&seconds), "{seconds}");
        }
        let text = [("content-type", "text/plain")];
        rate_limited(&http.send("PUT", "/v1/kv/a", &text, Some(b"1".to_vec())).await);
        let ended = http.get_with("/v1/stream", &events).await.ok(200);
        let body = String::from_utf8(ended.plain()).unwrap();
        assert!(body.starts_with("retry: ") && body.contains("(--max-client-rate)"), "{body}");
        // Over another connection it is the same address.
        for _ in 0..3 {
            let answer = ask(&mut connect(&daemon, HERE).await, &poll).await;
            assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nretry-after: "), "{answer}");
            assert!(ask(&mut connect(&daemon, HERE).await, "/readyz").await.starts_with("HTTP/1.1 200 "));
        }
        other.put(b"a", "text/plain", b"1").await;
        let told = metrics(&other).await;
        assert_eq!(refusals(&told, "max-client-rate"), 12.0, "{front}");
        assert_eq!(sample(&told, "crumbd_client_requests_per_second_limit"), 2.0 / 3600.0);
        assert!(told.contains("crumbd_answers_total{status=\"429\""), "{told}");
    }
}

#[tokio::test]
async fn a_client_that_comes_when_it_was_told_is_served() {
    let daemon = Daemon::push(&["--max-client-rate", "2/s"]);
    let http = daemon.http();
    let poll = format!("/v1/breadcrumbs/{}/next?wait=0", http.cursor().await);
    for _ in 0..3 {
        let over = eventually("the end of the burst", || async {
            let got = http.get(&poll).await;
            (got.status == 429).then_some(got)
        });
        let seconds: u64 = over.await.need("retry-after").parse().unwrap();
        assert_eq!(seconds, 1, "a request every half second");
        // The time is what is tested: it is enough.
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        http.get(&poll).await.ok(204);
    }
}

#[tokio::test]
async fn tokens_have_a_rate_each_and_who_guesses_has_that_of_an_address() {
    let mut file = TokenFile::new();
    let (one, two) = (file.add(&[""], &[""]), file.add(&[""], &[""]));
    for front in ["on", "off"] {
        let daemon = file.daemon(&["--max-client-rate", "2/h", "--lean-front", front]);
        let poll = format!("/v1/breadcrumbs/{}/next?wait=0", one.http(&daemon).cursor().await);
        for _ in 1..10 {
            one.http(&daemon).get(&poll).await.ok(204);
        }
        let over = one.http(&daemon).get(&poll).await;
        rate_limited(&over);
        assert!(over.json()["detail"].as_str().unwrap().contains("this token"));
        two.http(&daemon).get(&poll).await.ok(204);
        let guess = daemon.http().with_token("no-token-of-this-daemon");
        for _ in 0..10 {
            guess.get(&poll).await.problem(401);
        }
        rate_limited(&guess.get(&poll).await);
        two.http(&daemon).get(&poll).await.ok(204);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_remembered_of_addresses_does_not_grow() {
    for rate in [None, Some("100000/s"), Some("1/h")] {
        let rate: Vec<&str> = rate.iter().flat_map(|rate| ["--max-client-rate", rate]).collect();
        let daemon = Daemon::push(&rate);
        for n in 0..3000_u16 {
            let [a, b] = n.to_be_bytes();
            let mut stream = connect(&daemon, [127, 1, a, b]).await;
            assert!(ask(&mut stream, "/v1/kv/a").await.starts_with("HTTP/1.1 404 "), "{n}");
        }
        // An address is forgotten with its last connection, or at last when its bucket is full.
        let remembered = if rate.last() == Some(&"1/h") { 3001.0 } else { 5.0 };
        let http = daemon.http();
        eventually("the addresses to be forgotten", || async {
            (sample(&metrics(&http).await, "crumbd_client_addresses") <= remembered).then_some(())
        })
        .await;
    }
}

#[test]
fn a_rate_that_is_none_is_an_error_that_shows_one() {
    for (rate, why) in [("10", "write it as 10/s"), ("0/s", "1 to 1000000 requests"), ("5/day", "30/m")] {
        let ended = Daemon::serve_and_end(&["--feed", "push:", "--max-client-rate", rate]);
        assert!(ended.stderr.contains("--max-client-rate") && ended.stderr.contains(why), "{}", ended.stderr);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_share_of_an_address_take_no_place_of_others() {
    let daemon = Daemon::push(&["--max-connections", "8", "--max-client-connections", "4"]);
    let mut silent = Vec::new();
    // Many more than all places; those over the share of the address send nothing, and are told so or closed.
    for _ in 0..60 {
        silent.push(connect(&daemon, HERE).await);
    }
    let elsewhere = Http::from_address(daemon.url(), ELSEWHERE);
    for _ in 0..3 {
        elsewhere.get("/v1/breadcrumbs/current").await.ok(200);
    }
    assert_eq!(refusals(&metrics(&elsewhere).await, "max-connections"), 0.0);
}
