//! Values as strings: a client whose JSON parser forgets how JSON was spelt still has each value's bytes, and the digest.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use support::daemon::Daemon;
use support::http::{Got, Http};
use support::in_time;
use support::state::{State, assert_same, digest, hex};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

const JSON: &str = "application/json; values=string";
const NDJSON: &str = "application/x-ndjson; values=string";

/// Values that a parser cannot give back, and others.
const ODD: [&[u8]; 13] = [
    b"1.50",
    b"1e3",
    b"-0",
    b"\"\\u00e9\"",
    b"\"\xc3\xa9\"",
    b"{\"a\":1,\"a\":2}",
    b"{\"b\":1,\"a\":12345678901234567890}",
    b"null",
    b"{ \"not\": \"compact\" }",
    b"1e999",
    b"text \"with\"\n\0 all kinds",
    b"",
    b"\xff\x00",
];

async fn odd(http: &Http) -> State {
    let mut state = State::new();
    for (number, value) in ODD.into_iter().enumerate() {
        for key in [format!("a/{number}").into_bytes(), vec![b'b', 0xff, number as u8]] {
            http.put(&key, "application/octet-stream", value).await;
            state.insert(key, Arc::from(value));
        }
    }
    state
}

/// Applies records as a parser without memory of the spelling reads them.
fn apply<'a>(state: &mut State, records: impl IntoIterator<Item = &'a Value>) {
    for record in records {
        let key = match (record["key"].as_str(), record["key_base64"].as_str()) {
            (Some(key), None) => key.as_bytes().to_vec(),
            (None, Some(key)) => STANDARD.decode(key).unwrap(),
            _ => panic!("one of key and key_base64: {record}"),
        };
        if record["type"] == "deleted" {
            assert_eq!((record.get("value"), record.get("encoding")), (None, None));
            state.remove(&key);
            continue;
        }
        let text = record["value"].as_str().unwrap_or_else(|| panic!("a string: {record}"));
        let value = match record["encoding"].as_str() {
            Some("utf8") => text.as_bytes().to_vec(),
            Some("base64") => STANDARD.decode(text).unwrap(),
            other => panic!("the encoding is {other:?}: {record}"),
        };
        assert_eq!(std::str::from_utf8(&value).is_err(), record["encoding"] == "base64", "{record}");
        state.insert(key, value.into());
    }
}

/// The records of a whole body, and its digest where it has one.
fn records(got: &Got) -> (Vec<Value>, Option<String>) {
    let digest = |header: &Value| header["digest"].as_str().map(str::to_owned);
    if got.need("content-type") == JSON {
        let body = got.json();
        let list = body.get("entries").or(body.get("updates")).unwrap();
        return (list.as_array().unwrap().clone(), digest(&body));
    }
    assert_eq!(got.need("content-type"), NDJSON);
    let text = String::from_utf8(got.plain()).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let end = lines.pop().unwrap();
    assert_eq!(end["type"], "end");
    (lines.split_off(1), digest(&end))
}

#[tokio::test]
async fn every_body_has_each_value_as_a_string_and_the_digest_can_be_checked() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front]);
        let http = daemon.http();
        let empty = http.cursor().await;
        let mut state = odd(&http).await;
        let full = http.cursor().await;
        http.put(b"a/0", "application/json", b"2.50").await;
        let last = http.delete(b"a/1").await;
        let waiting = format!("/v1/breadcrumbs/{last}/next");
        for accept in [JSON, NDJSON] {
            for coding in ["identity", "gzip", "zstd"] {
                let asked = [("accept", accept), ("accept-encoding", coding)];
                let get = async |path: &str| records(&http.get_with(path, &asked).await.ok(200).standing());

                let mut read = State::new();
                let (entries, told) = get(&format!("/v1/breadcrumbs/{full}")).await;
                apply(&mut read, &entries);
                assert_same("a kept breadcrumb", &read, &state);
                assert_eq!(told, Some(hex(digest(&read))));

                let (updates, told) = get(&format!("/v1/breadcrumbs/{full}/next?wait=0")).await;
                assert_eq!(updates.len(), 2);
                apply(&mut read, &updates);
                assert_eq!(told, Some(hex(digest(&read))));

                let mut current = State::new();
                let (entries, told) = get("/v1/breadcrumbs/current").await;
                apply(&mut current, &entries);
                assert_same("what next led to", &read, &current);
                assert_eq!(told, Some(hex(digest(&read))));

                let (updates, told) = get(&format!("/v1/breadcrumbs/{empty}/diff/{last}")).await;
                let mut diff = State::new();
                apply(&mut diff, &updates);
                assert_same("a diff", &diff, &current);
                assert_eq!(told, Some(hex(digest(&diff))));

                let mut listed = State::new();
                apply(&mut listed, &get("/v1/kv").await.0);
                assert_same("a listing", &listed, &current);
                apply(&mut listed, &get("/v1/breadcrumbs/current?prefix=a%2F").await.0);
                assert_same("a prefix", &listed, &current);
            }
        }
        // The types without the parameter are what they were.
        let plain = http.get("/v1/breadcrumbs/current?prefix=a%2F5").await.ok(200);
        assert_eq!(plain.need("content-type"), "application/json");
        assert!(String::from_utf8(plain.body).unwrap().contains("\"value\":{\"a\":1,\"a\":2}"));

        // Waiters of both forms at one cursor, each answered in its own.
        let both = ["application/json", JSON, "application/x-ndjson", NDJSON].map(|accept| {
            let (http, path) = (http.clone(), waiting.clone());
            tokio::spawn(async move { http.get_with(&path, &[("accept", accept)]).await.ok(200) })
        });
        support::eventually("four waiters", || async {
            (http.get("/v1/status").await.json()["waiters"] == 4).then_some(())
        })
        .await;
        http.put(b"c", "application/json", b"1.0").await;
        for (number, got) in both.into_iter().enumerate() {
            let got = in_time("an answer", got).await.unwrap();
            let is_string = String::from_utf8(got.body.clone()).unwrap().contains("\"value\":\"1.0\"");
            assert_eq!(is_string, number % 2 == 1, "{}", got.need("content-type"));
            assert_eq!(got.need("content-type").ends_with("; values=string"), number % 2 == 1);
        }

        // What came out can go in.
        state.clear();
        let (entries, told) =
            records(&http.get_with("/v1/breadcrumbs/current", &[("accept", NDJSON)]).await.ok(200));
        apply(&mut state, &entries);
        let other = Daemon::push(&["--lean-front", front]);
        let lines: Vec<String> = entries.iter().map(Value::to_string).collect();
        other.http().post(&lines).await;
        let again = other.http().get("/v1/breadcrumbs/current").await.ok(200).json();
        assert_eq!(again["digest"].as_str().map(str::to_owned), told);
    }
}

