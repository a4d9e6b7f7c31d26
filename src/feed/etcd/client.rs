//! A connection to one member of an etcd cluster: the calls that the feed makes.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::writer::RawCodec;
use super::{EtcdError, Password};
use crate::model::Ttl;
use crate::wire::etcd::auth::{AuthenticateRequest, AuthenticateResponse};
use crate::wire::etcd::kv::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use crate::wire::etcd::lease::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use crate::wire::etcd::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};

/// How long a member may take to accept a connection, and to answer a small request.
const CONNECT: Duration = Duration::from_secs(3);
pub(super) const ANSWER: Duration = Duration::from_secs(3);

/// How long a page of a big range may take.
const PAGE: Duration = Duration::from_secs(30);

/// How long a transaction may take.
const TRANSACTION: Duration = Duration::from_secs(10);

/// A silent connection is pinged after the first time, and given up if no answer comes within the second: a cut network
/// does not close a connection.
const PING_EVERY: Duration = Duration::from_secs(3);
const PING_ANSWER: Duration = Duration::from_secs(2);

/// The largest page, in bytes. A larger one is refused by its header, and requested again in smaller pieces.
const MAX_PAGE: usize = 128 << 20;

/// The largest message of a watch, in bytes: a transaction with values at etcd's own limits may arrive whole.
const MAX_MESSAGE: usize = 1 << 30;

