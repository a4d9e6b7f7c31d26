//! gRPC's messages over HTTP/2: each is a flag, its length, and its bytes. The status of a call comes after the last one.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as HttpBody, Frame, Incoming};
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::status;
use crate::http::app::App;
use crate::http::budget::UploadBytes;
use crate::http::client::Client;
use crate::view::etcd::Room;

/// The body of a response.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The flag of a message that is not compressed, and the length of its message.
const PREFIX_BYTES: usize = 5;

/// The longest request message. etcd's own limit is 1.5 MiB and half a MiB for what is around it.
const MAX_REQUEST_BYTES: usize = 2 << 20;

/// Larger pieces of messages are sent as they are; smaller ones are copied into a frame with others.
pub(super) const COPIED_BYTES: usize = 8 << 10;

/// The lowest average rate of a request message, as for the bodies of the HTTP interface.
const MIN_BYTES_PER_S: u64 = 1024;

/// Request messages up to this size are not counted.
const UNCOUNTED_BYTES: u64 = 64 << 10;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The messages of a request, as they arrive.
pub(super) struct Messages {
    /// `None` for messages that have all arrived.
    body: Option<Incoming>,
    received: BytesMut,
    ready: VecDeque<Bytes>,
    /// The budget of request bodies, and what is reserved of it. Without one only small messages are taken.
    budget: Option<(App, Arc<Client>)>,
    reserved: Option<UploadBytes>,
    /// Whether there is one message, which comes at once. A stream waits for the next message without a limit.
    is_unary: bool,
    /// The time at which the message that is being received began.
    begun: Option<Instant>,
    /// How long it may take, beside the time that a slow client needs for its bytes.
    stall: Duration,
}

impl Messages {
    pub(super) fn new(body: Incoming, is_unary: bool, stall: Duration) -> Self {
        let begun = is_unary.then(Instant::now);
        Self { body: Some(body), is_unary, begun, stall, ..Self::of(Vec::new()) }
    }

    /// The same messages of a client, whose large ones count against its budget.
    pub(super) fn of_client(self, app: App, client: Arc<Client>) -> Self {
        Self { budget: Some((app, client)), ..self }
    }

    /// Messages that have all arrived.
    pub(super) fn of(messages: Vec<Bytes>) -> Self {
        let (received, ready) = (BytesMut::new(), messages.into());
        let (budget, reserved, begun, stall) = (None, None, None, Duration::MAX);
        Self { body: None, received, ready, budget, reserved, is_unary: false, begun, stall }
    }

    /// The next message; `None` after the last. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            if let Some(message) = self.received_message()? {
                return Ok(Some(message));
            }
            self.reserve().await?;
            let Some(body) = &mut self.body else { return Ok(None) };
            let frame = match self.begun.filter(|_| self.is_unary || !self.received.is_empty()) {
                Some(begun) => {
                    let earned = Duration::from_secs(self.received.len() as u64 / MIN_BYTES_PER_S);
                    timeout_at(begun + self.stall + earned, body.frame()).await.map_err(|_| {
                        Status::deadline_exceeded(
                            "crumbd: the request was not received in time (--stall-timeout)",
                        )
                    })?
                }
                None => body.frame().await,
            };
            match frame {
                None if self.received.is_empty() => return Ok(None),
                None => return Err(Status::invalid_argument("crumbd: the request ends within a message")),
                Some(Err(error)) => return Err(Status::cancelled(format!("crumbd: {error}"))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        if self.received.is_empty() && !self.is_unary {
                            self.begun = Some(Instant::now());
                        }
                        self.received.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// Reserves the bytes of a large message before it is received.
    async fn reserve(&mut self) -> Result<(), Status> {
        let Some((prefix, _)) = self.received.split_first_chunk::<PREFIX_BYTES>() else { return Ok(()) };
        let [_, length @ ..] = *prefix;
        let length = u64::from(u32::from_be_bytes(length));
        if length <= UNCOUNTED_BYTES {
            return Ok(());
        }
        let Some((app, client)) = &self.budget else {
            return Err(Status::resource_exhausted(format!(
                "crumbd: the message has {length} bytes, the limit is {UNCOUNTED_BYTES} here"
            )));
        };
        // A later message of a stream may be larger than the one before.
        let reserved = match &mut self.reserved {
            Some(reserved) => reserved.grow(length).await,
            none => app.budgets.upload(client, length).await.map(|reserved| *none = Some(reserved)),
        };
        reserved.map_err(|problem| status::of_problem(&problem))
    }

    fn received_message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((prefix, rest)) = self.received.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [flag, length @ ..] = *prefix;
        if flag != 0 {
            return Err(Status::unimplemented("crumbd: compressed messages are not supported"));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_REQUEST_BYTES {
            return Err(Status::resource_exhausted(format!(
                "crumbd: the message has {length} bytes, the limit is {MAX_REQUEST_BYTES}"
            )));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.received.advance(PREFIX_BYTES);
        // What is left is the beginning of the next one.
        self.begun = self.begun.map(|_| Instant::now());
        Ok(Some(self.received.split_to(length).freeze()))
    }

    /// The only message of a unary call.
    pub(super) async fn only(&mut self) -> Result<Bytes, Status> {
        let message = self.next().await?;
        let message = message.ok_or_else(|| Status::internal("crumbd: the request has no message"))?;
        // Up to its end: a stream that is answered before counts as one that failed.
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(Status::internal("crumbd: the request has more than one message")),
        }
    }
}

/// Takes the first message out of the bytes of a stream of ours, if it is whole.
pub(super) fn split_message(bytes: &mut BytesMut) -> Option<Bytes> {
    let [_, length @ ..] = *bytes.first_chunk::<PREFIX_BYTES>()?;
    let length = u32::from_be_bytes(length) as usize;
    if bytes.len() < PREFIX_BYTES + length {
        return None;
    }
    bytes.advance(PREFIX_BYTES);
    Some(bytes.split_to(length).freeze())
}

/// A message of its bytes.
pub(super) fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::internal(format!("crumbd: the message cannot be read: {error}")))
}

