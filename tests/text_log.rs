//! Text from outside, on standard error: it neither begins a line of its own nor steers a terminal.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;

use support::daemon::run;

/// What begins a forged line, clears a screen, and turns text around.
const HOSTILE: &str = "\n2026-01-01T00:00:00Z  INFO forged\r\u{1b}[2J\u{9b}31m\u{2028}\u{202e}";

/// No line begins as one of the hostile text, and no character but line breaks controls anything.
fn assert_harmless(stderr: &[u8]) {
    let text = std::str::from_utf8(stderr).unwrap();
    assert!(text.contains("forged"), "the text is there: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("2026-01-01")), "{text:?}");
    let control = text.chars().find(|c| c.is_control() && *c != '\n' || matches!(c, '\u{2028}' | '\u{202e}'));
    assert_eq!(control, None, "{text:?}");
}

#[test]
fn a_line_of_a_feed_is_escaped_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    let field = serde_json::to_string(HOSTILE).unwrap();
    let as_value = format!("{{\"type\":\"put\",\"key\":\"a\",\"value\":1,\"ttl\":{field}}}\n");
    let as_name = format!("{{\"type\":\"put\",{field}:1}}\n");
    for line in [as_name, as_value] {
        std::fs::write(&path, line).unwrap();
        let feed = format!("file:{}", path.display());
        let ended = run(&["serve", "--feed", &feed, "--strict", "--listen", "127.0.0.1:0"]);
        assert!(!ended.status.success());
        assert_harmless(&ended.stderr);
    }
}

#[test]
fn the_answer_of_a_server_is_escaped_in_the_message_of_a_command() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        _ = stream.read(&mut [0; 4096]).unwrap();
        let problem = serde_json::json!({"type": "urn:x", "title": "x", "status": 404, "detail": HOSTILE});
        let body = problem.to_string();
        let head =
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/problem+json\r\nConnection: close\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let ended = run(&["get", "a", "--url", &url]);
    server.join().unwrap();
    assert!(!ended.status.success());
    assert_harmless(&ended.stderr);
}
