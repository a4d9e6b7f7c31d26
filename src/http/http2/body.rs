//! The body of an answer, in pieces that know when they are written.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderMap, Response};
use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::http::http2::streams::StreamState;
use crate::view::Held;

/// The largest piece, which is as long as the usual frame.
const MAX_PIECE_BYTES: usize = 16 << 10;

/// A body that the library gets piece by piece.
///
/// The answer ends in its only piece if it is short. Otherwise the end comes when the rest is written: until then the
/// stream has a task, which can give it up. A body of unknown length, such as a stream of events, is asked for more only
/// when all before it is written.
pub(super) struct PacedBody<B> {
    inner: B,
    /// The rest of the inner body's last frame.
    rest: Bytes,
    /// Boxed, because few answers have any.
    trailers: Option<Box<HeaderMap>>,
    inner_has_ended: bool,
    is_sized: bool,
    /// How many pieces the library got.
    pieces: u64,
    held: Option<Arc<Held>>,
    state: Arc<StreamState>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> PacedBody<B> {
    /// The response with a body for this stream.
    pub(super) fn wrap(mut response: Response<B>, state: Arc<StreamState>) -> Response<Self> {
        let held = response.extensions_mut().remove();
        response.map(|inner| Self {
            is_sized: inner.size_hint().exact().is_some(),
            inner,
            rest: Bytes::new(),
            trailers: None,
            inner_has_ended: false,
            pieces: 0,
            held,
            state,
        })
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for PacedBody<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let this = &mut *self;
        loop {
            if !this.rest.is_empty() {
                let bytes = this.rest.split_to(this.rest.len().min(MAX_PIECE_BYTES));
                this.pieces += 1;
                return Poll::Ready(Some(Ok(Frame::data(Piece::new(
                    bytes,
                    this.held.clone(),
                    Arc::clone(&this.state),
                )))));
            }
            if this.inner_has_ended && this.pieces > 1 || !this.is_sized && this.pieces > 0 {
                ready!(this.state.poll_written(cx));
            }
            if this.inner_has_ended {
                return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(*trailers))));
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                None => this.inner_has_ended = true,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => this.rest = bytes,
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok().map(Box::new);
                        this.inner_has_ended = true;
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.pieces <= 1 && self.trailers.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A piece of an answer. The library drops it when its last byte is written.
pub(super) struct Piece {
    bytes: Bytes,
    _held: Option<Arc<Held>>,
    state: Arc<StreamState>,
}

impl Piece {
    fn new(bytes: Bytes, held: Option<Arc<Held>>, state: Arc<StreamState>) -> Self {
        state.piece_begins();
        Self { bytes, _held: held, state }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
        self.state.written(bytes);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.state.piece_ends();
    }
}
