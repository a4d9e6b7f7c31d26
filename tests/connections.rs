//! Readiness, limits and age of connections, and a drain that is spread over time.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::daemon::Daemon;
use support::http::{Got, Http};
use support::tls::{Authority, client_config};
use support::{A_WHILE, eventually, in_time};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

const FRONTS: [[&str; 2]; 2] = [["--lean-front", "on"], ["--lean-front", "off"]];

fn wait(http: Http, path: String) -> JoinHandle<Got> {
    tokio::spawn(async move { http.get(&path).await })
}

async fn waiters(http: &Http, wanted: u64) {
    let what = format!("{wanted} waiters");
    eventually(&what, || async {
        (http.get("/v1/status").await.ok(200).json()["waiters"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn readyz_says_at_once_how_it_is_and_with_wait_as_soon_as_it_is_ready() {
    let mut daemon = Daemon::serve_stdin(&["--feed", "stdin:"]);
    let http = daemon.http();
    for path in ["/readyz", "/readyz?wait=0", "/readyz?wait=50ms"] {
        let problem = in_time(path, http.get(path)).await.problem(503);
        assert_eq!(problem["type"], "urn:crumbd:problem:starting", "{path}");
    }
    for path in ["/readyz?wait=soon", "/readyz?until=now"] {
        http.get(path).await.problem(400);
    }
    let waiting: Vec<_> = (0..3).map(|_| wait(http.clone(), "/readyz?wait=30s".to_owned())).collect();
    waiters(&http, 3).await;
    tokio::time::sleep(A_WHILE).await;
    assert!(waiting.iter().all(|waiter| !waiter.is_finished()), "it is not ready");
    daemon.feed(
        b"{\"type\":\"put\",\"key\":\"a\",\"value\":1}\n{\"type\":\"status\",\"status\":\"in-sync\"}\n",
    );
    for waiter in waiting {
        in_time("readyz", waiter).await.unwrap().ok(200);
    }
    in_time("ready already", http.get("/readyz?wait=30s")).await.ok(200);
    http.get("/livez").await.ok(200);
}

#[tokio::test]
async fn who_waits_for_a_daemon_that_stops_is_told_so() {
    let daemon = Daemon::serve_stdin(&["--feed", "stdin:"]);
    let waiting = wait(daemon.http(), "/readyz?wait=30s".to_owned());
    waiters(&daemon.http(), 1).await;
    daemon.terminate();
    let problem = in_time("readyz", waiting).await.unwrap().problem(503);
    assert_eq!(problem["type"], "urn:crumbd:problem:shutting-down");
}

/// One connection, used for one request after the other.
struct Connection {
    stream: TcpStream,
}

impl Connection {
    async fn to(daemon: &Daemon) -> Connection {
        let address = daemon.url().strip_prefix("http://").unwrap();
        Connection { stream: TcpStream::connect(address).await.unwrap() }
    }

    async fn ask(&mut self, path: &str) {
        self.write(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads one answer; says its status and whether it is the connection's last.
    async fn answer(&mut self) -> (u16, bool) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(in_time("an answer", self.stream.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let header =
            |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: BTreeMap<String, String> = head.lines().filter_map(header).collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        in_time("a body", self.stream.read_exact(&mut vec![0; length])).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, headers.get("connection").is_some_and(|value| value == "close"))
    }

    async fn closes(mut self) {
        let mut rest = Vec::new();
        in_time("the end", self.stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "bytes after the last answer");
    }
}

#[tokio::test]
async fn an_old_connection_ends_with_an_answer_that_says_so() {
    for front in FRONTS {
        let daemon = Daemon::push(&[&["--max-connection-age", "700ms"], &front[..]].concat());
        let cursor = daemon.http().put(b"a", "application/json", b"1").await;
        let long = format!("/v1/breadcrumbs/{cursor}/next?wait=30s");
        // One that waits when its time comes is not cut off: its answer is its last.
        let mut waiter = Connection::to(&daemon).await;
        waiter.ask(&long).await;
        let (short, other) = (format!("/v1/breadcrumbs/{cursor}/next?wait=0"), "/v1/kv/a".to_owned());
        for paths in [vec![&short], vec![&other], vec![&short, &other]] {
            let mut connection = Connection::to(&daemon).await;
            let mut answers = 0;
            let until = Instant::now() + support::DEADLINE;
            loop {
                connection.ask(paths[answers % paths.len()]).await;
                answers += 1;
                let (status, last) = connection.answer().await;
                assert!(status < 300, "{status}");
                if last {
                    break;
                }
                assert!(Instant::now() < until, "the connection does not end");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(answers > 2, "a young connection goes on");
            connection.closes().await;
        }
        daemon.http().put(b"a", "application/json", b"2").await;
        assert_eq!(waiter.answer().await, (200, true));
        waiter.closes().await;
        // Without an age connections are for ever.
        let daemon = Daemon::push(&front);
        let mut connection = Connection::to(&daemon).await;
        connection.ask("/v1/kv").await;
        assert_eq!(connection.answer().await, (200, false));
    }
}

#[tokio::test]
async fn many_waiters_are_answered_over_a_part_of_the_drain_window_whichever_front_they_wait_in() {
    const WAITERS: u32 = 500;
    for front in FRONTS {
        let mut daemon = Daemon::push(&[&["--drain", "10s"], &front[..]].concat());
        let http = daemon.http();
        let cursor = http.put(b"a", "application/json", b"1").await;
        let next = format!("/v1/breadcrumbs/{cursor}/next?wait=2m");
        let waiting: Vec<_> = (0..WAITERS)
            .map(|_| {
                let (http, next) = (daemon.http(), next.clone());
                tokio::spawn(async move {
                    let got = http.get(&next).await.ok(204);
                    assert_eq!(
                        (got.need("connection"), got.need("crumbd-reason")),
                        ("close", "shutting-down")
                    );
                    Instant::now()
                })
            })
            .collect();
        waiters(&http, WAITERS.into()).await;
        daemon.terminate();
        let mut answered = Vec::new();
        for waiter in waiting {
            answered.push(in_time("an answer", waiter).await.unwrap());
        }
        // A millisecond for each of them: half a second in all. Answered at once they would be there in a tenth of that.
        answered.sort_unstable();
        let (tenth, rest) = (answered[50], answered[449]);
        assert!(rest - tenth > Duration::from_millis(200), "{:?} for four fifths of them", rest - tenth);
        assert!(daemon.wait_exit().success());
    }
}

#[tokio::test]
async fn what_comes_while_the_daemon_drains_is_told_with_the_last_answer_of_the_connection() {
    const WAITERS: u32 = 500;
    for front in FRONTS {
        let args = [&["--feed", "stdin:", "--drain", "10s"], &front[..]].concat();
        let mut daemon = Daemon::serve_stdin(&args);
        daemon.feed(
            b"{\"type\":\"put\",\"key\":\"a\",\"value\":1}\n{\"type\":\"status\",\"status\":\"in-sync\"}\n",
        );
        let http = daemon.http();
        http.get("/readyz?wait=30s").await.ok(200);
        let next = format!("/v1/breadcrumbs/{}/next?wait=2m", http.cursor().await);
        let mut waiting: JoinSet<Got> = (0..WAITERS)
            .map(|_| (daemon.http(), next.clone()))
            .map(|(http, next)| async move { http.get(&next).await })
            .collect();
        waiters(&http, WAITERS.into()).await;
        daemon.terminate();
        let first = in_time("an answer", waiting.join_next()).await.unwrap().unwrap().ok(204);
        assert_eq!(first.need("crumbd-reason"), "shutting-down");
        daemon.feed(b"{\"type\":\"put\",\"key\":\"a\",\"value\":2}\n");
        let mut told = 0;
        while let Some(got) = in_time("an answer", waiting.join_next()).await {
            let got = got.unwrap();
            assert_eq!(got.need("connection"), "close", "{front:?}: {} on the way out", got.status);
            told += u32::from(got.status == 200);
        }
        assert!(told > 0, "somebody waited still");
        assert!(daemon.wait_exit().success());
    }
}

#[tokio::test]
async fn a_connection_may_rest_between_two_requests_longer_than_a_head_may_take_and_then_closes_quietly() {
    for front in FRONTS {
        let patient = Daemon::push(&[&["--header-timeout", "200ms"], &front[..]].concat());
        let hasty = ["--header-timeout", "10m", "--idle-timeout", "200ms"];
        let hasty = Daemon::push(&[&hasty[..], &front].concat());
        let cursor = patient.http().cursor().await;
        let (next, other) = (format!("/v1/breadcrumbs/{cursor}/next?wait=0"), "/v1/kv".to_owned());
        for path in [&next, &other] {
            let mut connection = Connection::to(&patient).await;
            for _ in 0..2 {
                connection.ask(path).await;
                assert!(!connection.answer().await.1);
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
            connection.write("PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1").await;
            assert_eq!(connection.answer().await, (200, false), "after a rest: {front:?}, {path}");
            tokio::time::sleep(Duration::from_millis(400)).await;
            connection.ask(path).await;
            assert!(!connection.answer().await.1);
            // The time for a head begins with it.
            connection.write("GET /v1/kv HTT").await;
            assert_eq!(connection.answer().await, (408, true), "a head that does not end: {front:?}, {path}");

            let mut connection = Connection::to(&hasty).await;
            connection.ask(path).await;
            connection.answer().await;
            connection.closes().await;
        }
    }
}

/// A number of `/metrics`.
async fn sample(http: &Http, name: &str) -> f64 {
    let text = String::from_utf8(http.get("/metrics").await.ok(200).body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
}

#[tokio::test]
async fn connections_are_counted_and_one_too_many_is_told_so_until_another_ends() {
    for front in FRONTS {
        let daemon = Daemon::push(&[&["--max-connections", "4"], &front[..]].concat());
        let http = daemon.http();
        let mut kept = Vec::new();
        for _ in 0..3 {
            let mut connection = Connection::to(&daemon).await;
            connection.ask("/v1/kv").await;
            assert_eq!(connection.answer().await, (200, false));
            kept.push(connection);
        }
        assert_eq!(sample(&http, "crumbd_connections").await, 4.0, "three and this one");
        for _ in 0..3 {
            let mut refused = Connection::to(&daemon).await;
            refused.ask("/v1/kv").await;
            assert_eq!(refused.answer().await, (503, true));
            refused.closes().await;
        }
        assert_eq!(sample(&http, "crumbd_connections_refused_total").await, 3.0);
        drop(kept.pop());
        eventually("there is room again", || async {
            (sample(&http, "crumbd_connections").await == 3.0).then_some(())
        })
        .await;
        let mut again = Connection::to(&daemon).await;
        again.ask("/v1/kv").await;
        assert_eq!(again.answer().await, (200, false));
    }
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_off_and_what_it_held_is_given_back() {
    for front in FRONTS {
        let daemon = Daemon::push(&[&["--stall-timeout", "300ms"], &front[..]].concat());
        let http = daemon.http();
        let cursor = http.put(b"a", "application/json", b"1").await;
        // More than the kernel takes on behalf of a client that reads nothing.
        for n in 0..8 {
            http.put(format!("large/{n}").as_bytes(), "text/plain", &vec![b'x'; 4 << 20]).await;
        }
        let before = sample(&http, "crumbd_connections").await;
        let paths = ["/v1/breadcrumbs/current".to_owned(), format!("/v1/breadcrumbs/{cursor}/next")];
        for path in &paths {
            let mut idle = Connection::to(&daemon).await;
            idle.ask(path).await;
            idle.stream.readable().await.unwrap();
            assert!(sample(&http, "crumbd_connections").await > before, "{path}: it has begun");
            eventually(path, || async {
                (sample(&http, "crumbd_connections").await <= before).then_some(())
            })
            .await;
            assert_eq!(sample(&http, "crumbd_snapshot_bytes_in_flight").await, 0.0, "{path}");
        }
    }
}

/// What a client sends behind the head of its request before it goes: the beginning of a request, one, a few kilobytes,
/// and more than the daemon reads ahead.
fn pipelined() -> [String; 4] {
    let get = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    ["G".to_owned(), get.to_owned(), get.repeat(100), get.repeat(1000)]
}

#[tokio::test]
async fn who_has_gone_waits_no_longer_whatever_it_sent_before() {
    for front in FRONTS {
        let daemon = Daemon::push(&front);
        let http = daemon.http();
        let cursor = http.put(b"a", "application/json", b"1").await;
        let of = |http: Http| async move {
            let status = http.get("/v1/status").await.ok(200).json();
            ["waiters", "connections"].map(|name| status[name].as_u64().unwrap())
        };
        let before = of(http.clone()).await;
        let paths = [
            format!("/v1/breadcrumbs/{cursor}/next?wait=5m"),
            format!("/v1/breadcrumbs/{cursor}/next?wait=5m&prefix=a"),
            format!("/v1/kv/a?after={cursor}&wait=5m"),
            format!("/v1/stream?from={cursor}"),
        ];
        let body = format!("Content-Length: 200000\r\n\r\n{}", "a".repeat(100_000));
        for resets in [false, true] {
            let mut gone = Vec::new();
            for path in &paths {
                let behind = pipelined().map(|behind| format!("\r\n{behind}"));
                for rest in behind.iter().chain([&body]) {
                    let mut connection = Connection::to(&daemon).await;
                    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{rest}");
                    in_time("the request", connection.write(&request)).await;
                    gone.push(connection);
                }
            }
            waiters(&http, gone.len() as u64).await;
            for Connection { stream } in &mut gone {
                match resets {
                    true => stream.set_zero_linger().unwrap(),
                    false => stream.shutdown().await.unwrap(),
                }
            }
            if resets {
                gone.clear();
            }
            let what = format!("no waiter and no connection: {front:?}, resets {resets}");
            eventually(&what, || {
                let now = of(http.clone());
                async move { (now.await == before).then_some(()) }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn what_is_sent_behind_a_request_that_waits_is_answered_after_it() {
    for front in FRONTS {
        let daemon = Daemon::push(&front);
        let cursor = daemon.http().put(b"a", "application/json", b"1").await;
        for requests in [1, 100, 2000] {
            let mut connection = Connection::to(&daemon).await;
            connection.ask(&format!("/v1/breadcrumbs/{cursor}/next?wait=2s")).await;
            let behind = "GET /v1/kv/a HTTP/1.1\r\nHost: a\r\n\r\n".repeat(requests);
            in_time("the requests", connection.write(&behind)).await;
            assert_eq!(connection.answer().await, (204, false), "{front:?}");
            for _ in 0..requests {
                assert_eq!(connection.answer().await, (200, false), "{front:?}");
            }
        }
    }
}

#[tokio::test]
async fn who_has_gone_waits_no_longer_over_tls() {
    let authority = Authority::new("the daemons'");
    let files = authority.server();
    for front in FRONTS {
        let daemon = Daemon::push(&[&files.served()[..], &front].concat()).vouched_for_by(&authority);
        let http = daemon.http();
        let cursor = http.put(b"a", "application/json", b"1").await;
        for resets in [false, true] {
            let mut gone = Vec::new();
            for behind in pipelined() {
                let config = client_config(&[&authority.ca], None);
                let mut stream = support::tls::connect(&daemon, config).await.unwrap();
                let head = format!("GET /v1/breadcrumbs/{cursor}/next?wait=5m HTTP/1.1\r\nHost: a\r\n\r\n");
                stream.write_all((head + &behind).as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                gone.push(stream);
            }
            waiters(&http, gone.len() as u64).await;
            for stream in &mut gone {
                match resets {
                    true => stream.get_ref().0.set_zero_linger().unwrap(),
                    false => stream.shutdown().await.unwrap(),
                }
            }
            if resets {
                gone.clear();
            }
            waiters(&http, 0).await;
        }
    }
}
