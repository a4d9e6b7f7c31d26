//! Several collections in one server: each whole of its own, under its own addresses, whichever front answers.
#![allow(clippy::unwrap_used)] // a test may unwrap

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crumbd::cache::{Cache, CacheConfig};
use crumbd::feed::Upstream;
use crumbd::http::auth::{Authorizer, Grant, KeyRights, NewRights, NewToken, Revocation, Rights, Tokens};
use crumbd::http::{App, AppConfig, Collection, Limits, Server, ServerConfig, Shutdown};
use crumbd::ingest::IngestBuffer;
use crumbd::model::{History, KeySelector, SyncStatus, Update};
use crumbd::view::{View, ViewConfig};
use serde_json::json;
use support::daemon::{self, Daemon};
use support::http::{Got, Http};
use support::tokens::TokenFile;
use support::{eventually, in_time};

const A_MINUTE: Duration = Duration::from_secs(60);

fn collection() -> (Cache, Collection) {
    let buffer = Arc::new(IngestBuffer::channel(64).unwrap());
    let (cache, ingest) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
    tokio::spawn(ingest.run());
    let upstream = Arc::new(Upstream::local());
    let (view, fanout) = View::new(cache.reader(), Arc::clone(&upstream), &ViewConfig::default());
    tokio::spawn(fanout.run());
    (cache, Collection::new("test:".to_owned(), view, upstream, None, None))
}

/// A server of the default collection and one that is named `pods`.
async fn serve(lean_front: bool) -> (Http, [Cache; 2]) {
    serve_app(lean_front, |app| app).await
}

async fn serve_app(lean_front: bool, change: impl FnOnce(App) -> App) -> (Http, [Cache; 2]) {
    let (first, default) = collection();
    let (second, named) = collection();
    let limits = Limits {
        max_connections: 100,
        max_waiters: 100,
        max_client_waiters: 100,
        max_snapshot_bytes: 1 << 20,
        max_client_snapshot_bytes: 1 << 20,
        max_client_upload_bytes: 1 << 20,
        max_upload_bytes: 1 << 20,
        ..Limits::default()
    };
    let config = AppConfig {
        max_body_bytes: 1 << 20,
        stall_timeout: A_MINUTE,
        limits,
        heartbeat: A_MINUTE,
        ..AppConfig::default()
    };
    let app = App::new([default, named.named("pods".parse().unwrap())], Shutdown::default(), config);
    let config = ServerConfig {
        header_timeout: A_MINUTE,
        idle_timeout: A_MINUTE,
        stall_timeout: A_MINUTE,
        lean_front,
        ..ServerConfig::default()
    };
    let server = Server::bind(&[SocketAddr::from(([127, 0, 0, 1], 0)).into()], config).unwrap();
    let http = Http::new(&format!("http://{}", server.address()));
    tokio::spawn(server.run(change(app)));
    (http, [first, second])
}

async fn current(http: &Http, base: &str) -> (Got, String) {
    let got = http.get(&format!("{base}/breadcrumbs/current")).await.ok(200);
    let cursor = got.headers["crumbd-cursor"].to_str().unwrap().to_owned();
    (got, cursor)
}

fn text(got: &Got) -> String {
    String::from_utf8_lossy(&got.body).into_owned()
}

