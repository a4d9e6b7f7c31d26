//! `GET /v1/clients`: which client is where.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use support::daemon::Daemon;
use support::eventually;
use support::http::Http;
use support::tokens::TokenFile;

async fn rows(http: &Http, query: &str) -> Vec<Value> {
    let answer = http.get(&format!("/v1/clients{query}")).await.ok(200).json();
    answer["clients"].as_array().unwrap().clone()
}

/// The names and activities, the newest first.
async fn seen(http: &Http) -> Vec<(Value, Value)> {
    rows(http, "").await.iter().map(|row| (row["name"].clone(), row["activity"].clone())).collect()
}

#[tokio::test]
async fn a_client_is_shown_with_its_name_cursor_and_lag() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front, "--client-table", "3"]);
        let http = daemon.http();
        let named = async |path: &str, name: &str| http.get_with(path, &[("crumbd-client", name)]).await;
        assert!(rows(&http, "").await.is_empty(), "who asks for the table is not in it");
        let got = named("/v1/breadcrumbs/current", "agent-1/2.0").await.ok(200);
        let first = http.put(b"a", "text/plain", b"1").await;
        named(&format!("/v1/breadcrumbs/{first}/next?wait=0"), "agent-2/2.1").await.ok(204);
        http.put(b"a", "text/plain", b"2").await;
        let all = rows(&http, "").await;
        let row = |name: &str| all.iter().find(|row| row["name"] == name).unwrap().clone();
        let (one, two) = (row("agent-1/2.0"), row("agent-2/2.1"));
        assert_eq!(
            (&one["activity"], &one["cursor"], &one["lag_revisions"]),
            (&json!("current"), &json!(got.cursor()), &json!(2))
        );
        assert_eq!(
            (&two["activity"], &two["cursor"], &two["lag_revisions"]),
            (&json!("next"), &json!(first), &json!(1))
        );
        assert_eq!((&two["address"], &two["collection"]), (&json!("127.0.0.1"), &Value::Null));
        assert!(two["last_heard_seconds"].as_f64().unwrap() < 60.0 && two["last_heard"].is_string());
    }
}

#[tokio::test]
async fn the_clients_heard_last_are_kept_and_a_stream_is_followed() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front, "--client-table", "3", "--heartbeat", "100ms"]);
        let http = daemon.http();
        let cursor = http.put(b"a", "text/plain", b"1").await;
        let poll = format!("/v1/breadcrumbs/{cursor}/next?wait=0");
        for name in ["a", "b", "c", "a", "d"] {
            http.get_with(&poll, &[("crumbd-client", name)]).await.ok(204);
        }
        let next = json!("next");
        assert_eq!(
            seen(&http).await,
            [(json!("d"), next.clone()), (json!("a"), next.clone()), (json!("c"), next.clone())]
        );
        assert_eq!(rows(&http, "?limit=1").await.len(), 1);
        let stream = tokio::spawn({
            let url = format!("{}/v1/stream", daemon.url());
            let client = reqwest_client();
            async move {
                let mut answer = client.get(url).header("crumbd-client", "s").send().await.unwrap();
                while answer.chunk().await.unwrap().is_some() {}
            }
        });
        eventually("the stream to be shown", || async {
            (seen(&http).await[0] == (json!("s"), json!("stream"))).then_some(())
        })
        .await;
        http.put(b"a", "text/plain", b"2").await;
        eventually("the stream to have the newest state", || async {
            (rows(&http, "").await[0]["lag_revisions"] == 0).then_some(())
        })
        .await;
        stream.abort();
    }
}

fn reqwest_client() -> reqwest::Client {
    let config = support::tls::client_config(&[], None);
    reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap()
}

#[tokio::test]
async fn a_name_that_is_none_is_refused_and_the_table_is_for_operators_only() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front, "--client-table", "10"]);
        let http = daemon.http();
        let cursor = http.cursor().await;
        for name in ["", &"x".repeat(129), "ü"] {
            for path in
                ["/v1/breadcrumbs/current", &format!("/v1/breadcrumbs/{cursor}/next?wait=0"), "/v1/stream"]
            {
                let problem = http.get_with(path, &[("crumbd-client", name)]).await.problem(400);
                assert!(problem["detail"].as_str().unwrap().contains("crumbd-client"), "{problem}");
            }
        }
        let current = "/v1/breadcrumbs/current";
        let conditional = ("if-none-match", "*");
        http.get_with(current, &[conditional, ("crumbd-client", "ü")]).await.problem(400);
        http.get_with(current, &[conditional, ("crumbd-client", "has it")]).await.ok(304);
        assert_eq!(seen(&http).await[0], (json!("has it"), json!("current")));
        http.get("/v1/clients?limit=x").await.problem(400);
        http.get("/v1/clients?name=x").await.problem(400);
    }
    let plain = Daemon::push(&[]);
    let problem = plain.http().get("/v1/clients").await.problem(404);
    assert!(problem["detail"].as_str().unwrap().contains("--client-table"), "{problem}");

    let mut tokens = TokenFile::new();
    let (all, admin) = (tokens.add(&[""], &[""]), tokens.add_admin());
    let daemon = tokens.daemon(&["--client-table", "10"]);
    daemon.http().get("/v1/clients").await.problem(401);
    all.http(&daemon).get("/v1/clients").await.problem(403);
    all.http(&daemon).get_with("/v1/breadcrumbs/current", &[("crumbd-client", "a")]).await.ok(200);
    let http = admin.http(&daemon);
    assert_eq!(seen(&http).await, [(json!("a"), json!("current"))]);
    // It may know of all, and read nothing.
    http.get("/v1/breadcrumbs/current").await.problem(403);
    assert!(http.get("/v1/status").await.ok(200).json().get("count").is_some());
}
