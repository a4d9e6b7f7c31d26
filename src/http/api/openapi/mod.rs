//! `GET /openapi.json`: the interface for programs that make clients.
//!
//! The document is checked in, in parts by theme, and put together when it is asked for first. A test holds that it
//! names every address, method and query parameter that there is, and no other.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::http::app::App;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply;

const PARTS: [&str; 8] = [
    include_str!("description.json"),
    include_str!("breadcrumbs.json"),
    include_str!("keys.json"),
    include_str!("daemon.json"),
    include_str!("parameters.json"),
    include_str!("headers.json"),
    include_str!("responses.json"),
    include_str!("schemas.json"),
];

struct Document {
    body: Bytes,
    etag: String,
}

/// For a daemon that is open, and for one that wants tokens.
static DOCUMENTS: LazyLock<[Document; 2]> = LazyLock::new(|| [false, true].map(document));

pub(in crate::http) async fn openapi(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let Document { body, etag } = &DOCUMENTS[usize::from(app.is_guarded())];
    let mut response = match reply::not_modified(&headers, etag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => reply::framed(reply::body(body.clone(), "application/json")),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply::text(headers, ETAG, etag);
    Ok(response)
}

fn document(guarded: bool) -> Document {
    let mut whole = Value::Null;
    for part in PARTS {
        merge(&mut whole, serde_json::from_str(part).expect("the parts are JSON: a test reads them"));
    }
    whole["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    if guarded {
        // What is open all the same says so itself.
        whole["security"] = json!([{ "token": [] }]);
    }
    let body = Bytes::from(format!("{whole}\n"));
    let etag = format!("\"{:016x}\"", xxh3_64(&body));
    Document { body, etag }
}

/// Adds the members of one value to another; what is no object replaces.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_address_of_the_router_is_described_and_no_other() {
        let document: Value = serde_json::from_slice(&document(false).body).expect("a document");
        let described: BTreeSet<&str> =
            document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        // A router cannot be asked for its routes.
        let routes = include_str!("../../router.rs").split(".route(\"").skip(1);
        let routes = routes.filter_map(|rest| rest.split('"').next());
        // Those of a collection are written below its base.
        let own = ["/metrics", "/openapi.json", "/", "/page.css", "/page.js", "/livez", "/readyz"];
        let base = |route: &str| if own.contains(&route) { "" } else { "/v1" };
        let routes = routes.map(|route| format!("{}{route}", base(route)));
        // The empty key's address is that of any key.
        let routes: BTreeSet<String> =
            routes.filter(|route| route != "/v1/kv/").map(|route| route.replace('*', "")).collect();
        assert!(routes.len() > 10, "the routes were not found: {routes:?}");
        assert_eq!(described, routes.iter().map(String::as_str).collect());
    }
}