#[tokio::test]
async fn another_form_of_values_is_refused_with_what_there_is() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    for path in ["/v1/breadcrumbs/current", "/v1/kv", "/v1/stream"] {
        for accept in [
            "application/x-ndjson; values=base64",
            "application/x-ndjson; values=",
            "application/vnd.crumbd.v1+bincode; values=string",
        ] {
            let problem = http.get_with(path, &[("accept", accept)]).await.problem(406);
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("application/x-ndjson; values=string"), "{path}: {accept}: {detail}");
        }
    }
    let accept = [("accept", "application/json; values=base64, application/json; q=0.5")];
    let got = http.get_with("/v1/breadcrumbs/current", &accept).await.ok(200);
    assert_eq!(got.need("content-type"), "application/json");
}

/// The records of a stream's next body; `None` of one that only moves the cursor.
async fn next_body(lines: &mut (impl AsyncBufRead + Unpin), digest: &mut Option<String>) -> Vec<Value> {
    let mut records = Vec::new();
    loop {
        let mut line = String::new();
        assert!(in_time("a line", lines.read_line(&mut line)).await.unwrap() > 0, "the stream goes on");
        let line = line.trim_end();
        // What is neither a record nor data of an event: sizes of chunks, other fields, heartbeats.
        let Some(at) = line.find('{').filter(|at| [0, "data: ".len()].contains(at)) else { continue };
        let record: Value = serde_json::from_str(&line[at..]).unwrap();
        match record["type"].as_str().unwrap() {
            "end" => {
                *digest = record["digest"].as_str().map(str::to_owned);
                return records;
            }
            "snapshot" | "breadcrumb" => {}
            _ => records.push(record),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_have_values_as_strings_too() {
    for front in ["on", "off"] {
        for accept in [NDJSON, "text/event-stream; values=string"] {
            for prefix in ["", "?prefix=a%2F"] {
                let daemon = Daemon::push(&["--lean-front", front]);
                let http = daemon.http();
                let mut state = odd(&http).await;
                state.retain(|key, _| prefix.is_empty() || key.starts_with(b"a/"));
                // A stream of the other form shares nothing with it.
                let mut other = daemon.connect().await;
                let mut socket = daemon.connect().await;
                for (socket, accept) in [(&mut other, "application/x-ndjson"), (&mut socket, accept)] {
                    let head =
                        format!("GET /v1/stream{prefix} HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n");
                    socket.write_all(head.as_bytes()).await.unwrap();
                }
                let (mut lines, mut head) = (BufReader::new(socket), String::new());
                while !head.ends_with("\r\n\r\n") {
                    assert!(in_time("the head", lines.read_line(&mut head)).await.unwrap() > 0, "{head}");
                }
                assert!(head.to_ascii_lowercase().contains(&format!("content-type: {accept}\r\n")), "{head}");

                let (mut read, mut told) = (State::new(), None);
                apply(&mut read, &next_body(&mut lines, &mut told).await);
                assert_same("the snapshot", &read, &state);
                for (number, value) in ODD.into_iter().rev().enumerate() {
                    let key = format!("a/{number}").into_bytes();
                    http.put(&key, "application/octet-stream", value).await;
                    if state.insert(key.clone(), value.into()).as_deref() != Some(value) {
                        apply(&mut read, &next_body(&mut lines, &mut told).await);
                    }
                    assert_same("a change", &read, &state);
                    if prefix.is_empty() {
                        assert_eq!(told, Some(hex(digest(&read))), "{front} {accept}");
                    }
                }
            }
        }
    }
}
