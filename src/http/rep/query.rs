//! Query parameters and path segments. An unknown parameter is an error.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use axum::http::Uri;
use percent_encoding::percent_decode;
use tokio::time::Instant;

use crate::http::rep::problem::Problem;
use crate::model::{Cursor, Key, KeySelector};

/// The wait of a long poll without `wait=`.
const DEFAULT_WAIT: Duration = Duration::from_secs(29);

/// The longest wait; longer ones are clamped.
const MAX_WAIT: Duration = Duration::from_secs(5 * 60);

/// The only parameter that may be given several times.
const PREFIX: &str = "prefix";

/// The largest number of prefixes in one request.
const MAX_PREFIXES: usize = 256;

/// Up to 1/16 of each wait is taken off at random, so that clients that started together drift apart.
const JITTER_PART: u32 = 16;

/// The parameters of one request, each but `prefix` at most once, as raw bytes.
pub(in crate::http) struct Query {
    pairs: Vec<(String, Vec<u8>)>,
}

impl Query {
    /// Parses the query. A parameter that is not in `known` is an error.
    pub(in crate::http) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let text = uri.query().unwrap_or("");
        let mut pairs: Vec<(String, Vec<u8>)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = String::from_utf8_lossy(&decode(name)?).into_owned();
            if !known.contains(&name.as_str()) {
                let detail = match known {
                    [] => format!("unknown query parameter {name:?}: this address takes none"),
                    _ => format!("unknown query parameter {name:?}: this address takes {}", known.join(", ")),
                };
                return Err(Problem::bad_request(detail));
            }
            if name != PREFIX && pairs.iter().any(|(seen, _)| *seen == name) {
                return Err(Problem::bad_request(format!("query parameter {name:?} is given twice")));
            }
            pairs.push((name, decode(value)?));
        }
        Ok(Self { pairs })
    }

    pub(in crate::http) fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|(found, _)| found == name)
    }

    fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let position = self.pairs.iter().position(|(found, _)| found == name)?;
        Some(self.pairs.swap_remove(position).1)
    }

    /// A key or prefix, of any bytes.
    pub(in crate::http) fn key(&mut self, name: &str) -> Option<Key> {
        self.take(name).map(Key::new)
    }

    /// The keys with one of the prefixes; all keys without a prefix.
    pub(in crate::http) fn prefixes(&mut self) -> Result<KeySelector, Problem> {
        let prefixes: Vec<Key> = std::iter::from_fn(|| self.key(PREFIX)).collect();
        match prefixes.len() {
            0 => Ok(KeySelector::ALL),
            1..=MAX_PREFIXES => Ok(KeySelector::prefixes(prefixes)),
            many => Err(Problem::bad_request(format!(
                "query parameter \"prefix\" is given {many} times; the limit is {MAX_PREFIXES}"
            ))),
        }
    }

    pub(in crate::http) fn cursor(&mut self, name: &str) -> Result<Option<Cursor>, Problem> {
        self.parsed(name)
    }

    pub(in crate::http) fn number(&mut self, name: &str) -> Result<Option<usize>, Problem> {
        self.parsed(name)
    }

    /// The fingerprint of the rights under which the `next` link was issued.
    pub(in crate::http) fn rights(&mut self) -> Result<Option<u64>, Problem> {
        let Some(bytes) = self.take("rights") else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let digits = text.len() <= 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let fingerprint = u64::from_str_radix(&text, 16).ok().filter(|_| digits);
        fingerprint.map(Some).ok_or_else(|| {
            let expected = "up to 16 hex digits, as in the `next` link of this daemon";
            Problem::bad_request(format!("query parameter \"rights\" is {text:?}: expected {expected}"))
        })
    }

    /// The longest time that a long poll waits.
    pub(in crate::http) fn wait(&mut self) -> Result<Wait, Problem> {
        let wait = match self.take("wait") {
            None => DEFAULT_WAIT,
            Some(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                parse_wait(&text).ok_or_else(|| {
                    let expected = "0 or a duration such as 500ms, 29s or 2m";
                    Problem::bad_request(format!("query parameter \"wait\" is {text:?}: expected {expected}"))
                })?
            }
        };
        // The longest wait is far below 2^32 ms.
        Ok(Wait { ms: u32::try_from(wait.min(MAX_WAIT).as_millis()).unwrap_or(u32::MAX) })
    }

    pub(in crate::http) fn parsed<T>(&mut self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(bytes) = self.take(name) else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes);
        let parsed = text
            .parse()
            .map_err(|error| Problem::bad_request(format!("query parameter {name:?} is {text:?}: {error}")));
        parsed.map(Some)
    }
}

/// The longest time that a long poll waits.
#[derive(Clone, Copy)]
pub(in crate::http) struct Wait {
    /// 32 bits, because every waiter holds it.
    ms: u32,
}

impl Wait {
    /// Whether the request does not wait.
    pub(in crate::http) fn is_zero(self) -> bool {
        self.ms == 0
    }

    /// The deadline of a long poll that begins now.
    pub(in crate::http) fn deadline(self) -> Instant {
        self.deadline_from(Instant::now())
    }

    /// The deadline of a long poll that began at this time.
    pub(in crate::http) fn deadline_from(self, begin: Instant) -> Instant {
        let jitter_ms = fastrand::u32(..=self.ms / JITTER_PART);
        begin + Duration::from_millis((self.ms - jitter_ms).into())
    }
}

/// `0`, or a whole number of `ms`, `s`, `m` or `h`.
fn parse_wait(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.saturating_mul(unit_ms)))
}

/// Decodes a query component, in which `+` is a space.
fn decode(text: &str) -> Result<Vec<u8>, Problem> {
    unescape(&text.replace('+', " "))
}

/// Decodes percent escapes. A `%` that begins no escape is an error.
fn unescape(text: &str) -> Result<Vec<u8>, Problem> {
    let hex = |at: usize| text.as_bytes().get(at).is_some_and(u8::is_ascii_hexdigit);
    let mut escapes = text.match_indices('%');
    match escapes.find(|(at, _)| !(hex(at + 1) && hex(at + 2))) {
        Some(_) => Err(Problem::bad_request(format!(
            "{text:?} has a % that begins no escape such as %2F; write a literal % as %25"
        ))),
        None => Ok(percent_decode(text.as_bytes()).collect()),
    }
}

/// The cursor in the path segment with this index after `/breadcrumbs/`.
pub(in crate::http) fn path_cursor(uri: &Uri, index: usize) -> Result<Cursor, Problem> {
    let segment = uri.path().split('/').nth(2 + index).unwrap_or("");
    let text = percent_decode(segment.as_bytes()).decode_utf8_lossy();
    text.parse().map_err(|error: crate::model::CursorError| Problem::bad_request(error.to_string()))
}

/// The key of `/kv/{key}`: the rest of the path, percent-decoded. It may have slashes and any bytes.
pub(in crate::http) fn path_key(uri: &Uri) -> Result<Key, Problem> {
    let rest = uri.path().strip_prefix("/kv/").unwrap_or("");
    unescape(rest).map(Key::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_has_a_unit() {
        assert_eq!(parse_wait("0"), Some(Duration::ZERO));
        assert_eq!(parse_wait("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_wait("29s"), Some(Duration::from_secs(29)));
        assert_eq!(parse_wait("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "29", "s", "-1s", "1.5s", "1s ", "1d", "99999999999999999999s"] {
            assert_eq!(parse_wait(bad), None, "{bad:?} was taken for a duration");
        }
    }
}
