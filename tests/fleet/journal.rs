//! What one client asked, and what it was answered, read from the bytes between.
//!
//! Everything is HTTP/1.1 in the clear, and no client sends a request before it has its answer, so the first byte that comes
//! back after a request begins its answer.

use std::fmt;
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// The journal of a client, over all its connections.
#[derive(Clone, Default)]
pub struct Journal(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    steps: Vec<(Instant, Step)>,
    tally: Tally,
}

/// What decides whether a whole state is asked for in vain.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// A whole state, at its cursor once that is known.
    State {
        /// In a request, not by itself after a reset.
        asked: bool,
        cursor: Option<String>,
        /// The client has said that it has it.
        taken: bool,
    },
    /// Any number of requests for what comes after a cursor.
    Continued,
    /// 410, or a reset in a stream.
    Gone,
    /// A request or an answer for which there is no reason here.
    Unknown(String),
}

/// The numbers of one client, or of all.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    requests: u64,
    states: u64,
    continued: u64,
    gone: u64,
    unavailable: u64,
    unanswered: u64,
}

impl Journal {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap()
    }

    /// The client says that it is at this cursor.
    pub fn is_at(&self, at: &str) {
        for (_, step) in self.written().steps.iter_mut().rev() {
            if let Step::State { cursor: Some(cursor), taken, .. } = step
                && cursor == at
            {
                *taken = true;
                return;
            }
        }
    }

    /// What the client asked for although it had a state and nobody had said that its cursor was gone.
    ///
    /// A state counts as had once the client has printed its cursor, or has asked for what comes after one. Where two states
    /// with the same cursor follow each other, the client may have printed the second only: the first does not count.
    pub fn needless(&self) -> Vec<(Instant, String)> {
        let mut has_state = false;
        let mut needless = Vec::new();
        for (at, step) in &self.written().steps {
            match step {
                Step::State { asked, taken, .. } => {
                    if *asked && has_state {
                        needless.push((*at, format!("{step:?}")));
                    }
                    has_state |= *taken;
                }
                Step::Continued => has_state = true,
                Step::Gone => has_state = false,
                Step::Unknown(request) => needless.push((*at, request.clone())),
            }
        }
        needless
    }

    /// How often the client was told that its cursor was gone.
    pub fn times_gone(&self) -> u64 {
        self.written().tally.gone
    }

    pub fn tally(&self) -> Tally {
        self.written().tally.clone()
    }

    /// The last steps, oldest first.
    pub fn last(&self) -> Vec<String> {
        let written = self.written();
        let first = written.steps.len().saturating_sub(10);
        let text =
            |(at, step): &(Instant, Step)| format!("{:.1} s ago: {step:?}", at.elapsed().as_secs_f64());
        written.steps[first..].iter().map(text).collect()
    }

    fn push(&self, step: Step) {
        let mut written = self.written();
        match &step {
            Step::State { asked: true, .. } => written.tally.states += 1,
            Step::Continued => written.tally.continued += 1,
            Step::Gone => written.tally.gone += 1,
            Step::State { .. } | Step::Unknown(_) => {}
        }
        if step != Step::Continued || written.steps.last().is_none_or(|(_, last)| *last != step) {
            written.steps.push((Instant::now(), step));
        }
    }

    /// A state comes in a stream, which must have been asked for, or follow a reset.
    fn state_begins(&self) {
        let is_due = matches!(self.written().steps.last(), Some((_, Step::State { cursor: None, .. })));
        if !is_due {
            self.push(Step::Unknown("a state in a stream, without a reset".to_owned()));
        }
    }

    /// The state that was begun last is at this cursor.
    fn state_is_at(&self, at: &str) {
        if let Some((_, Step::State { cursor, .. })) = self.written().steps.last_mut() {
            *cursor = Some(at.to_owned());
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.requests += other.requests;
        self.states += other.states;
        self.continued += other.continued;
        self.gone += other.gone;
        self.unavailable += other.unavailable;
        self.unanswered += other.unanswered;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { requests, states, continued, gone, unavailable, unanswered } = self;
        write!(
            f,
            "{requests}, of which {states} for the whole state and {continued} for what comes after a cursor; {gone} times \
             a cursor was gone; {unavailable} answers of 5xx, {unanswered} requests without an answer"
        )
    }
}

