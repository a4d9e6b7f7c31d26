//! etcd's API as JSON over HTTP: `POST /v3/kv/range` and its like. Each request is the call of the same name.

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, BodyStream};
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::{Code, Status};

use super::front::{Call, EtcdFront};
use super::grpc::{self, Messages};
use super::maintenance::API_VERSION;
use super::status;
use crate::http::auth::{cors, host, origin};
use crate::http::client::Peer;
use crate::http::rep::problem::Problem;
use crate::http::rep::request_body::{self, BodyError, RequestBody};
use crate::wire::etcd::json;
use crate::wire::etcd::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use crate::wire::etcd::watch::{WatchRequest, WatchResponse};
use crate::wire::etcd::{auth, cluster, kv, maintenance};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Whether the daemon is ready. It answers to every name: balancers have names of their own for it.
const HEALTH: &str = "/health";

/// The calls that change nothing, below `/v3`. A page of an allowed origin may make them.
const READS: [&str; 8] = [
    "/kv/range",
    "/watch",
    "/auth/status",
    "/cluster/member/list",
    "/maintenance/status",
    "/maintenance/alarm",
    "/maintenance/hash",
    "/maintenance/hashkv",
];

/// The routes of a front.
pub(in crate::http) fn router(front: EtcdFront) -> Router {
    let v3 = || {
        Router::new()
            .route("/kv/range", unary::<kv::RangeRequest, kv::RangeResponse>("etcdserverpb.KV/Range"))
            .route("/kv/put", unary::<kv::PutRequest, kv::PutResponse>("etcdserverpb.KV/Put"))
            .route(
                "/kv/deleterange",
                unary::<kv::DeleteRangeRequest, kv::DeleteRangeResponse>("etcdserverpb.KV/DeleteRange"),
            )
            .route("/kv/txn", unary::<kv::TxnRequest, kv::TxnResponse>("etcdserverpb.KV/Txn"))
            .route(
                "/kv/compaction",
                unary::<kv::CompactionRequest, kv::CompactionResponse>("etcdserverpb.KV/Compact"),
            )
            .route("/watch", post(watch))
            .merge(leases("/lease"))
            .merge(leases("/kv/lease"))
            .route(
                "/auth/authenticate",
                unary::<auth::AuthenticateRequest, auth::AuthenticateResponse>(
                    "etcdserverpb.Auth/Authenticate",
                ),
            )
            .route(
                "/auth/status",
                unary::<auth::AuthStatusRequest, auth::AuthStatusResponse>("etcdserverpb.Auth/AuthStatus"),
            )
            .route(
                "/cluster/member/list",
                unary::<cluster::MemberListRequest, cluster::MemberListResponse>(
                    "etcdserverpb.Cluster/MemberList",
                ),
            )
            .route(
                "/maintenance/status",
                unary::<maintenance::StatusRequest, maintenance::StatusResponse>(
                    "etcdserverpb.Maintenance/Status",
                ),
            )
            .route(
                "/maintenance/alarm",
                unary::<maintenance::AlarmRequest, maintenance::AlarmResponse>(
                    "etcdserverpb.Maintenance/Alarm",
                ),
            )
            .route(
                "/maintenance/hash",
                unary::<maintenance::HashRequest, maintenance::HashResponse>("etcdserverpb.Maintenance/Hash"),
            )
            .route(
                "/maintenance/hashkv",
                unary::<maintenance::HashKvRequest, maintenance::HashKvResponse>(
                    "etcdserverpb.Maintenance/HashKV",
                ),
            )
    };
    Router::new()
        .nest("/v3", v3())
        .nest("/v3beta", v3())
        .route("/version", get(version))
        .route(HEALTH, get(health))
        .fallback(async || {
            failed(&Status::not_found("crumbd: there is no such path here; etcd's API is under /v3/"))
        })
        .method_not_allowed_fallback(async || {
            let mut response = failed(&Status::unimplemented("crumbd: etcd's API takes POST"));
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
        })
        .layer(from_fn_with_state(front.app().clone(), cors::apply))
        .layer(from_fn_with_state(front.clone(), guard))
        // The handlers limit bodies themselves.
        .layer(DefaultBodyLimit::disable())
        .with_state(front)
}

