//! The daemon as an HTTP server: refusals and their problem bodies, caching, conditional requests, and negotiation of
//! media types and codings.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use fastrand::Rng;
use support::daemon::Daemon;
use support::http::{Got, Http, STANDING, encode, lines};
use support::mirror::{Coding, Media, Mirror, agree, apply, entries};
use support::record::{Body, listed};
use support::state::{State, assert_same, below};
use support::workload::{Op, Workload, deleted, put};
use support::{eventually, in_time};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A daemon with a state whose snapshot is well over 1 KiB; the cursors of its two breadcrumbs.
async fn stocked() -> (Daemon, Http, [String; 2]) {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let first: Vec<String> =
        (0..100).map(|n| put(&format!("key/{n:03}"), &format!("{{\"n\":{n}}}"))).collect();
    let first = http.post(&first).await;
    let second: Vec<String> =
        (0..60).map(|n| put(&format!("key/{n:03}"), &format!("{{\"m\":{n}}}"))).collect();
    let second = http.post(&second).await;
    (daemon, http, [first, second])
}

fn body(got: &Got) -> Body {
    Body::read(got.need("content-type"), &got.plain())
}

/// The tokens of a header that is a comma-separated list, in lower case.
fn tokens(text: &str) -> BTreeSet<String> {
    text.split(',').map(|token| token.trim().to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn an_unknown_query_parameter_is_a_400_that_names_it() {
    let (_daemon, http, [first, second]) = stocked().await;
    let paths = [
        "/v1/breadcrumbs/current".to_owned(),
        format!("/v1/breadcrumbs/{first}"),
        format!("/v1/breadcrumbs/{first}/next"),
        format!("/v1/breadcrumbs/{first}/diff/{second}"),
        "/v1/kv/key%2F001".to_owned(),
        "/v1/kv".to_owned(),
        "/v1/status".to_owned(),
    ];
    for path in paths {
        for query in ["?frobnicate=1", "?frobnicate", "?frobnicate=&x"] {
            let problem = http.get(&format!("{path}{query}")).await.problem(400);
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("frobnicate"), "{path}{query}: {detail}");
        }
    }
    // A parameter of one request is unknown to another, and a misspelt one is not taken for the right one.
    let unknown = [
        format!("/v1/breadcrumbs/{first}?wait=1s"),
        format!("/v1/breadcrumbs/{first}/next?Wait=1s"),
        format!("/v1/breadcrumbs/{first}/next?limit=1"),
        "/v1/kv?wait=1s".to_owned(),
        format!("/v1/kv/key%2F001?at={first}&after={second}"),
        "/v1/kv/key%2F001?prefix=key".to_owned(),
    ];
    for path in unknown {
        http.get(&path).await.problem(400);
    }
    let headers = [("content-type", "application/x-ndjson")];
    let written =
        http.send("POST", "/v1/updates?frobnicate=1", &headers, Some(lines(&[put("x", "1")]))).await;
    written.problem(400);
    http.send("PUT", "/v1/kv/x?frobnicate=1", &[], Some(b"1".to_vec())).await.problem(400);
    http.send("DELETE", "/v1/kv/key%2F001?frobnicate=1", &[], None).await.problem(400);
    assert_eq!(http.cursor().await, second, "a refused write writes nothing");
}

#[tokio::test]
async fn a_malformed_cursor_duration_or_number_is_a_400() {
    let (_daemon, http, [first, second]) = stocked().await;
    let long = "a".repeat(129);
    let mut paths = Vec::new();
    for cursor in
        ["x", "0", "-", "not%20a%20cursor", "%C3%A9", "1.2.3.4.5.6.7", &long, &first[1..], &first[..4]]
    {
        paths.push(format!("/v1/breadcrumbs/{cursor}"));
        paths.push(format!("/v1/breadcrumbs/{cursor}/next?wait=0"));
        paths.push(format!("/v1/breadcrumbs/{cursor}/diff/{second}"));
        paths.push(format!("/v1/breadcrumbs/{first}/diff/{cursor}"));
        paths.push(format!("/v1/kv?at={cursor}"));
        paths.push(format!("/v1/kv/key%2F001?at={cursor}"));
        paths.push(format!("/v1/kv/key%2F001?after={cursor}&wait=0"));
    }
    for wait in ["", "soon", "-1s", "5parsecs", "1s2", "s", "0x10s", "1e3s", "%31%32%"] {
        paths.push(format!("/v1/breadcrumbs/{second}/next?wait={wait}"));
        paths.push(format!("/v1/kv/key%2F001?after={second}&wait={wait}"));
    }
    for limit in ["", "many", "-1", "1.5", "99999999999999999999999", "0x10", "1%20"] {
        paths.push(format!("/v1/kv?limit={limit}"));
    }
    for path in paths {
        let got = in_time(&path, http.get(&path)).await;
        // A cursor cut short may still read as one of another history.
        let shortened = path.contains(&first[1..]) && !path.contains(&first);
        if !(shortened && got.status == 410) {
            got.problem(400);
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_404_and_what_can_not_be_done_to_it_a_405_with_allow() {
    let (_daemon, http, [first, second]) = stocked().await;
    for path in ["/v2", "/v1", "/v1/nothing", "/v1/breadcrumbs", "/nothing/at/all"] {
        http.get(path).await.problem(404);
    }
    let absent = http.get("/v1/kv/absent").await;
    absent.problem(404);
    http.send("POST", "/v1/nothing", &[], Some(Vec::new())).await.problem(404);
    let cases = [
        ("DELETE", "/v1/breadcrumbs/current".to_owned(), vec!["get", "head"]),
        ("POST", "/v1/breadcrumbs/current".to_owned(), vec!["get", "head"]),
        ("PUT", format!("/v1/breadcrumbs/{first}"), vec!["get", "head"]),
        ("POST", format!("/v1/breadcrumbs/{first}/next"), vec!["get", "head"]),
        ("PATCH", format!("/v1/breadcrumbs/{first}/diff/{second}"), vec!["get", "head"]),
        ("POST", "/v1/kv/key%2F001".to_owned(), vec!["get", "head", "put", "delete"]),
        ("DELETE", "/v1/kv".to_owned(), vec!["get", "head"]),
        ("GET", "/v1/updates".to_owned(), vec!["post"]),
        ("PUT", "/v1/status".to_owned(), vec!["get", "head"]),
        ("DELETE", "/livez".to_owned(), vec!["get", "head"]),
    ];
    for (method, path, expected) in cases {
        let got = http.send(method, &path, &[], None).await;
        got.problem(405);
        let allow = tokens(got.need("allow"));
        for method in expected {
            assert!(allow.contains(method), "{path}: Allow is {allow:?}");
        }
        assert!(!allow.contains(&method.to_ascii_lowercase()), "{path}: Allow is {allow:?}");
    }
}

#[tokio::test]
async fn accept_chooses_the_media_type_and_nothing_acceptable_is_a_406() {
    let (_daemon, http, [first, second]) = stocked().await;
    let (json, ndjson) = ("application/json", "application/x-ndjson");
    let bincode = "application/vnd.crumbd.v1+bincode";
    let paths = [
        "/v1/breadcrumbs/current".to_owned(),
        format!("/v1/breadcrumbs/{first}"),
        format!("/v1/breadcrumbs/{first}/next"),
        format!("/v1/breadcrumbs/{first}/diff/{second}"),
    ];
    let kind = |got: &Got| got.need("content-type").split(';').next().unwrap().to_owned();
    for path in &paths {
        assert_eq!(kind(&http.get(path).await.ok(200)), json, "the default");
        let cases = [
            ("*/*", json),
            ("application/*", json),
            ("text/html, */*;q=0.1", json),
            ("application/json", json),
            ("APPLICATION/JSON", json),
            ("application/x-ndjson", ndjson),
            ("application/vnd.crumbd.v1+bincode", bincode),
            ("application/json;q=0.1, application/x-ndjson", ndjson),
            ("application/x-ndjson;q=0.5, application/json;q=0.6", json),
            ("application/vnd.crumbd.v1+bincode;q=0.8,application/x-ndjson;q=0.9, image/png", ndjson),
            ("application/json;q=0, application/x-ndjson;q=0.001", ndjson),
            ("*/*;q=0.2, application/x-ndjson;q=0.1", json),
        ];
        for (accept, expected) in cases {
            let got = http.get_with(path, &[("accept", accept)]).await.ok(200).standing();
            assert_eq!(kind(&got), expected, "{path}: Accept: {accept}");
        }
        let excluded = http.get_with(path, &[("accept", "application/json;q=0, */*")]).await.ok(200);
        assert_ne!(kind(&excluded), json, "excluded by q=0");
        for accept in ["image/png", "text/html", "application/json;q=0", "application/xml, text/*"] {
            http.get_with(path, &[("accept", accept)]).await.problem(406);
        }
    }
}

#[tokio::test]
async fn a_client_that_excludes_identity_gets_every_body_in_a_coding() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front]);
        let http = daemon.http();
        let first = http.post(&[put("a", "1")]).await;
        let second = http.post(&[put("a", "2")]).await;
        let paths = [
            ("/v1/breadcrumbs/current".to_owned(), 200),
            (format!("/v1/breadcrumbs/{first}"), 200),
            (format!("/v1/breadcrumbs/{first}/next"), 200),
            (format!("/v1/breadcrumbs/{first}/diff/{second}"), 200),
            ("/v1/kv".to_owned(), 200),
            ("/v1/kv/a".to_owned(), 200),
            ("/v1/status".to_owned(), 200),
            ("/metrics".to_owned(), 200),
            ("/".to_owned(), 200),
            ("/v1/kv/absent".to_owned(), 404),
            ("/v1/breadcrumbs/nonsense".to_owned(), 400),
        ];
        for (path, status) in &paths {
            for (accept, coding) in [
                ("gzip, identity;q=0", "gzip"),
                ("zstd, *;q=0", "zstd"),
                ("identity;q=0, gzip;q=0.1", "gzip"),
            ] {
                let got = http.get_with(path, &[("accept-encoding", accept)]).await;
                assert_eq!((got.status, got.header("content-encoding")), (*status, Some(coding)), "{path}");
                assert!(!got.plain().is_empty());
            }
        }
        let excluded = [("accept-encoding", "gzip, identity;q=0")];
        let plain = http.get("/v1/kv/a").await;
        assert_eq!(http.get_with("/v1/kv/a", &excluded).await.plain(), plain.body);
        http.get_with(&format!("/v1/breadcrumbs/{second}/next?wait=0"), &excluded).await.ok(204);
        // What has a coding already is not coded twice, and what cannot be coded is refused.
        let large = format!("\"{}\"", "x".repeat(5000));
        http.post(&[put("large", &large)]).await;
        let whole = http.get("/v1/breadcrumbs/current").await.body;
        assert_eq!(http.get_with("/v1/breadcrumbs/current", &excluded).await.ok(200).plain(), whole);
        assert_eq!(http.get_with("/v1/stream", &excluded).await.status, 406);
        // Each request would hold its own copy.
        http.put(b"b", "text/plain", &[b'x'; (64 << 10) + 1]).await;
        http.get_with("/v1/kv/b", &excluded).await.problem(406);
        let nothing = [("accept-encoding", "identity;q=0, *;q=0")];
        for path in ["/v1/breadcrumbs/current", "/v1/kv/a", "/v1/status", "/metrics", "/v1/stream"] {
            http.get_with(path, &nothing).await.problem(406);
        }
        http.get_with("/v1/kv/absent", &nothing).await.problem(404);
    }
}

