//! Budgets: a request over a budget is refused with a time to retry, and served when there is room again. Slow readers are
//! served slowly; clients that read nothing are disconnected.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::daemon::Daemon;
use support::http::{Got, Http};
use support::tls::Authority;
use support::tokens::TokenFile;
use support::workload::put;
use support::{DEADLINE, eventually, in_time};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

const CURRENT: &[u8] = b"GET /v1/breadcrumbs/current HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

async fn status(http: &Http) -> Value {
    http.get("/v1/status").await.ok(200).json()
}

async fn until(http: &Http, what: &str, is: impl Fn(&Value) -> bool) {
    eventually(what, || async { is(&status(http).await).then_some(()) }).await;
}

/// The refusal of somebody who is to come back. It names the flag that sets the limit.
fn refused_by(got: &Got, flag: &str) {
    refused(got);
    let detail = got.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(&format!("({flag})")), "{flag} is not in {detail}");
}

/// The refusal of somebody who is to come back.
fn refused(got: &Got) {
    let problem = got.problem(503);
    let seconds: u64 = got.need("retry-after").parse().unwrap();
    assert!((1..=3).contains(&seconds), "{problem}");
    assert_eq!(problem["retry_after"], seconds);
    assert!(problem["type"].as_str().unwrap().ends_with(":over-budget"), "{problem}");
}

fn ask(http: &Http, path: &str) -> JoinHandle<Got> {
    let (http, path) = (http.clone(), path.to_owned());
    tokio::spawn(async move { http.get(&path).await })
}

/// A state whose body is larger than what the system buffers for one connection.
async fn large(http: &Http) {
    let value = format!("\"{}\"", "x".repeat(1 << 20));
    for n in 0..24 {
        http.post(&[put(&format!("large/{n}"), &value)]).await;
    }
}

/// A connection for which the system buffers little on this side: a few of the loopback's segments of 64 KiB.
async fn narrow(daemon: &Daemon) -> TcpStream {
    narrow_from(daemon, [127, 0, 0, 1]).await
}

/// The same from another address of this machine.
async fn narrow_from(daemon: &Daemon, address: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.set_recv_buffer_size(128 << 10).unwrap();
    socket.connect(daemon.url().strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap()
}

/// A reader that asks and takes nothing but the beginning.
async fn slow_reader(daemon: &Daemon, address: [u8; 4], path: &str) -> TcpStream {
    let mut stream = narrow_from(daemon, address).await;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    in_time("the beginning of an answer", stream.read_exact(&mut begun)).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    stream
}

fn in_flight(status: &Value) -> u64 {
    status["snapshot_bytes_in_flight"].as_u64().unwrap()
}

#[tokio::test]
async fn one_waiter_too_many_is_refused_until_another_has_gone() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--max-waiters", "2", "--lean-front", front]);
        let http = daemon.http();
        let before = http.cursor().await;
        let start = http.post(&[put("a", "1")]).await;
        let path = format!("/v1/breadcrumbs/{start}/next?wait=30s");
        let waiters = [ask(&http, &path), ask(&http, &format!("{path}&prefix=a"))];
        until(&http, "two waiters", |status| status["waiters"] == 2).await;
        refused(&http.get(&path).await);
        refused(&http.get(&format!("{path}&prefix=b")).await);
        refused(&http.get(&format!("/v1/kv/a?after={start}")).await);
        // Who need not wait needs no place for it.
        let now = format!("/v1/breadcrumbs/{start}/next?wait=0");
        http.get(&now).await.ok(204);
        http.get(&format!("{now}&prefix=b")).await.ok(204);
        http.get(&format!("/v1/kv/a?after={start}&wait=0")).await.ok(204);
        http.get("/readyz?wait=5s").await.ok(200);
        for behind in ["next", "next?wait=5s", "next?prefix=a"] {
            http.get(&format!("/v1/breadcrumbs/{before}/{behind}")).await.ok(200);
        }
        http.get(&format!("/v1/kv/a?after={before}")).await.ok(200);
        let [one, two] = waiters;
        one.abort();
        until(&http, "one waiter", |status| status["waiters"] == 1).await;
        let three = ask(&http, &path);
        until(&http, "two waiters", |status| status["waiters"] == 2).await;
        let written = http.post(&[put("a", "2")]).await;
        for waiter in [two, three] {
            assert_eq!(in_time("a waiter", waiter).await.unwrap().ok(200).cursor(), written);
        }
        until(&http, "no waiters", |status| status["waiters"] == 0).await;
    }
}

