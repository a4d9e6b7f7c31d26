//! The answers of the contract: the whole state, and what comes after a cursor.

use std::io;
use std::time::Instant;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{self, Body, Scope, Spelling};
use super::connection::{Answer, Connection, Then, Woken};
use super::request::{Endpoint, Kind, Request, link_of};
use super::world::Crumb;
use super::{AtOnce, Daemon, Fault, Inner, negotiation};
use crate::conform::rule::Rule;
use crate::model::SyncStatus;
use crate::wire::{Coding, MediaType};

/// What is written as it is in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Where redirects of scenes lead.
pub(crate) const ELSEWHERE: &str = "/v1/elsewhere";

/// The smallest body that is coded.
const CODED_BYTES: usize = 1024;

/// What there is after a cursor.
pub(super) enum After {
    /// The cursor is gone: the kind and the sentence of the problem.
    Gone(&'static str, &'static str),
    Updates(Body, Box<Crumb>),
    /// Nothing; the cursor has moved on to this one.
    Nothing(String),
}

impl Inner {
    /// What comes after the cursor of this request.
    pub(super) fn after(
        &self,
        cursor: &str,
        request: &Request,
        scope: &Scope,
        media: MediaType,
        spelling: Spelling,
    ) -> After {
        if self.has_other_rights(request) {
            return After::Gone(
                "rights-changed",
                "what this token may read has changed: read the state again",
            );
        }
        let newest = self.world.newest();
        let Some(from) = self.world.kept(cursor) else {
            return match self.world.is_ahead(cursor) {
                true => After::Nothing(cursor.to_owned()),
                false => After::Gone("cursor-gone", "this cursor is no longer kept: read the state again"),
            };
        };
        match body::updates(from, newest, scope, media, spelling) {
            Some(body) => After::Updates(body, Box::new(newest.clone())),
            None => After::Nothing(newest.cursor.to_string()),
        }
    }

    /// How the next body of this kind is to be spelt. Its fault stays in the queue.
    pub(super) fn spelling(&mut self, kind: Kind) -> Spelling {
        let lie = match self.queue(kind).front() {
            Some(Fault::Lie(lie)) => Some(*lie),
            _ => None,
        };
        Spelling { lie, unknown: self.settings.unknown, shaped: self.settings.shaped }
    }
}

impl Daemon {
    /// The link to what comes after this cursor, for this request.
    fn link(&self, cursor: &str, request: &Request) -> String {
        let (base, rights) = {
            let settings = &self.inner.lock().settings;
            (settings.base.clone(), settings.rights.clone())
        };
        let encode = |bytes: &[u8]| percent_encode(bytes, PLAIN).to_string();
        let prefix = request.parameter("prefix").filter(|prefix| !prefix.is_empty());
        let prefix = prefix.map(|prefix| format!("prefix={}", encode(prefix)));
        let rights = rights.map(|(name, _)| format!("rights={}", encode(name.as_bytes())));
        let query: Vec<_> = prefix.into_iter().chain(rights).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let cursor = self.written(cursor);
        let link = format!("{base}/v1/breadcrumbs/{cursor}/next{mark}{}", query.join("&"));
        self.shared.issued.lock().insert(link_of(&link));
        link
    }

