//! The kubernetes feed before a server that does what a real one cannot be made to do on time.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::daemon::{self, Daemon};
use support::followed::{is, mirror, status};
use support::http::Http;
use support::kube_double::{Answer, Double, Step, bookmark, event, refusal};
use support::kubernetes::{decoded, feed, kubeconfig};
use support::mirror::{Coding, Media, Mirror};
use support::tls::{Authority, Identity};
use support::{eventually, in_time};

/// A server with the objects `a` and `b`, and a daemon that will follow it.
async fn with_two_objects() -> Double {
    let double = Double::start().await;
    double.put("a", "first", true);
    double.put("b", "first", true);
    double
}

fn values(mirror: &Mirror) -> BTreeMap<String, Value> {
    let value = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
    let state = decoded(&mirror.state);
    state.iter().map(|(key, bytes)| (String::from_utf8(key.clone()).unwrap(), value(bytes))).collect()
}

/// Waits until the daemon is in-sync and has the server's objects.
async fn agrees_with(http: &Http, double: &Double) -> Mirror {
    in_time("the daemon to agree with the server", async {
        loop {
            let mirror = mirror(http).await;
            if mirror.status == "in-sync" && values(&mirror) == double.values() {
                return mirror;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

fn gone() -> Value {
    refusal(410, "Expired", "").body
}

#[tokio::test]
async fn a_revision_that_is_gone_is_a_list_whose_difference_is_published() {
    // As a status, and as an event in an answer that began well, of which `code` or `reason` may be missing.
    let mut without_code = gone();
    without_code["code"] = 0.into();
    for steps in [
        vec![Step::Refuse(refusal(410, "Gone", ""))],
        vec![Step::Send(event("ERROR", &gone()))],
        vec![Step::Send(event("ERROR", &without_code)), Step::End],
    ] {
        let double = with_two_objects().await;
        let daemon = double.follow();
        let http = daemon.http();
        is(&http, "in-sync").await;
        let mut follower = mirror(&http).await;
        assert_eq!(values(&follower), double.values());
        // The daemon's watch is cut, and meanwhile things change that no watch will deliver.
        double.next_watch(steps);
        double.lose("a");
        double.put("b", "second", false);
        double.put("c", "new", false);
        double.cut();
        let seen = agrees_with(&http, &double).await;
        assert_eq!(seen.history, follower.history);
        follower.follow_to(&seen.cursor).await;
        assert_eq!(values(&follower), double.values());
        assert_eq!(follower.seen.snapshots, 1, "the difference, not the whole");
    }
}

#[tokio::test]
async fn a_continue_token_that_is_gone_begins_the_list_anew() {
    let double = with_two_objects().await;
    let first = serde_json::json!({
        "kind": "ConfigMapList",
        "metadata": {"resourceVersion": "50", "continue": "token/1"},
        "items": [{"metadata": {"name": "old", "namespace": "n", "resourceVersion": "49"}}],
    });
    double.next_list(Answer { status: 200, headers: "", body: first });
    double.next_list(refusal(410, "Expired", ""));
    let daemon = double.follow();
    agrees_with(&daemon.http(), &double).await;
    assert_eq!(double.asked("continue=token%2F1").len(), 1);
}

#[tokio::test]
async fn a_server_that_asks_for_a_pause_gets_it() {
    let double = with_two_objects().await;
    double.next_list(refusal(429, "TooManyRequests", "retry-after: 1\r\n"));
    let begun = Instant::now();
    let daemon = double.follow();
    agrees_with(&daemon.http(), &double).await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "the server has asked for it");
}

#[tokio::test]
async fn an_event_after_its_bookmark_is_not_lost() {
    let double = with_two_objects().await;
    let daemon = double.follow();
    let http = daemon.http();
    agrees_with(&http, &double).await;
    // The next watch has a bookmark at the revision of an event that it does not deliver.
    let (revision, _) = double.put_for_the_next_watch("b", "after its bookmark", true);
    double.cut_with(vec![Step::Send(bookmark(revision)), Step::Break]);
    agrees_with(&http, &double).await;
    let watches = double.watches(3).await;
    assert!(!watches[2].contains(&format!("resourceVersion={revision}&")), "{watches:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_within_a_line_is_read_again() {
    let double = with_two_objects().await;
    let daemon = double.follow();
    let http = daemon.http();
    agrees_with(&http, &double).await;
    let (_, line) = double.put_for_the_next_watch("b", "half a line", true);
    let (half, _) = line.split_at(line.len() / 2);
    double.cut_with(vec![Step::Send(half.to_owned()), Step::End]);
    agrees_with(&http, &double).await;
    let (_, line) = double.put_for_the_next_watch("b", "half a line and no end", true);
    let (half, _) = line.split_at(line.len() / 2);
    double.cut_with(vec![Step::Send(half.to_owned()), Step::Break]);
    agrees_with(&http, &double).await;
}

#[tokio::test]
async fn what_is_no_event_is_no_data() {
    let double = with_two_objects().await;
    let unlike = serde_json::json!({"metadata": {"name": "x", "namespace": "n", "resourceVersion": "999"}});
    for line in [
        event("ERROR", &refusal(500, "InternalError", "").body),
        event("ERROR", &unlike),
        event("REPLACED", &unlike),
        "no JSON\n".to_owned(),
        "{}\n".to_owned(),
        event("ADDED", &serde_json::json!({"metadata": {"name": "x", "resourceVersion": "new"}})),
    ] {
        double.next_watch(vec![Step::Send(line.clone())]);
        let daemon = double.follow();
        let http = daemon.http();
        eventually(&format!("an error after {line}"), || async {
            status(&http).await["feed_last_error"]["message"].is_string().then_some(())
        })
        .await;
        agrees_with(&http, &double).await;
    }
}

#[tokio::test]
async fn an_object_that_is_refused_or_listed_twice_is_named_in_the_log() {
    let double = with_two_objects().await;
    double.put("large", &"x".repeat(1000), true);
    let a = double.values()["n/a"].clone();
    let page = |token: &str| {
        let metadata = serde_json::json!({"resourceVersion": "103", "continue": token});
        let body = serde_json::json!({"kind": "ConfigMapList", "metadata": metadata, "items": [a]});
        Answer { status: 200, headers: "", body }
    };
    double.next_list(page("more"));
    double.next_list(page(""));
    let feed = double.feed("resource=v1/configmaps", "token: x");
    let daemon = Daemon::serve(&["--feed", &feed, "--max-value-bytes", "500"]);
    is(&daemon.http(), "in-sync").await;
    daemon.logged("the key", |line| line.contains("the key \\\"n/a\\\" twice in one list").then_some(()));
    let other = Daemon::serve(&["--feed", &feed, "--max-value-bytes", "500"]);
    is(&other.http(), "in-sync").await;
    other.logged("the key", |line| line.contains("key \\\"n/large\\\"").then_some(()));
    for daemon in [&daemon, &other] {
        assert!(!daemon.log().contains("edited or truncated"), "{}", daemon.log());
    }
}

#[tokio::test]
async fn a_streaming_list_is_the_same_state_as_pages() {
    let double = with_two_objects().await;
    let paged = double.follow();
    let paged = agrees_with(&paged.http(), &double).await;
    double.streams();
    let daemon = double.follow();
    let http = daemon.http();
    let streamed = agrees_with(&http, &double).await;
    assert_eq!(streamed.cursor, paged.cursor, "with the same revision");
    let revisions = |mirror: &Mirror| mirror.state.clone();
    assert_eq!(revisions(&streamed), revisions(&paged));
    let mut pages = double.asked("limit=500");
    pages.retain(|asked| !asked.ends_with("(metadata)"));
    assert_eq!(pages.len(), 1, "the second daemon has read no pages");
    double.put("c", "later", true);
    agrees_with(&http, &double).await;
    // Again, as a resync.
    double.next_watch(vec![Step::Refuse(refusal(410, "Gone", ""))]);
    double.lose("a");
    double.cut();
    let after = agrees_with(&http, &double).await;
    assert_eq!(after.history, paged.history);
}

#[tokio::test]
async fn a_streaming_list_without_an_end_is_given_up_for_pages() {
    let double = with_two_objects().await;
    double.streams_without_end();
    let daemon = double.follow();
    eventually("pages to be asked for", || async {
        // It never pauses.
        double.put("b", "again", true);
        tokio::time::sleep(Duration::from_millis(100)).await;
        (!double.asked("limit=500").is_empty()).then_some(())
    })
    .await;
    agrees_with(&daemon.http(), &double).await;
}

#[tokio::test]
async fn what_an_open_watch_does_not_deliver_is_read() {
    let double = with_two_objects().await;
    let daemon = double.follow();
    let http = daemon.http();
    let before = agrees_with(&http, &double).await;
    for is_deleted in [false, true] {
        match is_deleted {
            true => double.lose("b"),
            false => _ = double.put("b", "unseen", false),
        }
        let end = Instant::now() + 3 * support::DEADLINE;
        while values(&mirror(&http).await) != double.values() {
            assert!(Instant::now() < end, "the change is missing");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(agrees_with(&http, &double).await.history, before.history);
}

#[tokio::test]
async fn a_deletion_that_a_watch_leaves_out_is_found_when_it_is_silent_though_a_later_event_came() {
    let double = with_two_objects().await;
    let daemon = double.follow();
    let http = daemon.http();
    agrees_with(&http, &double).await;
    double.lose("b");
    // The daemon is as far as the server.
    double.put("a", "later", true);
    let end = Instant::now() + 3 * support::DEADLINE;
    while values(&mirror(&http).await) != double.values() {
        assert!(Instant::now() < end, "the object is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn watches_that_end_at_once_do_not_hide_what_has_changed() {
    let double = with_two_objects().await;
    let daemon = double.follow();
    let http = daemon.http();
    agrees_with(&http, &double).await;
    let lists = double.asked("resourceVersionMatch=Exact").len();
    // Each of them ends well, and delivers nothing.
    for _ in 0..200 {
        double.next_watch(vec![Step::End]);
    }
    double.put_for_the_next_watch("b", "unseen", false);
    double.cut();
    let newest = double.values();
    eventually("the change, though no watch delivers it", || async {
        let mirror = Mirror::of(http.clone(), Media::Ndjson, Coding::Identity).await;
        (values(&mirror) == newest).then_some(())
    })
    .await;
    let status = eventually("the problem to be named", || async {
        let status = status(&http).await;
        (status["status"] != "in-sync" && status["feed_problem"].is_string()).then_some(status)
    })
    .await;
    assert!(status["feed_problem"].as_str().unwrap().contains("closed the watch"), "{status}");
    assert_eq!(double.asked("resourceVersionMatch=Exact").len(), lists, "nothing was in doubt");
    // The pauses grow: there is no loop of lists.
    assert!(double.asked("limit=500").len() < 20);
    double.watches_work_again();
    agrees_with(&http, &double).await;
}

#[tokio::test]
async fn a_list_that_goes_round_in_a_circle_is_an_error() {
    let double = with_two_objects().await;
    let page = serde_json::json!({
        "kind": "ConfigMapList",
        "metadata": {"resourceVersion": "50", "continue": "round"},
        "items": [],
    });
    for _ in 0..100 {
        double.next_list(Answer { status: 200, headers: "", body: page.clone() });
    }
    let daemon = double.follow();
    let problem = problem(&daemon.http()).await;
    assert!(problem.contains("same continue token"), "{problem}");
}

#[tokio::test]
async fn a_list_whose_pages_are_lost_again_and_again_is_read_in_one_page() {
    let double = with_two_objects().await;
    for _ in 0..4 {
        double.next_list(refusal(410, "Expired", ""));
    }
    let daemon = double.follow();
    agrees_with(&daemon.http(), &double).await;
    assert_eq!(double.asked("limit=0").len(), 1);
}

#[tokio::test]
async fn a_refusal_is_named_as_it_is_and_in_one_line() {
    let double = with_two_objects().await;
    for _ in 0..100 {
        double.next_list(refusal(302, "Found", "location: https://elsewhere/\r\n"));
    }
    let daemon = double.follow();
    let moved = problem(&daemon.http()).await;
    assert!(moved.contains("https://elsewhere/ (302)"), "{moved}");
    let fails = "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never, \
                 args: ['-c', 'echo one >&2; echo two >&2; exit 3']}";
    let daemon = double.follow_as("resource=v1/configmaps", fails);
    let failed = problem(&daemon.http()).await;
    assert!(failed.contains("exit status: 3") && failed.ends_with("one two"), "{failed}");
}

#[tokio::test]
async fn a_credential_plugin_that_hangs_holds_up_nothing() {
    let double = with_two_objects().await;
    let hangs = "exec: {apiVersion: client.authentication.k8s.io/v1, command: sleep, interactiveMode: Never, \
                 args: ['25']}";
    let resources = ["configmaps", "pods", "secrets", "services", "nodes", "events", "endpoints", "leases"];
    let resources: Vec<String> = resources.iter().map(|plural| format!("resource=v1/{plural}")).collect();
    let mut daemon = double.follow_as(&resources.join("&"), hangs);
    for _ in 0..20 {
        in_time("an answer", daemon.http().get("/livez")).await.ok(200);
    }
    daemon.terminate();
    assert!(daemon.wait_exit().success());
}

#[tokio::test]
async fn a_credential_plugin_that_hangs_at_a_renewal_is_ended_and_run_again() {
    let double = with_two_objects().await;
    let dir = tempfile::tempdir().unwrap();
    // Its tokens have expired already, so each is renewed soon. The second run hangs, and so does what it has started.
    let script = "echo run >> runs; n=$(wc -l < runs); \
                  if [ $n = 2 ]; then sleep 1000 & echo $$ $! > hung; wait; fi; \
                  echo 'status: {token: t'$n', expirationTimestamp: \"2020-01-01T00:00:00Z\"}'";
    fs::write(dir.path().join("plugin"), format!("cd {}\n{script}\n", dir.path().display())).unwrap();
    let exec = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never, args: [{}]}}",
        dir.path().join("plugin").display()
    );
    let daemon = double.follow_as("resource=v1/configmaps", &exec);
    let http = daemon.http();
    agrees_with(&http, &double).await;
    let hung = eventually("the plugin to hang", || async {
        let hung = fs::read_to_string(dir.path().join("hung")).ok()?;
        hung.ends_with('\n').then_some(hung)
    })
    .await;
    assert!(double.knows("Bearer t1"));
    double.put("c", "while it hangs", true);
    agrees_with(&http, &double).await;
    assert_eq!(fs::read_to_string(dir.path().join("runs")).unwrap().lines().count(), 2);
    // The plugin has 20 s.
    let end = Instant::now() + 3 * support::DEADLINE;
    while !double.knows("Bearer t3") {
        assert!(Instant::now() < end, "no third token");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let state = |id: &str| fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    for id in hung.split_whitespace() {
        assert!(!state(id).contains("(sh)") && !state(id).contains("(sleep) S"), "{id} runs: {}", state(id));
    }
    agrees_with(&http, &double).await;
}

#[tokio::test]
async fn a_server_that_does_not_say_how_far_it_is_makes_the_feed_not_in_sync() {
    let double = with_two_objects().await;
    let daemon = double.follow();
    let http = daemon.http();
    agrees_with(&http, &double).await;
    double.hangs(true);
    is(&http, "resync-in-progress").await;
    let problem = problem(&http).await;
    assert!(problem.contains("no answer within 10 s"), "{problem}");
    // Lists are answered all the time, and show that nothing is missing; but not how far the server is.
    let end = Instant::now() + 3 * support::DEADLINE;
    while double.asked("namespaces/kube-system").len() < 2 {
        assert!(Instant::now() < end, "the session goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(daemon.log().matches("the feed is in-sync").count(), 1, "{}", daemon.log());
    double.hangs(false);
    agrees_with(&http, &double).await;
}

#[tokio::test]
async fn a_replica_that_starts_has_the_history_that_a_restarted_server_has() {
    // The server has less than is asked for at first, and may not say how much.
    for (oldest, is_named, cursor_at) in [(150, true, 160), (350, false, 400)] {
        let double = with_two_objects().await;
        let put_until = |end| while double.put("b", "again", true).0 < end {};
        let running = double.follow();
        agrees_with(&running.http(), &double).await;
        put_until(cursor_at);
        agrees_with(&running.http(), &double).await;
        let mut follower = Mirror::of(running.http(), Media::Ndjson, Coding::Identity).await;
        put_until(500);
        double.has_the_past_after(oldest, is_named);
        let started = double.follow();
        let newest = agrees_with(&started.http(), &double).await;
        follower.move_to(started.http());
        follower.follow_until("the changes", |mirror| mirror.state == newest.state).await;
        assert_eq!(follower.seen.snapshots, 1);
    }
}

/// What the feed says of its problem, once it does.
async fn problem(http: &Http) -> String {
    eventually("a problem", || async { status(http).await["feed_problem"].as_str().map(ToOwned::to_owned) })
        .await
}

/// What `serve --check` says of a feed, with these variables and no others of Kubernetes.
fn checked(feed: &str, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = daemon::command();
    command.args(["serve", "--check", "--listen", "127.0.0.1:0", "--feed", feed]);
    for inherited in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"] {
        command.env_remove(inherited);
    }
    let output = command.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn what_a_kubeconfig_names_is_checked_before_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let authority = Authority::new("an authority");
    let Identity { cert, key } = authority.server();
    let (garbage, no_context, touched) = (path("garbage"), path("no-context"), path("touched"));
    fs::write(&garbage, "clusters: [{name: ").unwrap();
    fs::write(&no_context, "{}").unwrap();
    let (secret, no_token, pipe) = (path("secret"), path("no-token"), path("pipe"));
    fs::write(&secret, "users: [{name: u, user: {token: [A-SECRET").unwrap();
    fs::write(&no_token, "\n").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let server = "server: 'https://127.0.0.1:1'";
    let of = |cluster: &str, user: &str| kubeconfig(dir.path(), cluster, user);
    let exec = |more: &str| {
        of(
            server,
            &format!("exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never{more}}}"),
        )
    };
    let users = of(server, "token: x");
    let unknown = |from: &str, to: &str| {
        let file = path(to);
        let text = fs::read_to_string(&users).unwrap();
        fs::write(&file, text.replace(from, to)).unwrap();
        file
    };
    for (file, words) in [
        (path("absent"), "No such file"),
        (garbage.clone(), "it is no kubeconfig: "),
        (no_context, "it has no current-context: set one, or name one with context="),
        (unknown("current-context: x", "current-context: other"), "it has no context \"other\"; there is x"),
        (
            unknown("cluster: c,", "cluster: other,"),
            "names the cluster \"other\", which it does not have; there is c",
        ),
        (unknown("user: u}", "user: other}"), "names the user \"other\", which it does not have; there is u"),
        (of("server: '127.0.0.1:6443'", "token: x"), "which is no URL; one looks like https://HOST:6443"),
        (
            of(&format!("{server}, certificate-authority: /no/such/ca"), "token: x"),
            "certificate-authority /no/such/ca: No such file",
        ),
        (
            of(&format!("{server}, certificate-authority: {garbage}"), "token: x"),
            "there is no certificate in it",
        ),
        (
            of(&format!("{server}, certificate-authority-data: '%'"), "token: x"),
            "certificate-authority-data is not a PEM file in base64",
        ),
        (
            of(server, &format!("client-certificate: /no/such/cert, client-key: {key}")),
            "client-certificate /no/such/cert: No such file",
        ),
        (
            of(server, &format!("client-certificate: {cert}, client-key: {cert}")),
            "there is no private key in it",
        ),
        (of(server, &format!("client-certificate: {cert}")), "and no client-key; TLS needs both"),
        (of(server, "tokenFile: /no/such/token"), "tokenFile /no/such/token: No such file"),
        (
            exec(", command: no-such-plugin"),
            "\"no-such-plugin\" is no program that can be run: it is not in PATH",
        ),
        (exec(", command: ./no-such-plugin, installHint: 'get it'"), "its installHint: get it"),
        (exec(""), "has no command"),
        (of(server, "token: \"a\\nb\""), "the token of its user has characters that no header may have"),
        (of(server, &format!("tokenFile: {no_token}")), "it has no token"),
    ] {
        let (code, said) = checked(&feed("resource=v1/pods", &file), &[]);
        assert!(code == Some(2) && said.contains(words), "{words}: {said}");
        assert!(said.contains(&format!("kubeconfig {file}: ")), "{said}");
        assert_eq!(said.trim_end().lines().count(), 2, "one sentence, and how many there are: {said}");
    }
    let (code, said) = checked(&feed("resource=v1/pods", &secret), &[]);
    assert!(code == Some(2) && said.contains("it is no kubeconfig: line 1"), "{said}");
    assert!(!said.contains("SECRET"), "{said}");
    let (code, said) = checked(&feed("resource=v1/pods", &pipe), &[]);
    assert!(code == Some(2) && said.contains("it is no regular file"), "{said}");
    let (_, said) = checked(&feed("resource=v1/pods&context=y", &users), &[]);
    assert!(said.contains("it has no context \"y\""), "{said}");

    // What is right: the plugin is not run, and the server, which is not there, is not asked.
    let plugin = format!(", command: touch, args: ['{touched}']");
    for good in [
        users.clone(),
        exec(&plugin),
        of(server, &format!("client-certificate: {cert}, client-key: {key}")),
        of(&format!("{server}, certificate-authority: {}", authority.ca), "token: x"),
    ] {
        let (code, said) = checked(&feed("resource=v1/pods", &good), &[]);
        assert!(code == Some(0) && said.contains("all is well"), "{said}");
    }
    assert!(!fs::exists(&touched).unwrap());

    // The environment's.
    let pods = "kubernetes:?resource=v1/pods";
    let home = ("HOME", dir.path().to_str().unwrap());
    let (code, said) = checked(pods, &[home, ("KUBECONFIG", &garbage)]);
    assert!(
        code == Some(2) && said.contains(&format!("kubeconfig {garbage}: it is no kubeconfig")),
        "{said}"
    );
    let (code, said) = checked(pods, &[home, ("KUBECONFIG", &users)]);
    assert!(code == Some(0), "{said}");
    let (code, said) = checked(pods, &[home, ("KUBECONFIG", &format!("/no/such/file:{users}"))]);
    assert!(code == Some(0), "{said}");
    let (code, said) = checked(pods, &[home, ("KUBECONFIG", &format!("{users}:{garbage}"))]);
    assert!(code == Some(2) && said.contains(&format!("{garbage}: it is no kubeconfig")), "{said}");
    let (code, said) = checked(pods, &[home]);
    assert!(code == Some(2) && said.contains("no cluster is configured: set KUBECONFIG"), "{said}");
    let pod = [home, ("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", "1")];
    let (code, said) = checked(pods, &pod);
    let words =
        "the pod's service account: token /var/run/secrets/kubernetes.io/serviceaccount/token: No such file";
    assert!(code == Some(2) && said.contains(words), "{said}");
}

#[tokio::test]
async fn a_token_file_may_end_with_a_line_break_and_is_read_again() {
    let double = with_two_objects().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "first\n").unwrap();
    let daemon = double.follow_as("resource=v1/configmaps", &format!("tokenFile: {}", file.display()));
    agrees_with(&daemon.http(), &double).await;
    assert!(double.knows("Bearer first"));
    fs::write(&file, "second\n").unwrap();
    let end = Instant::now() + 2 * support::DEADLINE;
    while !double.knows("Bearer second") {
        assert!(Instant::now() < end, "the second token is not used");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_a_credential_plugin_leaves_behind_holds_up_nothing_and_is_ended() {
    let double = with_two_objects().await;
    let dir = tempfile::tempdir().unwrap();
    let (script, left) = (dir.path().join("plugin"), dir.path().join("left"));
    let text = format!("sleep 1000 & echo $! > {}\necho 'status: {{token: t}}'\n", left.display());
    fs::write(&script, text).unwrap();
    let exec = format!(
        "exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never, args: [{}]}}",
        script.display()
    );
    let daemon = double.follow_as("resource=v1/configmaps", &exec);
    agrees_with(&daemon.http(), &double).await;
    let id = fs::read_to_string(&left).unwrap();
    eventually("the process to be ended", || async {
        let stat = fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
        (!stat.contains("(sleep) S")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_is_no_list_is_no_empty_state() {
    let double = with_two_objects().await;
    let metadata = json!({"resourceVersion": "102"});
    for body in [
        json!({"kind": "Status", "metadata": metadata, "items": []}),
        json!({"kind": "ConfigMapList", "metadata": metadata}),
    ] {
        double.next_list(Answer { status: 200, headers: "", body });
    }
    let daemon = double.follow();
    let http = daemon.http();
    let first = eventually("a state", || async {
        let got = http.get("/v1/breadcrumbs/current").await;
        (got.status == 200 && got.need("crumbd-status") == "in-sync").then_some(got)
    })
    .await;
    assert_eq!(first.json()["count"], 2);
}

#[tokio::test]
async fn objects_without_room_come_when_another_one_has_gone() {
    let double = with_two_objects().await;
    let feed = double.feed("resource=v1/configmaps", "token: x");
    let daemon = Daemon::serve(&["--feed", &feed, "--max-keys", "2"]);
    let http = daemon.http();
    is(&http, "in-sync").await;
    let cursor = http.cursor().await;
    double.put("c", "new", true);
    let lacks = |keys: u64| {
        let http = http.clone();
        async move {
            let status = status(&http).await;
            let is_so = status["status"] == "in-sync" && status["refused"]["count"] == keys;
            is_so.then_some(status)
        }
    };
    let over = eventually("no room for the third", || lacks(1)).await;
    assert_eq!(over["over_limit"], json!(["max-keys"]));
    assert_eq!(over["refused"]["keys"][0]["key"], "n/c");
    // Nobody tells that it has gone: the list does.
    double.next_watch(vec![Step::Refuse(refusal(410, "Gone", ""))]);
    double.lose("a");
    double.cut();
    agrees_with(&http, &double).await;
    assert_eq!(eventually("nothing to be refused", || lacks(0)).await["over_limit"], json!([]));
    http.get(&format!("/v1/breadcrumbs/{cursor}/next")).await.ok(200);
}
