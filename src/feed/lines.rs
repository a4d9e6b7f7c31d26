//! Bytes to lines.

use serde::de::IgnoredAny;

use super::FeedError;
use super::translate::Translator;
use crate::model::MAX_KEY_BYTES;

/// Read from a feed at a time, in bytes.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// The longest line, in bytes; a longer one is skipped as malformed.
const MAX_LINE_BYTES: usize = 64 << 20;

/// What is kept of a longer one, in bytes: enough for the longest key in its longest spelling, to know which key it is
/// about.
const BEGINNING_BYTES: usize = 6 * MAX_KEY_BYTES + 1024;

/// Cuts bytes into lines; the last, unfinished one waits for the rest.
#[derive(Default)]
pub(super) struct LineSplitter {
    partial: Vec<u8>,
    /// Inside of a line that is too long to be kept; then `partial` is how it begins.
    skipping: bool,
    /// The beginning of `partial` that was taken for a whole line, because its file had settled.
    counted: usize,
    /// What `partial` was found to be, at the length that it had then.
    judged: Option<(usize, LastLine)>,
}

/// What is behind the last line break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LastLine {
    /// Nothing that says anything, or a line that was counted already.
    Nothing,
    /// A whole JSON object: only its line break is missing.
    Whole,
    /// Something that must go on.
    Cut,
}

/// Whether what was counted is still what the line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Pushed {
    /// It is.
    Good,
    /// A last line that was counted without its line break goes on: it must be read anew.
    LastLineGrew,
}

impl LineSplitter {
    pub(super) async fn push(
        &mut self,
        mut bytes: &[u8],
        translator: &mut Translator,
    ) -> Result<Pushed, FeedError> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if std::mem::take(&mut self.skipping) {
                translator.overlong_line(&self.partial, MAX_LINE_BYTES).await?;
            } else if self.partial.is_empty() {
                translator.line(line).await?;
            } else {
                self.partial.extend_from_slice(line);
                match self.counted {
                    0 => translator.line(&self.partial).await?,
                    _ if !self.counted_is_all() => return Ok(Pushed::LastLineGrew),
                    _ => {}
                }
            }
            self.partial.clear();
            self.counted = 0;
        }
        if !self.skipping && self.partial.len() + bytes.len() > MAX_LINE_BYTES {
            self.skipping = true;
            self.partial.extend_from_slice(&bytes[..bytes.len().min(BEGINNING_BYTES)]);
            self.partial.truncate(BEGINNING_BYTES);
            self.partial.shrink_to_fit();
        }
        if !self.skipping {
            self.partial.extend_from_slice(bytes);
        }
        let grew = self.counted > 0 && !self.counted_is_all();
        Ok(if grew { Pushed::LastLineGrew } else { Pushed::Good })
    }

    /// Whether only blanks follow what was counted.
    fn counted_is_all(&self) -> bool {
        self.partial.get(self.counted..).is_some_and(is_blank)
    }

    /// What is behind the last line break.
    pub(super) fn last_line(&mut self) -> LastLine {
        if self.skipping {
            return LastLine::Cut;
        }
        let (counted, length) = (self.counted, self.partial.len());
        match self.judged {
            _ if counted > 0 || is_blank(&self.partial) => LastLine::Nothing,
            Some((at, last)) if at == length => last,
            _ => {
                let last = if is_object(&self.partial) { LastLine::Whole } else { LastLine::Cut };
                self.judged = Some((length, last));
                last
            }
        }
    }

    /// Takes a last line that is [whole](LastLine::Whole) although its line break is missing. Should it
    /// go on all the same, [`push`](Self::push) says so.
    pub(super) async fn count_last(&mut self, translator: &mut Translator) -> Result<(), FeedError> {
        self.counted = self.partial.len();
        translator.line(&self.partial).await
    }

    /// Nothing follows: what is left is a line without its line break. Says whether it was one.
    pub(super) async fn finish(&mut self, translator: &mut Translator) -> Result<LastLine, FeedError> {
        let last = self.last_line();
        if std::mem::take(&mut self.skipping) {
            translator.overlong_line(&std::mem::take(&mut self.partial), MAX_LINE_BYTES).await?;
            return Ok(last);
        }
        let partial = std::mem::take(&mut self.partial);
        match last {
            LastLine::Nothing => {}
            LastLine::Whole => translator.line(&partial).await?,
            LastLine::Cut => translator.torn_line()?,
        }
        Ok(last)
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
}

/// Whether this is a JSON object from its first byte to its last. No proper beginning of a record is one.
fn is_object(bytes: &[u8]) -> bool {
    let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let bytes =
        if begins == Some(&0xef) { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
    bytes.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}
