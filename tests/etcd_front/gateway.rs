//! etcd's JSON: the same requests to both, and the same answers.

use serde_json::{Value, json};

use crate::history::{self, Random};
use crate::servers::{Front, all_keys, client_of};
use crate::support::DEADLINE;
use crate::support::etcd::Etcd;
use crate::support::tls::client_config;

fn http() -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(client_config(&[], None)).build().unwrap()
}

async fn post(base: &str, path: &str, body: &Value) -> (u16, Value) {
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
