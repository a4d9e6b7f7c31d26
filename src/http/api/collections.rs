//! `GET /v1/collections`: the collections of the daemon.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};

use crate::http::api::status::time;
use crate::http::app::App;
use crate::http::auth::access::{Access, Admission};
use crate::http::collection::Collection;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply::{self, no_store};
use crate::model::CollectionName;

/// The collections in which the client may read or monitor something, the default one first.
pub(in crate::http) async fn collections(
    State(app): State<App>,
    admission: Admission,
    uri: Uri,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let described = app.collections.iter().filter_map(|collection| {
        let access = admission.access_to(collection).ok()?;
        (access.may_read_something() || access.may_monitor()).then(|| describe(&app, collection, &access))
    });
    let answer = json!({ "collections": described.collect::<Vec<_>>() });
    // Strings and numbers always serialize.
    let mut body = serde_json::to_vec(&answer).unwrap_or_default();
    body.push(b'\n');
    Ok(no_store(reply::into_response(reply::body(body, "application/json"))))
}

fn describe(app: &App, collection: &Collection, access: &Access) -> Value {
    let cache = collection.view.cache();
    let crumb = cache.current_breadcrumb();
    let mut described = json!({
        "name": collection.name().map(CollectionName::as_str),
        "path": format!("{}{}", app.base_path, collection.path()),
        "feed": collection.feed,
        "status": crumb.sync_status().as_str(),
        "ready": cache.was_in_sync() && !app.shutdown.has_begun(),
        "upstream_heard_timestamp": collection.upstream.heard_at().map(time),
        "age_seconds": collection.upstream.age().as_secs_f64(),
    });
    if access.may_monitor() {
        described["count"] = crumb.kvs().len().into();
    }
    described
}
