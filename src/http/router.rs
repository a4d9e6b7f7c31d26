//! The routes.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state, map_request, map_request_with_state, map_response};
use axum::routing::{get, post};

use crate::http::access_log;
use crate::http::api::{breadcrumbs, clients, collections, health, kv, openapi, status, stream, write};
use crate::http::app::App;
use crate::http::auth::{access, cors, host};
use crate::http::metrics;
use crate::http::page;
use crate::http::refusals;
use crate::http::rep::problem::{self, Problem};
use crate::http::rep::{conditions, excluded_identity, key_address, relay};

/// The routes of a collection, relative to its base path.
fn collection(app: &App) -> Router<App> {
    Router::new()
        .route("/breadcrumbs/current", get(breadcrumbs::current))
        .route("/breadcrumbs/{cursor}/next", get(breadcrumbs::next))
        .route("/breadcrumbs/{cursor}", get(breadcrumbs::kept))
        .route("/breadcrumbs/{from}/diff/{to}", get(breadcrumbs::diff))
        .route("/stream", get(stream::stream))
        // A key that a path cannot carry is in the query or a header.
        .route(
            "/kv",
            get(kv::list_or_get)
                .put(write::put)
                .delete(write::delete)
                .layer(from_fn(key_address::refuse_writes_without_key)),
        )
        // The empty key.
        .route("/kv/", get(kv::get).put(write::put).delete(write::delete))
        .route("/kv/{*key}", get(kv::get).put(write::put).delete(write::delete))
        .route("/updates", post(write::post))
        .route("/status", get(status::status))
        .layer(from_fn(conditions::honour))
        .layer(from_fn_with_state(app.clone(), relay::inform))
}

/// The routes that need no token: orchestrators and load balancers have none, and the page holds no data.
fn public(app: &App) -> Router<App> {
    Router::new()
        .route("/", get(page::page))
        .route("/page.css", get(page::style))
        .route("/page.js", get(page::script))
        .layer(from_fn(conditions::honour))
        .layer(map_request_with_state(app.clone(), access::count))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .method_not_allowed_fallback(problem::method_not_allowed)
}

/// All routes: those of the default collection under `/v1/`, those of a named one under `/v1/c/NAME/`, the daemon's, and
/// before them those of the program that the daemon is a part of.
pub(crate) fn router(app: App) -> Router {
    let own = app.routes.clone();
    let daemon = daemon(app.clone());
    let all = match own {
        Some(own) => own.fallback_service(daemon),
        None => daemon,
    };
    logged(all, app)
}

/// The routes, whose requests have lines in the access log if it is on.
pub(in crate::http) fn logged(routes: Router, app: App) -> Router {
    match app.records_requests() {
        true => routes.layer(from_fn_with_state(app, access_log::record)),
        false => routes,
    }
}

fn daemon(app: App) -> Router {
    Router::new()
        .nest("/v1", collection(&app))
        .nest("/v1/c/{collection}", collection(&app))
        .route("/v1/collections", get(collections::collections))
        .route("/v1/clients", get(clients::clients))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::openapi).layer(from_fn(conditions::honour)))
        .fallback(async || {
            Problem::not_found(
                "there is no such endpoint; GET /openapi.json lists all of them, GET /v1/breadcrumbs/current is the state",
            )
        })
        .method_not_allowed_fallback(problem::method_not_allowed)
        // Every request to a handler above passes here, also one that no route matches.
        .layer(map_request_with_state(app.clone(), access::admit))
        .layer(map_request_with_state(app.clone(), host::require_allowed))
        .merge(public(&app))
        .layer(from_fn_with_state(app.clone(), cors::apply))
        .layer(map_request(host::require_one))
        .layer(map_response(problem::fill_empty_errors))
        .layer(from_fn(excluded_identity::encode_answer))
        .layer(from_fn_with_state(app.clone(), refusals::observe))
        // The write handlers limit bodies themselves.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}
