//! The clients that README.md shows, as they stand there: their state is the daemon's after every answer, through keys
//! and values of any bytes, squashes, a cursor that is gone, budgets, and restarts.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use support::daemon::Daemon;
use support::etcd::free_port;
use support::http::{Http, encode};
use support::mirror::{Coding, Media, Mirror};
use support::state::{State, assert_same, digest, hex};
use support::workload::put;
use support::{eventually, in_time, tools};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Prints each state and the answer that led to it.
const PYTHON_MAIN: &str = r#"
import sys
for state, answer in follow(sys.argv[1]):
    assert answer["digest"] == digest(state), "the digest"
    state = {key.hex(): value.hex() for key, value in state.items()}
    print(json.dumps({"cursor": answer["cursor"], "mode": answer["mode"], "digest": answer["digest"], "state": state}), flush=True)
"#;

const JAVASCRIPT_MAIN: &str = r#"
for await (const { state, answer: { cursor, mode, digest } } of follow(process.argv[2])) {
  const hex = {};
  for (const [key, value] of state) {
    const bytes = key[0] === "\uD800" ? Buffer.from(key.slice(1), "base64") : Buffer.from(key);
    hex[bytes.toString("hex")] = Buffer.from(value).toString("hex");
  }
  console.log(JSON.stringify({ cursor, mode, digest, state: hex }));
}
"#;

#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    JavaScript,
}

/// A client's process. Dropping it kills the process.
struct Client {
    process: Child,
    lines: UnboundedReceiver<String>,
    _directory: TempDir,
}

/// A state of the client.
struct Seen {
    cursor: String,
    mode: String,
    state: State,
}

impl Language {
    /// The code block of README.md, and the lines that print what it does.
    fn program(self) -> String {
        let (fence, main) = match self {
            Self::Python => ("```python\n", PYTHON_MAIN),
            Self::JavaScript => ("```js\n", JAVASCRIPT_MAIN),
        };
        let (_, section) = include_str!("../README.md").split_once("\n## A client\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let (_, block) = section.split_once(fence).unwrap();
        let (block, _) = block.split_once("```\n").unwrap();
        assert!(!section.contains(&format!("{block}```\n\n{fence}")), "one block a language");
        format!("{block}{main}")
    }

    fn command(self, directory: &Path) -> Command {
        let (name, mut command) = match self {
            Self::Python => ("client.py", tools::python("xxhash")),
            Self::JavaScript => ("client.mjs", tools::node()),
        };
        let path = directory.join(name);
        fs::write(&path, self.program()).unwrap();
        command.arg(path);
        command
    }
}

impl Client {
    fn start(language: Language, url: &str) -> Client {
        let directory = TempDir::new().unwrap();
        let mut command = language.command(directory.path());
        let mut process = command.arg(url).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = unbounded_channel();
        let stdout = process.stdout.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Client { process, lines, _directory: directory }
    }

    /// The client's next state, which has the digest that the daemon told.
    async fn next(&mut self) -> Seen {
        let line = in_time("the client's next state", self.lines.recv()).await.expect("the client runs");
        let line: Value = serde_json::from_str(&line).unwrap();
        let bytes = |hex: &str| -> Vec<u8> {
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (0..hex.len()).step_by(2).map(byte).collect()
        };
        let entries = line["state"].as_object().unwrap();
        let entry = |(key, value): (&String, &Value)| (bytes(key), Arc::from(bytes(value.as_str().unwrap())));
        let state: State = entries.iter().map(entry).collect();
        assert_eq!(line["digest"], hex(digest(&state)), "the digest of {}", line["cursor"]);
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        Seen { cursor: text("cursor"), mode: text("mode"), state }
    }

