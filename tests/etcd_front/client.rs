//! A client of etcd's API, of etcd or of the daemon alike. It speaks the messages of the daemon's own source.

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::etcd::kv::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use crate::etcd::lease::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use crate::etcd::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};

/// Watches may answer with a whole revision at once.
const MAX_MESSAGE: usize = 64 << 20;

/// A connection to one server.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    token: Option<String>,
}

/// A stream of requests to keep leases alive.
pub struct KeepAlives {
    requests: tokio::sync::mpsc::UnboundedSender<LeaseKeepAliveRequest>,
    responses: Streaming<LeaseKeepAliveResponse>,
}

/// A stream of watches.
pub struct Watches {
    requests: tokio::sync::mpsc::UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Client {
    /// A client of the server at this address, which it connects to when it is used.
    pub fn new(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self { channel: endpoint.connect_lazy(), token: None }
    }

    /// The same client with this token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        request
    }

    pub async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(self.request(request), PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }

    pub async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub async fn put(&self, request: PutRequest) -> Result<PutResponse, Status> {
        self.call("/etcdserverpb.KV/Put", request).await
    }

    pub async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse, Status> {
        self.call("/etcdserverpb.KV/DeleteRange", request).await
    }

    pub async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.call("/etcdserverpb.KV/Txn", request).await
    }

    pub async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Status> {
        self.call("/etcdserverpb.KV/Compact", request).await
    }

    /// A stream of `LeaseKeepAlive`, whose first request is sent at once.
    pub async fn keep_alive(&self, lease: i64) -> Result<KeepAlives, Status> {
        let (requests, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let requested = futures_util::stream::poll_fn(move |context| receive.poll_recv(context));
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<LeaseKeepAliveRequest, LeaseKeepAliveResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
        _ = requests.send(LeaseKeepAliveRequest { id: lease });
        let answering = grpc.streaming(self.request(requested), path, codec);
        let answer = tokio::time::timeout(crate::support::DEADLINE, answering).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("no head of an answer in time"))??;
        Ok(KeepAlives { requests, responses: answer.into_inner() })
    }

    /// A stream with one watch. etcd sends the head of its answer only with the first message, so there must be one.
    pub async fn watch(&self, create: WatchCreateRequest) -> Result<Watches, Status> {
        let (requests, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let requested = futures_util::stream::poll_fn(move |context| receive.poll_recv(context));
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        _ = requests.send(WatchRequest { request: Some(WatchRequestUnion::Create(create)) });
        let answering = grpc.streaming(self.request(requested), path, codec);
        let answer = tokio::time::timeout(crate::support::DEADLINE, answering).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("no head of an answer in time"))??;
        let responses = answer.into_inner();
        Ok(Watches { requests, responses })
    }
}

impl KeepAlives {
    pub fn send(&self, lease: i64) {
        self.requests.send(LeaseKeepAliveRequest { id: lease }).unwrap();
    }

    /// The next response.
    pub async fn next(&mut self) -> Result<LeaseKeepAliveResponse, Status> {
        let next = tokio::time::timeout(crate::support::DEADLINE, self.responses.message()).await;
        next.map_err(|_| Status::deadline_exceeded("no response in time"))??
            .ok_or_else(|| Status::cancelled("the stream has ended"))
    }
}

impl Watches {
    pub fn send(&self, request: WatchRequestUnion) {
        self.requests.send(WatchRequest { request: Some(request) }).unwrap();
    }

    pub fn create(&self, create: WatchCreateRequest) {
        self.send(WatchRequestUnion::Create(create));
    }

    /// The next response.
    pub async fn next(&mut self) -> Result<WatchResponse, Status> {
        let next = tokio::time::timeout(crate::support::DEADLINE, self.responses.message()).await;
        next.map_err(|_| Status::deadline_exceeded("no response in time"))??
            .ok_or_else(|| Status::cancelled("the stream has ended"))
    }
}
