//! `GET /openapi.json`: the interface as OpenAPI 3.1.
//!
//! The document is checked in as several parts, which are merged at the first request. A test checks that it describes
//! exactly the existing endpoints, methods and query parameters.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::http::app::App;
use crate::http::rep::conditions::if_none_match_has;
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

/// The document of a daemon without tokens, and of one with tokens.
static DOCUMENTS: LazyLock<[Document; 2]> = LazyLock::new(|| [false, true].map(document));

pub(in crate::http) async fn openapi(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let Document { body, etag } = &DOCUMENTS[usize::from(app.is_guarded())];
    let mut response = match if_none_match_has(&headers, etag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => reply::into_response(reply::body(body.clone(), "application/json")),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply::insert_text(headers, ETAG, etag);
    Ok(response)
}

fn document(guarded: bool) -> Document {
    let mut whole = Value::Null;
    for part in PARTS {
        merge(&mut whole, serde_json::from_str(part).expect("the parts are JSON: a test reads them"));
    }
    whole["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    if guarded {
        // Public endpoints override this.
        whole["security"] = json!([{ "token": [] }]);
    }
    let body = Bytes::from(format!("{whole}\n"));
    let etag = format!("\"{:016x}\"", xxh3_64(&body));
    Document { body, etag }
}

/// Merges the members of an object into another one. Any other value replaces.
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
    fn exactly_the_routes_are_described() {
        let document: Value = serde_json::from_slice(&document(false).body).expect("a document");
        let described: BTreeSet<&str> =
            document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        // A router cannot be asked for its routes.
        let routes = include_str!("../../router.rs").split(".route(\"").skip(1);
        let routes = routes.filter_map(|rest| rest.split('"').next());
        // The routes of a collection are relative to its base path.
        let own = ["/metrics", "/openapi.json", "/", "/page.css", "/page.js", "/livez", "/readyz"];
        let base = |route: &str| if own.contains(&route) { "" } else { "/v1" };
        let routes = routes.map(|route| format!("{}{route}", base(route)));
        // The empty key has a route of its own.
        let routes: BTreeSet<String> =
            routes.filter(|route| route != "/v1/kv/").map(|route| route.replace('*', "")).collect();
        assert!(routes.len() > 10, "the routes were not found: {routes:?}");
        assert_eq!(described, routes.iter().map(String::as_str).collect());
    }
}