    /// Waits until the client is where the daemon is. Returns the modes of the answers that led there.
    async fn catch_up(&mut self, http: &Http) -> Vec<String> {
        let mirror = Mirror::of(http.clone(), Media::Bincode, Coding::Identity).await;
        let mut modes = Vec::new();
        loop {
            let seen = self.next().await;
            modes.push(seen.mode);
            if seen.cursor == mirror.cursor {
                assert_same("the client's state", &seen.state, &mirror.state);
                return modes;
            }
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id();
        assert!(Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap().success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Writes any key, the empty one too.
async fn write(http: &Http, method: &str, key: &[u8], value: &[u8]) {
    let headers = [("content-type", "application/octet-stream")];
    http.send(method, &format!("/v1/kv?key={}", encode(key)), &headers, Some(value.to_vec())).await.written();
}

/// Keys and values that a client has to take as they are.
async fn write_odd_entries(http: &Http) {
    let keys: [&[u8]; 9] = [
        b"",
        b"\xff",
        b"\xff\xfe/w==",
        b"base64:/w==",
        b"/w==",
        b"\0",
        "ключ\u{1f980}".as_bytes(),
        b"__proto__",
        b"a b/+%?#",
    ];
    let values: [&[u8]; 9] = [
        b"1.50",
        b"\xff\x00\xfe",
        b"\"\\u00e9\"",
        b"{\"a\":1,\"a\":2}",
        b"12345678901234567890",
        b"",
        "\u{feff}\u{1f980}\n\0".as_bytes(),
        b"null",
        b"\"\\ud800\"",
    ];
    for (number, key) in keys.into_iter().enumerate() {
        write(http, "PUT", key, values[number]).await;
        write(http, "PUT", &[key, b"/2"].concat(), values[(number + 1) % values.len()]).await;
    }
}

async fn ready(daemon: &Daemon) -> Http {
    let http = daemon.http();
    http.get("/readyz?wait=20s").await.ok(200);
    http
}

async fn follows_through_everything(language: Language) {
    let listen = format!("127.0.0.1:{}", free_port());
    let directory = TempDir::new().unwrap();
    let state_dir = directory.path().to_str().unwrap();
    let daemon = Daemon::push(&["--listen", &listen, "--keep-count", "64", "--state-dir", state_dir]);
    let http = ready(&daemon).await;
    write_odd_entries(&http).await;
    let mut client = Client::start(language, daemon.url());
    assert_eq!(client.catch_up(&http).await, ["snapshot"]);

    // Every kind of change.
    write_odd_entries(&http).await;
    for key in [&b"\xff"[..], b"", b"__proto__"] {
        write(&http, "PUT", key, b"changed").await;
        client.catch_up(&http).await;
        write(&http, "DELETE", key, b"").await;
        assert_eq!(client.catch_up(&http).await, ["delta"]);
    }
    http.put(b"\xff", "application/octet-stream", b"\xff again").await;
    client.catch_up(&http).await;

    // A slow client gets a squash, and one that slept too long the state.
    for (writes, mode) in [(40, "squash"), (200, "snapshot")] {
        client.signal("STOP");
        for number in 0..writes {
            http.post(&[put(&format!("slow/{}", number % 7), &number.to_string())]).await;
        }
        http.delete(b"slow/3").await;
        client.signal("CONT");
        let modes = client.catch_up(&http).await;
        assert!(modes.iter().any(|seen| seen == mode), "{modes:?}");
        assert!(mode == "snapshot" || !modes.contains(&"snapshot".to_owned()), "{modes:?}");
    }

    // A restart with the same history: the client goes on from its cursor.
    let restart = |mut daemon: Daemon, state_dir: &str| {
        daemon.terminate();
        assert!(daemon.wait_exit().success());
        Daemon::push(&["--listen", &listen, "--keep-count", "64", "--state-dir", state_dir])
    };
    let daemon = restart(daemon, state_dir);
    let http = ready(&daemon).await;
    http.put(b"after the restart", "application/octet-stream", b"\xfe").await;
    let modes = client.catch_up(&http).await;
    assert!(!modes.contains(&"snapshot".to_owned()), "{modes:?}");

    // One with another history, at the same revision and beyond.
    let elsewhere = directory.path().join("elsewhere");
    let daemon = restart(daemon, elsewhere.to_str().unwrap());
    let http = ready(&daemon).await;
    http.put(b"another history", "text/plain", b"1").await;
    assert!(client.catch_up(&http).await.contains(&"snapshot".to_owned()));
    http.delete(b"another history").await;
    client.catch_up(&http).await;
    assert!(client.process.try_wait().unwrap().is_none(), "the client still runs");
}

async fn waits_while_the_daemon_is_over_a_budget(language: Language) {
    let daemon = Daemon::push(&["--max-waiters", "1"]);
    let http = daemon.http();
    http.put(b"a", "text/plain", b"1").await;
    let cursor = http.cursor().await;
    let other = {
        let (http, path) = (http.clone(), format!("/v1/breadcrumbs/{cursor}/next?prefix=nothing&wait=2m"));
        tokio::spawn(async move { http.get(&path).await })
    };
    eventually("a waiter", || async { (http.get("/v1/status").await.json()["waiters"] == 1).then_some(()) })
        .await;
    let mut client = Client::start(language, daemon.url());
    client.catch_up(&http).await;
    eventually("a refusal of the client", || async {
        let metrics = String::from_utf8(http.get("/metrics").await.ok(200).body).unwrap();
        metrics.contains("status=\"503\"").then_some(())
    })
    .await;
    other.abort();
    _ = other.await;
    for value in [b"2", b"3"] {
        http.put(b"a", "text/plain", value).await;
        client.catch_up(&http).await;
    }
}

/// Forwards each connection to the address, and breaks it off after so many bytes of answers. Those behind the last of
/// the list are not broken off.
async fn breaking_proxy(address: String, after: &'static [usize]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for limit in after.iter().copied().chain(std::iter::repeat(usize::MAX)) {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(&address).await.unwrap();
            let ((mut from_near, mut to_near), (from_far, mut to_far)) =
                (near.into_split(), far.into_split());
            let requests = tokio::spawn(async move { tokio::io::copy(&mut from_near, &mut to_far).await });
            tokio::spawn(async move {
                _ = tokio::io::copy(&mut from_far.take(limit as u64), &mut to_near).await;
                requests.abort();
            });
        }
    });
    url
}

async fn a_part_of_an_answer_counts_for_nothing(language: Language) {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let mut rng = fastrand::Rng::with_seed(1);
    let value = || format!("\"{:032x}\"", rng.u128(..));
    let records: Vec<String> = std::iter::repeat_with(value)
        .take(500)
        .enumerate()
        .map(|(n, value)| put(&format!("key/{n}"), &value))
        .collect();
    http.post(&records).await;
    let compressed = http.get_with("/v1/breadcrumbs/current", &[("accept-encoding", "gzip")]).await.ok(200);
    assert!(compressed.body.len() > 5000);
    // In the first line, in the head, and in the body.
    let url = breaking_proxy(daemon.address().to_owned(), &[1, 100, 300, 5000]).await;
    let mut client = Client::start(language, &url);
    assert_eq!(client.catch_up(&http).await, ["snapshot"]);
    http.put(b"more", "text/plain", b"1").await;
    assert_eq!(client.catch_up(&http).await, ["delta"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn to_the_python_client_a_part_of_an_answer_counts_for_nothing() {
    a_part_of_an_answer_counts_for_nothing(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_the_javascript_client_a_part_of_an_answer_counts_for_nothing() {
    a_part_of_an_answer_counts_for_nothing(Language::JavaScript).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_follows_through_everything() {
    follows_through_everything(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_follows_through_everything() {
    follows_through_everything(Language::JavaScript).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_waits_while_the_daemon_is_over_a_budget() {
    waits_while_the_daemon_is_over_a_budget(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_client_waits_while_the_daemon_is_over_a_budget() {
    waits_while_the_daemon_is_over_a_budget(Language::JavaScript).await;
}