#[tokio::test]
async fn one_connection_too_many_is_refused_until_another_has_gone() {
    let daemon = Daemon::push(&["--max-connections", "2"]);
    let asked = |mut stream: TcpStream| async move {
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 4096];
        let length = in_time("an answer", stream.read(&mut answer)).await.unwrap();
        (stream, String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    let (one, answer) = asked(narrow(&daemon).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_two, answer) = asked(narrow(&daemon).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, answer) = asked(narrow(&daemon).await).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    for line in ["retry-after: ", "connection: close", "application/problem+json", "--max-connections"] {
        assert!(answer.contains(line), "{line:?} is not in {answer}");
    }
    drop(one);
    let served = || async { asked(narrow(&daemon).await).await.1.starts_with("HTTP/1.1 200 ").then_some(()) };
    eventually("room for a connection", served).await;
}

#[tokio::test]
async fn bytes_of_a_snapshot_are_in_flight_until_they_are_written_or_nobody_wants_them() {
    let daemon = Daemon::push(&["--max-snapshot-bytes", "1MiB"]);
    let http = daemon.http();
    large(&http).await;
    let mut holds = narrow(&daemon).await;
    holds.write_all(CURRENT).await.unwrap();
    holds.read_u8().await.unwrap();
    // Not when it was queued: it is far more than what is buffered.
    assert!(in_flight(&status(&http).await) > 24 << 20);
    let small = in_time("a refusal", http.get("/v1/breadcrumbs/current?prefix=nothing")).await;
    refused(&small);
    let before = in_flight(&status(&http).await);
    assert!(before > 24 << 20);
    // The same bytes once more.
    let shared = in_time("a snapshot", http.get("/v1/breadcrumbs/current")).await;
    assert!(shared.ok(200).body.len() > 24 << 20);
    until(&http, "the other reader to be done", |status| in_flight(status) == before).await;
    drop(holds);
    until(&http, "the bytes to be given back", |status| in_flight(status) == 0).await;
    let got = in_time("a snapshot", http.get("/v1/breadcrumbs/current")).await.ok(200);
    assert!(got.body.len() > 24 << 20);
    until(&http, "the bytes to be written", |status| in_flight(status) == 0).await;
}

#[tokio::test]
async fn who_takes_nothing_is_cut_and_who_takes_little_is_not() {
    // Long enough that a busy machine does not make this test look like somebody who takes nothing.
    let stall = Duration::from_millis(1500);
    let daemon = Daemon::push(&["--stall-timeout", "1500ms"]);
    let http = daemon.http();
    large(&http).await;
    let (mut slow, mut stuck) = (narrow(&daemon).await, narrow(&daemon).await);
    for stream in [&mut slow, &mut stuck] {
        stream.write_all(CURRENT).await.unwrap();
        stream.read_u8().await.unwrap();
    }
    // A little at a time, for many times as long as nothing would be borne: what the system buffers on the
    // other side lasts longer than that by itself.
    let (mut chunk, mut taken, began) = (vec![0; 16 << 10], 0, Instant::now());
    while began.elapsed() < stall * 6 {
        taken += slow.read_exact(&mut chunk).await.expect("who is slow is served");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut rest = Vec::new();
    in_time("the rest", slow.read_to_end(&mut rest)).await.expect("who is slow is served to the end");
    assert!(taken + rest.len() > 24 << 20, "{taken} and {} bytes", rest.len());
    assert!(rest.ends_with(b"]}\n") || rest.ends_with(b"}\n") || rest.ends_with(b"]}"), "cut off");
    until(&http, "the stuck one to be cut", |status| status["snapshot_bytes_in_flight"] == 0).await;
    let mut rest = Vec::new();
    _ = tokio::time::timeout(DEADLINE, stuck.read_to_end(&mut rest)).await.expect("it was cut");
    assert!(rest.len() < 20 << 20, "{} bytes came all the same", rest.len());
}

/// What a daemon answers to a head whose body does not come, or comes in part.
async fn answer_to(daemon: &Daemon, sent: &[u8]) -> String {
    let mut stream = daemon.connect().await;
    stream.write_all(sent).await.unwrap();
    let mut answer = String::new();
    in_time("the end of the connection", stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_body_that_stops_or_creeps_is_given_up_and_one_that_is_too_large_is_not_waited_for() {
    let daemon = Daemon::push(&["--stall-timeout", "300ms", "--max-body-bytes", "1MiB"]);
    let stopped = b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf";
    let answer = answer_to(&daemon, stopped).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("--stall-timeout"), "{answer}");
    // A byte now and then is not enough.
    let (mut answers, mut creeping) = tokio::io::split(daemon.connect().await);
    creeping.write_all(b"PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
    let creep = async {
        while creeping.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut answer = String::new();
    tokio::select! {
        () = creep => panic!("the connection was reset before the answer was read"),
        _ = in_time("the creeping body to be given up", answers.read_to_string(&mut answer)) => {}
    }
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    for expect in ["", "Expect: 100-continue\r\n"] {
        let head =
            format!("POST /v1/updates HTTP/1.1\r\nHost: a\r\n{expect}Content-Length: 100000000000\r\n\r\n");
        let answer = answer_to(&daemon, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("--max-body-bytes"), "{answer}");
    }
    daemon.http().get("/v1/kv/a").await.problem(404);
}

#[tokio::test]
async fn a_refusal_comes_at_once_and_a_client_that_is_still_sending_gets_it() {
    const MIB: usize = 1 << 20;
    // More than the system buffers between the two.
    const SENT: usize = 24 * MIB;
    let mut file = TokenFile::new();
    let (all, reader) = (file.add(&[""], &[""]), file.add(&[""], &[]));
    let authority = Authority::new("the daemons'");
    for tls in [false, true] {
        let files = authority.server();
        let served = if tls { files.served().to_vec() } else { Vec::new() };
        let limits = ["--max-body-bytes", "1MiB", "--max-value-bytes", "1MiB"];
        let daemon = file.daemon(&[&limits[..], &served].concat());
        let daemon = daemon.vouched_for_by(&authority);
        let length = format!("Content-Length: {}\r\n", 64 * MIB);
        let chunked = "Transfer-Encoding: chunked\r\n".to_owned();
        for (start, token, more, status) in [
            ("POST /v1/updates", &all, length.clone(), 413),
            ("PUT /v1/kv/a", &all, length.clone(), 413),
            ("PUT /v1/kv/a", &all, chunked.clone(), 413),
            ("PUT /v1/kv/a", &reader, length.clone(), 403),
            ("POST /v1/updates", &reader, chunked.clone(), 403),
            ("POST /v1/updates", &all, format!("{length}Origin: http://elsewhere\r\n"), 403),
            ("POST /v1/updates", &all, format!("{length}Content-Encoding: gzip\r\n"), 415),
            ("PUT /v1/kv/a?unknown=1", &all, length.clone(), 400),
            ("POST /v1/nothing", &all, length.clone(), 404),
            ("POST /v1/status", &all, chunked.clone(), 405),
        ] {
            let head =
                format!("{start} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n{more}\r\n", token.text);
            let piece = match more.contains("chunked") {
                true => [format!("{MIB:x}\r\n").into_bytes(), vec![b' '; MIB], b"\r\n".to_vec()].concat(),
                false => vec![b' '; MIB],
            };
            let (mut answers, mut requests) = tokio::io::split(daemon.connect().await);
            requests.write_all(head.as_bytes()).await.unwrap();
            // Where the body has to be read before it can be refused, some of it.
            if status == 413 && more.contains("chunked") {
                requests.write_all(&piece).await.unwrap();
                requests.write_all(b"1\r\n \r\n").await.unwrap();
            }
            let mut answer = vec![0; 12];
            in_time("the answer, before the body", answers.read_exact(&mut answer)).await.unwrap();
            assert_eq!(answer, format!("HTTP/1.1 {status}").into_bytes(), "{start} {more}");
            for _ in 0..SENT / MIB {
                in_time("the body to be taken", requests.write_all(&piece)).await.expect("no reset");
            }
            in_time("the end", answers.read_to_end(&mut answer)).await.expect("no reset");
            let answer = String::from_utf8(answer).unwrap();
            assert!(
                answer.contains("connection: close") && answer.ends_with("}\n"),
                "{start} {more}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn bodies_on_their_way_are_bounded_together_and_others_are_served_when_there_is_room() {
    const MIB: usize = 1 << 20;
    let daemon = Daemon::push(&["--max-upload-bytes", "2MiB", "--max-value-bytes", "2MiB"]);
    let http = daemon.http();
    let mut held = Vec::new();
    for n in 0..2 {
        let mut stream = daemon.connect().await;
        let head = format!("PUT /v1/kv/held{n} HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; MIB / 2]).await.unwrap();
        held.push(stream);
    }
    let text = [("content-type", "text/plain")];
    let put = || http.send("PUT", "/v1/kv/a", &text, Some(b"x".to_vec()));
    let over = eventually("the budget to be full", || async {
        let got = put().await;
        (got.status == 503).then_some(got)
    });
    let over = over.await;
    refused(&over);
    assert!(String::from_utf8_lossy(&over.body).contains("--max-upload-bytes"));
    // Reading goes on meanwhile.
    http.get("/v1/breadcrumbs/current").await.ok(200);
    for stream in &mut held {
        stream.write_all(&vec![b'x'; MIB - MIB / 2]).await.unwrap();
    }
    eventually("room", || async { (put().await.status == 200).then_some(()) }).await;
    eventually("the held write", || async { (http.get("/v1/kv/held1").await.status == 200).then_some(()) })
        .await;
    // One that is larger than the whole budget is taken alone.
    let large = format!("\"{}\"", "x".repeat(MIB));
    http.post(&[support::workload::put("b", &large), support::workload::put("c", &large)]).await;
}

#[tokio::test]
async fn slow_readers_of_one_state_keep_nobody_out_and_count_once() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--max-snapshot-bytes", "60MiB", "--lean-front", front]);
        let http = daemon.http();
        large(&http).await;
        let mut readers = Vec::new();
        for _ in 0..10 {
            for path in ["/v1/breadcrumbs/current", "/v1/breadcrumbs/current?prefix=l"] {
                readers.push(slow_reader(&daemon, [127, 0, 0, 1], path).await);
            }
        }
        // The two bodies share all their pages but the first.
        let held = in_flight(&status(&http).await);
        assert!((24 << 20..30 << 20).contains(&held), "{held} bytes");
        // A newer state costs what it does not share.
        http.post(&[put("large/1", "1")]).await;
        let elsewhere = Http::from_address(daemon.url(), [127, 0, 0, 2]);
        assert!(elsewhere.get("/v1/breadcrumbs/current").await.ok(200).body.len() > 20 << 20);
        drop(readers);
        until(&http, "the bytes to be given back", |status| in_flight(status) == 0).await;
    }
}

#[tokio::test]
async fn what_only_slow_readers_of_old_states_hold_is_counted() {
    let daemon = Daemon::push(&["--max-snapshot-bytes", "40MiB", "--max-client-snapshot-bytes", "1GiB"]);
    let http = daemon.http();
    let value = |n: usize| format!("\"{}\"", n.to_string().repeat(1 << 20));
    let state = |n: usize| (0..8).map(move |key| put(&format!("key/{key}"), &value(n))).collect::<Vec<_>>();
    let mut readers = Vec::new();
    for n in 0..4 {
        http.post(&state(n)).await;
        readers.push(slow_reader(&daemon, [127, 0, 0, 1], "/v1/breadcrumbs/current").await);
        let held = in_flight(&status(&http).await);
        assert!(held > (n as u64 + 1) * (8 << 20), "{held} bytes after {} states", n + 1);
    }
    http.post(&state(4)).await;
    let over = in_time("a refusal", http.get("/v1/breadcrumbs/current")).await;
    refused_by(&over, "--max-snapshot-bytes");
    drop(readers);
    http.get("/v1/breadcrumbs/current").await.ok(200);
    until(&http, "the bytes to be given back", |status| in_flight(status) == 0).await;
}

#[tokio::test]
async fn a_client_has_a_share_of_the_bytes_and_others_are_served_meanwhile() {
    let daemon = Daemon::push(&["--max-snapshot-bytes", "64MiB"]);
    let http = daemon.http();
    large(&http).await;
    let _held = [
        slow_reader(&daemon, [127, 0, 0, 1], "/v1/kv?limit=12").await,
        slow_reader(&daemon, [127, 0, 0, 1], "/v1/kv?limit=13").await,
    ];
    // A client over its share keeps nobody else from the same page.
    let page = "/v1/kv?limit=14";
    let over = ask(&http, page);
    let elsewhere = Http::from_address(daemon.url(), [127, 0, 0, 2]);
    elsewhere.get(page).await.ok(200);
    until(&http, "the other client to be done", |status| in_flight(status) < 26 << 20).await;
    let over = in_time("a refusal", over).await.unwrap();
    refused_by(&over, "--max-client-snapshot-bytes");
    assert!(over.json()["detail"].as_str().unwrap().contains("this address"));
    // The same page is shared, and a small one is not counted.
    http.get("/v1/kv?limit=12").await.ok(200);
    http.get("/v1/kv?limit=4&prefix=nothing").await.ok(200);
    let metrics = String::from_utf8(http.get("/metrics").await.ok(200).plain()).unwrap();
    for line in [
        "crumbd_over_budget_total{limit=\"max-client-snapshot-bytes\"} 1",
        "crumbd_over_budget_total{limit=\"max-waiters\"} 0",
        "crumbd_snapshot_bytes_limit 67108864",
        "crumbd_waiters_limit 100000",
    ] {
        assert!(metrics.contains(line), "{line:?} is not in {metrics}");
    }
    let status = status(&http).await;
    assert_eq!(status["snapshot_bytes_limit"], 64 << 20);
    assert_eq!(status["over_budget"]["max-client-snapshot-bytes"], 1);
}

#[tokio::test]
async fn diffs_and_squashes_wait_for_room_before_they_are_made() {
    for front in ["on", "off"] {
        let limits = ["--max-snapshot-bytes", "1MiB", "--max-client-snapshot-bytes", "1GiB"];
        let daemon = Daemon::push(&[&limits[..], &["--lean-front", front]].concat());
        let http = daemon.http();
        let before = http.post(&[put("small", "1")]).await;
        large(&http).await;
        let now = http.cursor().await;
        until(&http, "the bytes to be given back", |status| in_flight(status) == 0).await;
        let holds = slow_reader(&daemon, [127, 0, 0, 1], "/v1/kv?limit=1000").await;
        let next = format!("/v1/breadcrumbs/{before}/next");
        let paths =
            [format!("/v1/breadcrumbs/{before}/diff/{now}"), next.clone(), format!("{next}?prefix=l")];
        for path in &paths {
            refused_by(&in_time("a refusal", http.get(path)).await, "--max-snapshot-bytes");
        }
        refused_by(&in_time("a refusal", http.get("/v1/stream")).await, "--max-snapshot-bytes");
        // Small ones need no room.
        let after = http.post(&[put("small", "2")]).await;
        http.get(&format!("/v1/breadcrumbs/{now}/next")).await.ok(200);
        http.get(&format!("/v1/breadcrumbs/{now}/diff/{after}")).await.ok(200);
        drop(holds);
        for path in &paths {
            assert!(in_time("an answer", http.get(path)).await.ok(200).body.len() > 24 << 20);
        }
        until(&http, "the bytes to be given back", |status| in_flight(status) == 0).await;
    }
}

#[tokio::test]
async fn a_stream_waits_for_room_for_a_squash() {
    for front in ["on", "off"] {
        let limits = ["--max-snapshot-bytes", "1MiB", "--max-client-snapshot-bytes", "1GiB"];
        let daemon = Daemon::push(&[&limits[..], &["--lean-front", front, "--heartbeat", "200ms"]].concat());
        let http = daemon.http();
        let before = http.post(&[put("small", "1")]).await;
        large(&http).await;
        let holds = slow_reader(&daemon, [127, 0, 0, 1], "/v1/kv?limit=1000").await;
        let mut stream = slow_reader(&daemon, [127, 0, 0, 2], &format!("/v1/stream?from={before}")).await;
        until(&http, "the stream to wait for a while", |status| {
            status["over_budget"]["max-snapshot-bytes"].as_u64().unwrap() > 0
        })
        .await;
        drop(holds);
        let mut taken = vec![0; 24 << 20];
        in_time("the squash", stream.read_exact(&mut taken)).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_has_a_share_of_the_waiters_places() {
    for front in ["on", "off"] {
        let limits = ["--max-waiters", "8", "--max-client-waiters", "2", "--lean-front", front];
        let daemon = Daemon::push(&limits);
        let http = daemon.http();
        let before = http.cursor().await;
        let start = http.post(&[put("a", "1")]).await;
        let path = format!("/v1/breadcrumbs/{start}/next?wait=30s");
        let _waiters = [ask(&http, &path), ask(&http, &format!("{path}&prefix=a"))];
        until(&http, "two waiters", |status| status["waiters"] == 2).await;
        for path in [&path, &format!("/v1/kv/a?after={start}"), "/v1/stream"] {
            let over = http.get(path).await;
            refused_by(&over, "--max-client-waiters");
            assert!(over.json()["detail"].as_str().unwrap().contains("this address"));
        }
        // Who need not wait needs no place.
        http.get(&format!("/v1/breadcrumbs/{before}/next")).await.ok(200);
        http.get(&format!("/v1/breadcrumbs/{start}/next?wait=0")).await.ok(204);
        http.get(&format!("/v1/kv/a?after={before}")).await.ok(200);
        let elsewhere = Http::from_address(daemon.url(), [127, 0, 0, 2]);
        // A long prefix takes several places: 3 KiB of it two.
        let long = format!("{path}&prefix={}", "p".repeat(3000));
        let _waiter = ask(&elsewhere, &long);
        until(&http, "four places", |status| status["waiters"] == 4).await;
        refused_by(&elsewhere.get(&path).await, "--max-client-waiters");
    }
}

#[tokio::test]
async fn a_token_is_one_client_wherever_it_comes_from_and_whatever_its_rights() {
    let mut tokens = support::tokens::TokenFile::new();
    let (one, other) = (tokens.add(&[""], &[""]), tokens.add(&[""], &[""]));
    tokens.save();
    let daemon = tokens.daemon(&["--max-client-waiters", "1"]);
    let http = |token: &support::tokens::Token, address| {
        Http::from_address(daemon.url(), address).with_token(&token.text)
    };
    let (here, there) = (http(&one, [127, 0, 0, 1]), http(&one, [127, 0, 0, 2]));
    let path = format!("/v1/breadcrumbs/{}/next?wait=30s", here.cursor().await);
    let _waiter = ask(&here, &path);
    until(&here, "a waiter", |status| status["waiters"] == 1).await;
    let over = there.get(&path).await;
    refused_by(&over, "--max-client-waiters");
    assert!(over.json()["detail"].as_str().unwrap().contains("this token"));
    let another = ask(&http(&other, [127, 0, 0, 1]), &path);
    until(&here, "two waiters", |status| status["waiters"] == 2).await;
    another.abort();
}

#[tokio::test]
async fn the_more_requests_are_refused_the_later_they_come_back() {
    let daemon = Daemon::push(&["--max-waiters", "1"]);
    let http = daemon.http();
    let path = format!("/v1/breadcrumbs/{}/next?wait=30s", http.cursor().await);
    let _waiter = ask(&http, &path);
    until(&http, "a waiter", |status| status["waiters"] == 1).await;
    let mut longest = 0;
    for _ in 0..2000 {
        let over = http.get(&path).await;
        let seconds: u64 = over.need("retry-after").parse().unwrap();
        assert_eq!(over.problem(503)["retry_after"], seconds);
        assert!((1..=60).contains(&seconds));
        longest = longest.max(seconds);
        if longest > 6 {
            break;
        }
    }
    assert!(longest > 6, "{longest} s");
}

#[tokio::test]
async fn large_values_that_only_slow_readers_hold_are_counted_once_each() {
    const VALUE: usize = 6 << 20;
    let limits = ["--max-snapshot-bytes", "20MiB", "--max-client-snapshot-bytes", "1GiB"];
    let daemon = Daemon::push(&[&limits[..], &["--keep-count", "1"]].concat());
    let http = daemon.http();
    let mut readers = Vec::new();
    for n in 0..3 {
        http.put(b"large", "text/plain", &vec![b'a' + n; VALUE]).await;
        for _ in 0..5 {
            readers.push(slow_reader(&daemon, [127, 0, 0, 1], "/v1/kv/large").await);
        }
        let held = in_flight(&status(&http).await);
        assert_eq!(held, (u64::from(n) + 1) * VALUE as u64, "after {} values", n + 1);
    }
    http.put(b"large", "text/plain", &[b'z'; VALUE]).await;
    refused_by(&in_time("a refusal", http.get("/v1/kv/large")).await, "--max-snapshot-bytes");
    http.put(b"small", "text/plain", b"1").await;
    http.get("/v1/kv/small").await.ok(200);
    drop(readers);
    assert_eq!(http.get("/v1/kv/large").await.ok(200).body.len(), VALUE);
    until(&http, "the bytes to be given back", |status| in_flight(status) == 0).await;
}

#[tokio::test]
async fn a_waiter_with_a_long_head_takes_the_places_of_several() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--max-waiters", "200", "--lean-front", front]);
        let http = daemon.http();
        let cursor = http.post(&[put("a", "1")]).await;
        for path in [
            format!("/v1/breadcrumbs/{cursor}/next?wait=5m"),
            format!("/v1/kv/a?after={cursor}&wait=5m"),
            format!("/v1/stream?from={cursor}"),
        ] {
            // Long heads of different kinds, and the fewest and most places of each.
            for (length, headers, places) in [(3000, 1, 1..=1), (60_000, 1, 55..=65), (600, 90, 50..=65)] {
                let header = |n| format!("x-{n}: {}\r\n", "j".repeat(length));
                let headers: String = (0..headers).map(header).collect();
                let mut stream = narrow(&daemon).await;
                let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
                in_time("the request", stream.write_all(head.as_bytes())).await.unwrap();
                let what = format!("{places:?} places: {path}");
                until(&http, &what, |status| places.contains(&status["waiters"].as_u64().unwrap())).await;
                drop(stream);
                until(&http, "no waiters", |status| status["waiters"] == 0).await;
            }
            // However long it is, it fits into an empty budget.
            let mut stream = narrow(&daemon).await;
            let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "j".repeat(120_000));
            in_time("the request", stream.write_all(head.as_bytes())).await.unwrap();
            until(&http, "many places", |status| status["waiters"].as_u64().unwrap() > 100).await;
            let mut other = narrow(&daemon).await;
            in_time("the request", other.write_all(head.as_bytes())).await.unwrap();
            let mut status = [0; 12];
            in_time("a refusal", other.read_exact(&mut status)).await.unwrap();
            assert_eq!(&status, b"HTTP/1.1 503", "{path}");
            drop((stream, other));
            until(&http, "no waiters", |status| status["waiters"] == 0).await;
        }
    }
}

#[tokio::test]
async fn a_client_has_a_share_of_the_request_bodies_and_others_write_meanwhile() {
    const MIB: usize = 1 << 20;
    let daemon = Daemon::push(&["--max-upload-bytes", "4MiB", "--max-client-upload-bytes", "2MiB"]);
    let mut held = Vec::new();
    for n in 0..2 {
        let mut stream = daemon.connect().await;
        let head = format!("PUT /v1/kv/held{n} HTTP/1.1\r\nHost: a\r\nContent-Length: {MIB}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        held.push(stream);
    }
    let (http, elsewhere) = (daemon.http(), Http::from_address(daemon.url(), [127, 0, 0, 2]));
    let put = |http: &Http| {
        let (http, text) = (http.clone(), [("content-type", "text/plain")]);
        async move { http.send("PUT", "/v1/kv/a", &text, Some(b"x".to_vec())).await }
    };
    let over = eventually("the share to be full", || async {
        let got = put(&http).await;
        (got.status == 503).then_some(got)
    });
    refused_by(&over.await, "--max-client-upload-bytes");
    put(&elsewhere).await.ok(200);
    for stream in &mut held {
        stream.write_all(&vec![b'x'; MIB]).await.unwrap();
    }
    eventually("room", || async { (put(&http).await.status == 200).then_some(()) }).await;
}