/// The answer of a unary call: one message, in pieces, with what is held until it is sent.
pub(super) struct Unary {
    pieces: VecDeque<Bytes>,
    room: Option<Room>,
}

impl Unary {
    pub(super) fn new(message: &impl Message) -> Self {
        Self { pieces: [Bytes::from(message.encode_to_vec())].into(), room: None }
    }

    /// The same answer, which holds this room until it is sent.
    pub(super) fn holding(self, room: Room) -> Self {
        Self { room: Some(room), ..self }
    }

    /// A message of these pieces.
    pub(super) fn of_pieces(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self { pieces: pieces.into_iter().collect(), room: None }
    }

    /// The message in one piece, and what is held until it is sent.
    pub(super) fn into_bytes(self) -> (Bytes, Option<Room>) {
        let bytes = match <[Bytes; 1]>::try_from(Vec::from(self.pieces)) {
            Ok([piece]) => piece,
            Err(pieces) => pieces.concat().into(),
        };
        (bytes, self.room)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let length = self.pieces.iter().map(Bytes::len).sum();
        let mut first = BytesMut::from(&prefix(length)[..]);
        let mut pieces = VecDeque::new();
        // Small pieces are one frame, and there is no empty frame: clients end a connection with many of them.
        for piece in self.pieces {
            match pieces.is_empty() && piece.len() <= COPIED_BYTES {
                true => first.extend_from_slice(&piece),
                false => pieces.push_back(piece),
            }
        }
        pieces.push_front(first.freeze());
        with_grpc(UnaryBody { pieces, status: Some(ok_trailers()), _room: self.room }.boxed_unsync())
    }
}

/// A body of these bytes, with what is held until it is sent.
pub(super) fn held(bytes: Vec<u8>, room: Option<Room>) -> Body {
    UnaryBody { pieces: [bytes.into()].into(), status: None, _room: room }.boxed_unsync()
}

struct UnaryBody {
    pieces: VecDeque<Bytes>,
    status: Option<HeaderMap>,
    _room: Option<Room>,
}

impl HttpBody for UnaryBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.pop_front().map(Frame::data);
        let frame = piece.or_else(|| self.status.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }
}

/// The bytes before a message of this length.
pub(super) fn prefix(length: usize) -> [u8; PREFIX_BYTES] {
    // Longer messages than gRPC can say are refused before they are made.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

/// The answer of a streaming call.
pub(super) fn stream(
    frames: impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static,
) -> Response<Body> {
    with_grpc(StreamBody::new(frames).boxed_unsync())
}

/// The end of a stream.
pub(super) fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // It fails only for metadata that is no header, and there is none.
    _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

fn ok_trailers() -> HeaderMap {
    HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))])
}

/// The answer of a call that failed.
pub(super) fn failed(status: Status) -> Response<Body> {
    status.into_http()
}

fn with_grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}
