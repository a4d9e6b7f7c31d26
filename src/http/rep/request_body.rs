//! Request bodies: their limits of size, memory and time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_ENCODING, TRANSFER_ENCODING};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

use crate::http::app::App;
use crate::http::budget::UploadBytes;
use crate::http::client::Client;
use crate::http::rep::problem::Problem;

/// The lowest average rate of a body. Pauses shorter than the stall timeout are allowed beside it.
const MIN_BYTES_PER_S: u64 = 1024;

/// A received body, which holds its reservation of the upload budget.
#[derive(Debug)]
pub(in crate::http) struct RequestBody {
    pub(in crate::http) bytes: Bytes,
    _reserved: UploadBytes,
}

/// A refused request body.
#[derive(Debug)]
pub(in crate::http) enum BodyError {
    /// The rest of the body was not read, so the connection is closed.
    Incomplete(Problem),
    Refused(Problem),
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(problem) => problem.into_response(),
            Self::Incomplete(problem) => {
                let mut response = problem.into_response();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                response
            }
        }
    }
}

impl From<Problem> for BodyError {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

/// Reads the body of a request. A body with too large a Content-Length is refused before it is read. A stalled or too
/// slow one ends with a 408.
pub(in crate::http) async fn read(
    app: &App,
    client: &Client,
    request: Request,
) -> Result<RequestBody, BodyError> {
    let is_coded = request.headers().get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
    if is_coded {
        return Err(BodyError::Refused(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "coded-request",
            "request bodies must have no Content-Encoding; send the body uncompressed",
        )));
    }
    // The framework takes only the last coding off; the others would be stored as they are.
    let mut transfer = request.headers().get_all(TRANSFER_ENCODING).into_iter();
    if transfer.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(BodyError::Incomplete(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "transfer-coding",
            "the only Transfer-Encoding here is chunked",
        )));
    }
    let body = request.into_body();
    let limit = app.config.max_body_bytes as u64;
    if body.size_hint().lower() > limit {
        return Err(BodyError::Incomplete(too_large(limit)));
    }
    let reserved = app.budgets.upload(client, body.size_hint().lower()).await?;
    collect(app, body, reserved).await
}

async fn collect(app: &App, mut body: Body, mut reserved: UploadBytes) -> Result<RequestBody, BodyError> {
    let (limit, stall) = (app.config.max_body_bytes as u64, app.config.stall_timeout);
    let begun = Instant::now();
    // Memory is not resident before it is written to.
    let mut bytes = Vec::with_capacity(body.size_hint().exact().unwrap_or_default().min(limit) as usize);
    loop {
        let earned = Duration::from_secs(bytes.len() as u64 / MIN_BYTES_PER_S);
        let until = (Instant::now() + stall).min(begun + stall + earned);
        let frame = match timeout_at(until, body.frame()).await {
            Err(_) => return Err(BodyError::Incomplete(too_slow(bytes.len(), stall))),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let detail = format!("the request body could not be read: {error}");
                return Err(BodyError::Incomplete(Problem::bad_request(detail)));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        let length = (bytes.len() + data.len()) as u64;
        if length > limit {
            return Err(BodyError::Incomplete(too_large(limit)));
        }
        reserved.grow(length).await.map_err(BodyError::Incomplete)?;
        bytes.extend_from_slice(&data);
    }
    Ok(RequestBody { bytes: bytes.into(), _reserved: reserved })
}

fn too_large(limit: u64) -> Problem {
    Problem::too_large(format!(
        "the request body is larger than {limit} bytes (--max-body-bytes); split it into smaller requests"
    ))
}

fn too_slow(received: usize, stall: Duration) -> Problem {
    let stall = stall.as_secs_f64();
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "body-too-slow",
        format!(
            "the request body stalled for {stall} s (--stall-timeout) or was slower than {MIN_BYTES_PER_S} bytes per \
             second; {received} bytes were received, and nothing was written"
        ),
    )
}
