//! `/openapi.json` says what the daemon does: each address, method, query parameter, answer and header of it.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;

use serde_json::Value;
use support::daemon::Daemon;
use support::http::{Got, Http, lines};
use support::tokens::TokenFile;
use support::workload::put;

async fn document(http: &Http) -> Value {
    let got = http.get("/openapi.json").await.ok(200);
    assert_eq!(got.need("content-type"), "application/json");
    got.json()
}

/// What a reference leads to.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(to) = value.get("$ref") else { return value };
    let to = to.as_str().unwrap().strip_prefix('#').unwrap();
    document.pointer(to).unwrap_or_else(|| panic!("{to} is nowhere"))
}

/// Every reference, wherever it is.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Each operation: method, address, and the parameters of both.
fn operations(document: &Value) -> Vec<(String, &str, &Value, Vec<&Value>)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
        {
            let listed = [item, operation].into_iter().filter_map(|at| at["parameters"].as_array());
            let parameters = listed.flatten().map(|parameter| resolve(document, parameter)).collect();
            operations.push((method.to_uppercase(), path.as_str(), operation, parameters));
        }
    }
    operations
}

fn names<'a>(parameters: &[&'a Value], place: &str) -> BTreeSet<&'a str> {
    let here = parameters.iter().filter(|parameter| parameter["in"] == place);
    here.map(|parameter| parameter["name"].as_str().unwrap()).collect()
}

/// The address with something in its gaps.
fn filled(path: &str, cursor: &str) -> String {
    ["{cursor}", "{from}", "{to}"]
        .iter()
        .fold(path.to_owned(), |path, gap| path.replace(gap, cursor))
        .replace("{key}", "a%2Fb")
}

/// What an operation may be asked for: `/v1/kv` with a key in the query, and for a listing without.
fn queries(method: &str, path: &str) -> &'static [&'static str] {
    match (method, path) {
        ("GET", "/v1/kv") => &["", "key=a&"],
        (_, "/v1/kv") => &["key=a&"],
        _ => &[""],
    }
}

#[tokio::test]
async fn it_is_a_document_of_openapi_3_1_that_refers_to_what_it_holds_and_holds_what_it_refers_to() {
    let daemon = Daemon::push(&[]);
    let document = document(&daemon.http()).await;
    let spec: oas3::Spec = serde_json::from_value(document.clone()).expect("a document of OpenAPI");
    spec.validate_version().expect("of version 3.1");
    assert_eq!(spec.info.version, env!("CARGO_PKG_VERSION"));
    let mut references_of = BTreeSet::new();
    references(&document, &mut references_of);
    for reference in &references_of {
        assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference} is nowhere");
    }
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys().filter(|_| kind != "securitySchemes") {
            let reference = format!("#/components/{kind}/{name}");
            assert!(references_of.contains(&*reference), "nobody refers to {reference}");
        }
    }
    let ids: Vec<_> =
        spec.operations().map(|(_, _, operation)| operation.operation_id.clone().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "ids are unique: {ids:?}");
    for (method, path, operation, parameters) in operations(&document) {
        let gaps: BTreeSet<&str> =
            path.split('{').skip(1).map(|gap| gap.split('}').next().unwrap()).collect();
        assert_eq!(names(&parameters, "path"), gaps, "{method} {path}: the gaps of the address");
        assert!(operation["summary"].is_string() && operation["tags"].is_array(), "{method} {path}");
    }
}

