//! Several addresses, and both versions of IP.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::daemon::{self, Daemon};
use crate::support::eventually;
use crate::support::http::Http;

/// The addresses that the daemon logs, once there are so many.
pub async fn urls(daemon: &Daemon, count: usize) -> Vec<String> {
    eventually("all addresses are logged", async || {
        let log = daemon.log();
        let line = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let all = log.lines().map(line).filter(|line| line["message"] == "listening");
        let urls: Vec<String> = all.map(|line| line["url"].as_str().unwrap().to_owned()).collect();
        (urls.len() == count).then_some(urls)
    })
    .await
}

/// What an invalid command line is answered with.
pub fn refused(args: &[&str]) -> String {
    let output = daemon::run(&[&["serve", "--feed", "push:"], args].concat());
    let says = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{args:?}: {says}");
    says
}

#[tokio::test]
async fn all_addresses_serve_the_same_and_share_the_limits() {
    let daemon = Daemon::push(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--max-connections", "2"]);
    let urls = urls(&daemon, 2).await;
    assert!(urls[0].starts_with("http://127.0.0.1:") && urls[1].starts_with("http://[::1]:"), "{urls:?}");
    let [one, other] = [0, 1].map(|at| Http::new(&urls[at]));
    let cursor = one.put(b"a", "text/plain", b"1").await;
    assert_eq!(other.cursor().await, cursor);
    let status = other.get("/v1/status").await.ok(200).json();
    assert_eq!(status["connections"], 2);
    Http::new(&urls[0]).get("/v1/status").await.problem(503);
    Http::new(&urls[1]).get("/v1/status").await.problem(503);
}

#[tokio::test]
async fn a_client_of_ipv4_at_an_ipv6_address_counts_as_one_of_ipv4() {
    let daemon = Daemon::push(&["--listen", "[::]:0", "--client-table", "9"]);
    let port = daemon.address().rsplit_once(':').unwrap().1;
    let http = Http::new(&format!("http://127.0.0.1:{port}"));
    http.get("/v1/breadcrumbs/current").await.ok(200);
    Http::new(&format!("http://[::1]:{port}")).get("/v1/breadcrumbs/current").await.ok(200);
    let clients = http.get("/v1/clients").await.ok(200).json();
    let addresses: Vec<&Value> =
        clients["clients"].as_array().unwrap().iter().map(|client| &client["address"]).collect();
    assert_eq!(addresses, [&json!("::1"), &json!("127.0.0.1")]);
}

#[tokio::test]
async fn addresses_may_come_from_a_variable_or_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("crumbd.toml");
    std::fs::write(&file, "listen = [\"127.0.0.1:0\", \"127.0.0.2:0\"]\n").unwrap();
    let mut by_variable = daemon::command();
    by_variable.env("CRUMBD_LISTEN", "127.0.0.1:0\n127.0.0.2:0\n").args(["serve", "--check"]);
    let mut by_file = daemon::command();
    by_file.args(["serve", "--check", "--config"]).arg(&file);
    for mut command in [by_variable, by_file] {
        let output = command.output().unwrap();
        let says = String::from_utf8(output.stdout).unwrap();
        assert_eq!(says, "all is well: feed push:, http://127.0.0.1:0 http://127.0.0.2:0\n");
    }
}

#[tokio::test]
async fn one_address_twice_is_an_error_that_names_both() {
    for (one, other) in [
        ("127.0.0.1:24994", "127.0.0.1:24994"),
        ("0.0.0.0:24994", "127.0.0.1:24994"),
        ("127.0.0.1:24994", "[::]:24994"),
        ("[::]:24994", "[::1]:24994"),
    ] {
        for more in [&["--check"][..], &[]] {
            let says = refused(&[&["--listen", one, "--listen", other], more].concat());
            let wanted =
                format!("--listen: {other} is the address of --listen {one} already; each needs its own");
            assert!(says.contains(&wanted), "{says}");
        }
    }
    let says = refused(&["--listen", "localhost:7811"]);
    assert!(says.contains("--listen \"localhost:7811\" is no address and port, such as"), "{says}");
}

#[tokio::test]
async fn an_address_that_another_program_has_is_an_error_that_says_so() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let ended = Daemon::serve_and_end(&["--feed", "push:", "--listen", "127.0.0.1:0", "--listen", &taken]);
    assert!(!ended.status.success());
    let wanted = format!("cannot listen on {taken}: ");
    assert!(ended.stderr.contains(&wanted), "{}", ended.stderr);
    assert!(ended.stderr.contains("another program listens there"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_of_a_program_listens_on_several_addresses_too() {
    let [one, other] = [1, 2].map(|last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)));
    let daemon = crumbd::daemon::Daemon::builder().listen(one).listen(other).start().await.unwrap();
    let addresses: Vec<String> = daemon.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses.len(), 2);
    assert_eq!(daemon.address().to_string(), addresses[0]);
    for address in addresses {
        Http::new(&format!("http://{address}")).get("/readyz").await.ok(200);
    }
}
