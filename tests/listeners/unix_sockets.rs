//! Unix sockets: who may connect, whose file is replaced, and what a client is.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::daemon::{self, Daemon};
use crate::support::tls::Authority;
use crate::support::{eventually, in_time};
use crate::{addresses, ask, body};

struct Place {
    _dir: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        Place { path: dir.path().join("crumbd.sock"), _dir: dir }
    }

    fn url(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    async fn get(&self, path: &str) -> String {
        ask(UnixStream::connect(&self.path).await.unwrap(), path).await.unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn it_is_served_beside_tcp_with_the_mode_asked_for_and_removed_at_the_end() {
    for (option, wanted) in [("", 0o660), ("?mode=0600", 0o600), ("?mode=777", 0o777)] {
        let place = Place::new();
        let listen = format!("{}{option}", place.url());
        let mut daemon = Daemon::push(&["--listen", "127.0.0.1:0", "--listen", &listen]);
        let urls = addresses::urls(&daemon, 2).await;
        assert_eq!(urls[1], place.url());
        assert_eq!(mode(&place.path), wanted);
        daemon.http().put(b"a", "text/plain", b"1").await;
        assert_eq!(body(&place.get("/v1/kv/a").await), "1");
        daemon.terminate();
        assert!(daemon.wait_exit().success());
        assert!(!place.path.exists());
    }
}

#[tokio::test]
async fn a_long_poll_and_a_stream_are_served_and_a_client_that_goes_is_noticed() {
    for front in ["on", "off"] {
        let place = Place::new();
        let daemon =
            Daemon::push(&["--listen", "127.0.0.1:0", "--listen", &place.url(), "--lean-front", front]);
        let http = daemon.http();
        let cursor = http.put(b"a", "text/plain", b"1").await;
        let waiters = async |wanted: u64| {
            eventually("the waiters", async || {
                (http.get("/v1/status").await.ok(200).json()["waiters"] == wanted).then_some(())
            })
            .await;
        };
        let mut gone = UnixStream::connect(&place.path).await.unwrap();
        let request = format!("GET /v1/breadcrumbs/{cursor}/next?wait=30s HTTP/1.1\r\nHost: a\r\n\r\n");
        gone.write_all(request.as_bytes()).await.unwrap();
        waiters(1).await;
        drop(gone);
        waiters(0).await;
        let mut waiting = UnixStream::connect(&place.path).await.unwrap();
        waiting.write_all(request.as_bytes()).await.unwrap();
        waiters(1).await;
        http.put(b"a", "text/plain", b"2").await;
        let mut answer = vec![0; 15];
        in_time("the answer", waiting.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200 OK");
    }
}

#[tokio::test]
async fn its_clients_are_one_without_an_address() {
    let place = Place::new();
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--listen",
        &place.url(),
        "--client-table",
        "9",
        "--max-client-waiters",
        "1",
    ];
    let daemon = Daemon::push(&args);
    let http = daemon.http();
    let cursor = http.put(b"a", "text/plain", b"1").await;
    let next = format!("/v1/breadcrumbs/{cursor}/next?wait=30s");
    let mut waiting = UnixStream::connect(&place.path).await.unwrap();
    waiting.write_all(format!("GET {next} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
    let clients = eventually("the client is in the table", async || {
        let clients = http.get("/v1/clients").await.ok(200).json()["clients"].as_array().unwrap().clone();
        (!clients.is_empty()).then_some(clients)
    })
    .await;
    assert_eq!((clients.len(), &clients[0]["address"]), (1, &Value::Null));
    eventually("it waits", async || {
        (http.get("/v1/status").await.ok(200).json()["waiters"] == 1).then_some(())
    })
    .await;
    let refused = place.get(&next).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    // Another client has a share of its own.
    http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await.ok(204);
    let row = &http.get("/v1/clients").await.ok(200).json()["clients"];
    let addresses: Vec<&Value> = row.as_array().unwrap().iter().map(|client| &client["address"]).collect();
    assert!(addresses.contains(&&json!("127.0.0.1")), "{addresses:?}");
}

#[tokio::test]
async fn it_speaks_plain_http_where_the_port_speaks_tls() {
    let authority = Authority::new("ca");
    let identity = authority.server();
    let place = Place::new();
    let args = ["--listen", "127.0.0.1:0", "--listen", &place.url()];
    let daemon = Daemon::push(&[&args[..], &identity.served()].concat());
    assert!(daemon.url().starts_with("https:"));
    assert_eq!(body(&place.get("/readyz").await), "ready\n");
}

#[tokio::test]
async fn only_a_socket_on_which_nobody_listens_is_replaced() {
    let place = Place::new();
    drop(UnixListener::bind(&place.path).unwrap());
    assert!(
        fs::metadata(&place.path).unwrap().file_type().is_socket(),
        "the file of a program that was killed"
    );
    let daemon = Daemon::push(&["--listen", &place.url()]);
    assert_eq!(body(&place.get("/readyz").await), "ready\n");

    let refused = |place: &Place, says: &str| {
        let url = place.url();
        for more in [&["--check"][..], &[]] {
            let args = [&["serve", "--feed", "push:", "--listen", &url], more].concat();
            let output = daemon::run(&args);
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && error.contains(says), "{args:?}: {error}");
            assert!(error.contains(&place.url()), "{error}");
        }
    };
    refused(&place, "another program listens there");
    assert_eq!(body(&place.get("/readyz").await), "ready\n", "it was not disturbed");
    drop(daemon);

    let other = Place::new();
    fs::write(&other.path, "precious").unwrap();
    refused(&other, "there is a file that is no socket");
    assert_eq!(fs::read(&other.path).unwrap(), b"precious");

    let nowhere = Place { path: other.path.join("x/crumbd.sock"), _dir: tempfile::tempdir().unwrap() };
    refused(&nowhere, "Not a directory");
}

#[tokio::test]
async fn the_file_of_a_successor_is_left_alone() {
    let place = Place::new();
    let mut first = Daemon::push(&["--listen", &place.url()]);
    fs::remove_file(&place.path).unwrap();
    let second = Daemon::push(&["--listen", &place.url()]);
    first.terminate();
    assert!(first.wait_exit().success());
    assert_eq!(body(&place.get("/readyz").await), "ready\n");
    drop(second);
}

#[tokio::test]
async fn commands_reach_it() {
    let place = Place::new();
    let _daemon = Daemon::push(&["--listen", &place.url()]);
    let url = place.url();
    let run = |args: &[&str]| {
        let output = daemon::run(&[args, &["--url", &url]].concat());
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["put", "a", "1"]);
    assert_eq!(run(&["get", "a"]).trim_end(), "1");
    assert_eq!(run(&["health"]), "ready\n");
    assert!(run(&["status"]).contains("push:"));
    let gone = daemon::run(&["health", "--url", "unix:/nowhere/crumbd.sock"]);
    let says = String::from_utf8(gone.stderr).unwrap();
    assert_eq!(gone.status.code(), Some(3), "{says}");
    assert!(says.contains("unix:/nowhere/crumbd.sock"), "{says}");
    let relative = daemon::run(&["health", "--url", "unix:crumbd.sock"]);
    assert!(String::from_utf8(relative.stderr).unwrap().contains("begins with a slash"));
}

#[tokio::test]
async fn an_address_twice_is_an_error() {
    let says =
        addresses::refused(&["--listen", "unix:/run/a.sock", "--listen", "unix:/run/a.sock?mode=0600"]);
    assert!(says.contains("unix:/run/a.sock is the address of --listen unix:/run/a.sock already"), "{says}");
    let says = addresses::refused(&["--listen", "unix:a.sock"]);
    assert!(says.contains("has to begin with a slash"), "{says}");
}

#[tokio::test]
async fn its_clients_have_a_share_of_the_connections_together() {
    let place = Place::new();
    let daemon =
        Daemon::push(&["--listen", "127.0.0.1:0", "--listen", &place.url(), "--max-client-connections", "2"]);
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(tokio::net::UnixStream::connect(&place.path).await.unwrap());
    }
    let refusal = async || {
        let mut stream = tokio::net::UnixStream::connect(&place.path).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        in_time("an answer", stream.read_to_string(&mut answer)).await.ok()?;
        (answer.starts_with("HTTP/1.1 503") && answer.contains("clients without an address")).then_some(())
    };
    // The first two may not have been accepted yet.
    eventually("a refusal", refusal).await;
    daemon.http().get("/livez").await.ok(200);
}
