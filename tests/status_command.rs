//! What is wrong, as `crumbd status`, `crumbd status --check` and `/readyz?for=writes` say it.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::daemon::{self, Daemon};
use support::eventually;
use support::http::Http;
use support::tls::Authority;
use support::tokens::TokenFile;
use support::workload::put;

/// The exit code, and what is printed on both outputs.
fn crumbd(args: &[&str], url: &str) -> (i32, String) {
    let output = daemon::run(&[args, &["--url", url]].concat());
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

async fn status(http: &Http) -> Value {
    http.get("/v1/status").await.ok(200).json()
}

/// The sentences about a part.
fn wrong(status: &Value, part: &str) -> Vec<String> {
    let all = status["wrong"].as_array().unwrap().iter();
    all.filter(|one| one["part"] == part).map(|one| one["message"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_wrong_with_a_daemon_that_serves() {
    let daemon = Daemon::push(&[]);
    assert_eq!(crumbd(&["status", "--check"], daemon.url()), (0, "nothing is wrong\n".to_owned()));
    let status = status(&daemon.http()).await;
    assert_eq!((&status["wrong"], &status["store"]), (&serde_json::json!([]), &Value::Null));
    let limits = status["limits"].as_array().unwrap();
    let waiters = limits.iter().find(|limit| limit["flag"] == "max-waiters").unwrap();
    assert_eq!((&waiters["used"], &waiters["refusing"]), (&0.into(), &false.into()));
    let (code, text) = crumbd(&["status"], daemon.url());
    assert!(code == 0 && !text.contains("WRONG") && text.contains("no --state-dir"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_does_not_answer_has_an_exit_code_of_its_own() {
    let (code, text) = crumbd(&["status", "--check"], "http://127.0.0.1:1");
    assert!(code == 3 && text.contains("http://127.0.0.1:1"), "{code}: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_was_never_heard_is_said_first_and_with_its_reason() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("crumbd://{gone}"), "--feed", "well=push:"]);
    let http = daemon.http();
    let message = eventually("the reason", || async {
        let status = status(&http).await;
        assert_eq!(status["upstream_heard_timestamp"], Value::Null);
        wrong(&status, "feed").into_iter().find(|message| message.contains("refused"))
    })
    .await;
    assert!(message.contains("never heard") && message.contains(&gone.to_string()), "{message}");
    let (code, text) = crumbd(&["status", "--check"], daemon.url());
    assert_eq!((code, text.lines().count()), (1, 1), "{text}");
    assert!(text.starts_with("the feed is not in-sync: "), "{text}");
    let (code, text) = crumbd(&["status", "--check", "--collection", "well"], daemon.url());
    assert_eq!((code, &*text), (0, "nothing is wrong\n"));
    for args in [&["status"][..], &["status", "--collection", ""]] {
        let (code, text) = crumbd(args, daemon.url());
        assert!(code == 0 && text.starts_with("WRONG"), "{text}");
    }
    let (_, text) = crumbd(&["status", "--collection", ""], daemon.url());
    assert!(text.contains("upstream never heard"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_keeps_no_writes_is_not_ready_for_them_and_says_since_when() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let daemon =
        Daemon::serve_on_a_full_disk(1280, &["--feed", "push:", "--state-dir", store.to_str().unwrap()]);
    let http = daemon.http();
    http.put(b"small", "text/plain", b"1").await;
    http.get("/readyz?for=writes").await.ok(200);
    let kept = status(&http).await["store"].clone();
    assert_eq!(
        (&kept["keeps"], &kept["takes_writes"], &kept["failing"]),
        (&"writes".into(), &true.into(), &Value::Null)
    );
    assert!(kept["last_write_timestamp"].is_string());

    let large = vec![b'x'; 4 << 20];
    let write = || http.send("PUT", "/v1/kv/large", &[("content-type", "text/plain")], Some(large.clone()));
    write().await.problem(503);
    let problem = http.get("/readyz?for=writes").await.problem(503);
    assert!(problem["type"].as_str().unwrap().ends_with(":not-kept"), "{problem}");
    http.get("/readyz").await.ok(200);
    http.get("/readyz?for=reads").await.ok(200);
    let refusing = status(&http).await;
    assert_eq!(refusing["store"]["takes_writes"], false);
    assert!(
        refusing["store"]["failing"]["message"].as_str().unwrap().contains("File too large"),
        "{refusing}"
    );
    assert!(wrong(&refusing, "store")[0].starts_with("writes are refused since "), "{refusing}");
    let (code, text) = crumbd(&["status", "--check"], daemon.url());
    assert!(code == 1 && text.starts_with("writes are refused since "), "{code}: {text}");

    daemon.make_room();
    write().await.written();
    http.get("/readyz?for=writes").await.ok(200);
    assert_eq!(crumbd(&["status", "--check"], daemon.url()).0, 0);
    daemon.logged("that writes are taken", |line| {
        (line.contains("writes are taken") && line.contains("lasted")).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_that_takes_no_writes_is_never_ready_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("feed");
    std::fs::write(&file, put("a", "1") + "\n").unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("file:{}", file.display())]);
    let http = daemon.http();
    http.get("/readyz?wait=30s").await.ok(200);
    let problem = http.get("/readyz?for=writes").await.problem(503);
    assert!(problem["type"].as_str().unwrap().ends_with(":read-only"), "{problem}");
    http.get("/readyz?for=anything").await.problem(400);
    // A file that has ended does not grow old: nothing newer can come.
    eventually("it has ended", || async {
        let status = status(&http).await;
        (status["feed_activity"]["name"] == "ended").then(|| assert_eq!(status["age_seconds"], 0.0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_refuses_requests_is_wrong() {
    let daemon = Daemon::push(&["--max-waiters", "1"]);
    let http = daemon.http();
    let path = format!("/v1/breadcrumbs/{}/next?wait=60s", http.cursor().await);
    let waiting = {
        let (http, path) = (daemon.http(), path.clone());
        tokio::spawn(async move { http.get(&path).await })
    };
    let full = eventually("a waiter", || async {
        wrong(&status(&http).await, "limit").into_iter().find(|message| message.contains("--max-waiters"))
    });
    assert!(full.await.contains("is reached (1 of 1 are used)"));
    http.get(&path).await.problem(503);
    waiting.abort();
    let refusing = wrong(&status(&http).await, "limit");
    assert!(refusing[0].contains("has refused requests within the last minute"), "{refusing:?}");
    assert_eq!(crumbd(&["status", "--check"], daemon.url()).0, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_used_and_a_certificate_that_expires_are_told_to_operators_only() {
    let authority = Authority::new("status");
    let (_dir, files) = authority.server_for("3").copied();
    let mut tokens = TokenFile::new();
    let (admin, narrow) = (tokens.add_admin(), tokens.add(&["public/"], &[]));
    let daemon = tokens.daemon(&files.served()).vouched_for_by(&authority);
    let (admin, narrow) = (admin.http(&daemon), narrow.http(&daemon));
    let expires = wrong(&status(&admin).await, "files");
    assert!(expires.len() == 1 && expires[0].starts_with("the certificate expires at "), "{expires:?}");
    tokens.save_as("no token\n");
    let told = eventually("the fault", || async {
        let status = status(&admin).await;
        (wrong(&status, "files").len() == 2).then_some(status)
    })
    .await;
    let file = |status: &Value, name: &str| {
        status["files"].as_array().unwrap().iter().find(|one| one["files"] == name).unwrap().clone()
    };
    let fault = file(&told, "tokens")["fault"]["message"].as_str().unwrap().to_owned();
    assert!(fault.contains("line 1"), "{fault}");
    assert!(file(&told, "certificates")["expires_timestamp"].is_string());
    let hidden = status(&narrow).await;
    assert!(hidden.get("files").is_none() && hidden.get("store").is_none(), "{hidden}");
    assert!(wrong(&hidden, "files").is_empty(), "{hidden}");
    tokens.save();
    eventually("that they are good", || async {
        file(&status(&admin).await, "tokens")["fault"].is_null().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_that_deletes_most_keys_is_a_warning_and_one_that_deletes_few_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("feed");
    let write = |keys: std::ops::Range<u32>| {
        let lines: String = keys.map(|key| put(&format!("k{key}"), "1") + "\n").collect();
        let aside = dir.path().join("new");
        std::fs::write(&aside, lines).unwrap();
        std::fs::rename(&aside, &file).unwrap();
    };
    write(0..10);
    let daemon = Daemon::serve(&["--feed", &format!("file:{}?follow=true", file.display())]);
    let http = daemon.http();
    let keys = async |wanted: u64| {
        eventually("the keys", || async {
            let status = status(&http).await;
            (status["count"] == wanted && status["status"] == "in-sync").then_some(())
        })
        .await;
    };
    keys(10).await;
    write(1..9);
    keys(8).await;
    assert!(!daemon.log().contains("more than half of the keys"), "{}", daemon.log());
    write(1..3);
    keys(2).await;
    let line = daemon.logged("the sweep", |line| {
        line.contains("more than half of the keys were deleted").then(|| line.to_owned())
    });
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["level"], &line["swept"], &line["before"]), (&"WARN".into(), &6.into(), &8.into()));
}
