//! `GET /openapi.json`: the interface as OpenAPI 3.1, or as 3.0 for tools that know no newer one.
//!
//! The document is checked in as several parts, which are merged at the first request. A test checks that it describes
//! exactly the existing endpoints, methods and query parameters. The 3.0 form is made of the same parts.

mod v3_0;

use std::str::FromStr;
use std::sync::LazyLock;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, ETAG};
use axum::http::{HeaderValue, Uri};
use axum::response::Response;
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

/// The version of OpenAPI that a client wants.
#[derive(Clone, Copy, Default)]
enum Version {
    V3_0,
    #[default]
    V3_1,
}

#[derive(Debug, thiserror::Error)]
#[error("expected 3.1 or 3.0")]
struct UnknownVersion;

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        match text {
            "3.0" => Ok(Self::V3_0),
            "3.1" => Ok(Self::V3_1),
            _ => Err(UnknownVersion),
        }
    }
}

pub(in crate::http) async fn openapi(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let version = Query::parse(&uri, &["version"])?.parsed("version")?.unwrap_or_default();
    let body = format!("{}\n", document(version, app.is_guarded(), &app.base_path));
    let etag = format!("\"{:016x}\"", xxh3_64(body.as_bytes()));
    let mut response = reply::into_response(reply::body(body.into_bytes(), "application/json"));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply::insert_text(headers, ETAG, &etag);
    Ok(response)
}

/// The parts as one document, before anything of a certain daemon.
static MERGED: LazyLock<Value> = LazyLock::new(|| {
    let mut whole = Value::Null;
    for part in PARTS {
        merge(&mut whole, serde_json::from_str(part).expect("the parts are JSON: a test reads them"));
    }
    whole["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    whole
});

fn document(version: Version, guarded: bool, base_path: &str) -> Value {
    let mut whole = MERGED.clone();
    if !base_path.is_empty() {
        whole["servers"] = json!([{ "url": base_path }]);
    }
    // Public endpoints override this.
    whole["security"] = if guarded { json!([{ "token": [] }]) } else { json!([]) };
    if guarded {
        whole["components"]["securitySchemes"] = json!({ "token": { "type": "http", "scheme": "bearer" } });
    }
    match version {
        Version::V3_0 => v3_0::converted(whole),
        Version::V3_1 => whole,
    }
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
        let document = document(Version::V3_1, false, "");
        let described: BTreeSet<&str> =
            document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        // A router cannot be asked for its routes.
        let routes = include_str!("../../router.rs").split(".route(").skip(1);
        let routes = routes.filter_map(|rest| rest.split('"').nth(1));
        // The routes of a collection are relative to its base path.
        let own = [
            "/v1/collections",
            "/v1/clients",
            "/metrics",
            "/openapi.json",
            "/",
            "/page.css",
            "/page.js",
            "/livez",
            "/readyz",
        ];
        let base = |route: &str| if own.contains(&route) { "" } else { "/v1" };
        let routes = routes.map(|route| format!("{}{route}", base(route)));
        // The empty key has a route of its own.
        let routes: BTreeSet<String> =
            routes.filter(|route| route != "/v1/kv/").map(|route| route.replace('*', "")).collect();
        assert!(routes.len() > 10, "the routes were not found: {routes:?}");
        assert_eq!(described, routes.iter().map(String::as_str).collect());
    }
}