/// How to authenticate with etcd.
#[derive(Clone, Default)]
pub struct EtcdAccess {
    /// Whether to speak TLS at all.
    pub tls: bool,
    /// The authority that signed the server's certificate (PEM); the system's when left out.
    pub ca: Option<PathBuf>,
    /// Client certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// User and password.
    pub user: Option<(String, Password)>,
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Connection {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Connection {
    /// Connects to one endpoint (`host:port`) and authenticates.
    pub(super) async fn open(endpoint: &str, access: &EtcdAccess) -> Result<Self, EtcdError> {
        let scheme = if access.tls { "https" } else { "http" };
        let unreachable = |error: tonic::transport::Error| EtcdError::unreachable(endpoint, &error);
        let mut target = Endpoint::from_shared(format!("{scheme}://{endpoint}"))
            .map_err(unreachable)?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_ANSWER)
            .keep_alive_while_idle(true);
        if access.tls {
            target = target.tls_config(tls(access).await?).map_err(unreachable)?;
        }
        let channel = target.connect().await.map_err(unreachable)?;
        let mut connection = Self { channel, token: None };
        if let Some((name, password)) = access.user.clone() {
            let request = AuthenticateRequest { name, password: password.now().await };
            let answer: AuthenticateResponse =
                connection.unary("/etcdserverpb.Auth/Authenticate", request, ANSWER).await?;
            let token = answer.token.parse().map_err(|_| Status::internal("a token that is not ASCII"))?;
            connection.token = Some(token);
        }
        Ok(connection)
    }

    /// A request with etcd's metadata. A member without a leader refuses it at once rather than answer from old data.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = &self.token {
            metadata.insert("token", token.clone());
        }
        request
    }

    async fn unary<Q, A>(&self, path: &'static str, message: Q, deadline: Duration) -> Result<A, EtcdError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.unary_up_to(path, message, deadline, MAX_PAGE).await
    }

    async fn unary_up_to<Q, A>(
        &self,
        path: &'static str,
        message: Q,
        deadline: Duration,
        max_answer: usize,
    ) -> Result<A, EtcdError>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let call = async {
            let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(max_answer);
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.unary(self.request(message), PathAndQuery::from_static(path), codec).await
        };
        match tokio::time::timeout(deadline, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => {
                Err(Status::deadline_exceeded(format!("no answer within {} s", deadline.as_secs())).into())
            }
        }
    }

    /// One page of a range.
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, EtcdError> {
        let answer = self.unary("/etcdserverpb.KV/Range", request, PAGE).await;
        answer.map_err(EtcdError::of_range)
    }

    /// A transaction. Its answer holds the values before.
    pub(super) async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, EtcdError> {
        self.unary_up_to("/etcdserverpb.KV/Txn", request, TRANSACTION, MAX_MESSAGE).await
    }

    /// A call of a client, with its message as it is. The answer has at most `max_answer` bytes.
    pub(super) async fn pass_on(
        &self,
        path: &'static str,
        message: Bytes,
        max_answer: usize,
    ) -> Result<Bytes, EtcdError> {
        let call = async {
            let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(max_answer);
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            grpc.unary(self.request(message), PathAndQuery::from_static(path), RawCodec).await
        };
        answered(call).await
    }

    /// The same for a call that is a stream: one message and its answer.
    pub(super) async fn pass_on_to_stream(
        &self,
        path: &'static str,
        message: Bytes,
    ) -> Result<Bytes, EtcdError> {
        // The stream stays open until the answer has come.
        let requests = futures_util::stream::iter([message]).chain(futures_util::stream::pending());
        let call = async {
            let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let path = PathAndQuery::from_static(path);
            let answer = grpc.streaming(self.request(requests), path, RawCodec).await?;
            let first = answer.into_inner().message().await?;
            first
                .map(tonic::Response::new)
                .ok_or_else(|| Status::unknown("etcd ended the stream without an answer"))
        };
        answered(call).await
    }

    /// The time for which a lease was granted; `None` when it has expired, or when the user may not read it.
    pub(super) async fn lease_ttl(&self, id: i64) -> Result<Option<Ttl>, EtcdError> {
        let request = LeaseTimeToLiveRequest { id, keys: false };
        let answer: Result<LeaseTimeToLiveResponse, _> =
            self.unary("/etcdserverpb.Lease/LeaseTimeToLive", request, ANSWER).await;
        match answer {
            Ok(answer) => Ok(u32::try_from(answer.granted_ttl).ok().filter(|granted| *granted > 0).map(Ttl)),
            Err(EtcdError::Refused(status))
                if matches!(status.code(), Code::NotFound | Code::PermissionDenied) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a watch.
    pub(super) async fn watch(&self, create: WatchCreateRequest) -> Result<WatchStream, EtcdError> {
        let (requests_sender, mut receive) = mpsc::channel(1);
        let create = WatchRequest { request: Some(WatchRequestUnion::Create(create)) };
        // The channel is new and empty: there is room.
        _ = requests_sender.try_send(create);
        let requests = futures_util::stream::poll_fn(move |context| receive.poll_recv(context));
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let call = async {
            grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
            let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
            let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            grpc.streaming(self.request(requests), path, codec).await
        };
        match tokio::time::timeout(ANSWER, call).await {
            Ok(stream) => {
                Ok(WatchStream { responses: stream?.into_inner(), _requests_sender: requests_sender })
            }
            Err(_) => Err(Status::deadline_exceeded("the watch was not opened in time").into()),
        }
    }
}

/// The answer to a call of a client, in the time of a transaction.
async fn answered(
    call: impl Future<Output = Result<tonic::Response<Bytes>, Status>>,
) -> Result<Bytes, EtcdError> {
    match tokio::time::timeout(TRANSACTION, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => {
            let late = format!("no answer within {} s", TRANSACTION.as_secs());
            Err(Status::deadline_exceeded(late).into())
        }
    }
}

/// The responses of a watch; dropping it ends the watch.
pub(super) struct WatchStream {
    responses: Streaming<WatchResponse>,
    /// Keeps our half of the stream open.
    _requests_sender: mpsc::Sender<WatchRequest>,
}

impl WatchStream {
    /// The next response; `None` when the server has closed the stream. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<WatchResponse>, EtcdError> {
        Ok(self.responses.message().await?)
    }
}

async fn tls(access: &EtcdAccess) -> Result<ClientTlsConfig, EtcdError> {
    let read = async |path: &PathBuf| {
        tokio::fs::read(path).await.map_err(|source| EtcdError::Credentials { path: path.clone(), source })
    };
    let mut config = ClientTlsConfig::new();
    config = match &access.ca {
        Some(path) => config.ca_certificate(Certificate::from_pem(read(path).await?)),
        None => config.with_enabled_roots(),
    };
    if let Some((certificate, key)) = &access.identity {
        config = config.identity(Identity::from_pem(read(certificate).await?, read(key).await?));
    }
    Ok(config)
}