/// Reads along with one connection.
pub struct Reader {
    journal: Journal,
    asking: Vec<u8>,
    answer: Answer,
}

/// Where the answers of a connection are.
enum Answer {
    /// Nothing is asked, or the rest of an answer says nothing more.
    Rest,
    /// The head of an answer so far.
    Head {
        asked: Asked,
        head: Vec<u8>,
    },
    Stream(Chunks),
}

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    State,
    Next,
    Stream,
}

impl Reader {
    pub fn new(journal: Journal) -> Reader {
        Reader { journal, asking: Vec::new(), answer: Answer::Rest }
    }

    /// Bytes that the client sends.
    pub fn asks(&mut self, bytes: &[u8]) {
        self.asking.extend_from_slice(bytes);
        while let Some((head, rest)) = split_head(&self.asking) {
            let asked = self.request(&head);
            self.asking = rest;
            self.answer = Answer::Head { asked, head: Vec::new() };
        }
    }

    fn request(&self, head: &str) -> Asked {
        self.journal.written().tally.requests += 1;
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let names_cursor = query.contains("from=") || header(head, "last-event-id").is_some();
        let state = Step::State { asked: true, cursor: None, taken: false };
        let (asked, step) = match path {
            "/v1/breadcrumbs/current" => (Asked::State, state),
            "/v1/stream" => (Asked::Stream, if names_cursor { Step::Continued } else { state }),
            _ if path.ends_with("/next") => (Asked::Next, Step::Continued),
            _ => (Asked::Next, Step::Unknown(head.lines().next().unwrap_or_default().to_owned())),
        };
        self.journal.push(step);
        asked
    }

    /// Bytes that the daemon answers.
    pub fn answers(&mut self, bytes: &[u8]) {
        match &mut self.answer {
            Answer::Rest => {}
            Answer::Stream(chunks) => chunks.read(bytes, &self.journal),
            Answer::Head { asked, head } => {
                head.extend_from_slice(bytes);
                let Some((text, rest)) = split_head(head) else { return };
                let asked = *asked;
                self.answer = Answer::Rest;
                match text.split(' ').nth(1) {
                    Some("200") if asked == Asked::State => {
                        header(&text, "crumbd-cursor")
                            .iter()
                            .for_each(|cursor| self.journal.state_is_at(cursor));
                    }
                    Some("200") if asked == Asked::Stream => {
                        self.answer = Answer::Stream(Chunks::default());
                        self.answers(&rest);
                    }
                    Some("410") => self.journal.push(Step::Gone),
                    Some(status) if status.starts_with('5') => self.journal.written().tally.unavailable += 1,
                    _ => {}
                }
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Answer::Head { .. } = self.answer {
            self.journal.written().tally.unanswered += 1;
        }
    }
}

/// The head before an empty line, and what comes after that.
fn split_head(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&bytes[..end]).into_owned(), bytes[end + 4..].to_vec()))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The lines of NDJSON in a body of chunks.
#[derive(Default)]
struct Chunks {
    /// What is left of a chunk.
    left: usize,
    /// The line with the size of a chunk; empty too after the end of one.
    size: Vec<u8>,
    line: Vec<u8>,
    in_state: bool,
}

impl Chunks {
    /// The beginning of a line is enough to know a record and, of an `end`, its cursor.
    const KEPT: usize = 512;