fn leases(base: &str) -> Router<EtcdFront> {
    Router::new()
        .route(
            &format!("{base}/grant"),
            unary::<LeaseGrantRequest, LeaseGrantResponse>("etcdserverpb.Lease/LeaseGrant"),
        )
        .route(
            &format!("{base}/revoke"),
            unary::<LeaseRevokeRequest, LeaseRevokeResponse>("etcdserverpb.Lease/LeaseRevoke"),
        )
        .route(
            &format!("{base}/timetolive"),
            unary::<LeaseTimeToLiveRequest, LeaseTimeToLiveResponse>("etcdserverpb.Lease/LeaseTimeToLive"),
        )
        .route(
            &format!("{base}/leases"),
            unary::<LeaseLeasesRequest, LeaseLeasesResponse>("etcdserverpb.Lease/LeaseLeases"),
        )
        .route(&format!("{base}/keepalive"), post(keep_alive))
}

/// Keeps web pages out, as on the main port.
async fn guard(State(front): State<EtcdFront>, request: Request, next: Next) -> Response<Body> {
    match front.admit_page(request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => {
            let mut response = failed(&status::of_problem(&problem));
            *response.status_mut() = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::FORBIDDEN);
            response
        }
    }
}

impl EtcdFront {
    /// Refuses a request to a name that a page could have, and a call by a page of another origin. Such a page may read where
    /// its origin is allowed.
    async fn admit_page(&self, request: Request) -> Result<Request, Problem> {
        let app = self.app();
        let request = host::require_one(request).await?;
        if request.uri().path() != HEALTH {
            self.hosts().require(&request)?;
        }
        let path = request.uri().path();
        let call = path.strip_prefix("/v3beta").or_else(|| path.strip_prefix("/v3"));
        let may_read = call.is_some_and(|call| READS.contains(&call)) && app.origins.allow(request.headers());
        // A preflight asks for a call.
        if ![Method::GET, Method::HEAD].contains(request.method()) && !may_read {
            origin::refuse_cross_origin(request.headers())?;
        }
        Ok(request)
    }

    /// The body of a request, whose bytes count for its address.
    async fn body(&self, peer: &Peer, request: Request) -> Result<RequestBody, Status> {
        let read = request_body::read(self.app(), peer.client(), request).await;
        read.map_err(|(BodyError::Incomplete(problem) | BodyError::Refused(problem))| {
            status::of_problem(&problem)
        })
    }
}

