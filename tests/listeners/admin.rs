//! Addresses for operators.

use serde_json::Value;
use tokio::net::TcpStream;

use crate::addresses::refused;
use crate::support::daemon::{self, Daemon};
use crate::support::http::Http;
use crate::support::tls::{Authority, client_config};
use crate::support::tokens::TokenFile;

/// What is for operators.
const OPERATORS: [&str; 9] = [
    "/metrics",
    "/v1/status",
    "/v1/c/pods/status",
    "/v1/collections",
    "/v1/clients",
    "/",
    "/page.css",
    "/page.js",
    "/openapi.json",
];

fn two_collections(more: &[&str]) -> Daemon {
    Daemon::serve(&[&["--feed", "push:", "--feed", "pods=push:", "--client-table", "9"], more].concat())
}

/// The address for operators, as the log says it.
fn admin_url(daemon: &Daemon) -> String {
    daemon.logged("the address for operators", |line| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["message"] == "listening for operators").then(|| line["url"].as_str().unwrap().to_owned())
    })
}

#[tokio::test]
async fn what_is_for_operators_is_served_there_only() {
    let daemon = two_collections(&["--admin-listen", "127.0.0.1:0"]);
    let (http, admin) = (daemon.http(), Http::new(&admin_url(&daemon)));
    let cursor = http.put(b"a", "text/plain", b"1").await;
    for path in OPERATORS {
        let problem = http.get(path).await.problem(404);
        assert_eq!(problem["type"], "urn:crumbd:problem:admin-only", "{path}");
        assert!(problem["detail"].as_str().unwrap().contains("--admin-listen"), "{problem}");
        admin.get(path).await.ok(200);
        http.send("POST", path, &[], Some(Vec::new())).await.problem(404);
    }
    let next = format!("/v1/breadcrumbs/{cursor}/next?wait=0");
    for path in ["/livez", "/readyz", "/v1/kv/a", "/v1/breadcrumbs/current"] {
        http.get(path).await.ok(200);
        admin.get(path).await.ok(200);
    }
    // The page reads it there.
    admin.get(&next).await.ok(204);
    http.get(&next).await.ok(204);
    assert_eq!(http.get("/v1/nothing").await.problem(404)["type"], "urn:crumbd:problem:not-found");
}

#[tokio::test]
async fn without_such_an_address_everything_is_served_as_before() {
    let daemon = two_collections(&[]);
    for path in OPERATORS {
        daemon.http().get(path).await.ok(200);
    }
}

#[tokio::test]
async fn operators_are_served_when_the_clients_have_used_up_all_connections() {
    let daemon = Daemon::push(&["--admin-listen", "127.0.0.1:0", "--max-connections", "2"]);
    let admin = admin_url(&daemon);
    let mut taken = Vec::new();
    for _ in 0..2 {
        let http = daemon.http();
        http.get("/readyz").await.ok(200);
        taken.push(http);
    }
    daemon.http().get("/readyz").await.problem(503);
    let operators: Vec<Http> = (0..32).map(|_| Http::new(&admin)).collect();
    for operator in &operators {
        operator.get("/v1/status").await.ok(200);
    }
    let status = operators[0].get("/v1/status").await.ok(200).json();
    assert_eq!(status["connections"], 2, "those of the reserve are not counted");
    // The reserve has an end, too.
    Http::new(&admin).get("/v1/status").await.problem(503);
}

#[tokio::test]
async fn tokens_and_tls_hold_there_too() {
    let authority = Authority::new("ca");
    let identity = authority.server();
    let mut tokens = TokenFile::new();
    let token = tokens.add(&[""], &[]);
    tokens.save();
    let flags = ["--admin-listen", "127.0.0.1:0", "--tokens", tokens.path()];
    let daemon = Daemon::push(&[&flags[..], &identity.served()].concat());
    let admin = admin_url(&daemon);
    assert!(admin.starts_with("https://"), "{admin}");
    let http = Http::over_tls(&admin, client_config(&[&authority.ca], None));
    http.get("/metrics").await.problem(401);
    http.get("/v1/kv/a").await.problem(401);
    http.with_token(&token.text).get("/metrics").await.ok(200);
    http.get("/readyz").await.ok(200);
}

#[tokio::test]
async fn commands_say_where_the_status_is() {
    let daemon = Daemon::push(&["--admin-listen", "127.0.0.1:0"]);
    let status = |url: &str| daemon::run(&["status", "--url", url]);
    let elsewhere = status(daemon.url());
    let says = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(!elsewhere.status.success() && says.contains("--admin-listen"), "{says}");
    assert!(status(&admin_url(&daemon)).status.success());
    assert!(daemon::run(&["health", "--url", daemon.url()]).status.success());
}

#[tokio::test]
async fn a_local_address_for_operators_answers_to_local_names_only() {
    let daemon = Daemon::push(&["--listen", "0.0.0.0:0", "--admin-listen", "127.0.0.1:0"]);
    let (main, admin) = (daemon.url().replace("0.0.0.0", "127.0.0.1"), admin_url(&daemon));
    let named = [("host", "evil.example")];
    Http::new(&main).get_with("/v1/kv", &named).await.ok(200);
    Http::new(&admin).get_with("/v1/kv", &named).await.problem(421);
}

#[tokio::test]
async fn it_may_be_a_unix_socket_and_needs_an_address_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", dir.path().join("admin.sock").display());
    let daemon = Daemon::push(&["--admin-listen", &url]);
    assert_eq!(admin_url(&daemon), url);
    assert!(daemon::run(&["status", "--url", &url]).status.success());
    TcpStream::connect(daemon.address()).await.unwrap();
    let says = refused(&["--listen", "127.0.0.1:24995", "--admin-listen", "127.0.0.1:24995"]);
    let wanted = "--admin-listen: 127.0.0.1:24995 is the address of --listen 127.0.0.1:24995 already";
    assert!(says.contains(wanted), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_follows_the_address_of_clients() {
    let root = Daemon::push(&["--admin-listen", "127.0.0.1:0"]);
    root.http().put(b"a", "text/plain", b"1").await;
    let feed = format!("crumbd://{}/", root.address());
    let relay = Daemon::serve(&["--feed", &feed]);
    assert_eq!(relay.http().get("/readyz?wait=20s").await.ok(200).body, b"ready\n");
    assert_eq!(relay.http().get("/v1/kv/a").await.ok(200).body, b"1");
    let status = relay.http().get("/v1/status").await.ok(200).json();
    assert_eq!(status["feed_activity"]["name"], "watching", "{status}");
    // What a relay reads there says nothing of the daemon itself.
    let headers = [("crumbd-relay", "0123456789abcdef")];
    let got = root.http().get_with("/v1/status", &headers).await.ok(204);
    assert!(got.body.is_empty() && got.header("crumbd-begin").is_some());
}

#[tokio::test]
async fn clients_do_not_use_up_the_rate_of_operators() {
    let daemon = Daemon::push(&["--admin-listen", "127.0.0.1:0", "--max-client-rate", "1/h"]);
    let (http, admin) = (daemon.http(), Http::new(&admin_url(&daemon)));
    while http.get("/v1/kv/a").await.status != 429 {}
    for _ in 0..20 {
        admin.get("/metrics").await.ok(200);
    }
    http.get("/v1/kv/a").await.problem(429);
}