#[tokio::test]
async fn methods_and_query_parameters_are_those_that_the_daemon_takes() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let (document, cursor) = (document(&http).await, http.cursor().await);
    for path in document["paths"].as_object().unwrap().keys() {
        let query = queries("PATCH", path)[0];
        let got = http.send("PATCH", &format!("{}?{query}", filled(path, &cursor)), &[], None).await;
        got.problem(405);
        let allowed: BTreeSet<String> =
            got.need("allow").split(',').map(|one| one.trim().to_owned()).collect();
        let described =
            operations(&document).into_iter().filter(|(_, of, ..)| of == path).map(|(method, ..)| method);
        let mut described: BTreeSet<String> = described.collect();
        if described.contains("GET") {
            described.insert("HEAD".to_owned());
        }
        assert_eq!(allowed, described, "{path}");
    }
    for (method, path, _, parameters) in operations(&document) {
        let described = names(&parameters, "query");
        // The daemon refuses what it does not know, and says what it does.
        let mut taken = BTreeSet::new();
        for query in queries(&method, path) {
            let asked = format!("{}?{query}frobnicate=1", filled(path, &cursor));
            let problem = http.send(&method, &asked, &[], Some(Vec::new())).await.problem(400);
            let (_, names) = problem["detail"].as_str().unwrap().split_once("this address takes ").unwrap();
            taken.extend(names.split(", ").filter(|name| *name != "none").map(str::to_owned));
        }
        let taken: BTreeSet<&str> = taken.iter().map(String::as_str).collect();
        assert_eq!(described, taken, "{method} {path}");
    }
}

/// Fails unless the answer's status, media type and headers are described.
fn is_described(document: &Value, method: &str, path: &str, got: &Got) {
    let what = format!("{} → {}", got.asked, got.status);
    let responses = &document["paths"][path][method.to_lowercase()]["responses"];
    let response =
        resolve(document, responses.get(got.status.to_string()).unwrap_or_else(|| panic!("{what}")));
    let media = response["content"].as_object();
    match got.headers.get("content-type").filter(|_| !got.body.is_empty()) {
        Some(kind) => {
            assert!(media.is_some_and(|media| media.contains_key(kind.to_str().unwrap())), "{what}: {kind:?}")
        }
        None => assert!(media.is_none() || method == "HEAD", "{what}: no body"),
    }
    let described = response["headers"].as_object().unwrap();
    for (name, header) in described {
        let needed = resolve(document, header)["required"] == true;
        assert!(!needed || got.headers.contains_key(name), "{what} has no {name}: {:?}", got.headers);
    }
    // What belongs to HTTP itself is not described.
    let own = [
        "content-type",
        "content-length",
        "transfer-encoding",
        "date",
        "connection",
        "x-content-type-options",
        "content-security-policy",
        "referrer-policy",
        "x-accel-buffering",
    ];
    for name in got.headers.keys().map(|name| name.as_str()).filter(|name| !own.contains(name)) {
        assert!(described.keys().any(|known| known.eq_ignore_ascii_case(name)), "{what}: {name}");
    }
}

