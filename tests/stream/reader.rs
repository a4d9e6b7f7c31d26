//! A stream read from a bare socket, or as a bare stream of HTTP/2, without reading ahead.

use std::collections::VecDeque;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::support::daemon::Daemon;
use super::support::http::OVER_HTTP2;
use super::support::in_time;
use super::support::mirror::{apply, entries};
use super::support::record::{Body, kind_of};
use super::support::state::{State, digest, hex};

/// How a stream is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    Ndjson,
    Events,
}

/// What a stream brings.
#[derive(Debug)]
pub enum Item {
    Snapshot(Body),
    Updates(Body),
    /// And why.
    Reset(String),
    /// A heartbeat, and whether it moved the cursor on.
    Beat {
        moved: bool,
    },
}

/// One stream. Dropping it cuts the connection.
pub struct Reader {
    source: Source,
    speech: Speech,
    pub status: u16,
    pub head: String,
    /// Bytes of chunks, still with their framing.
    raw: Vec<u8>,
    lines: VecDeque<String>,
    partial: Vec<u8>,
    /// The last chunk has come: the stream was ended, not cut.
    pub ended: bool,
    /// All bytes that came from the socket.
    pub bytes: usize,
    /// What an `EventSource` would send as `Last-Event-ID`.
    pub cursor: Option<String>,
    /// Every line of NDJSON, or of data, as it came.
    pub text: String,
}

enum Source {
    Socket(TcpStream),
    Http2 { body: RecvStream, connection: JoinHandle<()> },
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Source::Http2 { connection, .. } = self {
            connection.abort();
        }
    }
}

impl Source {
    /// The next bytes; nothing at the end, or when the stream is cut.
    async fn read(&mut self) -> Vec<u8> {
        match self {
            Source::Socket(socket) => {
                let mut read = vec![0; 64 * 1024];
                let length = socket.read(&mut read).await.unwrap_or(0);
                read.truncate(length);
                read
            }
            Source::Http2 { body, .. } => match body.data().await {
                Some(Ok(bytes)) => {
                    body.flow_control().release_capacity(bytes.len()).unwrap();
                    bytes.into()
                }
                Some(Err(_)) | None => Vec::new(),
            },
        }
    }

    /// Whether this is the end of a stream of HTTP/2 that was not cut.
    fn has_ended(&self) -> bool {
        matches!(self, Source::Http2 { body, .. } if body.is_end_stream())
    }
}

impl Reader {
    pub async fn open(daemon: &Daemon, speech: Speech, query: &str, headers: &[(&str, &str)]) -> Reader {
        Reader::open_over(OVER_HTTP2, daemon.url(), speech, query, headers).await
    }

    /// The same of whoever serves there, over HTTP/1.1.
    pub async fn open_at(url: &str, speech: Speech, query: &str, headers: &[(&str, &str)]) -> Reader {
        Reader::open_over(false, url, speech, query, headers).await
    }