/// A call with one request and one answer.
fn unary<Q, A>(method: &'static str) -> MethodRouter<EtcdFront>
where
    Q: Message + Default + DeserializeOwned + 'static,
    A: Message + Default + Serialize + 'static,
{
    let answer = async move |State(front): State<EtcdFront>,
                             Extension(peer): Extension<Peer>,
                             request: Request| {
        let answered = async {
            let headers = request.headers().clone();
            let body = front.body(&peer, request).await?;
            let request: Q = json::read(&body.bytes).map_err(|error| malformed(&error))?;
            let message = request.encode_to_vec().into();
            let (answer, room) = front.answer_message(peer, &headers, method, message).await?;
            let answer: A = grpc::decode(answer)?;
            let json = json::write(&answer).map_err(|error| Status::internal(format!("crumbd: {error}")))?;
            Ok(Body::new(grpc::held(json, room)))
        };
        match answered.await {
            Ok(json) => with_json(StatusCode::OK, json),
            Err(status) => failed(&status),
        }
    };
    post(answer)
}

/// `POST /v3/watch`: the body has requests, and the answer a line for each message.
async fn watch(
    State(front): State<EtcdFront>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response<Body> {
    let started = async {
        let call = front.admit(peer.clone(), request.headers())?;
        let body = front.body(&peer, request).await?;
        let requests = json::read_all::<WatchRequest>(&body.bytes);
        let requests: Result<Vec<Bytes>, _> =
            requests.map(|request| request.map(|request| request.encode_to_vec().into())).collect();
        call.watch(Messages::of(requests.map_err(|error| malformed(&error))?))
    };
    match started.await {
        Ok(response) => with_json(StatusCode::OK, lines::<WatchResponse>(response.into_body())),
        Err(status) => failed(&status),
    }
}

/// `POST /v3/lease/keepalive`: a line for each request in the body.
async fn keep_alive(
    State(front): State<EtcdFront>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response<Body> {
    let admitted = async {
        let call = front.admit(peer.clone(), request.headers())?;
        let body = front.body(&peer, request).await?;
        let requests = json::read_all::<LeaseKeepAliveRequest>(&body.bytes);
        let requests: Result<Vec<LeaseKeepAliveRequest>, _> = requests.collect();
        Ok((call, requests.map_err(|error| malformed(&error))?))
    };
    match admitted.await {
        Ok((call, requests)) => match kept_alive(&call, requests).await {
            Ok(lines) => with_json(StatusCode::OK, Body::from(lines)),
            Err(status) => failed(&status),
        },
        Err(status) => failed(&status),
    }
}

async fn kept_alive(call: &Call, requests: Vec<LeaseKeepAliveRequest>) -> Result<Vec<u8>, Status> {
    let (_place, mut lines) = (call.place()?, Vec::new());
    for request in requests {
        let answer = tokio::select! {
            biased;
            status = call.revoked() => return Err(status),
            answer = call.keep_alive(request.encode_to_vec().into()) => answer?,
        };
        let answer: LeaseKeepAliveResponse = grpc::decode(answer)?;
        lines.extend(line(&answer));
    }
    Ok(lines)
}

/// The messages of a stream of gRPC as lines, each in a frame of its own, and so in a chunk of HTTP/1.1: as etcd's gateway
/// writes them, and as clients of Python read them.
fn lines<A: Message + Default + Serialize + 'static>(body: grpc::Body) -> Body {
    let frames = BodyStream::new(body.map_err(|never| match never {}));
    let lines = stream::unfold((frames, BytesMut::new()), |(mut frames, mut received)| async move {
        loop {
            while let Some(message) = grpc::split_message(&mut received) {
                if let Ok(message) = A::decode(message) {
                    return Some((Ok(Bytes::from(line(&message))), (frames, received)));
                }
            }
            let frame: hyper::body::Frame<Bytes> = match frames.next().await? {
                Ok(frame) => frame,
                Err(never) => {
                    return Some((Err::<Bytes, std::convert::Infallible>(never), (frames, received)));
                }
            };
            match frame.into_data() {
                Ok(data) => received.extend_from_slice(&data),
                Err(frame) => {
                    let status = frame.trailers_ref().and_then(Status::from_header_map);
                    let status = status.filter(|status| status.code() != Code::Ok)?;
                    let error = json::write_stream_error(status.code() as i32, status.message());
                    return Some((Ok(error.unwrap_or_default().into()), (frames, received)));
                }
            }
        }
    });
    Body::from_stream(lines)
}

fn line(message: &impl Serialize) -> Vec<u8> {
    // A message has nothing that JSON has not.
    json::write_result(message).unwrap_or_default()
}

async fn version() -> Response<Body> {
    let json = format!(r#"{{"etcdserver":"{API_VERSION}","etcdcluster":"{API_VERSION}"}}"#);
    with_json(StatusCode::OK, Body::from(json))
}

/// Whether reads are answered.
async fn health(State(front): State<EtcdFront>) -> Response<Body> {
    let is_ready = front.view().cache().was_in_sync() && !front.app().shutdown.has_begun();
    let (status, health) =
        if is_ready { (StatusCode::OK, "true") } else { (StatusCode::SERVICE_UNAVAILABLE, "false") };
    with_json(status, Body::from(format!(r#"{{"health":"{health}"}}"#)))
}

fn malformed(error: &json::JsonError) -> Status {
    Status::invalid_argument(format!("crumbd: the body is not what is expected: {error}"))
}

fn failed(status: &Status) -> Response<Body> {
    let body = json::write_error(status.code() as i32, status.message()).unwrap_or_default();
    let mut response = with_json(http_status(status.code()), Body::from(body));
    let retry_after = status.metadata().get(RETRY_AFTER.as_str());
    if let Some(Ok(seconds)) = retry_after.map(|seconds| HeaderValue::from_bytes(seconds.as_bytes())) {
        response.headers_mut().insert(RETRY_AFTER, seconds);
    }
    response
}

/// As etcd's gateway answers.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

fn with_json(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}
