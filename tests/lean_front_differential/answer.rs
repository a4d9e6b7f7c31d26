//! The bytes of a connection as answers that can be compared.

use std::io::Read as _;

/// One answer without what may differ between two daemons of the same state.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: String,
    /// Sorted; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Decoded.
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether it says the same, be it the last one or not.
    pub fn says(&self, other: &Answer) -> bool {
        self.body == other.body && self.begins_as(other)
    }

    /// The same to a client that sends no more. A stream to it ends once the server has noticed, wherever it is by then.
    pub fn says_until_noticed(&self, other: &Answer) -> bool {
        let is_stream = self.headers.iter().any(|(name, _)| name == "transfer-encoding");
        let begins = self.body.starts_with(&other.body) || other.body.starts_with(&self.body);
        self.says(other) || is_stream && begins && self.begins_as(other)
    }

    fn begins_as(&self, other: &Answer) -> bool {
        let headers = |of: &Answer| {
            of.headers.iter().filter(|(name, _)| name != "connection").cloned().collect::<Vec<_>>()
        };
        self.status == other.status && headers(self) == headers(other)
    }
}

/// Everything that came back.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Heard {
    pub answers: Vec<Answer>,
    /// What follows the last whole answer.
    pub rest: Vec<u8>,
}

impl Heard {
    pub fn parse(mut bytes: &[u8]) -> Heard {
        let mut heard = Heard::default();
        while let Some((answer, length)) = answer(bytes) {
            heard.answers.push(answer);
            bytes = &bytes[length..];
        }
        heard.rest = without_times(bytes.to_vec());
        heard
    }
}

/// The first answer and how many bytes it took; nothing when it is not whole.
fn answer(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end - 4]).expect("a head is ASCII");
    let (status, lines) = head.split_once("\r\n").unwrap_or((head, ""));
    assert!(status.starts_with("HTTP/1."), "not the beginning of an answer: {status:?}");
    let mut headers: Vec<(String, String)> =
        lines.split("\r\n").filter(|line| !line.is_empty()).map(header).collect();
    headers.sort();
    let find = |name: &str| headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    if let Some(coding) = find("transfer-encoding") {
        assert_eq!(coding, "chunked", "{head}");
        let (body, length) = chunks(&bytes[end..])?;
        headers.retain(|(name, _)| name != "date");
        headers
            .iter_mut()
            .filter(|(name, _)| name == "crumbd-age")
            .for_each(|(_, value)| *value = "0".into());
        let body = without_times(without_retry(body));
        return Some((Answer { status: status.to_owned(), headers, body }, end + length));
    }
    let said: usize = find("content-length").map_or(0, |length| length.parse().unwrap());
    let rest = &bytes[end..];
    // The answer to a HEAD says the length of a body that does not come; none of ours begins like a head.
    let bodiless = said > 0 && (rest.starts_with(b"HTTP/1.") || rest.is_empty());
    let length = if bodiless { 0 } else { said };
    let body = match rest.get(..length)? {
        [] => Vec::new(),
        sent => decoded(sent, find("content-encoding").as_deref()),
    };
    if find("content-encoding").is_some() {
        // What is compressed holds the time, so its length is its own.
        headers.retain(|(name, _)| name != "content-length");
    }
    headers.retain(|(name, _)| name != "date");
    for (name, value) in &mut headers {
        if name == "crumbd-age" || name == "retry-after" {
            assert!(value.parse::<u64>().is_ok(), "{name}: {value}");
            *value = "0".into();
        }
    }
    let mut status = status.to_owned();
    if let Some(refused) =
        ["400 ", "414 ", "431 "].iter().find_map(|code| status.find(code)).filter(|_| said == 0)
    {
        // What it cannot read the framework refuses in the version of the request before it, and of the one
        // before the lean front took the connection back it knows nothing. It closes in any case.
        status.drain(..refused);
        headers.retain(|(name, _)| name != "connection");
    }
    let body = without_times(body);
    Some((Answer { status, headers, body }, end + length))
}

/// The bytes of all chunks that have come, and how many bytes they took: the answer of a stream, which has no end
/// as yet. Nothing when the last of them is not whole.
fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let line = bytes[at..].windows(2).position(|two| two == b"\r\n")?;
        let length = std::str::from_utf8(&bytes[at..at + line]).expect("a length is ASCII");
        let length = usize::from_str_radix(length, 16).unwrap_or_else(|_| panic!("no length: {length:?}"));
        let start = at + line + 2;
        body.extend_from_slice(bytes.get(start..start + length)?);
        assert_eq!(bytes.get(start + length..start + length + 2)?, b"\r\n", "the end of a chunk");
        at = start + length + 2;
        if length == 0 {
            body.extend_from_slice(b"<the end>");
            return Some((body, at));
        }
    }
    Some((body, at))
}

/// Blanks the time after which an `EventSource` comes back, which is drawn at random.
fn without_retry(body: Vec<u8>) -> Vec<u8> {
    match body.strip_prefix(b"retry: ").and_then(|rest| rest.iter().position(|byte| *byte == b'\n')) {
        Some(digits) => [b"retry: ", &body[b"retry: ".len() + digits..]].concat(),
        None => body,
    }
}

fn header(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: {line:?}"));
    (name.to_ascii_lowercase(), value.trim().to_owned())
}

fn decoded(body: &[u8], coding: Option<&str>) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        None => plain = body.to_vec(),
        Some("gzip") => drop(flate2::bufread::GzDecoder::new(body).read_to_end(&mut plain).unwrap()),
        Some("zstd") => plain = zstd::decode_all(body).unwrap(),
        Some(other) => panic!("an unknown coding: {other}"),
    }
    plain
}

/// Blanks timestamps, wherever in whichever representation, and the seconds to come back after.
fn without_times(mut body: Vec<u8>) -> Vec<u8> {
    const SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:dd.dddZ";
    let fits = |(byte, shape): (&u8, &u8)| if *shape == b'd' { byte.is_ascii_digit() } else { byte == shape };
    for at in 0..(body.len() + 1).saturating_sub(SHAPE.len()) {
        if body[at..].iter().zip(SHAPE).all(fits) {
            body[at..at + SHAPE.len()].fill(b'0');
        }
    }
    const RETRY: &[u8] = b"\"retry_after\":";
    if let Some(at) = body.windows(RETRY.len()).position(|bytes| bytes == RETRY) {
        body[at + RETRY.len()] = b'0';
    }
    body
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "  {}", self.status)?;
        self.headers.iter().try_for_each(|(name, value)| writeln!(f, "    {name}: {value}"))?;
        writeln!(f, "    {} bytes: {}", self.body.len(), self.body[..self.body.len().min(300)].escape_ascii())
    }
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.answers.iter().try_for_each(|answer| write!(f, "{answer:?}"))?;
        writeln!(f, "  rest: {:?}", self.rest.escape_ascii().to_string())
    }
}
