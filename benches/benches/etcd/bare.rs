//! The barest client of etcd: the messages of the feed over a plain channel, and nothing else.

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};
use tonic_prost::ProstCodec;

use crate::data::{self, PREFIX};
use crate::messages::HeaderResponse;
use crate::messages::kv::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse,
    RequestOp, RequestOpUnion, TxnRequest,
};
use crate::messages::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};

/// Keys on the first page, and pages after it: as the feed asks for them (`load.rs`).
const FIRST_PAGE: i64 = 1000;
const PAGES: i64 = 16;
/// With keys and values of this size a page of the feed has at least so many keys.
const SMALL_PAGE: i64 = (1 << 20) / (data::KEY_BYTES + data::VALUE_BYTES) as i64;

/// Operations in a transaction of [`Bare::fill`].
const TXN: usize = 1000;

pub fn put(index: usize, version: u64) -> RequestOp {
    let (key, value) = (data::key(index).into(), data::value(index, version).into());
    let put = PutRequest { key, value, ..PutRequest::default() };
    RequestOp { request: Some(RequestOpUnion::Put(put)) }
}

pub fn delete(index: usize) -> RequestOp {
    let delete = DeleteRangeRequest { key: data::key(index).into(), ..DeleteRangeRequest::default() };
    RequestOp { request: Some(RequestOpUnion::DeleteRange(delete)) }
}

#[derive(Clone)]
pub struct Bare {
    channel: Channel,
}

impl Bare {
    pub async fn connect(endpoint: &str) -> Bare {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).unwrap();
        Bare { channel: endpoint.connect().await.unwrap() }
    }

    async fn call<Q, A>(&self, path: &'static str, message: Q) -> A
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(1 << 30);
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(Request::new(message), PathAndQuery::from_static(path), codec).await;
        answer.unwrap_or_else(|error| panic!("etcd: {path}: {error}")).into_inner()
    }

    /// Reads the whole prefix at one revision, page by page, watches from the next revision on until the
    /// watch is open, and throws everything away. Returns the number of keys.
    pub async fn range_and_watch(&self) -> usize {
        let mut end = PREFIX.as_bytes().to_vec();
        *end.last_mut().unwrap() += 1;
        let end = Bytes::from(end);
        let mut request = RangeRequest {
            key: PREFIX.into(),
            range_end: end.clone(),
            limit: FIRST_PAGE,
            ..RangeRequest::default()
        };
        let mut keys = 0;
        loop {
            let page: RangeResponse = self.call("/etcdserverpb.KV/Range", request.clone()).await;
            keys += page.kvs.len();
            if request.revision == 0 {
                request.revision = page.header.unwrap().revision;
                request.limit = (page.count / PAGES + 1).max(SMALL_PAGE);
            }
            let (true, Some(last)) = (page.more, page.kvs.last()) else { break };
            request.key = [&last.key, &b"\0"[..]].concat().into();
        }
        let (mut responses, _open) = self.watch(end, request.revision + 1).await;
        assert!(responses.message().await.unwrap().unwrap().created);
        keys
    }

    async fn watch(
        &self,
        range_end: Bytes,
        start_revision: i64,
    ) -> (Streaming<WatchResponse>, mpsc::Sender<WatchRequest>) {
        let create = WatchCreateRequest {
            key: PREFIX.into(),
            range_end,
            start_revision,
            fragment: true,
            ..WatchCreateRequest::default()
        };
        let (send, mut receive) = mpsc::channel(1);
        send.try_send(WatchRequest { request: Some(WatchRequestUnion::Create(create)) }).unwrap();
        let requests = futures_util::stream::poll_fn(move |context| receive.poll_recv(context));
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        (grpc.streaming(Request::new(requests), path, codec).await.unwrap().into_inner(), send)
    }

    /// Applies these changes as one transaction; returns its revision.
    pub async fn txn(&self, success: Vec<RequestOp>) -> i64 {
        let request = TxnRequest { success, ..TxnRequest::default() };
        // Of the answer, only the header counts.
        let done: HeaderResponse = self.call("/etcdserverpb.KV/Txn", request).await;
        done.header.unwrap().revision
    }

    /// Sets so many keys, and forgets how they came: nobody's history is read back while it is measured.
    pub async fn fill(&self, keys: usize) {
        for first in (0..keys).step_by(TXN) {
            self.txn((first..keys.min(first + TXN)).map(|index| put(index, 0)).collect()).await;
        }
        self.forget_the_past().await;
    }

    /// Compacts every revision of the prefix away, the last one too: a key outside is set after it.
    pub async fn forget_the_past(&self) {
        let outside = PutRequest { key: "outside".into(), ..PutRequest::default() };
        let revision = self.txn(vec![RequestOp { request: Some(RequestOpUnion::Put(outside)) }]).await;
        let compaction = CompactionRequest { revision, physical: true };
        let _: CompactionResponse = self.call("/etcdserverpb.KV/Compact", compaction).await;
    }
}
