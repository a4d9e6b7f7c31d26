//! Whole bodies: a header, records, an end, in one of the media types.

use super::{End, Header, MAX_RECORD_BYTES, PutKind, Record, WireError, bincode, json};
use crate::model::{Entry, KeyStep, Revision};

/// The media type of a body.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MediaType {
    /// `application/json`: one object.
    Json,
    /// `application/x-ndjson`: one record a line.
    Ndjson,
    /// `application/vnd.crumbd.v1+bincode`: the same records as NDJSON, one after the other.
    Bincode,
    /// `application/json; values=string`: one object, with [`Values::Strings`].
    JsonStrings,
    /// `application/x-ndjson; values=string`: one record a line, with [`Values::Strings`].
    NdjsonStrings,
}

/// The form of the values in JSON records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Values {
    /// A value that is JSON is a JSON value.
    Json,
    /// Every value is a string, and `encoding` says how to get its bytes. A parser that forgets how JSON was spelt
    /// (`1.50`, `"\u00e9"`) still gives each value's bytes, so a client can compute the digest.
    Strings,
}

impl Values {
    /// Both forms, the default first.
    pub const ALL: [Self; 2] = [Self::Json, Self::Strings];
}

impl MediaType {
    /// All media types, the default first.
    pub const ALL: [Self; 5] =
        [Self::Json, Self::Ndjson, Self::Bincode, Self::JsonStrings, Self::NdjsonStrings];

    /// NDJSON with values in this form.
    pub const fn ndjson(values: Values) -> Self {
        match values {
            Values::Json => Self::Ndjson,
            Values::Strings => Self::NdjsonStrings,
        }
    }

    /// The name in `Accept` and `Content-Type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Bincode => "application/vnd.crumbd.v1+bincode",
            Self::JsonStrings => "application/json; values=string",
            Self::NdjsonStrings => "application/x-ndjson; values=string",
        }
    }

    /// Whether a body is one JSON object instead of a list of records.
    fn is_object(self) -> bool {
        matches!(self, Self::Json | Self::JsonStrings)
    }

    /// Whether each record is a line.
    fn is_lines(self) -> bool {
        matches!(self, Self::Ndjson | Self::NdjsonStrings)
    }
}

/// Writes one body: `begin`, any number of records, `finish`. Or a piece of one: `resume`, records, `take`.
#[derive(Debug)]
pub struct BodyWriter {
    media: MediaType,
    out: Vec<u8>,
    first: bool,
}

impl BodyWriter {
    /// Begins the body of a snapshot (`entries`).
    pub fn snapshot(media: MediaType, header: &Header, size_hint: usize) -> Self {
        Self::begin(media, size_hint, "entries", &Record::Snapshot(header.clone()), header)
    }

    /// Begins the body of a breadcrumb (`updates`).
    pub fn breadcrumb(media: MediaType, header: &Header, size_hint: usize) -> Self {
        Self::begin(media, size_hint, "updates", &Record::Breadcrumb(header.clone()), header)
    }

    fn begin(media: MediaType, size_hint: usize, items: &str, opening: &Record, header: &Header) -> Self {
        let mut out = Vec::with_capacity(size_hint + 512);
        match media {
            MediaType::Json | MediaType::JsonStrings => {
                json::write_header(&mut out, None, header).open_array(items);
            }
            MediaType::Ndjson | MediaType::NdjsonStrings => {
                json::write_record(&mut out, opening);
                out.push(b'\n');
            }
            MediaType::Bincode => bincode::write_record(&mut out, opening),
        }
        Self { media, out, first: true }
    }

    /// Continues in the middle of a body, after other records: for bodies made of pieces. Clears `buffer` and reuses its
    /// memory.
    pub fn resume(media: MediaType, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { media, out: buffer, first: false }
    }

    /// Writes a key with its value.
    pub fn put(&mut self, kind: PutKind, entry: &Entry) {
        self.separate();
        match self.media {
            MediaType::Bincode => bincode::write_put(&mut self.out, kind, entry),
            MediaType::Json | MediaType::Ndjson => {
                json::write_put(&mut self.out, kind, entry, Values::Json);
            }
            MediaType::JsonStrings | MediaType::NdjsonStrings => {
                json::write_put(&mut self.out, kind, entry, Values::Strings);
            }
        }
        self.terminate();
    }

    /// Writes a deleted key.
    pub fn deleted(&mut self, key: &[u8], revision: Option<Revision>) {
        self.separate();
        match self.media {
            MediaType::Bincode => bincode::write_deleted(&mut self.out, key, revision),
            _ => json::write_deleted(&mut self.out, key, revision),
        }
        self.terminate();
    }

    /// Writes a step, which only bincode has; in another media type nothing.
    pub(crate) fn step(&mut self, step: &KeyStep) {
        if self.media == MediaType::Bincode {
            bincode::write_step(&mut self.out, step);
        }
    }