    fn read(&mut self, mut bytes: &[u8], journal: &Journal) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left == 0 {
                bytes = rest;
                self.size.push(byte);
                if byte == b'\n' {
                    let size = String::from_utf8_lossy(&self.size);
                    self.left = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
                    self.size.clear();
                }
                continue;
            }
            let (chunk, rest) = bytes.split_at(bytes.len().min(self.left));
            bytes = rest;
            self.left -= chunk.len();
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                let room = Self::KEPT.saturating_sub(self.line.len());
                self.line.extend_from_slice(&piece[..piece.len().min(room)]);
                if piece.ends_with(b"\n") {
                    self.record(journal);
                    self.line.clear();
                }
            }
        }
    }

    fn record(&mut self, journal: &Journal) {
        let line = String::from_utf8_lossy(&self.line);
        if line.starts_with(r#"{"type":"reset""#) {
            journal.push(Step::Gone);
            journal.push(Step::State { asked: false, cursor: None, taken: false });
        } else if line.starts_with(r#"{"type":"snapshot""#) {
            self.in_state = true;
            journal.state_begins();
        } else if line.starts_with(r#"{"type":"end""#) && std::mem::take(&mut self.in_state) {
            let cursor = line.split_once(r#""cursor":""#).and_then(|(_, rest)| rest.split('"').next());
            cursor.iter().for_each(|cursor| journal.state_is_at(cursor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Journal, Reader};

    const STREAM: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    fn ask(reader: &mut Reader, target: &str, answers: &[&str]) {
        reader.asks(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        answers.iter().for_each(|answer| reader.answers(answer.as_bytes()));
    }

    fn chunk(text: &str) -> String {
        format!("{:x}\r\n{text}\r\n", text.len())
    }

    fn state(cursor: &str) -> String {
        format!("{{\"type\":\"snapshot\"}}\n{{\"type\":\"end\",\"cursor\":\"{cursor}\"}}\n")
    }

    #[test]
    fn a_second_state_is_in_vain_unless_the_cursor_is_gone() {
        let journal = Journal::default();
        let mut reader = Reader::new(journal.clone());
        let state = ["HTTP/1.1 200 OK\r\nCrumbd-Cursor: c", "1\r\n\r\n{}"];
        ask(&mut reader, "/v1/breadcrumbs/current", &["HTTP/1.1 503 Not now\r\n\r\n"]);
        ask(&mut reader, "/v1/breadcrumbs/current", &state);
        ask(&mut reader, "/v1/breadcrumbs/current", &state);
        ask(&mut reader, "/v1/breadcrumbs/c1/next", &["HTTP/1.1 410 Gone\r\n\r\n"]);
        ask(&mut reader, "/v1/breadcrumbs/current", &state);
        assert!(journal.needless().is_empty(), "{:?}", journal.last());
        assert_eq!(journal.times_gone(), 1);
        journal.is_at("c1");
        ask(&mut reader, "/v1/breadcrumbs/current", &state);
        assert_eq!(journal.needless().len(), 1, "{:?}", journal.last());
    }

    #[test]
    fn a_stream_is_read_through_its_chunks() {
        let journal = Journal::default();
        let mut reader = Reader::new(journal.clone());
        let whole = chunk(&state("c1"));
        let (left, right) = whole.split_at(40);
        ask(&mut reader, "/v1/stream", &[STREAM, left, right]);
        journal.is_at("c1");
        let reset = chunk("{\"type\":\"reset\",\"reason\":\"cursor-gone\"}\n");
        ask(&mut reader, "/v1/stream?from=c1", &[STREAM, &reset, &chunk(&state("c2")[..25])]);
        ask(&mut reader, "/v1/stream", &[STREAM, &whole]);
        assert!(journal.needless().is_empty(), "{:?}", journal.last());
        assert_eq!(journal.times_gone(), 1);
        journal.is_at("c1");
        ask(&mut reader, "/v1/stream?from=c1", &[STREAM, &whole]);
        ask(&mut reader, "/v1/stream", &[STREAM]);
        assert_eq!(journal.needless().len(), 2, "{:?}", journal.last());
    }
}
