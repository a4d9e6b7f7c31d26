//! A connection of an etcd client: gRPC over HTTP/2, or etcd's JSON over either protocol.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;

use super::EtcdFront;
use crate::http::client::Peer;
use crate::http::http2;
use crate::http::serve::connection::{Shared, serve_with_framework};
use crate::http::serve::connection_age::ConnectionAge;
use crate::http::serve::protocol::{Protocol, begins_http2};
use crate::http::serve::read_ahead::Socket;

/// Serves a connection until it is closed.
pub(in crate::http) async fn serve<S: Socket>(
    mut stream: S,
    peer: &Peer,
    shared: &Shared,
    front: &EtcdFront,
) {
    let age = ConnectionAge::new(shared.config.max_connection_age);
    let mut unread = Vec::new();
    let is_http2 = match stream.protocol() {
        Protocol::Http2 => true,
        Protocol::Http1 => false,
        Protocol::ByFirstBytes => {
            let within = shared.config.header_timeout;
            begins_http2(&mut stream, &mut unread, within, &shared.app.shutdown).await
        }
    };
    if is_http2 {
        return serve_http2(stream, unread, peer, shared, front, age).await;
    }
    // The framework gives the connection back between two requests.
    while let Some((back, rest)) = Box::pin(serve_with_framework(stream, unread, peer, shared, age)).await {
        (stream, unread) = (back, rest);
    }
}

async fn serve_http2<S: Socket>(
    stream: S,
    unread: Vec<u8>,
    peer: &Peer,
    shared: &Shared,
    front: &EtcdFront,
    age: ConnectionAge,
) {
    let routes = TowerToHyperService::new(shared.router.clone());
    let (front, from) = (front.clone(), peer.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (front, peer, routes) = (front.clone(), from.clone(), routes.clone());
        async move {
            if is_grpc(&request) {
                let response = front.answer(peer, request).await;
                return Ok::<Response<Body>, Infallible>(response.map(Body::new));
            }
            request = http2::as_origin_form(request);
            request.extensions_mut().insert(peer);
            routes.call(request).await
        }
    });
    http2::serve(stream, unread, peer, shared, age, service).await;
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
