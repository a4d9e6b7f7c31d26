//! One who fetches the whole state.

use std::time::Duration;

use tokio::time::sleep;

use super::{Connection, Download, LoadError, Target};

/// A snapshot that is refused so often is a failure.
const TRIES: u64 = 200;

/// A longer pause than this is not obeyed.
const LONGEST_PAUSE_S: u64 = 10;

/// How a client joins: it fetches the current breadcrumb, then asks once for what came after it.
#[derive(Debug, Clone)]
pub struct Joiner {
    target: Target,
    /// The request for the state.
    snapshot: String,
    accept: String,
    slow: Option<u64>,
    next: bool,
}

/// What joining brought.
#[derive(Debug, Clone, Copy, Default)]
pub struct Joined {
    /// Body bytes of the snapshot.
    pub bytes: u64,
    /// Answers 503 and 429 before it was served.
    pub refused: u64,
    /// Times that its cursor was gone (410) before it had used it, so that it had to begin anew.
    pub gone: u64,
}

impl Joiner {
    /// A joiner that takes this media type and this coding (`identity` for none).
    pub fn new(target: &Target, accept: &str, encoding: &str) -> Self {
        Self::of_path(target, "/v1/breadcrumbs/current", accept, encoding).with_next(true)
    }

    /// One that fetches any path and asks for nothing after it.
    pub fn of_path(target: &Target, path: &str, accept: &str, encoding: &str) -> Self {
        let fields = target.fields();
        let snapshot =
            format!("GET {path} HTTP/1.1\r\n{fields}Accept: {accept}\r\nAccept-Encoding: {encoding}\r\n\r\n");
        Self { target: target.clone(), snapshot, accept: accept.to_owned(), slow: None, next: false }
    }

    fn with_next(self, next: bool) -> Self {
        Self { next, ..self }
    }

    /// Takes not more than so many bytes a second, with a small receive buffer.
    #[must_use]
    pub fn reading_slowly(self, bytes_per_second: u64) -> Self {
        Self { slow: Some(bytes_per_second), ..self }
    }

    /// Joins as client number `client`. Who starts it sets the deadline.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn join(&self, client: usize) -> Result<Joined, LoadError> {
        const SMALL_BUFFER: u32 = 16 * 1024;
        let mut joined = Joined::default();
        let buffer = self.slow.map(|_| SMALL_BUFFER);
        let mut connection = self.target.connect_with(client, buffer).await?;
        loop {
            let snapshot = self.ask(&mut connection, client, &self.snapshot, &mut joined).await?;
            joined.bytes = snapshot.bytes;
            if !self.next {
                return Ok(joined);
            }
            let cursor = snapshot.field("crumbd-cursor").unwrap_or_default();
            let cursor = String::from_utf8_lossy(cursor);
            if cursor.is_empty() {
                return Err(LoadError::Answer("a snapshot has no Crumbd-Cursor".to_owned()));
            }
            let next = format!(
                "GET /v1/breadcrumbs/{cursor}/next?wait=0 HTTP/1.1\r\n{}Accept: {}\r\n\r\n",
                self.target.fields(),
                self.accept
            );
            match self.ask(&mut connection, client, &next, &mut joined).await {
                Ok(_) => return Ok(joined),
                Err(LoadError::Refused { status: 410, .. }) if joined.gone < TRIES => joined.gone += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// One request, again as long as the server is too busy.
    async fn ask(
        &self,
        connection: &mut Connection,
        client: usize,
        request: &str,
        joined: &mut Joined,
    ) -> Result<Download, LoadError> {
        loop {
            // To the server it may have rested: while it said that it is too busy, or while we read slowly what the
            // kernel had long taken from it.
            if connection.is_closing() || !connection.is_open() {
                *connection = self.target.connect(client).await?;
            }
            connection.send(request.as_bytes()).await?;
            let got = connection.download(self.slow).await?;
            match got.status {
                200 | 204 => return Ok(got),
                429 | 503 if joined.refused < TRIES => {
                    joined.refused += 1;
                    let pause = got.answer().number("retry-after").unwrap_or(1).min(LONGEST_PAUSE_S);
                    // Not all at the same moment.
                    sleep(Duration::from_secs(pause).mul_f64(0.75 + fastrand::f64() / 4.0)).await;
                }
                status => {
                    let detail = got.answer().detail();
                    return Err(LoadError::Refused { what: "a joiner", status, detail });
                }
            }
        }
    }
}
