//! How a stream looks on the wire.
//!
//! ```text
//! application/x-ndjson     the bodies, one after the other      heartbeat: an empty line
//! text/event-stream        a body is an event:                  heartbeat: a comment
//!                            id: its cursor
//!                            event: snapshot | breadcrumb | reset
//!                            data: one line for each record
//! ```
//!
//! An event is a whole body, however long, because that is what a client can apply at once: an `EventSource`
//! takes neither the data nor the id of an event that was cut off.

use bytes::Bytes;

use crate::http::api::stream::place::Place;
use crate::view::{Answer, Body};
use crate::wire::{Record, write_record};

/// Bytes that are wrapped at a time.
const CHUNK: usize = 16 * 1024;

/// How long an `EventSource` waits before it comes back, in milliseconds: not all at the same time.
const RETRY_MS: std::ops::RangeInclusive<u32> = 500..=3000;

/// The media types of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) enum Framing {
    /// `application/x-ndjson`.
    Ndjson,
    /// `text/event-stream`.
    Events,
}

impl Framing {
    /// All of them, the default first.
    pub(in crate::http) const ALL: [Self; 2] = [Self::Ndjson, Self::Events];

    /// The name in `Accept` and `Content-Type`.
    pub(in crate::http) fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Events => "text/event-stream",
        }
    }

    /// What stands before everything else.
    pub(in crate::http) fn opening(self) -> Option<Bytes> {
        (self == Self::Events).then(|| format!("retry: {}\n\n", fastrand::u32(RETRY_MS)).into())
    }

    /// The client has to forget what it has.
    pub(in crate::http) fn reset(self, reason: &str) -> Writing {
        let mut record = Vec::new();
        write_record(&mut record, &Record::Reset { reason: Some(reason.to_owned()) });
        record.push(b'\n');
        Writing::new(self, "event: reset\n".to_owned(), record.into())
    }

    /// A body of NDJSON, and the place after it.
    pub(in crate::http) fn body(self, name: &str, id: &Place, answer: &Answer) -> Writing {
        Writing::new(self, format!("id: {id}\nevent: {name}\n"), answer.body.clone())
    }

    /// A breadcrumb for a reader without rights of its own, in pieces.
    pub(in crate::http) fn event(self, answer: &Answer) -> impl Iterator<Item = Bytes> + use<> {
        let place = Place { cursor: answer.cursor, rights: None };
        let mut writing = self.body("breadcrumb", &place, answer);
        std::iter::from_fn(move || writing.next())
    }

    /// Something now and then; `moved` holds the place at which the client stands now, and the
    /// body that says so, where it was another before.
    pub(in crate::http) fn heartbeat(self, moved: Option<(Place, Answer)>) -> Writing {
        match (self, moved) {
            (Self::Ndjson, Some((_, answer))) => Writing::new(self, String::new(), answer.body),
            (Self::Ndjson, None) => Writing::new(self, String::new(), Bytes::from_static(b"\n").into()),
            (Self::Events, Some((id, _))) => Writing::head_only(format!(":\nid: {id}\n")),
            (Self::Events, None) => Writing::head_only(":\n".to_owned()),
        }
    }

    /// Why the stream ends; only where that can be said without being taken for something else.
    pub(in crate::http) fn last_words(self, reason: impl std::fmt::Display) -> Option<Writing> {
        (self == Self::Events).then(|| Writing::head_only(format!(": {reason}\n")))
    }
}

/// Something that is being written, a piece at a time.
pub(in crate::http) struct Writing {
    framing: Framing,
    /// Of an event, until it is written.
    head: Option<String>,
    body: Option<Body>,
    run: usize,
    part: usize,
    /// Whether the end of an event was written.
    ended: bool,
}

impl Writing {
    fn new(framing: Framing, head: String, body: Body) -> Self {
        let is_event = framing == Framing::Events;
        Self { framing, head: is_event.then_some(head), body: Some(body), run: 0, part: 0, ended: !is_event }
    }

    /// An event without data.
    fn head_only(head: String) -> Self {
        let framing = Framing::Events;
        Self { framing, head: Some(head), body: None, run: 0, part: 0, ended: false }
    }

    /// The next piece, until there is none. Lines are sent as they are, or wrapped for this client.
    pub(in crate::http) fn next(&mut self) -> Option<Bytes> {
        if self.framing == Framing::Ndjson {
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

/// Parts are whole lines: no record is cut by a page.
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

    fn text(mut writing: Writing) -> String {
        let pieces: Vec<Bytes> = std::iter::from_fn(|| writing.next()).collect();
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
        String::from_utf8(pieces.concat()).unwrap()
    }

    fn body(parts: &[&'static str]) -> Body {
        let runs = parts.iter().map(|part| Arc::from([Bytes::from_static(part.as_bytes())])).collect();
        Body::of_runs(runs, parts.iter().map(|part| part.len() as u64).sum())
    }

    #[test]
    fn each_line_of_a_body_is_a_line_of_data_and_an_empty_line_ends_the_event() {
        let parts = ["{\"a\":1}\n{\"b\":2}\n", "{\"c\":3}\n"];
        let event = Writing::new(Framing::Events, "event: x\n".to_owned(), body(&parts));
        assert_eq!(text(event), "event: x\ndata: {\"a\":1}\ndata: {\"b\":2}\ndata: {\"c\":3}\n\n");
        assert_eq!(
            text(Writing::new(Framing::Ndjson, "event: x\n".to_owned(), body(&parts))),
            parts.concat()
        );
    }

    #[test]
    fn a_heartbeat_and_last_words_are_no_event() {
        assert_eq!(text(Framing::Events.heartbeat(None)), ":\n\n");
        assert_eq!(text(Framing::Ndjson.heartbeat(None)), "\n");
        assert_eq!(text(Framing::Events.last_words("over").unwrap()), ": over\n\n");
        assert!(Framing::Ndjson.last_words("over").is_none());
    }

    #[test]
    fn a_reset_is_a_record_that_says_why() {
        let record = "{\"type\":\"reset\",\"reason\":\"cursor-gone\"}\n";
        assert_eq!(text(Framing::Ndjson.reset("cursor-gone")), record);
        assert_eq!(text(Framing::Events.reset("cursor-gone")), format!("event: reset\ndata: {record}\n"));
    }
}