#[tokio::test]
async fn accept_encoding_chooses_the_coding_of_bodies_over_1_kib() {
    let (_daemon, http, [first, second]) = stocked().await;
    let plain = http.get(&format!("/v1/breadcrumbs/{second}")).await.ok(200).body;
    let paths = [
        "/v1/breadcrumbs/current".to_owned(),
        format!("/v1/breadcrumbs/{second}"),
        format!("/v1/breadcrumbs/{first}/next"),
        format!("/v1/breadcrumbs/{first}/diff/{second}"),
        "/v1/kv".to_owned(),
    ];
    for path in &paths {
        let whole = http.get(path).await.ok(200);
        assert!(whole.body.len() > 1024 && whole.header("content-encoding").is_none(), "{path}");
        let cases = [
            ("identity", vec![None]),
            ("gzip", vec![Some("gzip")]),
            ("zstd", vec![Some("zstd")]),
            ("GZIP", vec![Some("gzip")]),
            ("zstd, gzip", vec![Some("gzip")]),
            ("gzip, deflate, br, zstd", vec![Some("gzip")]),
            ("zstd, *", vec![Some("gzip")]),
            ("zstd, x-gzip", vec![Some("gzip")]),
            ("gzip;q=0.5, zstd;q=1.0", vec![Some("zstd")]),
            ("gzip;q=1.0, zstd;q=0.5", vec![Some("gzip")]),
            ("gzip;q=0, zstd", vec![Some("zstd")]),
            ("zstd;q=0, gzip;q=0.001", vec![Some("gzip")]),
            ("gzip;q=0, zstd;q=0", vec![None]),
            ("br, deflate", vec![None]),
            ("*;q=0, gzip", vec![Some("gzip")]),
            ("gzip;q=0, *", vec![Some("zstd")]),
            ("", vec![None]),
        ];
        for (accept, expected) in cases {
            let got = http.get_with(path, &[("accept-encoding", accept)]).await.ok(200).standing();
            let coding = got.header("content-encoding");
            assert!(expected.contains(&coding), "{path}: Accept-Encoding: {accept}: {coding:?}");
            assert_eq!(got.plain().len(), whole.body.len(), "{path}: {accept}");
            if coding.is_some() {
                assert!(got.body.len() < whole.body.len(), "{path}: {accept} made it longer");
            }
        }
    }
    let kept = http.get_with(&format!("/v1/breadcrumbs/{second}"), &[("accept-encoding", "gzip")]).await;
    assert_eq!(kept.plain(), plain, "the coding changes nothing in the body");

    // Small bodies are sent as they are, whatever is accepted.
    let small = http.post(&[put("one", "1")]).await;
    for path in [format!("/v1/breadcrumbs/{second}/next"), format!("/v1/breadcrumbs/{small}?prefix=one")] {
        let got = http.get_with(&path, &[("accept-encoding", "zstd, gzip")]).await.ok(200).standing();
        assert_eq!(got.header("content-encoding"), None, "{path}");
        assert!(got.body.len() <= 1024);
    }
}

