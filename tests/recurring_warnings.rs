//! Warnings that recur: one line at once, few lines after it, and one when it is over.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::daemon::Daemon;
use support::eventually;
use support::tokens::TokenFile;

/// The logged lines whose message contains this text.
fn logged(daemon: &Daemon, text: &str) -> Vec<Value> {
    let log = daemon.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    lines.filter(|line: &Value| message(line).contains(text)).collect()
}

fn message(line: &Value) -> &str {
    line["message"].as_str().or(line["fields"]["message"].as_str()).unwrap_or_default()
}

fn field<'a>(line: &'a Value, name: &str) -> &'a Value {
    line.get(name).unwrap_or(&line["fields"][name])
}

/// The first such line, now or later.
async fn first(daemon: &Daemon, text: &str) -> Value {
    eventually(text, || async { logged(daemon, text).into_iter().next() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_cannot_be_reached_leaves_few_lines_for_many_tries() {
    // Nobody listens on the port of a listener that is gone.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("crumbd://{gone}")]);
    let http = daemon.http();
    let tries = eventually("eight tries", || async {
        let metrics = String::from_utf8(http.get("/metrics").await.ok(200).body).unwrap();
        let tries = metrics.lines().find_map(|line| line.strip_prefix("crumbd_feed_failures_total "));
        tries.and_then(|tries| tries.parse::<u64>().ok()).filter(|tries| *tries >= 8)
    })
    .await;
    let lines = logged(&daemon, "trying again in");
    assert!(lines.len() >= 2 && (lines.len() as u64) < tries, "{tries} tries, {} lines", lines.len());
    assert_eq!(field(&lines[0], "times"), 1);
    assert!(field(&lines[1], "times").as_u64().unwrap() > 1, "{}", lines[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_rights_are_logged_with_the_tokens_name_and_the_address() {
    let mut file = TokenFile::new();
    let edge = file.add_with(&["--name", "edge", "--read", "edge/"]);
    let other = file.add_with(&["--read", "other/"]);
    let daemon = file.daemon(&[]);
    for _ in 0..50 {
        daemon.http().with_token("unknown-to-all").get("/v1/kv/a").await.problem(401);
        edge.http(&daemon).get("/v1/kv/a").await.problem(403);
    }
    let lines = logged(&daemon, "refused for want of rights");
    let of = |reason: &str| lines.iter().filter(|line| field(line, "reason") == reason).collect::<Vec<_>>();
    let (unknown, forbidden) = (of("token-unknown"), of("not-permitted"));
    assert!((1..=3).contains(&unknown.len()) && (1..=3).contains(&forbidden.len()), "{}", daemon.log());
    assert!(message(unknown[0]).contains("127.0.0.1"), "{}", unknown[0]);
    assert_eq!(field(forbidden[0], "token"), "edge");
    let log = daemon.log();
    assert!(!log.contains("unknown-to-all") && !log.contains(&edge.text), "no token is in the log");
    let metrics = edge.http(&daemon).get("/metrics").await.ok(200);
    let metrics = String::from_utf8(metrics.body).unwrap();
    for (status, reason) in [("401", "token-unknown"), ("403", "not-permitted")] {
        let line = format!("crumbd_refusals_total{{status=\"{status}\",reason=\"{reason}\"}} 50");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }

    file.change(&edge, None);
    file.save();
    let read = eventually("the tokens are read", || async {
        logged(&daemon, "tokens read from").into_iter().find(|line| field(line, "removed") != "[]")
    });
    assert_eq!(field(&read.await, "removed"), "[\"edge\"]");
    file.change(&other, Some(&["more/"]));
    file.save();
    let read = eventually("the tokens are read", || async {
        logged(&daemon, "tokens read from").into_iter().find(|line| field(line, "changed") != "[]")
    });
    assert!(field(&read.await, "changed").as_str().unwrap().contains("sha256 "), "one without a name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tokens_file_that_is_broken_for_a_while_has_a_line_when_it_is_good_again() {
    let mut file = TokenFile::new();
    file.add(&[""], &[]);
    let daemon = file.daemon(&[]);
    file.save_as("{}\n");
    let broken = first(&daemon, "all tokens keep the rights they had").await;
    assert_eq!((field(&broken, "times"), field(&broken, "level")), (&Value::from(1), &Value::from("ERROR")));
    // It is read every second.
    eventually("another line", || async {
        (logged(&daemon, "all tokens keep the rights").len() > 1).then_some(())
    })
    .await;
    file.save();
    let good = first(&daemon, "is good again").await;
    assert!(field(&good, "times").as_u64().unwrap() >= 2, "{good}");
    assert!(field(&good, "lasted").as_str().unwrap().ends_with(" s"), "{good}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_reached_is_logged_with_its_flag_and_once() {
    let daemon = Daemon::push(&["--max-waiters", "1"]);
    let http = daemon.http();
    let start = http.put(b"a", "text/plain", b"1").await;
    let path = format!("/v1/breadcrumbs/{start}/next?wait=60s");
    let waiting = {
        let (http, path) = (daemon.http(), path.clone());
        tokio::spawn(async move { http.get(&path).await })
    };
    eventually("a waiter", || async {
        (http.get("/v1/status").await.ok(200).json()["waiters"] == 1).then_some(())
    })
    .await;
    for _ in 0..100 {
        http.get(&path).await.problem(503);
    }
    let line = first(&daemon, "the limit --max-waiters is reached").await;
    assert!(field(&line, "times").as_u64().unwrap() > 0, "{line}");
    waiting.abort();
}
