//! Request bodies: what is refused before a byte of it is read, and what is counted while it comes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_ENCODING, EXPECT};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use crate::http::app::App;
use crate::http::budget::Room;
use crate::http::rep::problem::Problem;

/// The slowest pace at which a body may come, in bytes a second, beside pauses that are shorter than the stall timeout.
const SLOWEST_PACE: u64 = 1024;

/// For so long the rest of a body that is refused is read and thrown away.
const DISCARDING: Duration = Duration::from_secs(1);

/// A body, and its share of what all bodies may take: for as long as it is held.
#[derive(Debug)]
pub(in crate::http) struct Received {
    pub(in crate::http) bytes: Bytes,
    _room: Room,
}

/// Why a body was not taken.
#[derive(Debug)]
pub(in crate::http) enum NotReceived {
    /// The rest of it is still to come: the connection is of no more use.
    Broken(Problem),
    Refused(Problem),
}

impl IntoResponse for NotReceived {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(problem) => problem.into_response(),
            Self::Broken(problem) => {
                let mut response = problem.into_response();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }
}

impl From<Problem> for NotReceived {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

/// Reads the body of a request. One that says that it is too large is refused before it comes; one that stops coming,
/// or comes too slowly, is given up.
pub(in crate::http) async fn read(app: &App, request: Request) -> Result<Received, NotReceived> {
    let coded = request.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if coded {
        return Err(NotReceived::Refused(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "coded-request",
            "request bodies are taken without a Content-Encoding",
        )));
    }
    let asks_first = request.headers().contains_key(EXPECT);
    let body = request.into_body();
    let limit = app.config.max_body_bytes as u64;
    if body.size_hint().lower() > limit {
        if !asks_first {
            discard(body).await;
        }
        return Err(NotReceived::Broken(too_large(limit)));
    }
    let room = app.budgets.upload(body.size_hint().lower()).await?;
    collect(app, body, room).await
}

async fn collect(app: &App, mut body: Body, mut room: Room) -> Result<Received, NotReceived> {
    let (limit, stall) = (app.config.max_body_bytes as u64, app.config.stall_timeout);
    let begun = Instant::now();
    // Memory that is never written to is none.
    let mut bytes = Vec::with_capacity(body.size_hint().exact().unwrap_or_default().min(limit) as usize);
    loop {
        let pace = Duration::from_secs(bytes.len() as u64 / SLOWEST_PACE);
        let until = (Instant::now() + stall).min(begun + stall + pace);
        let frame = match timeout_at(until, body.frame()).await {
            Err(_) => return Err(NotReceived::Broken(too_slow(bytes.len(), stall))),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let detail = format!("the body could not be read: {error}");
                return Err(NotReceived::Broken(Problem::bad_request(detail)));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let length = (bytes.len() + data.len()) as u64;
        if length > limit {
            drop(bytes);
            discard(body).await;
            return Err(NotReceived::Broken(too_large(limit)));
        }
        room = app.budgets.more_upload(room, length).await.map_err(NotReceived::Broken)?;
        bytes.extend_from_slice(&data);
    }
    Ok(Received { bytes: bytes.into(), _room: room })
}

/// Takes some of what is still coming: a system that closes a connection with bytes unread may take the answer away
/// from the client with it.
async fn discard(mut body: Body) {
    let until = Instant::now() + DISCARDING;
    while let Ok(Some(Ok(_))) = timeout_at(until, body.frame()).await {}
}

fn too_large(limit: u64) -> Problem {
    Problem::too_large(format!(
        "the body is larger than {limit} bytes (--max-body-bytes): send several smaller ones"
    ))
}

fn too_slow(received: usize, stall: Duration) -> Problem {
    let stall = stall.as_secs_f64();
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "body-too-slow",
        format!(
            "after {received} bytes the body did not go on for {stall} s (--stall-timeout), or came more slowly than \
             {SLOWEST_PACE} bytes a second; nothing was written"
        ),
    )
}