#[tokio::test]
async fn a_conditional_get_of_what_the_client_has_is_a_304_with_the_standing_headers() {
    let (_daemon, http, [first, _]) = stocked().await;
    for path in ["/v1/breadcrumbs/current".to_owned(), format!("/v1/breadcrumbs/{first}")] {
        for (accept, coding) in
            [("application/json", "identity"), ("application/x-ndjson", "gzip"), ("application/json", "zstd")]
        {
            let asked = [("accept", accept), ("accept-encoding", coding)];
            let got = http.get_with(&path, &asked).await.ok(200).standing();
            let etag = got.need("etag");
            let opaque = etag.strip_prefix("W/").unwrap_or(etag);
            assert!(opaque.len() > 2 && opaque.starts_with('"') && opaque.ends_with('"'), "etag {etag}");
            for tag in [etag, &format!("\"other\", {etag}"), &format!("W/{opaque}"), "*"] {
                let again = http.get_with(&path, &[asked[0], asked[1], ("if-none-match", tag)]).await;
                let again = again.ok(304).standing();
                assert!(again.body.is_empty());
                assert_eq!(again.header("etag"), Some(etag), "{path}: If-None-Match: {tag}");
                assert_eq!(again.cursor(), got.cursor());
                assert_eq!(again.header("cache-control"), got.header("cache-control"));
                again.need("vary");
            }
            http.get_with(&path, &[asked[0], asked[1], ("if-none-match", "\"other\"")]).await.ok(200);
        }
    }
    let etag = http.get("/v1/breadcrumbs/current").await.need("etag").to_owned();
    http.post(&[put("more", "1")]).await;
    let got = http.get_with("/v1/breadcrumbs/current", &[("if-none-match", &etag)]).await.ok(200);
    assert_ne!(got.need("etag"), etag);

    let key = http.get("/v1/kv/key%2F001").await.ok(200).need("etag").to_owned();
    let got = http.get_with("/v1/kv/key%2F001", &[("if-none-match", &key)]).await.ok(304);
    assert_eq!((got.need("etag"), got.body.len()), (&*key, 0));
    http.put(b"key/001", "application/json", b"0").await;
    http.get_with("/v1/kv/key%2F001", &[("if-none-match", &key)]).await.ok(200);
}

#[tokio::test]
async fn one_strong_etag_never_names_two_different_bodies() {
    let (_daemon, http, [first, second]) = stocked().await;
    let mut tags: Vec<(String, String, Vec<u8>)> = Vec::new();
    for path in [format!("/v1/breadcrumbs/{second}"), format!("/v1/breadcrumbs/{second}?prefix=key%2F00")] {
        for accept in ["application/json", "application/x-ndjson", "application/vnd.crumbd.v1+bincode"] {
            for coding in ["identity", "gzip", "zstd"] {
                let asked = [("accept", accept), ("accept-encoding", coding)];
                let got = http.get_with(&path, &asked).await.ok(200);
                tags.push((got.need("etag").to_owned(), format!("{path} {accept} {coding}"), got.body));
            }
        }
    }
    let got = http.get(&format!("/v1/breadcrumbs/{first}")).await;
    tags.push((got.need("etag").to_owned(), "an older breadcrumb".into(), got.body));
    for (n, (tag, what, body)) in tags.iter().enumerate() {
        for (other_tag, other, other_body) in &tags[..n] {
            let strong = !tag.starts_with("W/");
            assert!(!(strong && tag == other_tag && body != other_body), "{tag} is both {what} and {other}");
        }
    }
}