#[tokio::test]
async fn what_is_answered_is_described() {
    let daemon = Daemon::push(&["--max-body-bytes", "1KiB", "--client-table", "9"]);
    let http = daemon.http();
    let document = document(&http).await;
    let first = http.post(&[put("a/b", "1")]).await;
    let second = http.post(&[put("a/b", "2"), put("c", "1")]).await;
    let other_digit = if first.starts_with('0') { '1' } else { '0' };
    let gone = format!("{other_digit}{}", &first[1..]);
    let current = "/v1/breadcrumbs/current";
    let (next, kept) = ("/v1/breadcrumbs/{cursor}/next", "/v1/breadcrumbs/{cursor}");
    let (diff, key) = ("/v1/breadcrumbs/{from}/diff/{to}", "/v1/kv/{key}");
    let reads = [
        (current, current.to_owned()),
        (current, format!("{current}?x")),
        (next, format!("/v1/breadcrumbs/{first}/next")),
        (next, format!("/v1/breadcrumbs/{second}/next?wait=0")),
        (next, format!("/v1/breadcrumbs/{gone}/next")),
        (kept, format!("/v1/breadcrumbs/{first}")),
        (kept, format!("/v1/breadcrumbs/{gone}")),
        (diff, format!("/v1/breadcrumbs/{first}/diff/{second}")),
        ("/v1/kv", "/v1/kv?limit=1".to_owned()),
        ("/v1/kv", "/v1/kv?prefix=a&prefix=c&start_after_base64=YQ".to_owned()),
        ("/v1/kv", "/v1/kv?key=a/b".to_owned()),
        ("/v1/kv", "/v1/kv?key=absent".to_owned()),
        ("/v1/kv", format!("/v1/kv?key=a/b&after={second}&wait=0")),
        (key, "/v1/kv/a/b".to_owned()),
        (key, "/v1/kv/absent".to_owned()),
        (key, format!("/v1/kv/a%2Fb?after={second}&wait=0")),
        ("/v1/status", "/v1/status".to_owned()),
        ("/v1/collections", "/v1/collections".to_owned()),
        ("/v1/clients", "/v1/clients".to_owned()),
        ("/livez", "/livez".to_owned()),
        ("/readyz", "/readyz".to_owned()),
        ("/metrics", "/metrics".to_owned()),
        ("/openapi.json", "/openapi.json".to_owned()),
        ("/", "/".to_owned()),
        ("/page.css", "/page.css".to_owned()),
        ("/page.js", "/page.js".to_owned()),
    ];
    let mut seen = BTreeSet::new();
    for (path, asked) in &reads {
        for accept in [
            "application/json",
            "application/x-ndjson",
            "application/json; values=string",
            "application/x-ndjson; values=string",
            "application/vnd.crumbd.v1+bincode",
            "text/none",
            "*/*",
        ] {
            for condition in [("if-none-match", "*"), ("if-match", "\"another\""), ("if-match", "*")] {
                let got = http.get_with(asked, &[("accept", accept), condition]).await;
                is_described(&document, "get", path, &got);
                seen.insert((*path, got.status));
            }
        }
    }
    let value = Some(b"1".to_vec());
    let writes = [
        ("PUT", key, "/v1/kv/a/b", vec![], value.clone()),
        ("PUT", key, "/v1/kv/a/b", vec![("if-none-match", "*")], value.clone()),
        ("PUT", key, "/v1/kv/a/b", vec![("content-encoding", "gzip")], value.clone()),
        ("PUT", key, "/v1/kv/a/b", vec![], Some(vec![b'x'; 2000])),
        ("DELETE", key, "/v1/kv/a/b", vec![("if-match", "\"0\"")], None),
        ("DELETE", key, "/v1/kv/a/b", vec![], None),
        ("PUT", "/v1/kv", "/v1/kv?key=.", vec![], value.clone()),
        ("PUT", "/v1/kv", "/v1/kv", vec![("crumbd-key", "YQ")], value.clone()),
        ("PUT", "/v1/kv", "/v1/kv", vec![], value.clone()),
        ("DELETE", "/v1/kv", "/v1/kv?key_base64=Lg", vec![], None),
        ("DELETE", "/v1/kv", "/v1/kv", vec![], None),
        ("POST", "/v1/updates", "/v1/updates", vec![("host", "page.example")], None),
        ("POST", "/v1/updates", "/v1/updates", vec![("if-match", "*")], None),
        ("POST", "/v1/updates", "/v1/updates", vec![], None),
        ("POST", "/v1/updates", "/v1/updates", vec![], Some(lines(&[put("x", "1")]))),
        ("POST", "/v1/updates", "/v1/updates", vec![], Some(b"no record".to_vec())),
    ];
    for (method, path, asked, headers, body) in writes {
        let got = http.send(method, asked, &headers, body).await;
        is_described(&document, method, path, &got);
        seen.insert((path, got.status));
    }
    for status in [200, 204, 304, 400, 404, 405, 406, 410, 412, 413, 415, 421] {
        assert!(seen.iter().any(|(_, seen)| *seen == status), "no {status} was looked at");
    }
}