    /// The number of bytes written and not yet taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether there are no such bytes.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes the bytes written so far, so that a body need not be in memory as a whole.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn separate(&mut self) {
        if !std::mem::take(&mut self.first) && self.media.is_object() {
            self.out.push(b',');
        }
    }

    fn terminate(&mut self) {
        if self.media.is_lines() {
            self.out.push(b'\n');
        }
    }

    /// Closes the body. A JSON body needs no `end` record: its closing brace is one.
    pub fn finish(mut self, end: &End) -> Vec<u8> {
        match self.media {
            MediaType::Json | MediaType::JsonStrings => self.out.extend_from_slice(b"]}"),
            MediaType::Ndjson | MediaType::NdjsonStrings => json::write_end(&mut self.out, end),
            MediaType::Bincode => {
                bincode::write_record(&mut self.out, &Record::End(end.clone()));
            }
        }
        self.terminate();
        if self.media.is_object() {
            self.out.push(b'\n');
        }
        self.out
    }
}

/// Reads the records of an NDJSON or bincode body as its bytes arrive.
#[derive(Debug)]
pub struct RecordReader {
    media: MediaType,
    buffer: Vec<u8>,
    used: usize,
    /// Whether fields and types of records that are not known are skipped.
    skips_unknown: bool,
    /// Bytes after `used` that contain no line break. So a long line is searched once, not once for each chunk.
    searched: usize,
    position: usize,
}

impl RecordReader {
    /// Makes a reader for a body of this type. A JSON body is one object without separate records, so `Json` reads NDJSON.
    pub fn new(media: MediaType) -> Self {
        Self { media, buffer: Vec::new(), used: 0, skips_unknown: false, searched: 0, position: 0 }
    }

    /// The same reader for a client, which ignores what is newer than itself: fields and types of records that it does
    /// not know. In bincode there are none.
    #[must_use]
    pub fn skipping_unknown(self) -> Self {
        Self { skips_unknown: true, ..self }
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        // Bytes that were read are dropped once they are the larger part, so that each byte moves once or twice.
        if self.used > self.buffer.len() / 2 {
            self.buffer.drain(..std::mem::take(&mut self.used));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole record; `None` until more bytes come. A record that is not whole after 1 GiB is an error.
    ///
    /// # Errors
    /// [`WireError::At`] with the record's number, from 1.
    pub fn next_record(&mut self) -> Result<Option<Record>, WireError> {
        loop {
            if self.media != MediaType::Bincode && self.searched == 0 {
                self.used += blank_lines(&self.buffer[self.used..]);
            }
            let rest = &self.buffer[self.used..];
            let read = match self.media {
                MediaType::Bincode if rest.is_empty() => Ok(None),
                MediaType::Bincode => {
                    bincode::read_record(rest).map(|read| read.map(|(record, used)| (Some(record), used)))
                }
                _ => read_line(rest, &mut self.searched, MAX_RECORD_BYTES, self.skips_unknown),
            };
            let read = read.map_err(|error| error.at("record", self.position + 1))?;
            let Some((record, used)) = read else { return Ok(None) };
            self.used += used;
            self.position += 1;
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// Whether every byte that was pushed has been read.
    ///
    /// # Errors
    /// [`WireError::CutOff`] when part of a record is left over.
    pub fn finish(&self) -> Result<(), WireError> {
        if self.used == self.buffer.len() { Ok(()) } else { Err(WireError::CutOff) }
    }
}

/// Reads the record of the first line, of at most `limit` bytes. There is none where it is of an unknown type, and those
/// are skipped.
fn read_line(
    bytes: &[u8],
    searched: &mut usize,
    limit: usize,
    skips_unknown: bool,
) -> Result<Option<(Option<Record>, usize)>, WireError> {
    let found = bytes[*searched..].iter().position(|&b| b == b'\n').map(|at| *searched + at);
    // The check comes before the end of the line is known, so that the limit does not depend on the chunks.
    if found.unwrap_or(bytes.len()) > limit {
        return Err(WireError::TooLong { limit });
    }
    let Some(end) = found else {
        *searched = bytes.len();
        return Ok(None);
    };
    *searched = end;
    let line = std::str::from_utf8(&bytes[..end]).map_err(WireError::NotUtf8)?;
    let record =
        if skips_unknown { json::parse_known_record(line)? } else { Some(json::parse_record(line)?) };
    *searched = 0;
    Ok(Some((record, end + 1)))
}

/// The number of bytes of leading blank lines. In a stream they are heartbeats.
fn blank_lines(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_refused_before_its_end_has_come() {
        let line = b"{\"type\":\"deleted\",\"key\":\"k\"}\n";
        let limit = line.len() - 1;
        for cut in 0..line.len() {
            assert!(matches!(read_line(&line[..cut], &mut 0, limit, false), Ok(None)), "{cut} bytes");
            let shorter = read_line(&line[..cut], &mut 0, limit - 1, false);
            assert_eq!(matches!(shorter, Err(WireError::TooLong { .. })), cut == limit, "{cut} bytes");
        }
        assert!(matches!(read_line(line, &mut 0, limit, false), Ok(Some(_))));
        let error = read_line(line, &mut 0, limit - 1, false).map(|_| ()).expect_err("one byte too many");
        assert!(error.to_string().contains(&format!("{} bytes", limit - 1)), "{error}");
    }
}