#[tokio::test]
async fn a_write_can_be_conditional_on_what_the_key_was() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let write = async |method: &str, key: &str, headers: &[(&str, &str)]| {
        let body = (method == "PUT").then(|| fastrand::u64(..).to_string().into_bytes());
        http.send(method, &format!("/v1/kv/{key}"), headers, body).await
    };
    let etag = async |key: &str| http.get(&format!("/v1/kv/{key}")).await.ok(200).need("etag").to_owned();

    write("PUT", "a", &[("if-match", "*")]).await.problem(412);
    http.get("/v1/kv/a").await.problem(404);
    write("PUT", "a", &[("if-none-match", "*")]).await.written();
    write("PUT", "a", &[("if-none-match", "*")]).await.problem(412);
    write("PUT", "a", &[("if-match", "*")]).await.written();

    let old = etag("a").await;
    write("PUT", "a", &[("if-match", &old)]).await.written();
    let new = etag("a").await;
    assert_ne!(old, new);
    let before = http.get("/v1/kv/a").await.body;
    write("PUT", "a", &[("if-match", &old)]).await.problem(412);
    write("DELETE", "a", &[("if-match", &old)]).await.problem(412);
    write("PUT", "a", &[("if-none-match", &new)]).await.problem(412);
    write("DELETE", "a", &[("if-none-match", "*")]).await.problem(412);
    assert_eq!(http.get("/v1/kv/a").await.body, before, "a 412 writes nothing");
    write("PUT", "a", &[("if-none-match", &old)]).await.written();
    let newest = etag("a").await;
    write("PUT", "a", &[("if-match", &format!("\"other\", {newest}"))]).await.written();
    write("DELETE", "a", &[("if-match", "*")]).await.written();
    http.get("/v1/kv/a").await.problem(404);
    write("DELETE", "a", &[("if-match", "*")]).await.problem(412);
    write("PUT", "a", &[("if-match", &newest)]).await.problem(412);

    // Of many that compare and set at once, one wins each round.
    http.put(b"counter", "application/json", b"0").await;
    for round in 0..10 {
        let tag = etag("counter").await;
        let writers = (0..8).map(|w| {
            let (http, tag) = (daemon.http(), tag.clone());
            tokio::spawn(async move {
                let value = format!("[{round},{w}]").into_bytes();
                http.send("PUT", "/v1/kv/counter", &[("if-match", &tag)], Some(value)).await.status
            })
        });
        let writers: Vec<_> = writers.collect();
        let mut won = 0;
        for writer in writers {
            match writer.await.unwrap() {
                200..300 => won += 1,
                status => assert_eq!(status, 412),
            }
        }
        assert_eq!(won, 1);
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let (_daemon, http, [first, second]) = stocked().await;
    let paths = [
        "/v1/breadcrumbs/current".to_owned(),
        "/v1/breadcrumbs/current?prefix=key%2F01".to_owned(),
        format!("/v1/breadcrumbs/{first}"),
        format!("/v1/breadcrumbs/{first}/next?wait=0"),
        format!("/v1/breadcrumbs/{second}/next?wait=0"),
        format!("/v1/breadcrumbs/{first}/diff/{second}"),
        "/v1/kv/key%2F001".to_owned(),
        "/v1/kv/absent".to_owned(),
        "/v1/kv?limit=3".to_owned(),
        "/livez".to_owned(),
        "/readyz".to_owned(),
        "/v1/nothing".to_owned(),
        "/v1/breadcrumbs/current?frobnicate=1".to_owned(),
    ];
    for path in &paths {
        for coding in ["identity", "gzip"] {
            let headers = [("accept-encoding", coding)];
            let get = http.get_with(path, &headers).await;
            let head = http.send("HEAD", path, &headers, None).await;
            assert_eq!(head.status, get.status, "{path}");
            assert!(head.body.is_empty(), "{path}");
            let names = |got: &Got| -> BTreeSet<String> {
                let framing = ["date", "content-length", "transfer-encoding", "connection"];
                let names = got.headers.keys().map(|name| name.as_str().to_owned());
                names.filter(|name| !framing.contains(&&**name)).collect()
            };
            assert_eq!(names(&head), names(&get), "{path}");
            for name in names(&get).iter().filter(|name| *name != "crumbd-age") {
                assert_eq!(head.header(name), get.header(name), "{path}: {name}");
            }
            if let (Some(of_head), Some(of_get)) =
                (head.header("content-length"), get.header("content-length"))
            {
                assert_eq!(of_head, of_get, "{path}");
            }
        }
    }
    http.send("HEAD", "/v1/status", &[], None).await.ok(200);
}

