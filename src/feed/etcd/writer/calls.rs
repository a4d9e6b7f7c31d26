//! The calls of etcd's own clients, passed on as they are.

use bytes::{Buf, BufMut, Bytes};
use futures_util::future::BoxFuture;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};

use super::EtcdWriter;
use super::member::CallError;
use crate::feed::EtcdCalls;
use crate::feed::etcd::EtcdError;

impl EtcdCalls for EtcdWriter {
    fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    fn call(
        &self,
        path: &'static str,
        message: Bytes,
        max_answer: usize,
    ) -> BoxFuture<'_, Result<Bytes, Status>> {
        Box::pin(async move { self.member.pass_on(path, message, max_answer).await.map_err(status) })
    }

    fn call_stream(&self, path: &'static str, message: Bytes) -> BoxFuture<'_, Result<Bytes, Status>> {
        Box::pin(async move { self.member.pass_on_to_stream(path, message).await.map_err(status) })
    }
}

/// etcd's own refusal as it is; anything else as what a client of etcd's expects of a member that is away.
fn status(error: CallError) -> Status {
    let (CallError::NotSent(failure) | CallError::Answered(failure)) = &error;
    if let EtcdError::Refused(status) = failure
        && !failure.is_broken_connection()
        && !failure.is_late()
    {
        return Status::new(status.code(), status.message());
    }
    match error {
        CallError::NotSent(error) => Status::unavailable(format!("crumbd: etcd has not done it: {error}")),
        CallError::Answered(EtcdError::Refused(late)) if late.code() == Code::DeadlineExceeded => {
            Status::deadline_exceeded(format!("crumbd: etcd may or may not have done it: {}", late.message()))
        }
        CallError::Answered(error) => {
            Status::unknown(format!("crumbd: etcd may or may not have done it: {error}"))
        }
    }
}

/// Messages as their bytes.
#[derive(Clone, Copy, Default)]
pub(in crate::feed::etcd) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
