//! The streams of the contract: NDJSON and server-sent events.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::{After, Waiting};
use super::body::{self, Body};
use super::connection::{Connection, Then, Woken, cut_at};
use super::fault::Ending;
use super::negotiation::{self, StreamFormat};
use super::request::{Kind, Request};
use super::world::Crumb;
use super::{Fault, Inner};
use crate::wire::MediaType;

/// The time after which an event stream is to come back, in milliseconds.
const RETRY_MS: u32 = 500;

/// What a stream tells next.
enum Next {
    /// A body, and the breadcrumb after it.
    Tell(Body, Box<Crumb>, Option<Fault>),
    /// The cursor is gone.
    Reset(&'static str),
    Nothing(Option<Box<Crumb>>),
    /// The stream ends, perhaps with a reason that is told.
    End(Option<&'static str>),
}

impl Inner {
    /// What comes after this cursor in a stream; without a cursor, the state.
    fn tell(&mut self, at: Option<&str>, request: &Request, media: MediaType, began: u64) -> Next {
        if self.streams_end.0 > began {
            return Next::End(self.streams_end.1);
        }
        let scope = self.scope(request);
        let Some(at) = at else {
            let spelling = self.spelling(Kind::State);
            let fault = self.take_body_fault(Kind::State);
            let newest = Box::new(self.world.newest().clone());
            return Next::Tell(body::snapshot(&newest, &scope, media, spelling), newest, fault);
        };
        let spelling = self.spelling(Kind::Follow);
        match self.after(at, request, &scope, media, spelling) {
            After::Gone("rights-changed", _) => Next::Reset("rights-changed"),
            After::Gone(..) => Next::Reset("cursor-gone"),
            After::Updates(body, crumb) => Next::Tell(body, crumb, self.take_body_fault(Kind::Follow)),
            After::Nothing(moved) if moved == at => Next::Nothing(None),
            After::Nothing(_) => Next::Nothing(Some(Box::new(self.world.newest().clone()))),
        }
    }
}

/// The text of a body in this format.
fn event(format: StreamFormat, name: &str, id: Option<&str>, lines: &[u8]) -> Vec<u8> {
    if !format.events {
        return lines.to_vec();
    }
    let mut out = format!("event: {name}\n").into_bytes();
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    pub(super) async fn stream(&mut self, number: usize, request: &Request) -> io::Result<Then> {
        let Some(format) = negotiation::stream_format(request.header("accept").as_deref()) else {
            return self.not_acceptable(number, request).await;
        };
        let mut news = self.daemon.shared.news.subscribe();
        let (began, rights, unknown, close) = {
            let inner = self.daemon.inner.lock();
            let rights = inner.settings.rights.as_ref().map(|(name, _)| name.clone());
            (inner.streams_end.0, rights, inner.settings.unknown, inner.settings.close)
        };
        let media = match (format.events, format.media) {
            (true, MediaType::NdjsonStrings) => "text/event-stream; values=string",
            (true, _) => "text/event-stream",
            (false, media) => media.as_str(),
        };
        let status = self.daemon.newest().cursor.status;
        let mut headers = vec![
            ("Content-Type", media.to_owned()),
            ("Cache-Control", "no-store".to_owned()),
            ("Crumbd-Status", status.to_string()),
            ("Crumbd-Age", "0".to_owned()),
        ];
        headers.extend(rights.clone().map(|rights| ("Crumbd-Rights", rights)));
        let mut head = self.head(200, &headers, None, close);
        if format.events {
            head.extend(chunk(format!("retry: {RETRY_MS}\n\n").as_bytes()));
        }
        if unknown {
            let note = br#"{"type":"note","text":"a client ignores what it does not know"}"#;
            head.extend(chunk(&event(format, "note", None, &[&note[..], b"\n"].concat())));
        }
        self.daemon.answered(number, "200, a stream".to_owned());
        self.write(&head).await?;

        let daemon = Arc::clone(&self.daemon);
        let id = |cursor: &str| match &rights {
            Some(rights) => format!("{}~{rights}", daemon.written(cursor)),
            None => daemon.written(cursor),
        };
        let mut at = request.cursor.clone();
        // Rights matter for the cursor that the client came with.
        let mut request = request.clone();
        let waiting = Waiting::new(self, at.as_deref().unwrap_or_default());
        let mut heartbeat_at = self.heartbeat_at();
        let mut woken = Woken::News;
        loop {
            let next = self.daemon.inner.lock().tell(at.as_deref(), &request, format.media, began);
            match next {
                Next::End(reason) => {
                    let reset = reason.map(|reason| chunk(&reset(format, reason))).unwrap_or_default();
                    self.write(&[&reset, LAST_CHUNK].concat()).await?;
                    return Ok(if close { Then::Close } else { Then::KeepAlive });
                }
                Next::Reset(reason) => {
                    self.write(&chunk(&reset(format, reason))).await?;
                    self.daemon.answered(number, format!("200, a stream: reset ({reason})"));
                    at = None;
                    request.rights = rights.clone();
                }
                Next::Tell(body, crumb, fault) => {
                    let cursor = crumb.cursor.to_string();
                    let name = if at.is_none() { "snapshot" } else { "breadcrumb" };
                    let text = event(format, name, Some(&id(&cursor)), &body.bytes());
                    let what = format!("200, a stream: {} at {cursor}", body.mode);
                    if let Some(then) = self.tell(number, what, &text, &body, fault).await? {
                        return Ok(then);
                    }
                    at = Some(cursor);
                    request.rights = rights.clone();
                    heartbeat_at = self.heartbeat_at();
                }
                Next::Nothing(moved) => {
                    waiting.at(at.as_deref().unwrap_or_default());
                    if woken == Woken::Time {
                        let beat = match (&moved, format.events) {
                            (None, true) => b": still here\n\n".to_vec(),
                            (None, false) => b"\n".to_vec(),
                            (Some(crumb), true) => {
                                format!("id: {}\n\n", id(&crumb.cursor.to_string())).into_bytes()
                            }
                            (Some(crumb), false) => {
                                let scope = self.daemon.inner.lock().scope(&request);
                                body::moved(crumb, &scope, format.media).bytes()
                            }
                        };
                        self.write(&chunk(&beat)).await?;
                        if let Some(crumb) = moved {
                            at = Some(crumb.cursor.to_string());
                        }
                        heartbeat_at = self.heartbeat_at();
                        woken = Woken::News;
                        continue;
                    }
                    woken = self.wait(&mut news, heartbeat_at).await?;
                }
            }
        }
    }

    fn heartbeat_at(&self) -> Option<Instant> {
        self.daemon.inner.lock().settings.heartbeat.map(|every: Duration| Instant::now() + every)
    }

    /// Writes a body of a stream with its fault. `Some` where the stream ends with it.
    async fn tell(
        &mut self,
        number: usize,
        mut what: String,
        text: &[u8],
        body: &Body,
        fault: Option<Fault>,
    ) -> io::Result<Option<Then>> {
        match fault {
            Some(Fault::CutBody(cut, ending)) => {
                // An event ends with its `end` record and an empty line; a body of NDJSON with the record.
                let last = body.pieces.last().map_or(0, Vec::len);
                let at = cut_at(cut, text.len(), text.len().saturating_sub(last + 1));
                what.push_str(&format!(", cut off after {at} of {} bytes", text.len()));
                self.daemon.answered(number, what);
                match ending {
                    Ending::Clean if at > 0 => {
                        self.write(&[&chunk(&text[..at]), LAST_CHUNK].concat()).await?;
                        Ok(Some(Then::KeepAlive))
                    }
                    Ending::Clean => {
                        self.write(LAST_CHUNK).await?;
                        Ok(Some(Then::KeepAlive))
                    }
                    Ending::Closed => {
                        let size = format!("{:x}\r\n", text.len());
                        self.write(&[size.as_bytes(), &text[..at]].concat()).await?;
                        Ok(Some(Then::Close))
                    }
                }
            }
            Some(Fault::Stall) => {
                self.daemon.answered(number, what + ", and silence in the middle");
                let size = format!("{:x}\r\n", text.len());
                self.write(&[size.as_bytes(), &text[..text.len() / 2]].concat()).await?;
                self.until_closed().await.map(Some)
            }
            Some(Fault::Slow(parts, pause)) => {
                self.daemon.answered(number, what + ", slowly");
                self.write(format!("{:x}\r\n", text.len()).as_bytes()).await?;
                self.write_slowly(text, parts, pause).await?;
                self.write(b"\r\n").await?;
                Ok(None)
            }
            _ => {
                self.daemon.answered(number, what);
                self.write(&chunk(text)).await?;
                Ok(None)
            }
        }
    }
}

fn reset(format: StreamFormat, reason: &str) -> Vec<u8> {
    event(format, "reset", None, format!("{{\"type\":\"reset\",\"reason\":\"{reason}\"}}\n").as_bytes())
}
