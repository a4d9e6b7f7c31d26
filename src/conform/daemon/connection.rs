//! Connections of the scripted daemon: heads in, answers out, and the faults of both.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::fault::{Cut, Ending};
use super::request::{Endpoint, Request};
use super::{Daemon, Fault};

/// The longest head of a request.
const MAX_HEAD_BYTES: usize = 128 << 10;
const MAX_HEADERS: usize = 100;

/// What comes before an answer, and is none.
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload; as=style\r\n\r\n";

/// Accepts connections until the task is aborted, and ends them all with it.
pub(super) async fn accept(daemon: Arc<Daemon>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(Arc::clone(&daemon), stream));
                }
                // No descriptors are left: some connection will end.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(daemon: Arc<Daemon>, stream: TcpStream) {
    // Without it small answers are late; nothing else.
    _ = stream.set_nodelay(true);
    match daemon.acceptor.clone() {
        None => Connection::new(daemon, stream).run().await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                Connection::new(daemon, stream).run().await;
            }
        }
    }
}

/// What follows an answer on its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request.
    KeepAlive,
    /// The end, as it should be.
    Close,
    /// The end in the middle of something.
    Break,
}

/// Why a connection that waits goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    News,
    Time,
}

/// An answer with a body that is ready.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Where the last piece of the body begins.
    pub(super) end_at: usize,
    /// The answer in the report.
    pub(super) what: String,
}

impl Answer {
    /// An answer without a body.
    pub(super) fn empty(status: u16, headers: Vec<(&'static str, String)>, what: impl Into<String>) -> Self {
        Self { status, headers, body: Vec::new(), end_at: 0, what: what.into() }
    }
}

pub(super) struct Connection<S> {
    pub(super) daemon: Arc<Daemon>,
    pub(super) id: u64,
    stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    fn new(daemon: Arc<Daemon>, stream: S) -> Self {
        let id = {
            let mut inner = daemon.inner.lock();
            inner.next_connection += 1;
            inner.next_connection
        };
        Self { daemon, id, stream, read: Vec::new() }
    }

    async fn run(mut self) {
        loop {
            // An error here is the client's end of the connection; the scene sees it by the next request.
            let Ok(Some(mut request)) = self.request().await else { break };
            request.connection = self.id;
            let last = request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let number = self.daemon.record(request.clone());
            match self.answer(number, &request).await {
                Ok(Then::KeepAlive) if !last && !self.daemon.inner.lock().settings.drop => {}
                Ok(Then::Break) | Err(_) => return,
                Ok(_) => break,
            }
        }
        _ = self.stream.shutdown().await;
    }

