//! `GET /v1/clients`: the newest clients, for operators.

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use serde_json::{Value, json};

use crate::http::app::App;
use crate::http::auth::access::Admission;
use crate::http::client_table::{ClientId, LastSeen};
use crate::http::rep::problem::Problem;
use crate::http::rep::query::Query;
use crate::http::rep::reply::{self, no_store};
use crate::model::CollectionName;

/// The rows without `limit=`.
const DEFAULT_LIMIT: usize = 1000;

/// The most rows in one answer.
const MAX_LIMIT: usize = 10_000;

/// The rows of the clients that were heard last, the newest first.
pub(in crate::http) async fn clients(
    State(app): State<App>,
    admission: Admission,
    uri: Uri,
) -> Result<Response, Problem> {
    let limit = Query::parse(&uri, &["limit"])?.number("limit")?.unwrap_or(DEFAULT_LIMIT);
    admission.require_admin()?;
    if limit == 0 {
        return Err(Problem::bad_request(format!(
            "query parameter \"limit\" is 0: expected 1 to {MAX_LIMIT}"
        )));
    }
    let Some(table) = &app.clients else {
        return Err(Problem::not_found(
            "this daemon keeps no table of clients; start it with --client-table N",
        ));
    };
    let (count, rows) = table.newest(limit.min(MAX_LIMIT));
    let rows: Vec<Value> = rows.iter().map(|(client, seen)| row(&app, client, seen)).collect();
    let answer = json!({ "count": count, "capacity": table.capacity(), "clients": rows });
    // Strings and numbers always serialize.
    let mut body = serde_json::to_vec(&answer).unwrap_or_default();
    body.push(b'\n');
    Ok(no_store(reply::into_response(reply::body(body, "application/json"))))
}

fn row(app: &App, client: &ClientId, seen: &LastSeen) -> Value {
    let collection = client.collection.as_ref().map(CollectionName::as_str);
    let newest = app.collections.find(collection).map(|collection| {
        let newest = collection.view.cache().current_breadcrumb();
        (newest.kvs().history(), newest.revision())
    });
    // A client of another history has to fetch the state again; it is not behind by a number of revisions.
    let lag = newest.filter(|(history, _)| *history == seen.cursor.history);
    let lag = lag.map(|(_, revision)| revision.0.saturating_sub(seen.cursor.revision.0));
    json!({
        "name": client.name.as_deref(),
        "address": client.address,
        "collection": collection,
        "activity": seen.activity.as_str(),
        "cursor": seen.cursor.to_string(),
        "lag_revisions": lag,
        "last_heard": humantime::format_rfc3339_millis(seen.at).to_string(),
        "last_heard_seconds": seen.at.elapsed().unwrap_or_default().as_secs_f64(),
    })
}