#[tokio::test]
async fn an_event_stream_that_stands_for_a_503_is_described() {
    let daemon = Daemon::push(&["--max-waiters", "1"]);
    let http = daemon.http();
    let document = document(&http).await;
    let cursor = http.cursor().await;
    let other = daemon.http();
    let _waiter = tokio::spawn(async move { other.get(&format!("/v1/breadcrumbs/{cursor}/next")).await });
    support::eventually("a waiter", async || {
        let status = http.get("/v1/status").await.json();
        (status["waiters"] == 1).then_some(())
    })
    .await;
    let refused = http.get_with("/v1/stream", &[("accept", "text/event-stream")]).await.ok(200);
    is_described(&document, "get", "/v1/stream", &refused);
    is_described(&document, "get", "/v1/stream", &http.get("/v1/stream").await);
}

/// Calls `look` with each object anywhere.
fn each_object(value: &Value, look: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            look(members);
            members.values().for_each(|member| each_object(member, look));
        }
        Value::Array(items) => items.iter().for_each(|item| each_object(item, look)),
        _ => {}
    }
}

#[tokio::test]
async fn tools_that_know_no_newer_version_get_openapi_3_0_with_the_same_operations() {
    let daemon = Daemon::push(&["--base-path", "/crumbd"]);
    let http = daemon.http();
    let newest = document(&http).await;
    assert_eq!(http.get("/openapi.json?version=3.1").await.ok(200).json(), newest);
    assert_eq!(newest["servers"][0]["url"], "/crumbd");
    let older = http.get("/openapi.json?version=3.0").await.ok(200);
    assert_ne!(older.need("etag"), http.get("/openapi.json").await.need("etag"));
    let older = older.json();
    assert_eq!(older["openapi"], "3.0.3");
    let named = |document: &Value| -> BTreeSet<String> {
        operations(document).iter().map(|(method, path, ..)| format!("{method} {path}")).collect()
    };
    assert_eq!(named(&older), named(&newest));
    let mut nullable = 0;
    each_object(&older, &mut |members| {
        assert!(!members.contains_key("$ref") || members.len() == 1, "{members:?}");
        assert!(!members.get("type").is_some_and(Value::is_array), "{members:?}");
        nullable += usize::from(members.contains_key("nullable"));
        for unknown in ["const", "examples", "if", "then", "else", "dependentSchemas", "contentEncoding"] {
            assert!(!members.contains_key(unknown), "{members:?}");
        }
    });
    assert!(nullable > 3, "{nullable} members may be null");
    for unknown in ["3.2", "2", ""] {
        http.get(&format!("/openapi.json?version={unknown}")).await.problem(400);
    }
}

#[tokio::test]
async fn a_daemon_that_wants_tokens_says_so_and_who_has_the_document_need_not_fetch_it_again() {
    let open = Daemon::push(&[]);
    let document_of_open = document(&open.http()).await;
    assert_eq!(document_of_open["security"], serde_json::json!([]));
    let etag = open.http().get("/openapi.json").await.need("etag").to_owned();
    let again = open.http().get_with("/openapi.json", &[("if-none-match", &etag)]).await.ok(304);
    assert!(again.body.is_empty() && again.need("etag") == etag);
    open.http().get_with("/openapi.json", &[("if-match", "\"another\"")]).await.problem(412);

    let mut tokens = TokenFile::new();
    let token = tokens.add(&["only/this"], &[]);
    let guarded = tokens.daemon(&[]);
    guarded.http().get("/openapi.json").await.problem(401);
    let http = token.http(&guarded);
    let document = document(&http).await;
    let scheme = document["security"][0].as_object().unwrap().keys().next().unwrap();
    assert_eq!(document["components"]["securitySchemes"][scheme]["scheme"], "bearer");
    assert_ne!(http.get("/openapi.json").await.need("etag"), etag);
    for (method, path, operation, _) in operations(&document) {
        let open = operation["security"] == serde_json::json!([]);
        let got = guarded.http().send(&method, &filled(path, "x"), &[], None).await;
        assert_eq!(got.status != 401, open, "{method} {path}: {}", got.status);
    }
}
