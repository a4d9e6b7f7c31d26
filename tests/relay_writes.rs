//! Writes on a relay go to the root, and can be read at the relay at the cursor that is returned.
#![allow(clippy::unwrap_used)] // a test may unwrap

mod support;

use support::daemon::Daemon;
use support::http::{Got, Http};
use support::tokens::TokenFile;

/// A relay that takes writes.
fn relay_of(upstream: &Daemon, more: &str) -> Daemon {
    let feed = format!("crumbd://{}/?write=true{more}", upstream.address());
    Daemon::serve(&["--feed", &feed])
}

async fn write(http: &Http, method: &str, key: &str, value: Option<&str>, headers: &[(&str, &str)]) -> Got {
    let body = value.map(|value| value.as_bytes().to_vec());
    http.send(method, &format!("/v1/kv/{key}"), headers, body).await
}

async fn ready(daemon: &Daemon) -> Http {
    assert_eq!(daemon.http().get("/readyz?wait=30s").await.status, 200, "{}", daemon.log());
    daemon.http()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_at_a_leaf_is_the_roots_and_is_read_at_the_leaf_at_its_cursor() {
    let root = Daemon::push(&[]);
    let relay = relay_of(&root, "");
    ready(&relay).await;
    let leaf = relay_of(&relay, "");
    let http = ready(&leaf).await;
    for n in 0..20 {
        let value = format!("value {n}");
        let put = write(&http, "PUT", "k", Some(&value), &[]).await.ok(200);
        let (cursor, etag) = (put.cursor().to_owned(), put.need("etag").to_owned());
        assert_eq!(put.json()["changed"], 1);
        for at in [&http, &relay.http(), &root.http()] {
            let got = at.get(&format!("/v1/kv/k?at={cursor}")).await.ok(200);
            assert_eq!((got.body.as_slice(), got.need("etag")), (value.as_bytes(), &*etag), "at the cursor");
        }
        assert_eq!(http.get("/v1/kv/k").await.ok(200).body, value.as_bytes(), "at once");
    }
    let same = write(&http, "PUT", "k", Some("value 19"), &[]).await.ok(200);
    assert_eq!(same.json()["changed"], 0);
    let posted = http.post(&[
        "{\"type\":\"put\",\"key\":\"a\",\"value\":{\"b\":1}}",
        "{\"type\":\"deleted\",\"key\":\"k\"}",
        "{\"type\":\"put\",\"key_base64\":\"/w==\",\"value\":\"AAE=\",\"encoding\":\"base64\"}",
    ]);
    let cursor = posted.await;
    assert_eq!(root.http().get("/v1/kv?key=a").await.ok(200).body, b"{\"b\":1}");
    assert_eq!(http.get(&format!("/v1/kv?key=%FF&at={cursor}")).await.ok(200).body, [0, 1]);
    assert_eq!(http.get("/v1/kv/k").await.status, 404);
    // A whole state replaces the root's.
    let whole =
        ["{\"type\":\"snapshot\"}", "{\"type\":\"put\",\"key\":\"only\",\"value\":1}", "{\"type\":\"end\"}"];
    http.post(&whole).await;
    for at in [&http, &root.http()] {
        assert_eq!(at.get("/v1/status").await.ok(200).json()["count"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_are_the_roots() {
    let root = Daemon::push(&[]);
    let (one, other) = (relay_of(&root, ""), relay_of(&root, ""));
    let (one, other) = (ready(&one).await, ready(&other).await);
    let new = [("if-none-match", "*")];
    let first = write(&one, "PUT", "k", Some("1"), &new).await.ok(200);
    let etag = first.need("etag").to_owned();
    let again = write(&other, "PUT", "k", Some("2"), &new).await;
    assert_eq!(again.problem(412)["type"], "urn:crumbd:problem:condition-failed");
    let matching = [("if-match", &*etag)];
    write(&other, "PUT", "k", Some("3"), &matching).await.ok(200);
    assert_eq!(write(&one, "PUT", "k", Some("4"), &matching).await.status, 412, "the other was faster");
    assert_eq!(write(&one, "DELETE", "k", None, &[("if-match", "\"nonsense\"")]).await.status, 412);
    assert_eq!(root.http().get("/v1/kv/k").await.ok(200).body, b"3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_a_circle_of_relays_is_refused_and_not_passed_on_for_ever() {
    let root = Daemon::push(&[]);
    // The second one's port is known to the first one before it listens.
    let port = support::etcd::free_port();
    let feed = format!("crumbd://{},127.0.0.1:{port}/?write=true", root.address());
    let one = Daemon::serve(&["--feed", &feed]);
    ready(&one).await;
    let (listen, feed) = (format!("127.0.0.1:{port}"), format!("crumbd://{}/?write=true", one.address()));
    let other = Daemon::serve(&["--listen", &listen, "--feed", &feed]);
    let http = ready(&other).await;
    drop(root);
    let daemons = [http, one.http()];
    for n in 0..20 {
        let refused = write(&daemons[n % 2], "PUT", "k", Some("1"), &[]).await.problem(503);
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.len() < 2000, "{} bytes: {}", detail.len(), &detail[..200]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_begins_anew_is_followed_at_its_own_revisions() {
    let port = support::etcd::free_port();
    let listen = format!("127.0.0.1:{port}");
    let root = Daemon::push(&["--listen", &listen]);
    for n in 0..3 {
        write(&root.http(), "PUT", &format!("k{n}"), Some("v"), &[]).await.ok(200);
    }
    let relay = relay_of(&root, "");
    ready(&relay).await;
    let leaf = relay_of(&relay, "");
    ready(&leaf).await;
    drop(root);
    let root = Daemon::push(&["--listen", &listen]);
    for written in [0, 1] {
        let expected = root.http().get("/v1/status").await.ok(200).json()["cursor"].clone();
        for daemon in [&relay, &leaf] {
            support::eventually("the root's cursor", || async {
                let status = daemon.http().get("/v1/status").await.ok(200).json();
                (status["cursor"] == expected && status["status"] == "in-sync").then_some(())
            })
            .await;
        }
        if written == 0 {
            write(&root.http(), "PUT", "new", Some("v"), &[]).await.ok(200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_said_and_not_done() {
    let mut tokens = TokenFile::new();
    let reader = tokens.add(&[""], &[]);
    let root = Daemon::push(&["--tokens", tokens.path()]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    tokens.save();
    std::fs::write(&file, reader.text).unwrap();
    let plain = Daemon::push(&[]);

    let forbidden = relay_of(&root, &format!("&token_file={}", file.display()));
    let refused = write(&ready(&forbidden).await, "PUT", "k", Some("1"), &[]).await.problem(403);
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.contains("may not write") && detail.contains("token"), "{detail}");

    let feed = format!("crumbd://{}/", plain.address());
    let read_only = Daemon::serve(&["--feed", &feed]);
    let refused = write(&ready(&read_only).await, "PUT", "k", Some("1"), &[]).await.problem(403);
    assert!(refused["detail"].as_str().unwrap().contains("write=true"), "{refused}");

    let narrow = relay_of(&plain, "&prefix=app/");
    let http = ready(&narrow).await;
    let refused = write(&http, "PUT", "other", Some("1"), &[]).await.problem(403);
    assert!(refused["detail"].as_str().unwrap().contains("app/"), "{refused}");
    let put = write(&http, "PUT", "app/k", Some("1"), &[]).await.ok(200);
    assert_eq!(http.get(&format!("/v1/kv/app/k?at={}", put.cursor())).await.ok(200).body, b"1");

    drop(plain);
    let refused = write(&http, "PUT", "app/k", Some("2"), &[]).await.problem(503);
    let kind = refused["type"].as_str().unwrap();
    // A connection that was kept from before breaks only after the request was sent.
    assert!(kind.ends_with(":not-done") || kind.ends_with(":unsettled"), "{refused}");
    let refused = write(&http, "PUT", "app/k", Some("2"), &[]).await.problem(503);
    assert_eq!(refused["type"], "urn:crumbd:problem:not-done", "{refused}");
}