    /// Reads the head of a request; `None` at the end of the connection.
    async fn request(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some(request) = self.parse()? {
                return Ok(Some(request));
            }
            if self.read.len() > MAX_HEAD_BYTES {
                return Err(io::Error::other("the head of a request is too long"));
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn parse(&mut self) -> io::Result<Option<Request>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let length = match head.parse(&self.read).map_err(io::Error::other)? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let headers = head.headers.iter();
        let headers = headers.map(|h| (h.name.to_ascii_lowercase(), h.value.to_vec())).collect();
        let base = self.daemon.inner.lock().settings.base.clone();
        let (method, target) = (head.method.unwrap_or_default(), head.path.unwrap_or_default());
        let request = Request::new(self.daemon.replica, &base, method, target, headers);
        self.read.drain(..length);
        Ok(Some(request))
    }

    /// Waits until something happens or the time is over.
    ///
    /// # Errors
    /// The client has closed the connection.
    pub(super) async fn wait(
        &mut self,
        news: &mut watch::Receiver<u64>,
        until: Option<Instant>,
    ) -> io::Result<Woken> {
        loop {
            let time = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            let quiet = self.read.is_empty();
            tokio::select! {
                changed = news.changed() => {
                    return changed.map(|()| Woken::News).map_err(io::Error::other);
                }
                () = time => return Ok(Woken::Time),
                read = self.stream.read_buf(&mut self.read), if quiet => {
                    if read? == 0 {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                }
            }
        }
    }

    /// Waits for the end of the connection by the client.
    pub(super) async fn until_closed(&mut self) -> io::Result<Then> {
        while self.stream.read_buf(&mut self.read).await? > 0 {}
        Ok(Then::Break)
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Writes these bytes in so many parts, with a pause before each.
    pub(super) async fn write_slowly(&mut self, bytes: &[u8], parts: u32, pause: Duration) -> io::Result<()> {
        let size = bytes.len().div_ceil(parts.max(1) as usize).max(1);
        for part in bytes.chunks(size) {
            tokio::time::sleep(pause).await;
            self.write(part).await?;
        }
        Ok(())
    }

    /// The head of an answer. A length of `None` means chunks.
    pub(super) fn head(
        &self,
        status: u16,
        headers: &[(&'static str, String)],
        length: Option<usize>,
        close: bool,
    ) -> Vec<u8> {
        let mut head = match self.daemon.inner.lock().settings.hints {
            true => HINTS.repeat(2),
            false => String::new(),
        };
        head.push_str(&format!("HTTP/1.1 {status} {}\r\n", phrase(status)));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match length {
            _ if matches!(status, 204 | 304) => {}
            Some(length) => head.push_str(&format!("Content-Length: {length}\r\n")),
            None => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        if close {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Does what is in the place of an answer.
    pub(super) async fn instead(
        &mut self,
        number: usize,
        fault: Fault,
        request: &Request,
    ) -> io::Result<Then> {
        let waits = matches!(request.endpoint, Endpoint::Next(_));
        let accept = request.header("accept");
        match fault {
            Fault::Instead { status, headers, body } => {
                let media = headers.iter().find(|(name, _)| *name == "Content-Type");
                let what = match media {
                    Some((_, media)) => format!("{status} of type {media}"),
                    None => status.to_string(),
                };
                let answer = Answer { status, headers, end_at: 0, body: body.into_bytes(), what };
                self.send(number, answer, None).await
            }
            Fault::NoAnswer => {
                self.daemon.answered(number, "nothing, for ever".to_owned());
                self.until_closed().await
            }
            Fault::CutHead => {
                self.daemon.answered(number, "half of a head".to_owned());
                // Whole lines: some libraries take the end of the connection for the end of the head.
                let half = match waits {
                    true => "HTTP/1.1 204 No Content\r\nCache-Control: no-store\r\n",
                    false => "HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\n",
                };
                self.write(half.as_bytes()).await?;
                Ok(Then::Close)
            }
            Fault::EndsAtOnce => {
                self.daemon.answered(number, "200, a stream that ends at once".to_owned());
                let events = accept.is_some_and(|accept| accept.contains("text/event-stream"));
                let (media, body) = match events {
                    true => ("text/event-stream", "retry: 1000\n\n"),
                    false => ("application/x-ndjson", ""),
                };
                let headers = [("Content-Type", media.to_owned())];
                self.write(&[&self.head(200, &headers, Some(body.len()), false), body.as_bytes()].concat())
                    .await?;
                Ok(Then::KeepAlive)
            }
            _ => {
                self.daemon.answered(number, "the end of the connection".to_owned());
                Ok(Then::Close)
            }
        }
    }

    /// Writes an answer, with the fault of its body.
    pub(super) async fn send(
        &mut self,
        number: usize,
        mut answer: Answer,
        fault: Option<Fault>,
    ) -> io::Result<Then> {
        let (close, chunked) = {
            let settings = &self.daemon.inner.lock().settings;
            (settings.close, settings.chunked)
        };
        if matches!(fault, Some(Fault::NoLink)) {
            answer.headers.retain(|(name, _)| !matches!(*name, "Link" | "Crumbd-Cursor"));
            answer.what.push_str(", without its Link");
        }
        match fault {
            Some(Fault::Status(status)) => {
                answer.what = format!("{status} in the place of {}", answer.what);
                answer.status = status;
            }
            Some(Fault::MediaType(media)) => {
                answer.headers.retain(|(name, _)| *name != "Content-Type");
                answer.headers.push(("Content-Type", media.to_owned()));
                answer.what.push_str(&format!(", of type {media}"));
            }
            _ => {}
        }
        let body = std::mem::take(&mut answer.body);
        let cut = match fault {
            Some(Fault::CutBody(cut, ending)) => Some((cut_at(cut, body.len(), answer.end_at), ending)),
            _ => None,
        };
        let clean = matches!(cut, Some((_, Ending::Clean)));
        let chunked = (chunked || clean) && !body.is_empty();
        let head =
            self.head(answer.status, &answer.headers, (!chunked).then_some(body.len()), close && !clean);
        if let Some((at, _)) = cut {
            answer.what.push_str(&format!(", cut off after {at} of {} bytes", body.len()));
        }
        // Recorded before it is written: the client's next request comes after it.
        self.daemon.answered(number, answer.what);
        let announced = if clean { cut.map_or(0, |(at, _)| at) } else { body.len() };
        let size_line = match chunked && announced > 0 {
            true => format!("{announced:x}\r\n"),
            false => String::new(),
        };
        let last: &[u8] = match (chunked, announced) {
            (true, 0) => b"0\r\n\r\n",
            (true, _) => b"\r\n0\r\n\r\n",
            (false, _) => b"",
        };
        match (cut, fault) {
            (Some((at, Ending::Closed)), _) => {
                self.write(&[&head, size_line.as_bytes(), &body[..at]].concat()).await?;
                Ok(Then::Close)
            }
            (Some((at, Ending::Clean)), _) => {
                self.write(&[&head, size_line.as_bytes(), &body[..at], last].concat()).await?;
                Ok(Then::KeepAlive)
            }
            (None, Some(Fault::Slow(parts, pause))) => {
                self.write(&[&head, size_line.as_bytes()].concat()).await?;
                self.write_slowly(&body, parts, pause).await?;
                self.write(last).await?;
                Ok(if close { Then::Close } else { Then::KeepAlive })
            }
            _ => {
                self.write(&[&head, size_line.as_bytes(), &body, last].concat()).await?;
                Ok(if close { Then::Close } else { Then::KeepAlive })
            }
        }
    }
}

/// The byte at which a body is cut off.
pub(super) fn cut_at(cut: Cut, length: usize, end_at: usize) -> usize {
    match cut {
        Cut::Start => 0,
        Cut::Half => length / 2,
        Cut::BeforeEnd => end_at,
        Cut::LastByte => length.saturating_sub(1),
    }
    .min(length)
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        410 => "Gone",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Other",
    }
}
