//! An HTTP/1.1 answer, as far as a load generator has to understand it.

use memchr::memmem;

use super::LoadError;

/// A head longer than this is no answer of ours.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A whole answer: status, header fields, body.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
    fields: &'a [u8],
}

/// What the head of an answer says about its extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// Length of the head with its empty line.
    pub(super) head_bytes: usize,
    pub(super) body_bytes: u64,
    /// The server will hang up.
    pub(super) close: bool,
}

impl Head {
    /// Reads the head of an answer; `None` while it is not there whole.
    ///
    /// A body needs a `Content-Length`: crumbd and the servers it is compared with give one, and a reader
    /// of chunks would cost every answer something.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, LoadError> {
        let Some((status, fields)) = head(bytes)? else { return Ok(None) };
        if field(fields, b"transfer-encoding").is_some() {
            return Err(malformed("its body comes in chunks, and a Content-Length is needed"));
        }
        let length = match field(fields, b"content-length") {
            Some(text) => number(text).ok_or_else(|| malformed("its Content-Length is no number"))?,
            None if matches!(status, 204 | 304) => 0,
            None => return Err(malformed("it has no Content-Length")),
        };
        let close = field(fields, b"connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        Ok(Some(Self { status, head_bytes: fields.len() + 2, body_bytes: length, close }))
    }
}

/// Status and length of the head of an answer whose body comes in chunks; `None` while it is not there whole.
pub(super) fn stream_head(bytes: &[u8]) -> Result<Option<(u16, usize)>, LoadError> {
    let Some((status, fields)) = head(bytes)? else { return Ok(None) };
    if status == 200 && field(fields, b"transfer-encoding") != Some(b"chunked") {
        return Err(malformed("it is no stream: its body does not come in chunks"));
    }
    Ok(Some((status, fields.len() + 2)))
}

/// Status and lines of a head; `None` while it is not there whole.
fn head(bytes: &[u8]) -> Result<Option<(u16, &[u8])>, LoadError> {
    let Some(end) = memmem::find(&bytes[..bytes.len().min(MAX_HEAD_BYTES)], b"\r\n\r\n") else {
        return match bytes.len() {
            ..MAX_HEAD_BYTES => Ok(None),
            _ => Err(malformed("its head has no end")),
        };
    };
    let status = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = status.and_then(number).ok_or_else(|| malformed("it is not HTTP/1.1"))?;
    Ok(Some((status as u16, &bytes[..end + 2])))
}

fn malformed(what: &str) -> LoadError {
    LoadError::Answer(what.to_owned())
}

impl<'a> Answer<'a> {
    /// `bytes` hold the whole answer.
    pub(super) fn new(head: Head, bytes: &'a [u8]) -> Self {
        let (fields, body) = bytes.split_at(head.head_bytes);
        Self { status: head.status, body, fields: &fields[..fields.len() - 2] }
    }

    /// The value of a header field; the name in lower case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        field(self.fields, name.as_bytes())
    }

    /// A header field that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.field(name).and_then(number)
    }

    /// The beginning of the body, for messages.
    pub fn detail(&self) -> String {
        let problem: Option<serde_json::Value> = serde_json::from_slice(self.body).ok();
        match problem.as_ref().and_then(|problem| problem["detail"].as_str()) {
            Some(detail) => detail.to_owned(),
            None => String::from_utf8_lossy(self.body).chars().take(200).collect(),
        }
    }
}

fn field<'a>(fields: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = fields;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = &rest[..end];
        if line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name) {
            return Some(line[name.len() + 1..].trim_ascii());
        }
        rest = &rest[end + 1..];
    }
    None
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const WHOLE: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nCrumbd-Cursor: a.1\r\nconnection: Close\r\n\r\nhello";

    #[test]
    fn an_answer_has_status_fields_and_body() {
        let head = Head::read(WHOLE).unwrap().unwrap();
        assert_eq!((head.status, head.body_bytes, head.close), (200, 5, true));
        let answer = Answer::new(head, WHOLE);
        assert_eq!(answer.field("crumbd-cursor"), Some(&b"a.1"[..]));
        assert_eq!((answer.field("crumbd"), answer.number("content-length")), (None, Some(5)));
        assert_eq!(answer.body, b"hello");
    }

    #[test]
    fn a_head_that_is_not_whole_is_awaited() {
        for end in 0..WHOLE.len() - 5 {
            assert_eq!(Head::read(&WHOLE[..end]).unwrap(), None, "{end}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for bad in [
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ] {
            assert!(Head::read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