    /// The headers of every answer at a cursor.
    fn headers(
        &self,
        cursor: &str,
        crumb: &Crumb,
        mode: &str,
        reason: &str,
        request: &Request,
    ) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("Crumbd-Cursor", self.written(cursor)),
            ("Crumbd-Mode", mode.to_owned()),
            ("Crumbd-Reason", reason.to_owned()),
            ("Crumbd-Revision", crumb.cursor.revision.to_string()),
            ("Crumbd-Sequence", crumb.sequence.to_string()),
            ("Crumbd-Status", crumb.cursor.status.to_string()),
            ("Crumbd-Age", "0".to_owned()),
            ("Link", format!("<{}>; rel=\"next\"", self.link(cursor, request))),
            ("Cache-Control", "no-store".to_owned()),
        ];
        if self.inner.lock().settings.unknown {
            headers.push(("Crumbd-Weather", "fair; wind=\"2, west\"".to_owned()));
        }
        headers
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Answers a request.
    pub(super) async fn answer(&mut self, number: usize, request: &Request) -> io::Result<Then> {
        let head_fault = {
            let mut inner = self.daemon.inner.lock();
            match request.kind {
                Kind::Other => inner.settings.down.clone(),
                kind => inner.take_head_fault(kind),
            }
        };
        self.check(request);
        if let Some(fault) = head_fault {
            return self.instead(number, fault, request).await;
        }
        if let Some(refused) = self.refusal(request) {
            return self.instead(number, refused, request).await;
        }
        match request.endpoint.clone() {
            Endpoint::Current => self.current(number, request).await,
            Endpoint::Next(cursor) => self.next(number, request, &cursor).await,
            Endpoint::Stream => self.stream(number, request).await,
            Endpoint::Unknown => {
                let sentence = "there is nothing at this address: see the contract for what there is";
                self.instead(number, Fault::problem(404, "not-found", sentence), request).await
            }
        }
    }

    /// Notes what a client must not ask.
    fn check(&self, request: &Request) {
        let shared = &self.daemon.shared;
        let target = &request.target;
        match &request.endpoint {
            Endpoint::Next(_) if !shared.issued.lock().contains(&request.link()) => shared.violation(
                Rule::Link,
                "requests for links as they were given (only `wait` may be added)",
                format!("a request for {target}, which no answer had as its Link"),
            ),
            Endpoint::Stream => {
                if let Some(cursor) = &request.cursor
                    && shared.crumb(cursor).is_none()
                {
                    let came = format!("a stream from {cursor:?}");
                    shared.violation(Rule::Link, "streams from cursors that were given", came);
                }
            }
            _ => {}
        }
        let (prefix, shortest) = {
            let settings = &self.daemon.inner.lock().settings;
            (settings.prefix.clone(), settings.shortest_wait)
        };
        if matches!(request.endpoint, Endpoint::Next(_)) && request.wait().is_some_and(|wait| wait < shortest)
        {
            let expected = format!("long polls with a wait of at least {shortest:?}");
            shared.violation(Rule::Pace, expected, format!("a request for {target}"));
        }
        if target.starts_with(ELSEWHERE) {
            let came = format!("a request for {target}");
            shared.violation(Rule::Status, "no request for the Location of a redirect", came);
        }
        if let Some(prefix) = prefix
            && request.kind != Kind::Other
            && request.parameter("prefix") != Some(&prefix[..])
        {
            let expected = format!("prefix= with the bytes \"{}\"", prefix.escape_ascii());
            shared.violation(Rule::Prefix, expected, format!("a request for {target}"));
        }
    }

    /// The answer to a request that is refused by its head.
    fn refusal(&self, request: &Request) -> Option<Fault> {
        if request.method != "GET" {
            return Some(Fault::problem(405, "method", "only GET is answered").with("Allow", "GET"));
        }
        let token = self.daemon.inner.lock().settings.token.clone();
        if let Some(token) = token
            && request.header("authorization") != Some(format!("Bearer {token}"))
        {
            let sentence = "the request needs the header Authorization: Bearer with a token that is known";
            return Some(Fault::problem(401, "token-unknown", sentence).with("WWW-Authenticate", "Bearer"));
        }
        let known: &[&str] = match request.endpoint {
            Endpoint::Current => &["prefix"],
            Endpoint::Next(_) => &["prefix", "wait", "rights"],
            _ => &["prefix", "from"],
        };
        if request.endpoint != Endpoint::Unknown
            && let Some((name, _)) = request.query.iter().find(|(name, _)| !known.contains(&&**name))
        {
            let sentence = format!("there is no query parameter {name:?} here");
            return Some(Fault::problem(400, "unknown-parameter", &sentence));
        }
        None
    }

    async fn current(&mut self, number: usize, request: &Request) -> io::Result<Then> {
        let Some(media) = negotiation::media_type(request.header("accept").as_deref()) else {
            return self.not_acceptable(number, request).await;
        };
        let (body, crumb, fault) = {
            let mut inner = self.daemon.inner.lock();
            let scope = inner.scope(request);
            let spelling = inner.spelling(Kind::State);
            let fault = inner.take_body_fault(Kind::State);
            let crumb = inner.world.newest().clone();
            (body::snapshot(&crumb, &scope, media, spelling), crumb, fault)
        };
        let cursor = crumb.cursor.to_string();
        let tag = format!("W/\"{cursor}-{}\"", MediaType::ALL.iter().position(|m| *m == media).unwrap_or(0));
        let mut headers = self.daemon.headers(&cursor, &crumb, body.mode.as_str(), body.reason, request);
        headers.push(("ETag", tag.clone()));
        if request.header("if-none-match").is_some_and(|known| known == tag) && fault.is_none() {
            return self.send(number, Answer::empty(304, headers, "304"), None).await;
        }
        let answer = self.with_body(headers, &body, media, request, &crumb)?;
        self.send(number, answer, fault).await
    }

    async fn next(&mut self, number: usize, request: &Request, cursor: &str) -> io::Result<Then> {
        let Some(media) = negotiation::media_type(request.header("accept").as_deref()) else {
            return self.not_acceptable(number, request).await;
        };
        let Some(wait) = request.wait() else {
            let sentence = "wait= is a duration such as 29s or 500ms";
            return self.instead(number, Fault::problem(400, "malformed", sentence), request).await;
        };
        let mut news = self.daemon.shared.news.subscribe();
        let wait = wait.min(self.daemon.inner.lock().settings.longest_wait);
        let until = Instant::now() + wait;
        let _waiting = Waiting::new(self, cursor);
        let mut woken = Woken::News;
        loop {
            enum Act {
                Fault(Fault),
                Gone(&'static str, &'static str),
                Send(Body, Box<Crumb>, Option<Fault>),
                Moved(String, Box<Crumb>, Option<Fault>),
                Wait,
            }
            let act = {
                let mut inner = self.daemon.inner.lock();
                let scope = inner.scope(request);
                let spelling = inner.spelling(Kind::Follow);
                let after = inner.after(cursor, request, &scope, media, spelling);
                if let Some(fault) = inner.take_head_fault(Kind::Follow) {
                    Act::Fault(fault)
                } else if inner.has_other_rights(request)
                    && let Some(fault) = inner.rights_fault.take()
                {
                    Act::Fault(fault)
                } else if let Some(at_once) = inner.settings.at_once
                    && inner.world.newest().cursor.to_string() == cursor
                {
                    inner.at_once_count += 1;
                    let crumb = Box::new(inner.world.newest().clone());
                    match (at_once, inner.at_once_count % 2) {
                        (AtOnce::NoContent, _) => Act::Moved(cursor.to_owned(), crumb, None),
                        (AtOnce::SameState, 1) => {
                            Act::Send(body::unchanged(&crumb, &scope, media, spelling), crumb, None)
                        }
                        (AtOnce::SameState, _) => {
                            Act::Send(body::snapshot(&crumb, &scope, media, spelling), crumb, None)
                        }
                    }
                } else {
                    match after {
                        After::Gone(kind, sentence) => Act::Gone(kind, sentence),
                        After::Updates(body, crumb) => {
                            Act::Send(body, crumb, inner.take_body_fault(Kind::Follow))
                        }
                        After::Nothing(moved) if woken == Woken::Time => {
                            let fault = match inner.queue(Kind::Follow).front() {
                                Some(Fault::NoLink) => inner.take_body_fault(Kind::Follow),
                                _ => None,
                            };
                            Act::Moved(moved, Box::new(inner.world.newest().clone()), fault)
                        }
                        After::Nothing(_) => Act::Wait,
                    }
                }
            };
            match act {
                Act::Fault(fault) => return self.instead(number, fault, request).await,
                Act::Gone(kind, sentence) => {
                    return self.instead(number, Fault::problem(410, kind, sentence), request).await;
                }
                Act::Send(body, crumb, fault) => {
                    let cursor = crumb.cursor.to_string();
                    let mode = body.mode.as_str();
                    let headers = self.daemon.headers(&cursor, &crumb, mode, body.reason, request);
                    let answer = self.with_body(headers, &body, media, request, &crumb)?;
                    return self.send(number, answer, fault).await;
                }
                Act::Moved(moved, crumb, fault) => {
                    let headers = self.daemon.headers(&moved, &crumb, "none", "timeout", request);
                    let what = if moved == cursor { "204" } else { "204 with a newer cursor" };
                    return self.send(number, Answer::empty(204, headers, what), fault).await;
                }
                Act::Wait => woken = self.wait(&mut news, Some(until)).await?,
            }
        }
    }

    /// The answer with this body, coded as the client accepts it.
    fn with_body(
        &self,
        mut headers: Vec<(&'static str, String)>,
        body: &Body,
        media: MediaType,
        request: &Request,
        crumb: &Crumb,
    ) -> io::Result<Answer> {
        let prefer = self.daemon.inner.lock().settings.prefer;
        let plain = body.bytes();
        let coding = match plain.len() >= CODED_BYTES {
            true => negotiation::coding(request.header("accept-encoding").as_deref(), prefer),
            false => Coding::Identity,
        };
        headers.push(("Content-Type", media.as_str().to_owned()));
        headers.push(("Vary", "Accept, Accept-Encoding".to_owned()));
        let mut end_at = plain.len() - body.pieces.last().map_or(0, Vec::len);
        let mut bytes = plain;
        if coding != Coding::Identity {
            headers.push(("Content-Encoding", coding.as_str().to_owned()));
            bytes = body.coded(media, coding).map_err(io::Error::other)?;
            end_at = bytes.len() - 1;
        }
        let status = match crumb.cursor.status {
            SyncStatus::InSync => "",
            other => other.as_str(),
        };
        let what = format!("200 {} at {} {status}", body.mode, crumb.cursor);
        Ok(Answer { status: 200, headers, body: bytes, end_at, what: what.trim_end().to_owned() })
    }

    pub(super) async fn not_acceptable(&mut self, number: usize, request: &Request) -> io::Result<Then> {
        let sentence = "Accept allows none of the media types that this address has";
        self.instead(number, Fault::problem(406, "not-acceptable", sentence), request).await
    }
}

/// A client that waits, as long as this is there.
pub(super) struct Waiting {
    daemon: std::sync::Arc<Daemon>,
    id: u64,
}

impl Waiting {
    pub(super) fn new<S>(connection: &Connection<S>, cursor: &str) -> Self {
        let waiting = Self { daemon: std::sync::Arc::clone(&connection.daemon), id: connection.id };
        waiting.at(cursor);
        waiting
    }

    /// Says where the client is now.
    pub(super) fn at(&self, cursor: &str) {
        let before = self.daemon.inner.lock().waiting.insert(self.id, cursor.to_owned());
        if before.as_deref() != Some(cursor) {
            self.daemon.shared.happened();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.daemon.inner.lock().waiting.remove(&self.id);
    }
}
