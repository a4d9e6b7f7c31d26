//! The lines of what the framework answers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Error;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Version;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

use super::{Line, RequestHead, line};
use crate::http::app::App;
use crate::http::auth::Grant;
use crate::http::client::Peer;
use crate::http::collection::Collection;
use crate::model::Cursor;

/// What handlers, which are further in than the log, say for the line of their request. It is among the request's
/// extensions while the log is on.
#[derive(Clone, Default)]
pub(in crate::http) struct Notes(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    token: Option<String>,
    lag_revisions: Option<u64>,
}

impl Notes {
    /// Notes whose token it is.
    pub(in crate::http) fn is_of(&self, grant: &Grant) {
        self.0.lock().token = grant.name();
    }

    /// Notes the cursor that the client has.
    pub(in crate::http) fn asks_after(&self, cursor: Cursor, collection: &Collection) {
        self.0.lock().lag_revisions = Some(line::lag_revisions(cursor, collection));
    }
}

/// Answers the request, and writes its line when the body has been sent.
pub(in crate::http) async fn record(
    State(app): State<App>,
    peer: Peer,
    mut request: Request,
    next: Next,
) -> Response {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let protocol = if request.version() == Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" };
    let head = RequestHead::new(request.method().to_string(), target, protocol, request.headers());
    let Some(mut line) = Line::begin(&app, Arc::new(head), &peer) else { return next.run(request).await };
    let notes = Notes::default();
    request.extensions_mut().insert(notes.clone());
    let response = next.run(request).await;
    let Noted { token, lag_revisions } = std::mem::take(&mut *notes.0.lock());
    (line.token, line.lag_revisions) = (token, lag_revisions);
    line.is_answered(response.status().as_u16(), response.headers());
    line.is_complete = response.body().is_end_stream();
    response.map(|body| Body::new(LoggedBody { body, line }))
}

/// A body that counts what is sent of it.
struct LoggedBody {
    body: Body,
    line: Box<Line>,
}

impl HttpBody for LoggedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.line.bytes += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => {}
            None => self.line.is_complete = true,
        }
        self.line.is_complete |= self.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
