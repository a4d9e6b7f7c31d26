//! `--otlp-endpoint`: the spans of requests in sampled traces reach a collector.
#![allow(clippy::unwrap_used)] // a test may unwrap

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use support::daemon::Daemon;
use support::{eventually, in_time};

/// A collector: it keeps what it is sent.
struct Collector {
    address: String,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let received = Arc::clone(&received);
            move || listener.incoming().for_each(|stream| answer(stream.unwrap(), &received))
        });
        Collector { address, received }
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.received.lock().unwrap().windows(bytes.len()).any(|window| window == bytes)
    }
}

/// Reads one request, and answers it.
fn answer(mut stream: TcpStream, received: &Mutex<Vec<u8>>) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut buffer).unwrap_or(0);
        request.extend_from_slice(&buffer[..count]);
        let head = request.windows(4).position(|window| window == b"\r\n\r\n");
        let length = head.and_then(|end| {
            let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
            let line = head.lines().find_map(|line| line.strip_prefix("content-length:"))?.trim().to_owned();
            Some(end + 4 + line.parse::<usize>().unwrap())
        });
        if count == 0 || length.is_some_and(|length| request.len() >= length) {
            break;
        }
    }
    received.lock().unwrap().extend_from_slice(&request);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spans_of_sampled_traces_reach_the_collector() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let mut daemon = Daemon::push(&["--otlp-endpoint", &endpoint]);
    let http = daemon.http();
    let (sampled, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let (polled, unsampled) = ("11111111111111112222222222222222", "33333333333333334444444444444444");
    let send = async |path: &str, trace: &str, flags: &str| {
        let traceparent = format!("00-{trace}-{parent}-{flags}");
        http.get_with(path, &[("traceparent", &traceparent)]).await
    };
    let current = send("/v1/breadcrumbs/current", sampled, "01").await.ok(200);
    send(&format!("/v1/breadcrumbs/{}/next?wait=0s", current.cursor()), polled, "01").await.ok(204);
    send("/v1/kv?key=a&secret=b", unsampled, "00").await;
    // What is left is sent at the end.
    daemon.terminate();
    assert!(daemon.wait_exit().success());
    for trace in [sampled, polled] {
        let id = bytes(trace);
        eventually(&format!("the span of {trace}"), async || collector.has(&id).then_some(())).await;
    }
    assert!(collector.has(b"POST /v1/traces") && collector.has(&bytes(parent)));
    for attribute in
        ["crumbd", "http.request.method", "url.path", "/v1/breadcrumbs/current", "crumbd.lag_revisions"]
    {
        assert!(collector.has(attribute.as_bytes()), "{attribute}");
    }
    assert!(!collector.has(&bytes(unsampled)));
    // The access log is another setting.
    assert!(!daemon.log().contains("access_log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_no_request_anything() {
    // Nothing listens at port 1.
    let mut daemon = Daemon::push(&["--otlp-endpoint", "http://127.0.0.1:1"]);
    let http = daemon.http();
    for number in 0..100_u64 {
        let traceparent = format!("00-{:032x}-{:016x}-01", number + 1, number + 1);
        let headers = [("traceparent", traceparent.as_str())];
        in_time("an answer", http.get_with("/v1/breadcrumbs/current", &headers)).await.ok(200);
    }
    daemon.terminate();
    assert!(daemon.wait_exit().success());

    let wrong = Daemon::serve_and_end(&["--feed", "push:", "--otlp-endpoint", "localhost:4318"]);
    assert!(wrong.stderr.contains("such as http://127.0.0.1:4318"), "{}", wrong.stderr);
}
