//! The routes of the daemon over HTTP/2.

use std::convert::Infallible;
use std::pin::Pin;

use axum::http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, Request, StatusCode, Uri};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;

use crate::http::client::Peer;
use crate::http::http2::{long_poll, serve};
use crate::http::serve::connection::Shared;
use crate::http::serve::connection_age::ConnectionAge;
use crate::http::serve::read_ahead::Socket;

type Answering = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// Serves a connection with the daemon's routes. `unread` are bytes that were read already.
pub(in crate::http) async fn serve_routes<S: Socket>(
    stream: S,
    unread: Vec<u8>,
    peer: &Peer,
    shared: &Shared,
    age: ConnectionAge,
) {
    let routes = TowerToHyperService::new(shared.router.clone());
    let (app, from) = (shared.app.clone(), peer.clone());
    // Boxed, so that a stream that waits has no space for the routes.
    let service = service_fn(move |request: Request<Incoming>| -> Answering {
        let mut request = as_origin_form(request);
        if let Some(plain) = long_poll::plain(&request, &app) {
            return match long_poll::over_rate(&app, &from, &plain) {
                Some(refusal) => Box::pin(std::future::ready(Ok(refusal))),
                None => Box::pin(long_poll::answer(app.clone(), from.clone(), plain)),
            };
        }
        // A stream may outlive the age.
        request.extensions_mut().insert(age);
        request.extensions_mut().insert(from.clone());
        let answered = routes.call(request);
        Box::pin(async move { answered.await.map(without_connection_headers) })
    });
    serve(stream, unread, peer, shared, age, service).await;
}

/// The request as the same one over HTTP/1.1 would be: `:authority` is its `Host`, and its target a path. Where both
/// are there and differ, they are two hosts, and the request is refused as such.
pub(in crate::http) fn as_origin_form(mut request: Request<Incoming>) -> Request<Incoming> {
    let uri = request.uri();
    let authority = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let target = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    if let Some(authority) = authority {
        let headers = request.headers_mut();
        let is_same = |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
        if !headers.get(HOST).is_some_and(is_same) {
            headers.append(HOST, authority);
        }
    }
    *request.uri_mut() = Uri::from(target);
    request
}

/// The response without the headers that speak of a connection, and without a length of what has no body.
pub(super) fn without_connection_headers(mut response: Response) -> Response {
    let has_no_body = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&response.status());
    let headers = response.headers_mut();
    headers.remove(CONNECTION);
    if has_no_body {
        // The router sets it (RFC 9110, 8.6).
        headers.remove(CONTENT_LENGTH);
    }
    response
}
