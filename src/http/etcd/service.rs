//! The calls by their paths.

use std::convert::Infallible;
use std::sync::Arc;

use axum::http::{HeaderMap, Request, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, stream};
use hyper::body::{Frame, Incoming};
use tonic::{Code, Status};

use super::front::{Call, EtcdFront};
use super::grpc::{self, Body, Messages, Unary};
use super::status;
use crate::http::access_log::{Line, RequestHead};
use crate::http::client::Peer;
use crate::view::etcd::Room;

/// A message takes up to so many times its bytes as JSON.
const JSON_BYTES: u64 = 4;

impl EtcdFront {
    /// Answers a call of a client.
    pub(super) async fn answer(self, peer: Peer, request: Request<Incoming>) -> Response<Body> {
        let (app, path) = (self.app().clone(), request.uri().clone());
        let head = || RequestHead::new("POST", path.path(), "HTTP/2", request.headers());
        let line = app.records_requests().then(|| Line::begin(&app, Arc::new(head()), &peer)).flatten();
        let line = line.map(|mut line| {
            line.is_of_token(self.token_name(request.headers()));
            line
        });
        let answered = self.call(peer, request).await;
        let code = answered.as_ref().map_or_else(Status::code, |_| Code::Ok);
        app.metrics.etcd.count_call(path.path(), code as i32);
        if let Some(mut line) = line {
            line.is_answered_call(code as i32);
        }
        answered.unwrap_or_else(grpc::failed)
    }

    async fn call(self, peer: Peer, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let is_unary = !["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"].contains(&path);
        let mut messages = Messages::new(body, is_unary, self.app().config.stall_timeout);
        if path == "/etcdserverpb.Auth/Authenticate" {
            self.count_request(peer.client())?;
            let request = grpc::decode(messages.only().await?)?;
            return self.authenticate(request).map(Unary::into_response);
        }
        let call = self.admit(peer, &head.headers)?;
        let mut messages = messages.of_client(self.app().clone(), Arc::clone(call.client()));
        match path {
            "/etcdserverpb.Watch/Watch" => call.watch(messages),
            "/etcdserverpb.Lease/LeaseKeepAlive" => call.keep_alives(messages),
            _ => {
                let message = messages.only().await?;
                call.unary(path, message).await.map(Unary::into_response)
            }
        }
    }
}

impl EtcdFront {
    /// Answers a call whose request is one message, with one message that will be JSON.
    pub(super) async fn answer_message(
        &self,
        peer: Peer,
        headers: &HeaderMap,
        path: &str,
        message: Bytes,
    ) -> Result<(Bytes, Option<Room>), Status> {
        let answered = async {
            if path == "etcdserverpb.Auth/Authenticate" {
                self.count_request(peer.client())?;
                return self.authenticate(grpc::decode(message)?);
            }
            let call = Call { copies: 1 + JSON_BYTES, ..self.admit(peer, headers)? };
            call.unary(path, message).await
        };
        let answered = answered.await;
        let code = answered.as_ref().map_or_else(Status::code, |_| Code::Ok);
        self.app().metrics.etcd.count_call(path, code as i32);
        answered.map(Unary::into_bytes)
    }
}

impl Call {
    /// Answers a call with one request and one answer.
    pub(super) async fn unary(&self, path: &str, message: Bytes) -> Result<Unary, Status> {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        match (service, method) {
            ("etcdserverpb.KV", "Range") => self.range(grpc::decode(message)?).await,
            ("etcdserverpb.KV", "Put") => self.put(message).await,
            ("etcdserverpb.KV", "DeleteRange") => self.delete_range(message).await,
            ("etcdserverpb.KV", "Txn") => self.txn(message).await,
            ("etcdserverpb.KV", "Compact") => Err(Self::no_compaction()),
            ("etcdserverpb.Lease", "LeaseGrant") => {
                self.lease("/etcdserverpb.Lease/LeaseGrant", message).await
            }
            ("etcdserverpb.Lease", "LeaseRevoke") => {
                self.lease("/etcdserverpb.Lease/LeaseRevoke", message).await
            }
            ("etcdserverpb.Lease", "LeaseTimeToLive") => {
                self.lease("/etcdserverpb.Lease/LeaseTimeToLive", message).await
            }
            ("etcdserverpb.Lease", "LeaseLeases") => {
                self.lease("/etcdserverpb.Lease/LeaseLeases", message).await
            }
            ("etcdserverpb.Auth", "AuthStatus") => self.auth_status(),
            ("etcdserverpb.Auth", _) => Err(Self::no_auth()),
            ("etcdserverpb.Cluster", "MemberList") => Ok(self.members()),
            ("etcdserverpb.Cluster", _) => Err(Self::no_membership()),
            ("etcdserverpb.Maintenance", "Status") => Ok(self.status()),
            ("etcdserverpb.Maintenance", "Alarm") => self.alarms(&grpc::decode(message)?),
            ("etcdserverpb.Maintenance", "Hash") => self.hash(),
            ("etcdserverpb.Maintenance", "HashKV") => self.hash_kv(message),
            ("etcdserverpb.Maintenance", method) => Err(Self::no_maintenance(method)),
            _ => Err(Status::unimplemented(format!("crumbd: etcd's API has no method {path}"))),
        }
    }

    /// `LeaseKeepAlive`: an answer for each request, until the rights change or the daemon stops. The stream is a waiter.
    fn keep_alives(self, messages: Messages) -> Result<Response<Body>, Status> {
        let (place, app) = (self.place()?, self.app().clone());
        let drain: BoxFuture<'static, ()> = Box::pin(async move { app.drain_delay().await });
        let answers = stream::unfold(Some((self, messages, drain, place)), |state| async {
            let (call, mut messages, mut drain, place) = state?;
            let answer = async {
                match messages.next().await? {
                    Some(message) => call.keep_alive(message).await.map(Some),
                    None => Ok(None),
                }
            };
            let answer = tokio::select! {
                biased;
                status = call.revoked() => Err(status),
                () = &mut drain => Err(status::unavailable("the daemon is stopping")),
                answer = answer => answer,
            };
            match answer {
                Ok(Some(answer)) => {
                    let mut frame = BytesMut::from(&grpc::prefix(answer.len())[..]);
                    frame.put(answer);
                    Some((Frame::data(frame.freeze()), Some((call, messages, drain, place))))
                }
                Ok(None) => Some((grpc::trailers(&Status::ok("")), None)),
                Err(status) => Some((grpc::trailers(&status), None)),
            }
        });
        Ok(grpc::stream(answers.map(Ok::<_, Infallible>)))
    }
}