    async fn open_over(
        http2: bool,
        url: &str,
        speech: Speech,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Reader {
        let accept = match speech {
            Speech::Ndjson => "application/x-ndjson",
            Speech::Events => "text/event-stream",
        };
        let reader = Reader::ask_at(http2, url, query, &[&[("accept", accept)], headers].concat()).await;
        assert_eq!(reader.status, 200, "{}", reader.head);
        assert!(reader.head.contains(&format!("content-type: {accept}\r\n")), "{}", reader.head);
        assert!(reader.head.contains("cache-control: no-store\r\n"), "{}", reader.head);
        Reader { speech, ..reader }
    }

    /// Whatever comes of it.
    pub async fn ask(daemon: &Daemon, query: &str, headers: &[(&str, &str)]) -> Reader {
        Reader::ask_at(OVER_HTTP2, daemon.url(), query, headers).await
    }

    async fn ask_at(http2: bool, url: &str, query: &str, headers: &[(&str, &str)]) -> Reader {
        let address = url.strip_prefix("http://").unwrap().parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        // Little fits between the daemon and a reader at rest.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let mut socket = socket.connect(address).await.unwrap();
        if http2 {
            return Reader::over_http2(socket, &format!("{url}/v1/stream{query}"), headers).await;
        }
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!("GET /v1/stream{query} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        let end = loop {
            if let Some(end) = raw.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(in_time("the head", socket.read_buf(&mut raw)).await.unwrap() > 0, "no head");
        };
        let bytes = raw.len();
        // However a proxy spells the names.
        let head = String::from_utf8(raw.drain(..end).collect()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reader { raw, bytes, ..Reader::of(Source::Socket(socket), status, head) }
    }

    async fn over_http2(socket: TcpStream, url: &str, headers: &[(&str, &str)]) -> Reader {
        // Little fits here too.
        let mut builder = h2::client::Builder::new();
        let handshake = builder.initial_window_size(64 * 1024).handshake(socket);
        let (requests, connection): (SendRequest<Bytes>, _) =
            in_time("a handshake", handshake).await.unwrap();
        let connection = tokio::spawn(async move { _ = connection.await });
        let mut request = axum::http::Request::get(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let (answer, _) = requests.ready().await.unwrap().send_request(request, true).unwrap();
        let (head, body) = in_time("the head", answer).await.unwrap().into_parts();
        let lines = head.headers.iter();
        let lines = lines.map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
        let lines: String = lines.collect();
        Reader::of(Source::Http2 { body, connection }, head.status.as_u16(), lines.to_ascii_lowercase())
    }

    fn of(source: Source, status: u16, head: String) -> Reader {
        Reader {
            source,
            speech: Speech::Ndjson,
            status,
            head,
            raw: Vec::new(),
            lines: VecDeque::new(),
            partial: Vec::new(),
            ended: false,
            bytes: 0,
            cursor: None,
            text: String::new(),
        }
    }

    /// The next line, without its end. `None` when the stream has ended.
    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            match self.source {
                Source::Socket(_) => {
                    while let Some(chunk) = next_chunk(&mut self.raw) {
                        self.ended |= chunk.is_empty();
                        self.partial.extend(chunk);
                    }
                }
                Source::Http2 { .. } => self.partial.append(&mut self.raw),
            }
            while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                self.lines.push_back(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            if !self.lines.is_empty() {
                continue;
            }
            if self.ended {
                assert!(self.partial.is_empty(), "ended within a line");
                return None;
            }
            let read = self.source.read().await;
            if read.is_empty() {
                self.ended |= self.source.has_ended();
                match self.ended {
                    true => continue,
                    false => return None,
                }
            }
            self.bytes += read.len();
            self.raw.extend(read);
        }
    }

    /// The next thing that the stream brings. `None` when there will be none.
    pub async fn try_next(&mut self) -> Option<Item> {
        match self.speech {
            Speech::Ndjson => self.next_records().await,
            Speech::Events => self.next_event().await,
        }
    }

    pub async fn next(&mut self) -> Item {
        in_time("something on the stream", self.try_next()).await.expect("the stream goes on")
    }

    /// The next thing that is no heartbeat.
    pub async fn news(&mut self) -> Item {
        loop {
            match self.next().await {
                Item::Beat { .. } => {}
                news => return news,
            }
        }
    }

    async fn next_records(&mut self) -> Option<Item> {
        let mut body = String::new();
        loop {
            let line = self.line().await?;
            self.text.push_str(&line);
            self.text.push('\n');
            if line.is_empty() {
                assert!(body.is_empty(), "a heartbeat within a body");
                return Some(Item::Beat { moved: false });
            }
            body.push_str(&line);
            body.push('\n');
            match &*kind_of(&line) {
                "reset" => return Some(reset(&line)),
                "end" => {
                    let item = read_body(&body);
                    self.cursor = Some(cursor(&item).to_owned());
                    return Some(match item {
                        Item::Updates(body) if body.header.mode == "none" => Item::Beat { moved: true },
                        item => item,
                    });
                }
                _ => {}
            }
        }
    }

    /// As the HTML standard has it: fields until an empty line; without data there is no event, but its id counts.
    async fn next_event(&mut self) -> Option<Item> {
        let (mut id, mut name, mut data, mut comment) = (None, String::new(), String::new(), false);
        loop {
            let line = self.line().await?;
            match line.split_once(':').map(|(field, value)| (field, value.strip_prefix(' ').unwrap_or(value)))
            {
                _ if line.is_empty() => {
                    let moved = id.is_some();
                    self.cursor = id.take().or(self.cursor.take());
                    if data.is_empty() {
                        if comment {
                            return Some(Item::Beat { moved });
                        }
                        continue;
                    }
                    self.text.push_str(&data);
                    let item = if name == "reset" { reset(data.trim_end()) } else { read_body(&data) };
                    match &item {
                        Item::Reset(_) => {}
                        item => {
                            // Behind a `~` it names the rights, where there are tokens.
                            let id = self.cursor.as_deref().unwrap_or_default();
                            assert_eq!(id.split('~').next(), Some(cursor(item)), "the id is the cursor");
                        }
                    }
                    let named = match item {
                        Item::Snapshot(_) => "snapshot",
                        Item::Updates(_) => "breadcrumb",
                        _ => "reset",
                    };
                    assert_eq!(name, named);
                    return Some(item);
                }
                Some(("", _)) => comment = true,
                Some(("id", value)) => id = Some(value.to_owned()),
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => {
                    data.push_str(value);
                    data.push('\n');
                }
                Some(("retry", value)) => assert!(value.parse::<u64>().is_ok(), "{line}"),
                _ => panic!("no such field: {line}"),
            }
        }
    }
}

/// Takes a whole chunk from the front; the last one is empty.
fn next_chunk(raw: &mut Vec<u8>) -> Option<Vec<u8>> {
    let line = raw.windows(2).position(|bytes| bytes == b"\r\n")?;
    let length = usize::from_str_radix(std::str::from_utf8(&raw[..line]).unwrap(), 16).unwrap();
    let end = line + 2 + length;
    if raw.len() < end + 2 {
        return None;
    }
    let chunk = raw[line + 2..end].to_vec();
    raw.drain(..end + 2);
    Some(chunk)
}

fn reset(line: &str) -> Item {
    let record: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(record.as_object().unwrap().len(), 2, "{line}");
    Item::Reset(record["reason"].as_str().unwrap().to_owned())
}

fn read_body(text: &str) -> Item {
    let body = Body::read("application/x-ndjson", text.as_bytes());
    if body.snapshot { Item::Snapshot(body) } else { Item::Updates(body) }
}

fn cursor(item: &Item) -> &str {
    match item {
        Item::Snapshot(body) | Item::Updates(body) => &body.header.cursor,
        other => panic!("{other:?} has no cursor"),
    }
}

/// What a reader makes of its stream.
#[derive(Debug, Default, Clone)]
pub struct Copy {
    pub state: State,
    pub cursor: String,
    pub status: String,
    digest: u128,
    narrow: bool,
    pub snapshots: usize,
    pub deltas: usize,
    pub squashes: usize,
    pub resets: usize,
}

impl Copy {
    pub fn whole() -> Copy {
        Copy::default()
    }

    /// Of the keys below a prefix.
    pub fn narrow() -> Copy {
        Copy { narrow: true, ..Copy::default() }
    }

    /// Applies it, and compares count and digest where they are told.
    pub fn take(&mut self, item: &Item) {
        let body = match item {
            Item::Beat { .. } => return,
            Item::Reset(_) => {
                self.resets += 1;
                return;
            }
            Item::Snapshot(body) => {
                self.state = entries(body);
                self.digest = digest(&self.state);
                self.snapshots += 1;
                body
            }
            Item::Updates(body) => {
                let from = body.header.from.as_deref();
                assert!(self.narrow || from == Some(&*self.cursor), "from {from:?}, not {}", self.cursor);
                assert!(self.narrow || body.header.cursor != self.cursor, "told twice: {}", self.cursor);
                self.digest = apply(&mut self.state, self.digest, &body.records);
                match &*body.header.mode {
                    "delta" => self.deltas += 1,
                    "squash" => self.squashes += 1,
                    other => panic!("mode {other}"),
                }
                body
            }
        };
        let end = body.end.as_ref().expect("an end");
        let told = (end.count, end.digest.clone());
        let has = (Some(self.state.len() as u64), Some(hex(self.digest)));
        assert_eq!(told, if self.narrow { (None, None) } else { has }, "count and digest");
        self.cursor = body.header.cursor.clone();
        self.status = body.header.status.clone();
    }

    /// Reads on until it stands at this cursor.
    pub async fn follow_to(&mut self, reader: &mut Reader, cursor: &str) {
        while self.cursor != cursor {
            let item = reader.news().await;
            self.take(&item);
        }
    }
}
