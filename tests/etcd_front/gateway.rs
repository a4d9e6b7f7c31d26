//! etcd's JSON: the same requests to both, and the same answers.

use serde_json::{Value, json};

use crate::history::{self, Random};
use crate::servers::{Front, all_keys, client_of};
use crate::support::DEADLINE;
use crate::support::etcd::Etcd;
use crate::support::tls::client_config;

pub fn http() -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(client_config(&[], None)).build().unwrap()
}

pub async fn post(base: &str, path: &str, body: &Value) -> (u16, Value) {
    let client = http();
    let sent = client.post(format!("http://{base}{path}")).body(body.to_string()).timeout(DEADLINE).send();
    let answer = sent.await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

/// An answer without who has answered.
fn without_ids((status, mut answer): (u16, Value)) -> (u16, Value) {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for id in ["cluster_id", "member_id", "raft_term"] {
                    members.remove(id);
                }
                members.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut answer);
    (status, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_answers_as_etcds_does() {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    history::write(&theirs, &mut Random::new(5), 60).await;
    let front = Front::start(&format!("etcd://{}/", etcd.endpoint()), &[]);
    front.ready().await.range(all_keys()).await.unwrap();
    let (a, all) = ("YQ==", json!({"key": "AA==", "range_end": "AA=="}));
    let compare = json!({"result": "EQUAL", "target": "VERSION", "key": a, "version": "0"});
    for (path, body) in [
        ("/v3/kv/range", json!({"key": a})),
        ("/v3/kv/range", all.clone()),
        ("/v3/kv/range", json!({"key": "AA==", "rangeEnd": "AA==", "limit": 3, "keysOnly": true})),
        (
            "/v3/kv/range",
            json!({"key": "AA==", "range_end": "AA==", "sort_order": "DESCEND", "sort_target": "KEY"}),
        ),
        ("/v3/kv/range", json!({"key": a, "revision": "100000"})),
        ("/v3/kv/range", json!({})),
        (
            "/v3/kv/txn",
            json!({"compare": [compare], "success": [{"requestRange": {"key": a}}], "failure": [{"request_range": all}]}),
        ),
        ("/v3beta/kv/range", json!({"key": a, "count_only": true})),
    ] {
        let theirs = without_ids(post(&etcd.endpoint(), path, &body).await);
        let ours = without_ids(post(&front.address, path, &body).await);
        // Newer ones have the sentence in one field only.
        match theirs.0 {
            200 => assert_eq!(ours, theirs, "crumbd, then etcd: {path} {body}"),
            status => {
                assert_eq!((ours.0, &ours.1["message"]), (status, &theirs.1["message"]), "{path} {body}")
            }
        }
    }
    let malformed = http().post(format!("http://{}/v3/kv/range", front.address)).body("{");
    assert_eq!(malformed.send().await.unwrap().status(), 400);
    let version =
        http().get(format!("http://{}/version", front.address)).send().await.unwrap().text().await.unwrap();
    assert!(version.contains("etcdserver"), "{version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_a_line_for_each_message() {
    let front = Front::start("push:", &[]);
    front.ready().await;
    let create = json!({"create_request": {"key": "YQ=="}});
    let sent = http().post(format!("http://{}/v3/watch", front.address));
    let mut answer = sent.body(create.to_string()).timeout(DEADLINE).send().await.unwrap();
    let mut lines = String::new();
    let mut next_line = async || loop {
        if let Some((line, rest)) = lines.split_once('\n') {
            let line: Value = serde_json::from_str(line).unwrap();
            lines = rest.to_owned();
            return line;
        }
        lines.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
    };
    assert_eq!(next_line().await["result"]["created"], true);
    front.daemon.http().put(b"a", "application/octet-stream", b"1").await;
    let told = next_line().await;
    assert_eq!(told["result"]["events"][0]["kv"]["value"], "MQ==", "{told}");
}

/// There are clients that read a chunk of HTTP/1.1 as a message, which it is in etcd.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_sent_at_once_are_chunks_of_their_own() {
    let front = Front::start("push:", &[]);
    let ours = front.ready().await;
    for value in 0..3 {
        front.daemon.http().put(b"a", "application/octet-stream", value.to_string().as_bytes()).await;
    }
    ours.range(all_keys()).await.unwrap();
    let create = json!({"create_request": {"key": "YQ==", "start_revision": 1}});
    let sent = http().post(format!("http://{}/v3/watch", front.address));
    let mut answer = sent.body(create.to_string()).timeout(DEADLINE).send().await.unwrap();
    let mut told = String::new();
    while told.matches("\"events\"").count() == 0 {
        let chunk = answer.chunk().await.unwrap().unwrap();
        assert_eq!(chunk.split_inclusive(|byte| *byte == b'\n').count(), 1, "{chunk:?}");
        told.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(told.lines().count() > 1, "{told}");
}

/// What a page's request to the gateway is answered with: the status, the body, and the origin that may read it.
async fn page_posts(base: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Value, Option<String>) {
    page_sends(reqwest::Method::POST, base, path, headers).await
}

async fn page_sends(
    method: reqwest::Method,
    base: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, Value, Option<String>) {
    let body = json!({"key": "YQ==", "value": "MQ=="}).to_string();
    let request = http().request(method, format!("http://{base}{path}")).body(body).timeout(DEADLINE);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let allowed = answer.headers().get("access-control-allow-origin");
    let allowed = allowed.map(|origin| origin.to_str().unwrap().to_owned());
    let body = answer.text().await.unwrap();
    (status, serde_json::from_str(&body).unwrap_or_default(), allowed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_neither_writes_nor_reads_through_the_gateway() {
    const PAGE: (&str, &str) = ("origin", "http://page.example");
    const TEXT: (&str, &str) = ("content-type", "text/plain");
    let front = Front::start("push:", &[]);
    let ours = front.ready().await;
    let base = &front.address;
    for path in
        ["/v3/kv/put", "/v3/kv/range", "/v3/watch", "/v3beta/kv/put", "/v3/auth/authenticate", "/v3/none"]
    {
        let rebound = page_posts(base, path, &[("host", "evil.example"), TEXT]).await;
        assert_eq!(rebound.0, 421, "{path}");
        assert!(rebound.1["message"].as_str().unwrap().contains("--allow-host"), "{path}: {rebound:?}");
        for page in [PAGE, ("sec-fetch-site", "cross-site")] {
            let foreign = page_posts(base, path, &[page, TEXT]).await;
            assert_eq!((foreign.0, &foreign.1["code"]), (403, &json!(7)), "{path}: {foreign:?}");
        }
    }
    assert_eq!(ours.range(all_keys()).await.unwrap().count, 0);
    let unnamed = page_sends(reqwest::Method::GET, base, "/version", &[("host", "evil.example")]).await;
    let health = page_sends(reqwest::Method::GET, base, "/health", &[("host", "evil.example")]).await;
    assert_eq!((unnamed.0, health.0), (421, 200));
    // A page of its own origin, and what is no page.
    let own = format!("http://{base}");
    for headers in [&[("origin", own.as_str()), TEXT][..], &[]] {
        assert_eq!(page_posts(base, "/v3/kv/put", headers).await.0, 200, "{headers:?}");
    }

    let front = Front::start("push:", &["--allow-origin", PAGE.1]);
    front.ready().await;
    let base = &front.address;
    for (path, page, status) in [
        ("/v3/kv/range", PAGE, 200),
        ("/v3beta/maintenance/status", PAGE, 200),
        ("/v3/kv/range", ("origin", "http://other.example"), 403),
        ("/v3/kv/put", PAGE, 403),
        ("/v3/kv/txn", PAGE, 403),
        ("/v3/lease/grant", PAGE, 403),
    ] {
        let answer = page_posts(base, path, &[page, TEXT]).await;
        let allowed = (status == 200).then(|| PAGE.1.to_owned());
        assert_eq!((answer.0, &answer.2), (status, &allowed), "{path} {page:?}: {}", answer.1);
    }
    let preflight = ("access-control-request-method", "POST");
    for (path, status) in [("/v3/kv/range", 204), ("/v3/kv/put", 403)] {
        let answer = page_sends(reqwest::Method::OPTIONS, base, path, &[PAGE, preflight]).await;
        assert_eq!(answer.0, status, "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_over_http2_is_guarded_and_answers_other_programs() {
    let front = Front::start("push:", &[]);
    front.ready().await;
    let client = reqwest::Client::builder().http2_prior_knowledge();
    let client = client.tls_backend_preconfigured(client_config(&[], None)).build().unwrap();
    let url = format!("http://{}/v3/kv/put", front.address);
    let put = || client.post(&url).body(json!({"key": "YQ=="}).to_string()).timeout(DEADLINE);
    assert_eq!(put().send().await.unwrap().status(), 200);
    let foreign = put().header("origin", "http://page.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
}
