//! `crumbd-bench` counts what happened, fails when something is wrong, and never hangs. Counts are checked here,
//! not times.
#![allow(clippy::unwrap_used)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;
use support::daemon::{Daemon, without_own_settings};
use support::tls::Authority;
use support::tokens::TokenFile;
use support::{DEADLINE, eventually};

/// Starts `crumbd-bench` against this daemon.
fn start(url: &str, args: &[&str]) -> Child {
    let mut command = without_own_settings(Command::new(env!("CARGO_BIN_EXE_crumbd-bench")));
    command.args(args).args(["--url", url, "--json"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(mut child: Child) -> Output {
    let deadline = Instant::now() + DEADLINE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it hangs: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn figures(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Runs it to its end, which must be a good one.
fn bench(daemon: &Daemon, args: &[&str]) -> Value {
    let output = end(start(daemon.url(), args));
    let figures = figures(&output);
    assert!(output.status.success() && figures["error"].is_null(), "{args:?}: {output:?}");
    figures
}

/// Runs it to its end, which must be a failure; what it says.
fn failing(url: &str, args: &[&str]) -> String {
    let output = end(start(url, args));
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn count(figures: &Value, name: &str) -> u64 {
    figures[name].as_u64().unwrap_or_else(|| panic!("no {name}: {figures}"))
}

fn nothing_is_wrong(figures: &Value) {
    for name in ["lost", "holes", "failed", "refused", "reconnects"] {
        assert_eq!(count(figures, name), 0, "{name}: {figures}");
    }
}

#[test]
fn every_waiter_hears_every_round_once() {
    let daemon = Daemon::push(&[]);
    // A second run in the same daemon begins with the same numbers.
    for accept in ["json", "ndjson", "bincode"] {
        let found = bench(&daemon, &["fanout", "--waiters", "50", "--rounds", "5", "--accept", accept]);
        nothing_is_wrong(&found);
        for name in ["wakes", "deliveries"] {
            assert_eq!(count(&found, name), 250, "{name}: {found}");
        }
        assert_eq!(found["latency"]["count"], 250);
        assert_eq!((count(&found, "publications"), count(&found, "others")), (5, 0));
        assert_eq!(found["server"]["pid"], daemon.pid(), "the daemon is found by its port");
        assert!(found["cpu_us_per_wake"].as_f64().unwrap() > 0.0, "{found}");
    }
}

#[test]
fn a_daemon_that_wants_a_token_gets_it() {
    let mut file = TokenFile::new();
    let token = file.add(&[""], &[""]);
    let daemon = file.daemon(&[]);
    let refused = failing(daemon.url(), &["fanout", "--waiters", "5", "--rounds", "1"]);
    assert!(refused.contains("/v1/status: 401") && refused.contains("requires a token"), "{refused}");
    let path = format!("{}.token", file.path());
    std::fs::write(&path, format!("{}\n", token.text)).unwrap();
    for args in [
        &["fanout", "--waiters", "20", "--rounds", "3"][..],
        &["fanout", "--waiters", "5", "--rounds", "3", "--prefix-each"],
        &["ingest", "--updates", "500", "--keys", "100"],
        &["join", "--joiners", "5", "--fill", "200"],
        &["mixed", "--joiners", "2", "--waiters", "5", "--duration", "1s"],
    ] {
        let found = bench(&daemon, &[args, &["--token-file", &path]].concat());
        assert_eq!(found["failed"].as_u64().unwrap_or(0), 0, "{args:?}: {found}");
    }
}

#[test]
fn a_daemon_that_speaks_tls_is_measured_over_tls() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let server = servers.server();
    let flags =
        [&server.served()[..], &["--tls-client-ca", &clients.ca, "--tls-client-cn", "bench"]].concat();
    let daemon = Daemon::push(&flags);
    let fanout = &["fanout", "--waiters", "20", "--rounds", "3"][..];
    let said = failing(daemon.url(), fanout);
    assert!(said.contains("no TLS with") && said.contains("--ca-cert"), "{said}");
    let trusted = ["--ca-cert", &servers.ca];
    let said = failing(daemon.url(), &[fanout, &trusted].concat());
    assert!(said.contains("it wants a client certificate: --client-cert"), "{said}");
    let said = failing(&daemon.url().replace("https:", "http:"), &[fanout, &trusted].concat());
    assert!(said.contains("certificates are for https:// only"), "{said}");
    let identity = clients.client(Some("bench"), None);
    let tls = [&trusted[..], &identity.shown()].concat();
    for args in [
        fanout,
        &["ingest", "--updates", "500", "--keys", "100"],
        // More than fits into one record of TLS, and into one read.
        &["join", "--joiners", "5", "--fill", "5000"],
        &["mixed", "--joiners", "2", "--waiters", "5", "--duration", "1s"],
    ] {
        let found = bench(&daemon, &[args, &tls].concat());
        assert_eq!(found["failed"].as_u64().unwrap_or(0), 0, "{args:?}: {found}");
        assert_eq!(found["server"]["pid"], daemon.pid(), "the daemon is found by its port");
    }
}

#[test]
fn a_publication_for_one_prefix_wakes_one_waiter() {
    let daemon = Daemon::push(&[]);
    let found = bench(&daemon, &["fanout", "--waiters", "20", "--rounds", "50", "--prefix-each"]);
    nothing_is_wrong(&found);
    assert_eq!((count(&found, "wakes"), count(&found, "deliveries")), (50, 50), "{found}");
}

#[test]
fn at_a_steady_rate_a_squash_is_not_a_loss() {
    let daemon = Daemon::push(&[]);
    let found = bench(
        &daemon,
        &["fanout", "--waiters", "40", "--rate", "400", "--duration", "1s", "--value-bytes", "64"],
    );
    nothing_is_wrong(&found);
    let publications = count(&found, "publications");
    assert!(publications > 0);
    assert_eq!(count(&found, "deliveries"), 40 * publications, "{found}");
    assert!(count(&found, "wakes") <= 40 * publications);
}

#[tokio::test]
async fn ingest_writes_what_it_says() {
    let daemon = Daemon::push(&[]);
    let args = ["ingest", "--updates", "1050", "--batch", "100", "--keys", "200", "--waiters", "5"];
    let found = bench(&daemon, &args);
    assert_eq!((count(&found, "updates"), found["latency"]["count"].as_u64()), (1050, Some(11)), "{found}");
    let status = daemon.http().get("/v1/status").await.ok(200).json();
    assert_eq!((status["ingest"]["updates"].as_u64(), status["count"].as_u64()), (Some(1050), Some(200)));
    assert_eq!(status["ingest"]["suppressed"], 0, "every update is a change");
}

#[tokio::test]
async fn joiners_get_the_whole_state() {
    let daemon = Daemon::push(&[]);
    for encoding in ["identity", "zstd"] {
        let found = bench(
            &daemon,
            &["join", "--joiners", "20", "--fill", "500", "--value-bytes", "100", "--encoding", encoding],
        );
        assert_eq!((count(&found, "in_sync"), count(&found, "failed")), (20, 0), "{found}");
        assert_eq!((count(&found, "keys"), found["latency"]["count"].as_u64()), (500, Some(20)));
        let headers = [("accept-encoding", encoding)];
        let body =
            daemon.http().get_with("/v1/breadcrumbs/current", &headers).await.ok(200).body.len() as u64;
        assert_eq!(count(&found, "snapshot_bytes"), body);
        assert_eq!(count(&found, "body_bytes"), 20 * body);
    }
    let found = bench(&daemon, &["join", "--joiners", "20", "--rate", "200"]);
    assert_eq!(count(&found, "in_sync"), 20, "{found}");
}

#[test]
fn under_mixed_load_every_mirror_is_right() {
    let daemon = Daemon::push(&[]);
    let found = bench(
        &daemon,
        &[
            "mixed",
            "--waiters",
            "20",
            "--joiners",
            "2",
            "--slow-readers",
            "1",
            "--mirrors",
            "2",
            "--duration",
            "1s",
        ],
    );
    nothing_is_wrong(&found);
    let mirrors = &found["mirrors"];
    assert_eq!((mirrors["in_sync"].as_u64(), mirrors["wrong"].as_u64()), (Some(2), Some(0)), "{found}");
    assert!(mirrors["checked"].as_u64().unwrap() > 2, "{found}");
    assert_eq!(count(&found, "deliveries"), 20 * count(&found, "publications"), "{found}");
    assert_eq!(count(&found, "joiners_failed"), 0);
    assert!(count(&found, "updates") > 0 && count(&found, "joined") > 0, "{found}");
}

#[test]
fn a_connection_that_rests_longer_than_the_idle_timeout_is_no_fault() {
    let daemon = Daemon::push(&["--idle-timeout", "1s"]);
    // While everything runs nobody asks how the daemon is; at the end somebody does.
    let found = bench(&daemon, &["mixed", "--waiters", "10", "--duration", "2500ms"]);
    assert_eq!(
        (found["mirrors"]["in_sync"].as_u64(), count(&found, "joiners_failed")),
        (Some(4), 0),
        "{found}"
    );
    // Whoever publishes rests between two publications.
    let found = bench(&daemon, &["fanout", "--waiters", "10", "--rate", "0.5", "--duration", "3s"]);
    assert_eq!(count(&found, "deliveries"), 10 * count(&found, "publications"), "{found}");
}

#[tokio::test]
async fn a_daemon_that_dies_is_a_failure_and_no_hang() {
    for args in [
        &["fanout", "--waiters", "30", "--rate", "50", "--duration", "10m"][..],
        &["fanout", "--waiters", "30", "--no-write", "--duration", "10m"],
        &["ingest", "--waiters", "30", "--duration", "10m"],
        &["mixed", "--waiters", "30", "--duration", "10m"],
    ] {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        let running = start(daemon.url(), args);
        eventually("all wait", || async {
            let waiters = http.get("/v1/status").await.json()["waiters"].as_u64();
            waiters.filter(|waiters| *waiters >= 20)
        })
        .await;
        drop(daemon);
        let ended = end(running);
        assert_eq!(ended.status.code(), Some(1), "{args:?}: {ended:?}");
        let (figures, said) = (figures(&ended), String::from_utf8_lossy(&ended.stderr));
        assert!(figures["error"].is_string(), "what was found is shown all the same: {figures}");
        let names_it = ["connect", "closed", "broke"].iter().any(|word| said.contains(word));
        assert!(names_it, "{args:?} says {said}");
    }
}

#[test]
fn a_feed_that_cannot_be_written_is_named() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("feed.ndjson");
    std::fs::write(&path, "{\"type\":\"put\",\"key\":\"a\",\"value\":1}\n").unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("file:{}?follow=true", path.display())]);
    for what in ["fanout", "ingest", "mixed"] {
        let said = failing(daemon.url(), &[what]);
        assert!(said.contains("push: feed") && said.contains("feed.ndjson"), "{what} says {said}");
    }
    assert!(failing(daemon.url(), &["fanout"]).contains("--no-write"));

    let running = start(daemon.url(), &["fanout", "--waiters", "10", "--no-write", "--duration", "3s"]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    std::fs::write(
        &path,
        "{\"type\":\"put\",\"key\":\"a\",\"value\":1}\n{\"type\":\"put\",\"key\":\"b\",\"value\":2}\n",
    )
    .unwrap();
    let ended = end(running);
    let found = figures(&ended);
    assert!(ended.status.success(), "{ended:?}");
    nothing_is_wrong(&found);
    let wakes = count(&found, "wakes");
    assert!(wakes >= 10 && wakes.is_multiple_of(10), "each waiter hears what came: {found}");
    assert_eq!(bench(&daemon, &["join", "--joiners", "5"])["in_sync"], 5);
}

#[test]
fn what_is_no_daemon_is_a_clear_failure() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = failing(&format!("http://{closed}"), &["fanout"]);
    assert!(said.contains("cannot connect"), "{said}");
    assert!(failing("ftp://127.0.0.1", &["fanout"]).contains("http://"));
    let said = failing(&format!("https://{closed}"), &["fanout"]);
    assert!(said.contains("cannot connect"), "{said}");
    let daemon = Daemon::push(&[]);
    let said = failing(daemon.url(), &["fanout", "--waiters", "2", "--pid", "4294967295"]);
    assert!(said.contains("no such process"), "{said}");
}