fn link(got: &Got) -> &str {
    got.headers["link"].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_collection_has_its_own_state_history_and_waiters() {
    for lean_front in [true, false] {
        let (http, [first, second]) = serve(lean_front).await;
        first.on_updates(vec![Update::put("shared", "of the first")]).await.unwrap();
        second.on_updates(vec![Update::put("shared", "of the second")]).await.unwrap();
        for cache in [&first, &second] {
            cache.on_status_updated(SyncStatus::InSync).await.unwrap();
        }
        let mut cursors = Vec::new();
        for (base, value) in [("/v1", "of the first"), ("/v1/c/pods", "of the second")] {
            eventually("the value", || async {
                let got = http.get(&format!("{base}/kv/shared")).await;
                (got.body == value.as_bytes()).then_some(())
            })
            .await;
            let (got, cursor) = current(&http, base).await;
            assert_eq!(link(&got), format!("<{base}/breadcrumbs/{cursor}/next>; rel=\"next\""));
            cursors.push(cursor);
        }
        assert_ne!(cursors[0].split('.').next(), cursors[1].split('.').next(), "histories of their own");

        // A cursor of the one is of another history to the other.
        let foreign = http.get(&format!("/v1/c/pods/breadcrumbs/{}/next?wait=0", cursors[0])).await;
        assert_eq!(foreign.status, 410);

        // A change of the one wakes nobody who waits at the other.
        let waits = |base: &str, cursor: &str, wait: &str| {
            let (http, path) = (http.clone(), format!("{base}/breadcrumbs/{cursor}/next?wait={wait}"));
            tokio::spawn(async move { http.get(&path).await })
        };
        let (waiting, quiet) = (waits("/v1/c/pods", &cursors[1], "30s"), waits("/v1", &cursors[0], "1s"));
        eventually("both to wait", || async {
            (http.get("/v1/status").await.json()["waiters"] == 2).then_some(())
        })
        .await;
        second.on_updates(vec![Update::put("more", "1")]).await.unwrap();
        let woken = in_time("the waiter", waiting).await.unwrap().ok(200);
        assert!(link(&woken).starts_with("</v1/c/pods/breadcrumbs/"), "{}", link(&woken));
        assert_eq!(in_time("the other", quiet).await.unwrap().status, 204);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_of_all_collections_or_of_one_and_unknown_names_are_told_the_known_ones() {
    let (http, [first, second]) = serve(true).await;
    first.on_status_updated(SyncStatus::InSync).await.unwrap();
    let unready = http.get("/readyz?wait=100ms").await;
    assert_eq!(unready.status, 503);
    assert!(text(&unready).contains("pods"), "it names the collection: {}", text(&unready));
    assert_eq!(http.get("/readyz?collection=pods").await.status, 503);
    second.on_status_updated(SyncStatus::InSync).await.unwrap();
    assert_eq!(http.get("/readyz?wait=30s").await.status, 200);
    assert_eq!(http.get("/readyz?collection=pods&wait=30s").await.status, 200);
    for path in ["/readyz?collection=nodes", "/v1/c/nodes/breadcrumbs/current", "/v1/c/nodes/stream"] {
        let got = http.get(path).await;
        assert_eq!(got.status, 404, "{path}");
        assert!(text(&got).contains("nodes") && text(&got).contains("pods"), "{path}: {}", text(&got));
    }
    let metrics = text(&http.get("/metrics").await.ok(200));
    for line in ["crumbd_sequence ", "crumbd_sequence{collection=\"pods\"} ", "crumbd_ready 1"] {
        assert!(metrics.contains(&format!("\n{line}")), "{line} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_read_again_is_the_only_one_that_is_not_in_sync() {
    let (http, [first, second]) = serve(true).await;
    let unready = http.get("/readyz").await.problem(503);
    let detail = unready["detail"].as_str().unwrap();
    assert!(detail.contains("the feed has not") && detail.contains("collection \"pods\""), "{detail}");
    for cache in [&first, &second] {
        cache.on_updates(vec![Update::put("a", "1")]).await.unwrap();
        cache.on_status_updated(SyncStatus::InSync).await.unwrap();
    }
    assert_eq!(text(&http.get("/readyz?wait=30s").await), "ready\n");
    second.on_status_updated(SyncStatus::ResyncInProgress).await.unwrap();
    let status = async |base: &str| http.get(&format!("{base}/status")).await.ok(200).json();
    eventually("the status", || async {
        (status("/v1/c/pods").await["status"] == "resync-in-progress").then_some(())
    })
    .await;
    assert_eq!(status("/v1").await["status"], "in-sync");
    let names = (status("/v1").await["collection"].clone(), status("/v1/c/pods").await["collection"].clone());
    assert_eq!(names, (json!(null), json!("pods")));
    // It was in sync once: what it serves is old, and it is ready.
    for base in ["/v1", "/v1/c/pods"] {
        assert_eq!(status(base).await["ready"], true);
    }
    assert_eq!(text(&http.get("/readyz").await), "ready (stale)\n");
    assert_eq!(text(&http.get("/readyz?collection=pods").await), "ready (stale)\n");
    let listed = http.get("/v1/collections").await.json();
    let statuses = [0, 1].map(|place| listed["collections"][place]["status"].clone());
    assert_eq!(statuses, ["in-sync", "resync-in-progress"]);
    let metrics = text(&http.get("/metrics").await.ok(200));
    for line in [
        "crumbd_ready 1.0",
        "crumbd_collection_ready 1.0",
        "crumbd_collection_ready{collection=\"pods\"} 1.0",
        "crumbd_collection_in_sync 1.0",
        "crumbd_collection_in_sync{collection=\"pods\"} 0.0",
        "crumbd_feed_status{status=\"in-sync\"} 1",
        "crumbd_feed_status{status=\"in-sync\",collection=\"pods\"} 0",
        "crumbd_feed_status{status=\"resync-in-progress\",collection=\"pods\"} 1",
    ] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line} in {metrics}");
    }
}

/// A token whose line has these members too.
fn token(members: serde_json::Value) -> (String, String) {
    let made = NewToken::make(NewRights::default()).unwrap();
    let mut line: serde_json::Value = serde_json::from_str(&made.line).unwrap();
    for (name, value) in members.as_object().unwrap() {
        line[name] = value.clone();
    }
    (made.token, format!("{line}\n"))
}

/// Servers with these tokens, one for each front, and the same states: each key is of its collection.
async fn serve_tokens(lines: &str, lean_front: bool) -> (Http, [Cache; 2]) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokens"), lines).unwrap();
    let tokens = Tokens::open(dir.path().join("tokens")).unwrap();
    let (http, caches) = serve_app(lean_front, |app| app.with_authorizer(tokens)).await;
    for (cache, value) in caches.iter().zip(["first", "second"]) {
        let keys: [&[u8]; 3] = [b"a/1", b"b/1", b"\xff"];
        cache.on_updates(keys.iter().map(|key| Update::put(*key, value)).collect()).await.unwrap();
        cache.on_status_updated(SyncStatus::InSync).await.unwrap();
    }
    (http, caches)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_has_rights_only_in_the_collections_that_its_line_names() {
    let (old, old_line) = token(json!({ "read": [""], "write": [""] }));
    let (pods, pods_line) = token(json!({ "collections": { "pods": { "read": ["a/"] } } }));
    let (star, star_line) = token(json!({ "read": ["a/"], "collections": { "*": { "read": [""] } } }));
    let (other, other_line) =
        token(json!({ "collections": { "*": { "read": [""] }, "pods": { "write": ["a/"] } } }));
    let (admin, admin_line) = token(json!({ "admin": true }));
    let lines = [old_line, pods_line, star_line, other_line, admin_line].concat();
    for lean_front in [true, false] {
        let (http, _caches) = serve_tokens(&lines, lean_front).await;
        let as_ = |token: &str| http.with_token(token);
        eventually("the states", || async {
            let ready = as_(&old).get("/v1/kv/b/1").await.status == 200;
            (ready && as_(&star).get("/v1/c/pods/kv/b/1").await.status == 200).then_some(())
        })
        .await;
        let (_, first) = current(&as_(&old), "/v1").await;
        let (_, second) = current(&as_(&star), "/v1/c/pods").await;
        let named = ["/v1/c/pods", "/v1/c/p%6Fds", "/v1/c/%70%6f%64%73"];
        for base in named {
            let paths = [
                "breadcrumbs/current".to_owned(),
                format!("breadcrumbs/{second}/next?wait=0"),
                format!("breadcrumbs/{first}/next?wait=0"),
                format!("breadcrumbs/{second}"),
                format!("breadcrumbs/{second}/diff/{second}"),
                "stream".to_owned(),
                "kv?limit=1".to_owned(),
                "kv/a/1".to_owned(),
                "kv/%ff".to_owned(),
                "status".to_owned(),
            ];
            for path in &paths {
                // On the connection of a request to the other collection, with the same headers.
                let own = as_(&old);
                own.get(&format!("/v1/breadcrumbs/{first}/next?wait=0")).await.ok(204);
                let problem = own.get(&format!("{base}/{path}")).await.problem(403);
                let detail = problem["detail"].as_str().unwrap();
                assert!(detail.contains(r#""collections": {"pods": "#), "{base}/{path}: {detail}");
            }
            let refused = as_(&old).send("PUT", &format!("{base}/kv/a/1"), &[], Some(b"x".to_vec())).await;
            refused.problem(403);
            // A key that is not UTF-8 leads to no other collection.
            assert_eq!(as_(&star).get(&format!("{base}/kv/%ff")).await.ok(200).body, b"second");
            as_(&pods).get(&format!("{base}/kv/%ff")).await.problem(403);
            assert_eq!(as_(&pods).get(&format!("{base}/kv/a/1")).await.ok(200).body, b"second");
            let state = as_(&pods).get(&format!("{base}/breadcrumbs/current")).await.ok(200);
            assert!(!text(&state).contains("b/1") && text(&state).contains("a/1"), "{}", text(&state));
            as_(&other).get(&format!("{base}/breadcrumbs/current")).await.problem(403);
            as_(&other).get(&format!("{base}/status")).await.ok(200);
            as_(&admin).get(&format!("{base}/status")).await.ok(200);
            as_(&admin).get(&format!("{base}/kv/a/1")).await.problem(403);
        }
        for path in ["breadcrumbs/current", "status", "kv/a/1", "stream"] {
            for token in [&pods, &other] {
                let problem = as_(token).get(&format!("/v1/{path}")).await.problem(403);
                assert!(problem["detail"].as_str().unwrap().contains("default collection"), "{problem}");
            }
        }
        for name in ["%ff", "nodes", "pods%2F", "pods%00"] {
            as_(&star).get(&format!("/v1/c/{name}/kv/a/1")).await.problem(404);
        }

        let listed = async |token: &str| {
            let all = as_(token).get("/v1/collections").await.ok(200).json();
            let all = all["collections"].as_array().unwrap().clone();
            all.iter().map(|one| (one["path"].clone(), one["count"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(listed(&old).await, [(json!("/v1"), json!(3))]);
        assert_eq!(listed(&pods).await, [(json!("/v1/c/pods"), json!(null))]);
        assert_eq!(listed(&star).await, [(json!("/v1"), json!(null)), (json!("/v1/c/pods"), json!(3))]);
        assert_eq!(listed(&other).await, []);
        assert_eq!(listed(&admin).await, [(json!("/v1"), json!(3)), (json!("/v1/c/pods"), json!(3))]);

        for (token, default, named) in
            [(&old, true, false), (&pods, false, false), (&star, false, true), (&admin, true, true)]
        {
            let metrics = text(&as_(token).get("/metrics").await.ok(200));
            let has = |line: &str| metrics.contains(&format!("\n{line} "));
            assert!(has("crumbd_sequence") && has(r#"crumbd_sequence{collection="pods"}"#));
            assert_eq!((has("crumbd_keys"), has(r#"crumbd_keys{collection="pods"}"#)), (default, named));
            assert_eq!(has("crumbd_snapshot_bytes_in_flight"), default && named);
        }
        as_(&old).get("/v1/clients").await.problem(403);
    }
}

/// Knows one token.
struct OneToken(Grant);

impl Authorizer for OneToken {
    fn admit(&self, token: &str) -> Option<Grant> {
        (token == "one").then(|| self.0.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_of_a_named_collection_is_answered_when_its_rights_change() {
    for lean_front in [true, false] {
        let rights = KeyRights { read: KeySelector::ALL, write: KeySelector::default() };
        let grant = Grant::new(Rights { other_named: rights, ..Rights::default() });
        let authorizer = Arc::new(OneToken(grant.clone()));
        let (http, _caches) = serve_app(lean_front, |app| app.with_authorizer(authorizer)).await;
        let http = http.with_token("one");
        let (_, cursor) = current(&http, "/v1/c/pods").await;
        let waiting = tokio::spawn({
            let http = http.clone();
            async move { http.get(&format!("/v1/c/pods/breadcrumbs/{cursor}/next?wait=60s")).await }
        });
        eventually("the waiter", || async {
            (http.get("/v1/c/pods/status").await.json()["waiters"] == 1).then_some(())
        })
        .await;
        grant.revoke(Revocation::Changed);
        let problem = in_time("the answer", waiting).await.unwrap().problem(403);
        assert_eq!(problem["type"], "urn:crumbd:problem:permission-changed");
    }
}

/// What a command prints for a daemon.
fn crumbd(daemon: &Daemon, args: &[&str]) -> Output {
    daemon::run(&[args, &["--url", daemon.url()]].concat())
}

/// What a command that succeeds prints for a daemon.
fn printed(daemon: &Daemon, args: &[&str]) -> String {
    let done = crumbd(daemon, args);
    assert!(done.status.success(), "{args:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_ask_the_collection_that_they_are_told() {
    let daemon = Daemon::serve(&["--feed", "push:", "--feed", "pods=push:"]);
    printed(&daemon, &["put", "k", "first"]);
    printed(&daemon, &["put", "k", "second", "--collection", "pods"]);
    assert_eq!(printed(&daemon, &["get", "k"]), "first");
    assert_eq!(printed(&daemon, &["get", "k", "--collection", "pods"]), "second");
    let variable = |value: &str| {
        let mut command = daemon::command();
        command.args(["get", "k", "--url", daemon.url()]).env("CRUMBD_COLLECTION", value);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!((variable("pods"), variable("")), ("second".to_owned(), "first".to_owned()));
    let dump = printed(&daemon, &["dump", "--collection", "pods"]);
    assert!(dump.contains("second") && !dump.contains("first"), "{dump}");

    let mut following = daemon::command()
        .args(["follow", "--all", "--collection", "pods", "--url", daemon.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("second")));
    printed(&daemon, &["delete", "k", "--collection", "pods"]);
    assert!(lines.any(|line| line.contains("deleted")));
    following.kill().unwrap();
    following.wait().unwrap();
    assert_eq!(printed(&daemon, &["get", "k"]), "first");

    let all = printed(&daemon, &["status"]);
    let rows: Vec<Vec<&str>> = all.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["name", "status", "keys", "heard", "feed"]);
    assert_eq!((&rows[1][..4], rows[1].last()), (&["(no", "name)", "in-sync", "1"][..], Some(&"push:")));
    assert_eq!((&rows[2][..3], rows[2].last()), (&["pods", "in-sync", "0"][..], Some(&"push:")));
    let all: serde_json::Value = serde_json::from_str(&printed(&daemon, &["status", "--json"])).unwrap();
    assert_eq!(
        (&all["collections"][0]["name"], &all["collections"][1]["name"]),
        (&json!(null), &json!("pods"))
    );
    for (name, keys) in [("", 1), ("pods", 0)] {
        let one = printed(&daemon, &["status", "--json", "--collection", name]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&one).unwrap()["count"], keys);
        assert!(printed(&daemon, &["status", "--collection", name]).contains("digest"));
    }

    for command in [&["get", "k"][..], &["put", "k", "v"], &["follow"], &["dump"], &["status"]] {
        let failed = crumbd(&daemon, &[command, &["--collection", "nodes"]].concat());
        let said = String::from_utf8(failed.stderr).unwrap();
        assert_eq!(failed.status.code(), Some(1), "{said}");
        assert!(said.contains(r#"there is no collection "nodes""#) && said.contains("are pods"), "{said}");
    }
    let failed = crumbd(&daemon, &["get", "k", "--collection", "No/Name"]);
    assert_eq!(failed.status.code(), Some(2));
}

#[test]
fn a_token_is_made_for_named_collections_or_for_the_default_one() {
    let line = |args: &[&str]| -> serde_json::Value {
        let made = daemon::run(&[&["token"], args].concat());
        assert!(made.status.success(), "{made:?}");
        serde_json::from_slice(&made.stdout).unwrap()
    };
    let default = line(&["--read", "a/"]);
    assert_eq!((&default["read"], default.get("collections")), (&json!(["a/"]), None));
    let named = line(&["--read", "a/", "--write", "", "--collection", "pods", "--collection", "*"]);
    let rights = json!({ "read": ["a/"], "write": [""] });
    assert_eq!(named["collections"], json!({ "pods": rights, "*": rights }));
    assert_eq!((&named["read"], &named["write"]), (&json!([]), &json!([])));
    for bad in [
        &["--collection", "pods"][..],
        &["--collection", "pods", "--admin"],
        &["--collection", "A", "--read", ""],
    ] {
        assert!(!daemon::run(&[&["token"], bad].concat()).status.success(), "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rights_in_one_collection_answer_the_waiters_of_their_token_only() {
    let mut file = TokenFile::new();
    let writer = file.add_with(&["--read", "", "--write", "", "--collection", "*"]);
    let reader = file.add_with(&["--read", "", "--collection", "pods"]);
    file.save();
    let daemon = Daemon::serve(&["--feed", "push:", "--feed", "pods=push:", "--tokens", file.path()]);
    let (writer, reading) = (writer.http(&daemon), reader.http(&daemon));
    writer.send("PUT", "/v1/c/pods/kv/a", &[], Some(b"1".to_vec())).await.ok(200);
    let first = current(&reading, "/v1/c/pods").await.0;
    let cursor = first.headers["crumbd-cursor"].to_str().unwrap();
    let link = link(&first).trim_start_matches('<').split('>').next().unwrap();
    assert!(link.contains("rights="), "{link}");
    let waits = |http: &Http| {
        let (http, path) = (http.clone(), format!("/v1/c/pods/breadcrumbs/{cursor}/next?wait=60s"));
        tokio::spawn(async move { http.get(&path).await })
    };
    let (narrowed, same) = (waits(&reading), waits(&writer));
    eventually("both to wait", || async {
        (writer.get("/v1/c/pods/status").await.json()["waiters"] == 2).then_some(())
    })
    .await;
    file.change_in(&reader, "pods", &["b/"]);
    file.save();
    let problem = in_time("the answer", narrowed).await.unwrap().problem(403);
    assert_eq!(problem["type"], "urn:crumbd:problem:permission-changed");
    // Under the rights that it has now, the client's state would have holes.
    reading.get(link).await.problem(410);
    reading.get("/v1/c/pods/kv/a").await.problem(403);
    reading.get("/v1/status").await.problem(403);
    assert!(!same.is_finished());
    writer.send("PUT", "/v1/c/pods/kv/a", &[], Some(b"2".to_vec())).await.ok(200);
    in_time("the other", same).await.unwrap().ok(200);
}
