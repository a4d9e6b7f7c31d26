//! What a waiter asks, and how it reads what it hears.

use memchr::memmem;

use super::{Answer, Heard, Target};

/// What stands before the number in every published value, and nowhere else.
pub(super) const MARK: &str = "crumbd-bench-";

/// A number has so many digits, so that all values have the same length.
pub(super) const DIGITS: usize = 12;

/// How long one long poll asks to wait: as clients do that stay below the half minute of many proxies.
const WAIT: &str = "29s";

/// The requests of a waiter, and what is in their answers. One serves all waiters of a crowd.
pub trait LongPoll: Send + Sync + 'static {
    /// Writes the request with which this waiter begins.
    fn first(&self, waiter: usize, request: &mut Vec<u8>);

    /// Whether the body has to be read. Where it has not, the kernel throws it away.
    fn reads_bodies(&self) -> bool {
        true
    }

    /// Reads a 200 or 204 and writes the request that follows it. `before` is the number that the waiter
    /// had heard last.
    ///
    /// # Errors
    /// What is wrong with the answer.
    fn next(
        &self,
        waiter: usize,
        before: u64,
        answer: &Answer<'_>,
        request: &mut Vec<u8>,
    ) -> Result<Heard, String>;
}

/// The highest number in a body, and how many there are.
pub fn numbers_in(body: &[u8]) -> Option<(u64, u64)> {
    let numbers = memmem::find_iter(body, MARK).filter_map(|at| {
        let digits = body.get(at + MARK.len()..at + MARK.len() + DIGITS)?;
        std::str::from_utf8(digits).ok()?.parse::<u64>().ok()
    });
    numbers.fold(None, |found, number| {
        let (highest, count) = found.unwrap_or((0, 0));
        Some((number.max(highest), count + 1))
    })
}

/// Long polls of crumbd: each asks for what comes after the cursor of the answer before it.
#[derive(Debug, Clone)]
pub struct CrumbdPoll {
    /// Where all begin.
    cursor: String,
    /// What stands behind the cursor in a request, without and with a prefix.
    query: String,
    fields: String,
    prefix: Option<Prefix>,
    counts: Counting,
}

#[derive(Debug, Clone)]
enum Prefix {
    Each,
    /// The same for all, percent-encoded.
    Same(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    /// By the marks in the values.
    Marks,
    /// By the number of the breadcrumb: any writer's.
    Breadcrumbs,
}

impl CrumbdPoll {
    /// Polls that begin at this cursor and take this media type.
    pub fn new(target: &Target, cursor: &str, accept: &str) -> Self {
        let fields = format!(" HTTP/1.1\r\n{}Accept: {accept}\r\n\r\n", target.fields());
        let query = format!("/next?wait={WAIT}");
        Self { cursor: cursor.to_owned(), query, fields, prefix: None, counts: Counting::Marks }
    }

    /// Each waiter follows [`CrumbdPoll::prefix_of`] it only.
    #[must_use]
    pub fn with_prefix_each(self) -> Self {
        Self { prefix: Some(Prefix::Each), ..self }
    }

    /// All follow this prefix only.
    #[must_use]
    pub fn with_prefix(self, prefix: &str) -> Self {
        let prefix = percent_encoding::utf8_percent_encode(prefix, percent_encoding::NON_ALPHANUMERIC);
        Self { prefix: Some(Prefix::Same(prefix.to_string())), ..self }
    }

    /// Breadcrumbs are counted, not the values of our own writes.
    #[must_use]
    pub fn with_any_writer(self) -> Self {
        Self { counts: Counting::Breadcrumbs, ..self }
    }

    /// The prefix of one waiter.
    pub fn prefix_of(waiter: u64) -> String {
        format!("bench/waiter-{waiter:07}/")
    }

    fn write(&self, waiter: usize, cursor: &[u8], request: &mut Vec<u8>) {
        request.clear();
        request.extend_from_slice(b"GET /v1/breadcrumbs/");
        request.extend_from_slice(cursor);
        request.extend_from_slice(self.query.as_bytes());
        if let Some(prefix) = &self.prefix {
            request.extend_from_slice(b"&prefix=");
            match prefix {
                Prefix::Each => request.extend_from_slice(Self::prefix_of(waiter as u64).as_bytes()),
                Prefix::Same(prefix) => request.extend_from_slice(prefix.as_bytes()),
            }
        }
        request.extend_from_slice(self.fields.as_bytes());
    }
}

impl LongPoll for CrumbdPoll {
    fn reads_bodies(&self) -> bool {
        self.counts == Counting::Marks
    }

    fn first(&self, waiter: usize, request: &mut Vec<u8>) {
        self.write(waiter, self.cursor.as_bytes(), request);
    }

    fn next(
        &self,
        waiter: usize,
        before: u64,
        answer: &Answer<'_>,
        request: &mut Vec<u8>,
    ) -> Result<Heard, String> {
        let cursor = answer.field("crumbd-cursor").ok_or("the answer has no Crumbd-Cursor")?;
        self.write(waiter, cursor, request);
        if answer.status != 200 {
            return Ok(Heard { last: before, count: None });
        }
        match self.counts {
            Counting::Marks => {
                let (last, count) = numbers_in(answer.body).unwrap_or((before, 0));
                Ok(Heard { last, count: Some(count) })
            }
            Counting::Breadcrumbs => {
                let last = answer.number("crumbd-sequence").ok_or("the answer has no Crumbd-Sequence")?;
                Ok(Heard { last, count: None })
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_mark() {
        assert_eq!(numbers_in(b"crumbd-bench- nothing crumbd-bench-12"), None);
        let body = b"[\"crumbd-bench-000000000007 x\",\"crumbd-bench-000000000005 x\"]";
        assert_eq!(numbers_in(body), Some((7, 2)));
    }

    #[test]
    fn a_request_follows_the_cursor() {
        let target = Target::local(7811);
        let mut request = Vec::new();
        CrumbdPoll::new(&target, "a.1", "application/json").with_prefix_each().first(3, &mut request);
        assert_eq!(
            String::from_utf8(request).unwrap(),
            "GET /v1/breadcrumbs/a.1/next?wait=29s&prefix=bench/waiter-0000003/ HTTP/1.1\r\n\
             Host: 127.0.0.1:7811\r\nAccept: application/json\r\n\r\n"
        );
    }
}
