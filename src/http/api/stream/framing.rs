//! The two framings of a stream.
//!
//! ```text
//! application/x-ndjson     the bodies, one after the other      heartbeat: an empty line
//! text/event-stream        a body is an event:                  heartbeat: a comment
//!                            id: its cursor
//!                            event: snapshot | breadcrumb | reset
//!                            data: one line for each record
//! ```
//!
//! Both may have values as strings (`; values=string`).
//!
//! An event is a whole body of any length, which a client applies at once. An `EventSource` ignores the data and the id
//! of an unfinished event.

use bytes::Bytes;

use crate::http::api::stream::resume_point::ResumePoint;
use crate::view::{Answer, Body};
use crate::wire::{Record, Values, write_record};

/// About the size of a piece of an event.
const CHUNK: usize = 16 * 1024;

/// The range of an `EventSource`'s reconnection delay, in milliseconds. It is random, to spread reconnections.
const RETRY_MS: std::ops::RangeInclusive<u32> = 500..=3000;

/// A media type of a stream: its framing, and the form of its values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum Framing {
    /// `application/x-ndjson`.
    Ndjson,
    /// `text/event-stream`.
    Events,
    /// `application/x-ndjson; values=string`.
    NdjsonStrings,
    /// `text/event-stream; values=string`.
    EventsOfStrings,
}

impl Framing {
    /// All media types, the default first.
    pub(in crate::http) const ALL: [Self; 4] =
        [Self::Ndjson, Self::Events, Self::NdjsonStrings, Self::EventsOfStrings];

    /// The media type.
    pub(in crate::http) fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::NdjsonStrings => "application/x-ndjson; values=string",
            Self::EventsOfStrings => "text/event-stream; values=string",
        }
    }

    /// The form of the values in its records.
    pub(in crate::http) fn values(self) -> Values {
        match self {
            Self::Ndjson | Self::Events => Values::Json,
            Self::NdjsonStrings | Self::EventsOfStrings => Values::Strings,
        }
    }

    /// Whether bodies are server-sent events.
    pub(in crate::http) fn is_events(self) -> bool {
        matches!(self, Self::Events | Self::EventsOfStrings)
    }

    /// The bytes before the first event.
    pub(in crate::http) fn opening(self) -> Option<Bytes> {
        self.is_events().then(|| format!("retry: {}\n\n", fastrand::u32(RETRY_MS)).into())
    }

    /// A reset: the client discards its state.
    pub(in crate::http) fn reset(self, reason: &str) -> FramedBody {
        let mut record = Vec::new();
        write_record(&mut record, &Record::Reset { reason: Some(reason.to_owned()) });
        record.push(b'\n');
        FramedBody::new(self, "event: reset\n".to_owned(), record.into())
    }

    /// An NDJSON body, and the resume point after it.
    pub(in crate::http) fn body(self, name: &str, id: &ResumePoint, answer: &Answer) -> FramedBody {
        FramedBody::new(self, format!("id: {id}\nevent: {name}\n"), answer.body.clone())
    }

    /// The pieces of a breadcrumb for a daemon without tokens.
    pub(in crate::http) fn event(self, answer: &Answer) -> impl Iterator<Item = Bytes> + use<> {
        let id = ResumePoint { cursor: answer.cursor, rights: None };
        let mut event = self.body("breadcrumb", &id, answer);
        std::iter::from_fn(move || event.next())
    }

    /// A heartbeat. If the client's cursor has advanced, `advanced` has the new resume point and the body that says so.
    pub(in crate::http) fn heartbeat(self, advanced: Option<(ResumePoint, Answer)>) -> FramedBody {
        match (self.is_events(), advanced) {
            (false, Some((_, answer))) => FramedBody::new(self, String::new(), answer.body),
            (false, None) => FramedBody::new(self, String::new(), Bytes::from_static(b"\n").into()),
            (true, Some((id, _))) => FramedBody::head_only(format!(":\nid: {id}\n")),
            (true, None) => FramedBody::head_only(":\n".to_owned()),
        }
    }

    /// The reason for the end of the stream, as a comment. NDJSON has no comments.
    pub(in crate::http) fn closing_comment(self, reason: impl std::fmt::Display) -> Option<FramedBody> {
        self.is_events().then(|| FramedBody::head_only(format!(": {reason}\n")))
    }
}

