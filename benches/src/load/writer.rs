//! Those who write.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::poll::{CrumbdPoll, DIGITS, MARK};
use super::{Board, KeptConnection, LoadError, Target};

/// How long a write may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The shortest value that holds a number.
const LEAST_VALUE_BYTES: usize = MARK.len() + DIGITS + "-0123456789abcdef".len() + 2;

/// Keys that a publisher sets in turn. As long as nobody is further behind than this, a squash holds every
/// publication, because no key was set twice.
const KEYS: u64 = 4096;

/// A full buffer says 429: so often is the write tried again.
const TRIES: u32 = 100;

/// What became of a write.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written {
    /// Times that the server was too busy first (429, 503).
    pub refused: u64,
}

/// A connection that posts bodies to one path.
///
/// After a rest a body may be posted twice ([`KeptConnection::exchange`]): what is written here names keys and values,
/// and the same value again is no change.
#[derive(Debug)]
pub struct Writer {
    connection: KeptConnection,
    path: &'static str,
    media: &'static str,
    request: Vec<u8>,
}

impl Writer {
    /// Connects. Bodies go to `path` with this `Content-Type`.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn connect(
        target: &Target,
        path: &'static str,
        media: &'static str,
    ) -> Result<Self, LoadError> {
        let connection = KeptConnection::connect(target).await?;
        Ok(Self { connection, path, media, request: Vec::new() })
    }

    /// A writer of crumbd's updates: bodies are NDJSON records.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn of_updates(target: &Target) -> Result<Self, LoadError> {
        Self::connect(target, "/v1/updates", "application/x-ndjson").await
    }

    /// Where the bodies go.
    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Sends a body and waits for the answer.
    ///
    /// # Errors
    /// [`LoadError::Refused`] with what the server says, or that the connection broke.
    pub async fn write(&mut self, body: &[u8]) -> Result<Written, LoadError> {
        self.request.clear();
        let Self { request, path, media, connection } = self;
        write!(
            request,
            "POST {path} HTTP/1.1\r\n{}Content-Type: {media}\r\nContent-Length: {}\r\n\r\n",
            connection.target().fields(),
            body.len()
        )?;
        request.extend_from_slice(body);
        let mut written = Written::default();
        loop {
            let (status, detail, retry_after) = self.post().await?;
            match status {
                200..300 => return Ok(written),
                429 | 503 if written.refused < u64::from(TRIES) => {
                    written.refused += 1;
                    // A buffer is empty again long before the whole seconds that the answer can say.
                    sleep(Duration::from_millis(10 * retry_after.unwrap_or(1).min(30))).await;
                }
                _ => return Err(LoadError::Refused { what: "a write", status, detail }),
            }
        }
    }

    async fn post(&mut self) -> Result<(u16, String, Option<u64>), LoadError> {
        let exchange = self.connection.exchange(&self.request, |answer| {
            let detail = if answer.status < 300 { String::new() } else { answer.detail() };
            (answer.status, detail, answer.number("retry-after"))
        });
        let late = |_| LoadError::Late { what: "the answer to a write".to_owned(), after: PATIENCE };
        timeout(PATIENCE, exchange).await.map_err(late)?
    }
}

/// Writes numbered publications, one update each.
#[derive(Debug)]
pub struct Publisher {
    writer: Writer,
    value_bytes: usize,
    /// Waiters that each have a prefix of their own; none when all hear all.
    prefixes: Option<u64>,
    /// The last one that was published.
    number: u64,
    /// Another in every run: a value that is the same as in the run before would be no change.
    run: u64,
    record: String,
}

impl Publisher {
    /// Publications with values of this size. With `prefixes`, number `n` goes to the prefix of waiter
    /// `n % prefixes` alone.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn connect(
        target: &Target,
        value_bytes: usize,
        prefixes: Option<u64>,
    ) -> Result<Self, LoadError> {
        let writer = Writer::of_updates(target).await?;
        // Waiter `w` begins at number `w`: the first publication is for waiter 0.
        let number = prefixes.map_or(0, |prefixes| prefixes - 1);
        Ok(Self { writer, value_bytes, prefixes, number, run: fastrand::u64(..), record: String::new() })
    }

    /// The last number that was published.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Publishes the next number.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn publish(&mut self, board: &Board) -> Result<Written, LoadError> {
        self.number += 1;
        let number = self.number;
        self.record.clear();
        self.record.push_str(r#"{"type":"put","key":""#);
        // Writing to a string cannot fail.
        _ = match self.prefixes {
            None => write!(self.record, "bench/fanout/{:04}", number % KEYS),
            Some(n) => write!(self.record, "{}{:02}", CrumbdPoll::prefix_of(number % n), number / n % 64),
        };
        self.record.push_str(r#"","value":""#);
        value(&mut self.record, number, self.run, self.value_bytes);
        self.record.push_str("\"}\n");
        board.publishes(number);
        self.writer.write(self.record.as_bytes()).await
    }
}

/// The text of a numbered value; with its quotes it has `bytes` bytes as JSON.
pub(super) fn value(text: &mut String, number: u64, run: u64, bytes: usize) {
    let fill = bytes.saturating_sub(LEAST_VALUE_BYTES);
    _ = write!(text, "{MARK}{number:0DIGITS$}-{run:016x}{:x<fill$}", "");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::numbers_in;

    #[test]
    fn a_value_has_its_number_and_its_size() {
        let mut text = String::new();
        value(&mut text, 42, 1, 256);
        assert_eq!((text.len() + 2, numbers_in(text.as_bytes())), (256, Some((42, 1))));
        text.clear();
        value(&mut text, 7, 1, 0);
        assert_eq!(text.len() + 2, LEAST_VALUE_BYTES);
    }
}
