//! The calls by their paths.

use axum::http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;

use super::front::EtcdFront;
use super::grpc::{self, Body, Messages, Unary};
use crate::http::client::Peer;

impl EtcdFront {
    /// Answers a call of a client.
    pub(super) async fn answer(self, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        match self.call(peer, request).await {
            Ok(response) => response,
            Err(status) => grpc::failed(status),
        }
    }

    async fn call(self, peer: Peer, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let call = self.admit(peer, &head.headers)?;
        let mut messages = Messages::new(body);
        let path = head.uri.path();
        if path == "/etcdserverpb.Watch/Watch" {
            return call.watch(messages);
        }
        let answer = match path {
            "/etcdserverpb.KV/Range" => call.range(grpc::decode(messages.only().await?)?).await,
            _ => Err(Status::unimplemented(format!("crumbd: there is no method {path}"))),
        };
        answer.map(Unary::into_response)
    }
}
