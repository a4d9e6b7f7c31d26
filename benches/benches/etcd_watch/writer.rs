//! Puts into etcd, one after the other.

use bytes::Bytes;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::messages::HeaderResponse;
use crate::messages::kv::PutRequest;

/// The bytes of a value.
const VALUE: usize = 256;

pub struct Writer(Channel);

impl Writer {
    pub async fn connect(etcd: &str) -> Writer {
        Writer(Endpoint::from_shared(format!("http://{etcd}")).unwrap().connect().await.unwrap())
    }

    /// Puts a new value, and returns its revision.
    pub async fn put(&self, key: &str) -> i64 {
        let mut value = vec![0; VALUE];
        fastrand::fill(&mut value);
        let key = Bytes::copy_from_slice(key.as_bytes());
        let put = PutRequest { key, value: value.into(), ..PutRequest::default() };
        let mut grpc = Grpc::new(self.0.clone());
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<PutRequest, HeaderResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
        let answer = grpc.unary(Request::new(put), path, codec).await;
        let answer: HeaderResponse = answer.unwrap_or_else(|error| panic!("a put: {error}")).into_inner();
        answer.header.unwrap().revision
    }
}