#[tokio::test]
async fn answers_that_have_no_body_tell_no_length() {
    for front in ["on", "off"] {
        let daemon = Daemon::push(&["--lean-front", front]);
        let http = daemon.http();
        let cursor = http.put(b"a", "application/json", b"1").await;
        let next = format!("/v1/breadcrumbs/{cursor}/next?wait=0");
        let after = format!("/v1/kv/a?after={cursor}&wait=0");
        for (path, condition, status) in
            [(&*next, None, 204), (&after, None, 204), ("/v1/kv/a", Some(("if-none-match", "*")), 304)]
        {
            for method in ["GET", "HEAD"] {
                let got = http.send(method, path, condition.as_slice(), None).await;
                assert_eq!(got.status, status, "{method} {path}");
                assert_eq!(got.header("content-length"), None, "{front}: {method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn following_the_next_link_for_ever_is_a_complete_client() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let mut workload = Workload::new(21, "", 40);
    let mut model = State::new();
    for prefix in [None, Some("app/"), Some("k e+y%/ü")] {
        let query = prefix.map_or(String::new(), |prefix| format!("?prefix={}", encode(prefix.as_bytes())));
        let got = http.get(&format!("/v1/breadcrumbs/current{query}")).await.ok(200).standing();
        let mut state = entries(&body(&got));
        let mut link = got.next_link().to_owned();
        for n in 0..40 {
            let batch = workload.batch(10);
            batch.iter().for_each(|op| op.apply(&mut model));
            http.post(&batch.iter().map(Op::record).collect::<Vec<_>>()).await;
            let inside = format!("{}inside", prefix.unwrap_or_default());
            model.insert(inside.clone().into_bytes(), n.to_string().into_bytes().into());
            http.post(&[put(&inside, &n.to_string())]).await;
            // Nothing of the client's own: not a cursor, not a parameter.
            let got = in_time("the link's answer", http.get(&link)).await.ok(200).standing();
            apply(&mut state, 0, &body(&got).records);
            link = got.next_link().to_owned();
            assert_same("by the links", &state, &below(&model, prefix.unwrap_or_default().as_bytes()));
        }
    }
}

#[tokio::test]
async fn what_may_be_cached_says_so_and_what_may_not_too() {
    let (_daemon, http, [first, second]) = stocked().await;
    let control = async |path: &str| tokens(http.get(path).await.need("cache-control"));
    for path in [format!("/v1/breadcrumbs/{first}"), format!("/v1/breadcrumbs/{first}/diff/{second}")] {
        let control = control(&path).await;
        assert!(control.contains("public") && control.contains("immutable"), "{path}: {control:?}");
        let age = control.iter().find_map(|token| token.strip_prefix("max-age=")?.parse::<u64>().ok());
        assert!(age > Some(0), "{path}: {control:?}");
    }
    assert_eq!(control("/v1/breadcrumbs/current").await, tokens("no-cache"));
    let shared = control(&format!("/v1/breadcrumbs/{first}/next?wait=0")).await;
    assert!(!shared.contains("immutable"), "a next grows: {shared:?}");
    for path in [
        format!("/v1/breadcrumbs/{second}/next?wait=0"),
        "/v1/kv/absent".to_owned(),
        "/v1/nothing".to_owned(),
        "/v1/breadcrumbs/x".to_owned(),
    ] {
        assert_eq!(control(&path).await, tokens("no-store"), "{path}");
    }
    let refused =
        http.send("POST", "/v1/updates", &[("content-type", "application/x-ndjson")], Some(b"x".to_vec()));
    assert_eq!(refused.await.need("cache-control"), "no-store");
}

#[tokio::test]
async fn one_key_is_its_raw_bytes_with_a_fitting_content_type() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let values: [(&str, &[u8], &[u8], &str); 8] = [
        ("application/json", b"{ \"a\" : 1.0e+05 }", b"{\"a\":1.0e+05}", "application/json"),
        ("application/json; charset=utf-8", b" null ", b"null", "application/json"),
        ("text/plain", b"just text", b"just text", "text/plain; charset=utf-8"),
        ("text/plain; charset=utf-8", "日本\n".as_bytes(), "日本\n".as_bytes(), "text/plain; charset=utf-8"),
        ("text/plain", b"{ \"a\": 1 }", b"{ \"a\": 1 }", "text/plain; charset=utf-8"),
        ("application/octet-stream", b"\xff\x00\xfe", b"\xff\x00\xfe", "application/octet-stream"),
        ("application/octet-stream", b"", b"", "text/plain; charset=utf-8"),
        ("image/png", b"\x89PNG\r\n", b"\x89PNG\r\n", "application/octet-stream"),
    ];
    for (n, (sent_as, sent, kept, served_as)) in values.iter().enumerate() {
        let key = format!("v {n}/%");
        http.put(key.as_bytes(), sent_as, sent).await;
        let got = http.get(&format!("/v1/kv/{}", encode(key.as_bytes()))).await.ok(200).standing();
        assert_eq!(&got.body, kept, "{sent_as}");
        assert_eq!(got.need("content-type"), *served_as, "{sent_as}");
    }
    let refused =
        http.send("PUT", "/v1/kv/x", &[("content-type", "application/json")], Some(b"{not json".to_vec()));
    refused.await.problem(400);
    let refused = http.send("PUT", "/v1/kv/x", &[("content-type", "text/plain")], Some(b"\xff".to_vec()));
    refused.await.problem(400);
    http.get("/v1/kv/x").await.problem(404);
}

#[tokio::test]
async fn a_kept_breadcrumb_can_be_read_key_by_key() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let empty = http.cursor().await;
    let one = http.put(b"a", "application/json", b"1").await;
    let two = http.put(b"a", "application/json", b"2").await;
    let gone = http.delete(b"a").await;
    for (cursor, expected) in [(&empty, None), (&one, Some(b"1")), (&two, Some(b"2")), (&gone, None)] {
        let got = http.get(&format!("/v1/kv/a?at={cursor}")).await;
        match expected {
            Some(value) => {
                let got = got.ok(200).standing();
                assert_eq!((&*got.body, got.cursor()), (&value[..], &**cursor));
            }
            None => drop(got.problem(404)),
        }
    }
}

#[tokio::test]
async fn the_list_is_paged_in_key_order_and_all_pages_are_of_one_breadcrumb() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let mut workload = Workload::new(31, "", 90);
    let mut model = State::new();
    for _ in 0..40 {
        let batch = workload.batch(40);
        batch.iter().for_each(|op| op.apply(&mut model));
        http.post(&batch.iter().map(Op::record).collect::<Vec<_>>()).await;
    }
    for (prefix, limit) in
        [(None, 7), (None, 1000), (Some(&b"app"[..]), 5), (Some(&b"\xff"[..]), 1), (Some(&b"none"[..]), 3)]
    {
        let expected = below(&model, prefix.unwrap_or_default());
        let expected: Vec<_> = expected.into_iter().collect();
        let mut query = format!("limit={limit}");
        if let Some(prefix) = prefix {
            query += &format!("&prefix={}", encode(prefix));
        }
        let first = http.get(&format!("/v1/kv?{query}")).await.ok(200).standing();
        let at = first.cursor().to_owned();
        let mut page = listed(&first.plain());
        let mut seen = Vec::new();
        let mut rng = Rng::with_seed(1);
        while !page.is_empty() {
            assert!(page.len() <= limit);
            seen.extend(page.into_iter().map(|record| (record.key, record.value.unwrap())));
            // Meanwhile the state goes on, and none of that is seen in the pages of `at`.
            http.put(&[b"new ", &*rng.u64(..).to_string().into_bytes()].concat(), "text/plain", b"x").await;
            let (last, _) = seen.last().unwrap();
            let path = format!("/v1/kv?{query}&at={at}&start_after={}", encode(last));
            let got = http.get(&path).await.ok(200).standing();
            assert_eq!(got.cursor(), at);
            page = listed(&got.plain());
        }
        assert!(seen == expected, "below {prefix:?}: {} keys, not {}", seen.len(), expected.len());
        model = Mirror::of(daemon.http(), Media::Json, Coding::Identity).await.state;
    }
}

#[tokio::test]
async fn a_page_says_whether_there_is_more_and_is_a_thousand_entries_when_nothing_is_asked() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let records: Vec<String> = (0..1500).map(|n| put(&format!("a b/{n:04}"), "1")).collect();
    http.post(&records).await;
    let cases = [
        ("", 1000, true),
        ("?limit=1499", 1499, true),
        ("?limit=1500", 1500, false),
        ("?limit=100000", 1500, false),
        ("?prefix=a+b%2F000", 10, false),
        ("?prefix=a%20b/000&limit=10", 10, false),
        ("?prefix=a%2Bb", 0, false),
        ("?start_after=a+b/0499", 1000, false),
        ("?start_after=a+b/0498&limit=1000", 1000, true),
    ];
    for (query, entries, more) in cases {
        let got = http.get(&format!("/v1/kv{query}")).await.ok(200).standing();
        assert_eq!(
            (listed(&got.plain()).len(), got.json()["more"].as_bool()),
            (entries, Some(more)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_write_in_a_content_coding_is_a_415() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let headers = [("content-type", "text/plain"), ("content-encoding", "gzip")];
    http.send("PUT", "/v1/kv/x", &headers, Some(b"x".to_vec())).await.problem(415);
    let headers = [("content-type", "application/x-ndjson"), ("content-encoding", "zstd")];
    http.send("POST", "/v1/updates", &headers, Some(lines(&[put("x", "1")]))).await.problem(415);
    http.get("/v1/kv/x").await.problem(404);
}

#[tokio::test]
async fn livez_readyz_and_status_tell_how_the_daemon_is() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.get("/livez").await.ok(200);
    eventually("ready", || async { (http.get("/readyz").await.status == 200).then_some(()) }).await;
    let cursor = http.post(&[put("a", "1"), put("b", "2")]).await;
    let got = http.get("/v1/status").await.ok(200);
    assert_eq!(got.need("content-type").split(';').next(), Some("application/json"));
    let status = got.json();
    let text = status.to_string();
    assert!(status.is_object() && text.contains(&cursor) && text.contains("in-sync"), "{text}");
}

#[tokio::test]
async fn only_a_push_feed_can_be_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.ndjson");
    std::fs::write(&path, lines(&[put("a", "1")])).unwrap();
    let daemon = Daemon::serve(&["--feed", &format!("file:{}", path.display())]);
    let http = daemon.http();
    let ndjson = [("content-type", "application/x-ndjson")];
    let refused = [
        http.send("POST", "/v1/updates", &ndjson, Some(lines(&[put("a", "2")]))).await,
        http.send("PUT", "/v1/kv/a", &[], Some(b"2".to_vec())).await,
        http.send("DELETE", "/v1/kv/a", &[], None).await,
    ];
    for got in refused {
        let problem = got.problem(403);
        assert!(problem["detail"].as_str().unwrap().contains("file:"), "names the feed: {problem}");
    }
    eventually("the file's value, unchanged", || async {
        let got = http.get("/v1/kv/a").await;
        (got.status == 200 && got.body == b"1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_bad_record_refuses_the_whole_post_and_its_line_is_named() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let before = http.post(&[put("a", "1"), put("b", "1")]).await;
    let bad = [
        "not json at all",
        r#"{"type":"put","key":"x","value":1"#,
        r#"{"type":"put","value":1}"#,
        r#"{"type":"put","key":"x"}"#,
        r#"{"key":"x","value":1}"#,
        r#"{"type":"upsert","key":"x","value":1}"#,
        r#"{"type":"put","key":7,"value":1}"#,
        r#"{"type":"put","key_base64":"not base64!","value":1}"#,
        r#"{"type":"put","key":"x","value":"not base64!","encoding":"base64"}"#,
        r#"{"type":"put","key":"x","value":{"not":"a string"},"encoding":"utf8"}"#,
        r#"{"type":"put","key":"x","value":"y","encoding":"rot13"}"#,
        r#"{"type":"put","key":"x","value":1,"ttl":-1}"#,
        r#"{"type":"put","key":"x","value":1,"ttl":"soon"}"#,
        r#"{"type":"put","key":"x","value":01}"#,
        r#"{"type":"put","key":"x","value":1,"frobnicate":1}"#,
        r#"{"type":"deleted","key":"a","value":1}"#,
        r#"{"type":"status","status":"in-sync"}"#,
        r#"["type","put"]"#,
        "7",
    ];
    for record in bad {
        let first = [deleted("a"), put("b", "2")];
        let lines = lines(&[&first[0], &first[1], record, &put("c", "3")]);
        let headers = [("content-type", "application/x-ndjson")];
        let problem = http.send("POST", "/v1/updates", &headers, Some(lines)).await.problem(400);
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("line 3"), "{record}: {detail}");

        let array = format!("[{},\n{},\n{record},\n{}]", first[0], first[1], put("c", "3"));
        let headers = [("content-type", "application/json")];
        http.send("POST", "/v1/updates", &headers, Some(array.into_bytes())).await.problem(400);
    }
    let mirror = Mirror::of(http, Media::Json, Coding::Identity).await;
    assert_eq!(mirror.cursor, before, "nothing was applied");
}

#[tokio::test]
async fn a_line_is_counted_as_an_editor_counts_it() {
    let daemon = Daemon::push(&[]);
    let headers = [("content-type", "application/x-ndjson")];
    let body = format!("{}\n\n\n{}\nnonsense\n", put("a", "1"), put("b", "1"));
    let got = daemon.http().send("POST", "/v1/updates", &headers, Some(body.into_bytes())).await;
    let problem = got.problem(400);
    // Empty lines may be skipped or refused, but they are lines: either the second is named, or the fifth.
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("line 2") || detail.contains("line 5"), "{detail}");
}

#[tokio::test]
async fn a_body_or_a_value_that_is_too_large_is_a_413() {
    let daemon = Daemon::push(&["--max-body-bytes", "64KiB", "--max-value-bytes", "4KiB"]);
    let http = daemon.http();
    let before = http.post(&[put("a", "1")]).await;
    let value = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    let ndjson = [("content-type", "application/x-ndjson")];
    let many: Vec<String> = (0..100).map(|n| put(&n.to_string(), &value(1000))).collect();
    let long = lines(&[put("b", "1"), put("long", &value(5000))]);
    let refused = [
        http.send("PUT", "/v1/kv/long", &[("content-type", "text/plain")], Some(vec![b'x'; 5000])).await,
        http.send("PUT", "/v1/kv/long", &[("content-type", "text/plain")], Some(vec![b'x'; 100_000])).await,
        http.send("POST", "/v1/updates", &ndjson, Some(lines(&many))).await,
        http.send("POST", "/v1/updates", &ndjson, Some(long)).await,
    ];
    for got in refused {
        got.problem(413);
    }
    assert_eq!(http.cursor().await, before, "nothing was applied");
    http.put(b"fits", "text/plain", &[b'x'; 4000]).await;
}

#[tokio::test]
async fn a_write_that_finds_the_buffer_full_is_a_429_and_writes_nothing() {
    let daemon = Daemon::push(&["--ingest-capacity", "1"]);
    let writers = (0..32).map(|w| {
        let http = daemon.http();
        tokio::spawn(async move {
            let mut written = Vec::new();
            for n in 0..20 {
                let key = format!("{w}/{n}");
                let headers = [("content-type", "text/plain")];
                let path = format!("/v1/kv/{}", encode(key.as_bytes()));
                let got = http.send("PUT", &path, &headers, Some(b"x".to_vec())).await;
                if got.status == 429 {
                    got.problem(429);
                    got.need("retry-after");
                } else {
                    got.written();
                    written.push(key.into_bytes());
                }
            }
            written
        })
    });
    let mut expected = State::new();
    for writer in writers.collect::<Vec<_>>() {
        expected.extend(writer.await.unwrap().into_iter().map(|key| (key, b"x".as_slice().into())));
    }
    let mirror = Mirror::of(daemon.http(), Media::Json, Coding::Identity).await;
    assert_same("what was not refused", &mirror.state, &expected);
}

/// Sends bytes as they are and reads what comes back until the daemon closes the connection.
async fn raw(daemon: &Daemon, bytes: &[u8]) -> String {
    let address = daemon.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The answer may come, and the connection close, before all of it is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = in_time("the connection to be closed", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_head_is_at_most_128_kib_long_and_a_body_as_long_as_is_allowed() {
    let daemon = Daemon::push(&[]);
    let ask = async |lines: &str, body: usize| {
        let mut stream = daemon.connect().await;
        stream.write_all(format!("{lines}Host: a\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; body]).await.unwrap();
        let mut answer = Vec::new();
        support::in_time("an answer", stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let long = |kib: usize| "a".repeat(kib << 10);
    for front in ["livez", "v1/stream", "v1/breadcrumbs/current"] {
        let answer = ask(&format!("GET /{front} HTTP/1.1\r\nX: {}\r\n", long(256)), 0).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{front}: {answer:?}");
    }
    // A head that never ends is no longer held either.
    let mut endless = daemon.connect().await;
    let begun = format!("GET /livez HTTP/1.1\r\nHost: a\r\nX: {}", long(400));
    endless.write_all(begun.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    support::in_time("an answer", endless.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");

    let cookie = format!("GET /livez HTTP/1.1\r\nCookie: {}\r\n", long(100));
    let target = format!("GET /v1/kv?prefix={} HTTP/1.1\r\n", long(63));
    for fits in [cookie, target] {
        let answer = ask(&fits, 0).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
    let body = 5 << 20;
    let answer = ask(&format!("PUT /v1/kv/a HTTP/1.1\r\nContent-Length: {body}\r\n"), body).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert_eq!(daemon.http().get("/v1/kv/a").await.ok(200).body.len(), body);
}

#[tokio::test]
async fn an_address_that_is_too_long_is_a_414() {
    let daemon = Daemon::push(&[]);
    let head = format!("GET /v1/kv?prefix={} HTTP/1.1\r\nHost: crumbd\r\n\r\n", "x".repeat(66_000));
    let answer = raw(&daemon, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer:?}");
    daemon.http().get("/livez").await.ok(200);
}

#[tokio::test]
async fn a_head_that_comes_too_slowly_is_ended() {
    let daemon = Daemon::push(&["--header-timeout", "200ms"]);
    let answer = raw(&daemon, b"GET /livez HTTP/1.1\r\nHost: crumbd\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
    daemon.http().get("/livez").await.ok(200);
}

#[tokio::test]
async fn every_answer_of_a_reading_request_has_the_standing_headers() {
    let (_daemon, http, [first, second]) = stocked().await;
    let paths = [
        ("/v1/breadcrumbs/current".to_owned(), 200),
        (format!("/v1/breadcrumbs/{first}"), 200),
        (format!("/v1/breadcrumbs/{first}/next"), 200),
        (format!("/v1/breadcrumbs/{second}/next?wait=0"), 204),
        (format!("/v1/breadcrumbs/{first}/diff/{second}"), 200),
        ("/v1/kv/key%2F001".to_owned(), 200),
        (format!("/v1/kv/key%2F001?at={first}"), 200),
        (format!("/v1/kv/key%2F001?after={first}&wait=0"), 200),
        (format!("/v1/kv/key%2F001?after={second}&wait=0"), 204),
        ("/v1/kv?limit=2".to_owned(), 200),
    ];
    for (path, status) in paths {
        let got = http.get(&path).await.ok(status).standing();
        if path.starts_with("/v1/breadcrumbs") && status == 200 {
            agree(&got, &body(&got));
        }
    }
    assert_eq!(STANDING.len(), 7);
}

#[tokio::test]
async fn a_page_of_another_origin_writes_nothing() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let before = http.put(b"a", "text/plain", b"kept").await;
    let own = format!("http://{}", daemon.address());
    let snapshot = lines(&["{\"type\":\"snapshot\"}", "{\"type\":\"end\"}"]);
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
    ] {
        let headers = [(name, value), ("content-type", "text/plain")];
        for (method, path, body) in [
            ("POST", "/v1/updates", Some(snapshot.clone())),
            ("PUT", "/v1/kv/a", Some(b"other".to_vec())),
            ("DELETE", "/v1/kv/a", None),
        ] {
            let problem = http.send(method, path, &headers, body).await.problem(403);
            assert!(problem["type"].as_str().unwrap().ends_with(":cross-origin"), "{problem}");
        }
        // To read is the browser's to forbid.
        http.get_with("/v1/kv/a", &[(name, value)]).await.ok(200);
    }
    assert_eq!(http.cursor().await, before);
    for header in [("origin", own.as_str()), ("sec-fetch-site", "same-origin")] {
        let headers = [header, ("content-type", "text/plain")];
        http.send("PUT", "/v1/kv/b", &headers, Some(b"x".to_vec())).await.ok(200);
    }
}

#[tokio::test]
async fn a_keys_etag_is_of_its_history_and_a_condition_that_is_stated_is_honoured_or_refused() {
    let start = async || {
        let daemon = Daemon::push(&[]);
        let etag = daemon.http().send("PUT", "/v1/kv/a", &[], Some(b"one".to_vec())).await.ok(200);
        (etag.need("etag").to_owned(), daemon)
    };
    // Another store at the same revision, such as the same daemon after a restart without a state directory.
    let ((old, _), (etag, daemon)) = (start().await, start().await);
    let http = daemon.http();
    let cursor = http.cursor().await;
    assert_ne!(old, etag);
    let put =
        async |headers: &[(&str, &str)]| http.send("PUT", "/v1/kv/a", headers, Some(b"two".to_vec())).await;
    put(&[("if-match", &old)]).await.problem(412);
    put(&[("if-match", "\"1\"")]).await.problem(412);
    http.get_with("/v1/kv/a", &[("if-none-match", &old)]).await.ok(200);

    // Reading.
    let next = format!("/v1/breadcrumbs/{cursor}/next?wait=0");
    http.put(b"b", "text/plain", b"1").await;
    for path in ["/v1/kv/a", "/v1/kv", "/v1/kv?prefix=a", "/v1/breadcrumbs/current", &next] {
        for lean in [true, false] {
            // An unknown header keeps nothing from the lean front.
            let more = if lean { ("x-a", "b") } else { ("connection", "close") };
            let tag = http.get(path).await.ok(200).need("etag").to_owned();
            let with = async |name, tag: &str| http.get_with(path, &[(name, tag), more]).await;
            with("if-match", "\"999\"").await.problem(412);
            with("if-match", "*").await.ok(200);
            with("if-none-match", "\"999\"").await.ok(200);
            for tag in [&tag, "*"] {
                let got = with("if-none-match", tag).await.ok(304).standing();
                assert!(got.body.is_empty() && got.header("content-type").is_none(), "{path}");
            }
            let strong = !tag.starts_with("W/");
            assert_eq!(with("if-match", &tag).await.status, if strong { 200 } else { 412 }, "{path}");
        }
    }
    http.get_with("/v1/status", &[("if-match", "\"x\"")]).await.problem(412);
    // If-Match comes first.
    let both = [("if-match", "\"x\""), ("if-none-match", "*")];
    for path in ["/v1/breadcrumbs/current", "/v1/kv/a", "/openapi.json", "/"] {
        http.get_with(path, &both).await.problem(412);
    }
    let json = http.get("/v1/breadcrumbs/current").await.need("etag").to_owned();
    let other = [("accept", "application/x-ndjson"), ("if-none-match", &*json)];
    http.get_with("/v1/breadcrumbs/current", &other).await.ok(200);

    // Writing.
    let record = || Some(br#"{"type":"put","key":"a","value":1}"#.to_vec());
    for condition in [
        ("if-match", &*etag),
        ("if-none-match", "*"),
        ("if-unmodified-since", "Sun, 29 Nov 2026 00:00:00 GMT"),
    ] {
        http.send("POST", "/v1/updates", &[condition], record()).await.problem(400);
    }
    put(&[("if-unmodified-since", "Sun, 29 Nov 2026 00:00:00 GMT")]).await.problem(400);
    assert_eq!(http.get("/v1/kv/a").await.body, b"one");
    put(&[("content-range", "bytes 0-1/3")]).await.problem(400);
    // A proxy that compresses weakens ETags.
    put(&[("if-none-match", &format!("W/{etag}"))]).await.problem(412);
    put(&[("if-match", &format!("W/{etag}"))]).await.problem(412);
    put(&[("if-match", &etag)]).await.ok(200);
    // A write that changes nothing names the revision of what it would have written.
    let again = put(&[]).await.ok(200).need("etag").to_owned();
    assert_eq!(http.get("/v1/kv/a").await.need("etag"), again);
}

#[tokio::test]
async fn a_listing_keeps_its_prefix_in_the_next_link() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a/1", "1"), put("b/1", "1")]).await;
    let got = http.get("/v1/kv?prefix=a%2F&limit=1").await.ok(200);
    assert!(got.next_link().ends_with("/next?prefix=a%2F"), "{}", got.next_link());
}

#[tokio::test]
async fn several_prefixes_are_one_selection() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let first = http.post(&[put("a/1", "1"), put("a/b/1", "1"), put("b/1", "1"), put("c/1", "1")]).await;
    let keys = |body: &serde_json::Value, member: &str| -> Vec<String> {
        body[member].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap().to_owned()).collect()
    };
    let query = "prefix=c%2F&prefix=a%2F&prefix=a%2Fb";
    for path in ["/v1/breadcrumbs/current?", "/v1/kv?", &format!("/v1/breadcrumbs/{first}?")] {
        let got = http.get(&format!("{path}{query}")).await.ok(200);
        assert_eq!(keys(&got.json(), "entries"), ["a/1", "a/b/1", "c/1"], "{path}");
        assert!(got.json().get("count").is_none() && got.json().get("digest").is_none());
        // The link selects the same keys.
        assert!(got.next_link().ends_with("/next?prefix=a%2F&prefix=c%2F"), "{}", got.next_link());
    }
    let link = http.get(&format!("/v1/breadcrumbs/current?{query}")).await.next_link().to_owned();
    http.post(&[put("b/1", "2")]).await;
    http.get(&format!("{link}&wait=0")).await.ok(204);
    let second = http.post(&[put("a/1", "2"), put("b/1", "3"), put("c/1", "2")]).await;
    for path in [format!("{link}&wait=0"), format!("/v1/breadcrumbs/{first}/diff/{second}?{query}")] {
        assert_eq!(keys(&http.get(&path).await.ok(200).json(), "updates"), ["a/1", "c/1"], "{path}");
    }
    // All pages of a listing.
    let page = http.get(&format!("/v1/kv?{query}&limit=2")).await.ok(200).json();
    assert_eq!(
        (keys(&page, "entries"), &page["more"]),
        (vec!["a/1".to_owned(), "a/b/1".to_owned()], &true.into())
    );
    let page = http.get(&format!("/v1/kv?{query}&limit=2&start_after=a%2Fb%2F1")).await.ok(200).json();
    assert_eq!((keys(&page, "entries"), &page["more"]), (vec!["c/1".to_owned()], &false.into()));
    // An empty prefix is every key.
    let all = http.get("/v1/breadcrumbs/current?prefix=a&prefix=").await.ok(200).json();
    assert_eq!((keys(&all, "entries").len(), &all["count"]), (4, &4.into()));
    let many: Vec<String> = (0..257).map(|n| format!("prefix={n}")).collect();
    http.get(&format!("/v1/kv?{}", many[1..].join("&"))).await.ok(200);
    let problem = http.get(&format!("/v1/kv?{}", many.join("&"))).await.problem(400);
    assert!(problem["detail"].as_str().unwrap().contains("256"), "{problem}");
    http.get("/v1/kv?limit=1&limit=1").await.problem(400);
}

#[tokio::test]
async fn a_body_in_another_transfer_coding_is_not_stored() {
    let daemon = Daemon::push(&[]);
    for coding in ["gzip, chunked", "chunked, chunked", "identity, chunked"] {
        let head = format!(
            "PUT /v1/kv/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        let answer = raw(&daemon, head.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 501 ") || answer.starts_with("HTTP/1.1 400 "),
            "{coding}: {answer}"
        );
        daemon.http().get("/v1/kv/a").await.problem(404);
    }
}
