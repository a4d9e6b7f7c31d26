//! Every key can be read, written, deleted and paged past, whatever its bytes are.
#![allow(clippy::unwrap_used)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use support::daemon::{self, Daemon};
use support::http::{Got, Http, encode};
use support::tokens::TokenFile;

/// Keys that paths cannot carry, keys with any bytes, and the longest ones.
fn keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = [
        "", ".", "..", "a/./b", "a/../b", "a//b", "/", "//", "%", "%2e", "a b", "a+b", "a&key=b", "ü", "#",
        "?",
    ]
    .iter()
    .map(|key| key.as_bytes().to_vec())
    .collect();
    keys.push((0..=255).collect());
    keys.push(vec![0xff; 300]);
    keys.push(vec![b'~'; 20_000]);
    keys.push(vec![0xfe; 64 << 10]);
    keys.sort();
    keys
}

/// An address of a key, and header lines that it needs.
type Address = (String, Vec<(&'static str, String)>);

/// The addresses of a key, without those that are too long.
fn addresses(key: &[u8]) -> Vec<Address> {
    let mut all = vec![("/v1/kv".to_owned(), vec![("crumbd-key", STANDARD.encode(key))])];
    for query in [
        format!("key={}", encode(key)),
        format!("key_base64={}", encode(STANDARD.encode(key).as_bytes())),
        // Pasted as it is.
        format!("key_base64={}", STANDARD.encode(key)),
        format!("key_base64={}", URL_SAFE_NO_PAD.encode(key)),
    ] {
        if query.len() < 60_000 {
            all.push((format!("/v1/kv?{query}"), Vec::new()));
        }
    }
    all
}

async fn send(http: &Http, method: &str, (path, headers): &Address, body: Option<&[u8]>) -> Got {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    http.send(method, path, &headers, body.map(<[u8]>::to_vec)).await
}

fn key_of(record: &serde_json::Value) -> Vec<u8> {
    match record["key"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => STANDARD.decode(record["key_base64"].as_str().unwrap()).unwrap(),
    }
}

#[tokio::test]
async fn every_key_is_written_read_paged_past_and_deleted() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let keys = keys();
    for (number, key) in keys.iter().enumerate() {
        for (form, address) in addresses(key).iter().enumerate() {
            let value = format!("{number}.{form}");
            send(&http, "PUT", address, Some(value.as_bytes())).await.ok(200);
            for address in addresses(key) {
                let got = send(&http, "GET", &address, None).await.ok(200);
                assert_eq!(got.body, value.as_bytes(), "{:.100}", address.0);
                let may_be_kept = got.need("cache-control") != "no-store";
                assert_eq!(
                    may_be_kept,
                    address.1.is_empty(),
                    "an answer that depends on a header is not cached"
                );
            }
        }
    }
    // One key a page, in each form of the key to go on from.
    for form in 0..3 {
        let (mut listed, mut after): (Vec<Vec<u8>>, Option<Vec<u8>>) = (Vec::new(), None);
        loop {
            let address = match &after {
                None => ("/v1/kv?limit=1".to_owned(), Vec::new()),
                Some(key) if form == 0 && key.len() < 20_000 => {
                    (format!("/v1/kv?limit=1&start_after={}", encode(key)), Vec::new())
                }
                Some(key) if form == 1 && key.len() < 40_000 => {
                    (format!("/v1/kv?limit=1&start_after_base64={}", URL_SAFE_NO_PAD.encode(key)), Vec::new())
                }
                Some(key) => {
                    ("/v1/kv?limit=1".to_owned(), vec![("crumbd-start-after", STANDARD.encode(key))])
                }
            };
            let page = send(&http, "GET", &address, None).await.ok(200).json();
            let key = key_of(&page["entries"][0]);
            listed.push(key.clone());
            if page["more"] == false {
                break;
            }
            after = Some(key);
        }
        assert_eq!(listed, keys);
    }
    let cursor = http.cursor().await;
    for (number, key) in keys.iter().enumerate() {
        let all = addresses(key);
        let address = &all[number % all.len()];
        send(&http, "DELETE", address, None).await.ok(200);
        send(&http, "GET", address, None).await.problem(404);
        if let (path, headers) = address
            && headers.is_empty()
        {
            http.get(&format!("{path}&at={cursor}")).await.ok(200);
            http.get(&format!("{path}&after={cursor}&wait=0")).await.problem(404);
        }
    }
    assert_eq!(http.get("/v1/kv").await.json()["entries"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn the_commands_reach_keys_that_a_path_cannot_carry() {
    let daemon = Daemon::push(&[]);
    let long = "k/".repeat(10_000);
    for key in ["", ".", "..", "a/../b", "a//b", "%2e", &long] {
        let run = |args: &[&str]| daemon::run(&[args, &["--url", daemon.url()]].concat());
        let put = run(&["put", key, "value"]);
        assert!(put.status.success(), "{key:.20}: {put:?}");
        assert_eq!(run(&["get", key]).stdout, b"value", "{key:.20}");
        let listed = daemon.http().get("/v1/kv").await.json();
        assert_eq!(listed["entries"].as_array().unwrap().len(), 1);
        assert_eq!(key_of(&listed["entries"][0]), key.as_bytes());
        assert!(run(&["delete", key]).status.success());
        assert!(!run(&["get", key]).status.success());
    }
}

#[tokio::test]
async fn a_key_is_named_once_and_a_token_decides_in_every_form() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.put(b"a", "text/plain", b"1").await;
    let two =
        send(&http, "GET", &("/v1/kv?key=a".to_owned(), vec![("crumbd-key", "YQ".to_owned())]), None).await;
    assert!(two.problem(400)["detail"].as_str().unwrap().contains("given twice"));
    http.get("/v1/kv?key=a&key_base64=YQ").await.problem(400);
    http.get("/v1/kv?key=a&prefix=b").await.problem(400);
    http.get_with("/v1/kv/a", &[("crumbd-key", "Yg")]).await.problem(400);
    http.get("/v1/kv/a?key=a").await.problem(400);
    let wrong = http.get("/v1/kv?key_base64=%21").await.problem(400);
    assert!(wrong["detail"].as_str().unwrap().contains("key_base64"), "{wrong}");
    for method in ["PUT", "DELETE"] {
        let problem = http.send(method, "/v1/kv", &[], Some(Vec::new())).await.problem(405);
        assert!(problem["detail"].as_str().unwrap().contains("?key="), "{problem}");
        let problem = http.send(method, "/v1/kv/", &[], Some(Vec::new())).await.problem(400);
        assert!(problem["detail"].as_str().unwrap().contains("?key="), "{problem}");
    }
    let mut tokens = TokenFile::new();
    let token = tokens.add(&["a/"], &["a/"]);
    let guarded = tokens.daemon(&[]);
    let http = token.http(&guarded);
    for key in [&b"b"[..], b"a"] {
        for address in addresses(key) {
            send(&http, "PUT", &address, Some(b"1")).await.problem(403);
            send(&http, "GET", &address, None).await.problem(403);
            send(&http, "DELETE", &address, None).await.problem(403);
        }
    }
    for address in addresses(b"a/b") {
        send(&http, "PUT", &address, Some(b"1")).await.ok(200);
        send(&http, "GET", &address, None).await.ok(200);
    }
}
