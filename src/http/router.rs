//! The routes.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state, map_request, map_request_with_state, map_response};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, any, get, post};

use crate::http::access_log;
use crate::http::api::{breadcrumbs, clients, collections, health, kv, openapi, status, stream, write};
use crate::http::app::App;
use crate::http::auth::{access, cors, host};
use crate::http::collection::Context;
use crate::http::metrics;
use crate::http::page;
use crate::http::refusals;
use crate::http::rep::problem::{self, Problem};
use crate::http::rep::{conditions, excluded_identity, key_address, relay};

/// Which routes are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum Routes {
    All,
    /// Those that clients need. Of the others it is said where they are.
    ForClients,
}

impl Routes {
    /// A route that clients do not need.
    fn for_operators(self, route: MethodRouter<App>) -> MethodRouter<App> {
        match self {
            Self::All => route,
            Self::ForClients => any(async || for_operators_only()),
        }
    }

    /// The status. A relay reads none of it, but what is added to every answer for a relay, so it gets that everywhere.
    fn status(self) -> MethodRouter<App> {
        let for_relays = async |_: Context, headers: HeaderMap| match headers.contains_key(relay::RELAY) {
            true => StatusCode::NO_CONTENT.into_response(),
            false => for_operators_only().into_response(),
        };
        match self {
            Self::All => get(status::status),
            Self::ForClients => any(async || for_operators_only()).get(for_relays),
        }
    }
}

fn for_operators_only() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "admin-only",
        "this is for operators; the daemon serves it at the addresses of --admin-listen only",
    )
}

/// The routes of a collection, relative to its base path.
fn collection(app: &App, routes: Routes) -> Router<App> {
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
        .route("/status", routes.status())
        .layer(from_fn(conditions::honour))
        .layer(from_fn_with_state(app.clone(), relay::inform))
}

/// The routes that need no token: orchestrators and load balancers have none, and the page holds no data.
fn public(app: &App, routes: Routes) -> Router<App> {
    Router::new()
        .route("/", routes.for_operators(get(page::page)))
        .route("/page.css", routes.for_operators(get(page::style)))
        .route("/page.js", routes.for_operators(get(page::script)))
        .layer(from_fn(conditions::honour))
        .layer(map_request_with_state(app.clone(), access::count))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .method_not_allowed_fallback(problem::method_not_allowed)
}

/// All routes: those of the default collection under `/v1/`, those of a named one under `/v1/c/NAME/`, the daemon's, and
/// before them those of the program that the daemon is a part of.
pub(in crate::http) fn router(app: App, routes: Routes) -> Router {
    let own = app.routes.clone();
    let daemon = daemon(app.clone(), routes);
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

fn daemon(app: App, routes: Routes) -> Router {
    let openapi = get(openapi::openapi).layer(from_fn(conditions::honour));
    Router::new()
        .nest("/v1", collection(&app, routes))
        .nest("/v1/c/{collection}", collection(&app, routes))
        .route("/v1/collections", routes.for_operators(get(collections::collections)))
        .route("/v1/clients", routes.for_operators(get(clients::clients)))
        .route("/metrics", routes.for_operators(get(metrics::metrics)))
        .route("/openapi.json", routes.for_operators(openapi))
        .fallback(async || {
            Problem::not_found(
                "there is no such endpoint; GET /openapi.json lists all of them, GET /v1/breadcrumbs/current is the state",
            )
        })
        .method_not_allowed_fallback(problem::method_not_allowed)
        // Every request to a handler above passes here, also one that no route matches.
        .layer(map_request_with_state(app.clone(), access::admit))
        .layer(map_request_with_state(app.clone(), host::require_allowed))
        .merge(public(&app, routes))
        .layer(from_fn_with_state(app.clone(), cors::apply))
        .layer(map_request(host::require_one))
        .layer(map_response(problem::fill_empty_errors))
        .layer(from_fn(excluded_identity::encode_answer))
        .layer(from_fn_with_state(app.clone(), refusals::observe))
        // The write handlers limit bodies themselves.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}