/// A body in its framing, as an iterator of pieces.
pub(in crate::http) struct FramedBody {
    is_event: bool,
    /// The first lines of an event, until they are returned.
    head: Option<String>,
    body: Option<Body>,
    run: usize,
    part: usize,
    /// Whether the end of an event was returned.
    ended: bool,
}

impl FramedBody {
    fn new(framing: Framing, head: String, body: Body) -> Self {
        let is_event = framing.is_events();
        Self { is_event, head: is_event.then_some(head), body: Some(body), run: 0, part: 0, ended: !is_event }
    }

    /// An event without data.
    fn head_only(head: String) -> Self {
        Self { is_event: true, head: Some(head), body: None, run: 0, part: 0, ended: false }
    }

    /// The next piece; `None` after the last one.
    pub(in crate::http) fn next(&mut self) -> Option<Bytes> {
        if !self.is_event {
            return self.next_part();
        }
        let mut out = self.head.take().map(String::into_bytes).unwrap_or_default();
        while out.len() < CHUNK {
            match self.next_part() {
                Some(part) => wrap(&part, &mut out),
                None if self.ended => break,
                None => {
                    self.ended = true;
                    out.push(b'\n');
                }
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// Whether the last piece was returned.
    pub(in crate::http) fn is_finished(&self) -> bool {
        let is_last_run = |body: &Body| match body.run(self.run) {
            Some(run) => self.part >= run.len() && body.run(self.run + 1).is_none(),
            None => true,
        };
        self.ended && self.head.is_none() && self.body.as_ref().is_none_or(is_last_run)
    }

    fn next_part(&mut self) -> Option<Bytes> {
        loop {
            let run = self.body.as_ref()?.run(self.run)?;
            if let Some(part) = run.get(self.part) {
                self.part += 1;
                return Some(part.clone());
            }
            (self.run, self.part) = (self.run + 1, 0);
        }
    }
}

/// Prefixes each line with `data: `. Parts are whole lines, because pages consist of whole records.
fn wrap(part: &Bytes, out: &mut Vec<u8>) {
    for line in part.split_inclusive(|byte| *byte == b'\n') {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
    }
    debug_assert!(part.ends_with(b"\n"), "a part ends with a line");
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may unwrap
mod tests {
    use std::sync::Arc;

    use super::*;

    fn text(mut framed: FramedBody) -> String {
        let pieces: Vec<Bytes> = std::iter::from_fn(|| framed.next()).collect();
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
        String::from_utf8(pieces.concat()).unwrap()
    }

    fn body(parts: &[&'static str]) -> Body {
        let runs = parts.iter().map(|part| Arc::from([Bytes::from_static(part.as_bytes())])).collect();
        Body::from_runs(runs, parts.iter().map(|part| part.len() as u64).sum())
    }

    #[test]
    fn each_line_of_a_body_is_a_line_of_data_and_an_empty_line_ends_the_event() {
        let parts = ["{\"a\":1}\n{\"b\":2}\n", "{\"c\":3}\n"];
        let event = FramedBody::new(Framing::Events, "event: x\n".to_owned(), body(&parts));
        assert_eq!(text(event), "event: x\ndata: {\"a\":1}\ndata: {\"b\":2}\ndata: {\"c\":3}\n\n");
        assert_eq!(
            text(FramedBody::new(Framing::Ndjson, "event: x\n".to_owned(), body(&parts))),
            parts.concat()
        );
    }

    #[test]
    fn a_heartbeat_and_a_closing_comment_are_no_event() {
        assert_eq!(text(Framing::Events.heartbeat(None)), ":\n\n");
        assert_eq!(text(Framing::Ndjson.heartbeat(None)), "\n");
        assert_eq!(text(Framing::Events.closing_comment("over").unwrap()), ": over\n\n");
        assert!(Framing::Ndjson.closing_comment("over").is_none());
    }

    #[test]
    fn a_reset_is_a_record_with_its_reason() {
        let record = "{\"type\":\"reset\",\"reason\":\"cursor-gone\"}\n";
        assert_eq!(text(Framing::Ndjson.reset("cursor-gone")), record);
        assert_eq!(text(Framing::Events.reset("cursor-gone")), format!("event: reset\ndata: {record}\n"));
    }
}
