//! Splits bytes into lines.

use serde::de::IgnoredAny;

use super::FeedError;
use super::translate::Translator;
use crate::model::MAX_KEY_BYTES;

/// The bytes read from a feed at a time.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// The longest line, in bytes; a longer one is skipped as malformed.
const MAX_LINE_BYTES: usize = 64 << 20;

/// The bytes that are kept of a longer one: enough for the longest key in its longest spelling, to know which key the
/// line changes.
const BEGINNING_BYTES: usize = 6 * MAX_KEY_BYTES + 1024;

/// Splits bytes into lines, and keeps an unfinished last one.
#[derive(Default)]
pub(super) struct LineSplitter {
    partial: Vec<u8>,
    /// Whether the line is too long to be kept; then `partial` is its beginning.
    skipping: bool,
    /// How many bytes of `partial` were accepted as a whole line, because the file had settled.
    accepted: usize,
    /// What `partial` is, and its length when that was found out.
    classified: Option<(usize, LastLine)>,
}

/// What follows the last line break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LastLine {
    /// Only blanks, or a line that was accepted already.
    Nothing,
    /// A whole JSON object: only its line break is missing.
    Whole,
    /// The beginning of a line.
    Cut,
}

/// Whether an accepted last line is still whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Pushed {
    /// It is, or there was none.
    Good,
    /// A last line that was accepted without its line break continues: the file must be read again.
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
                match self.accepted {
                    0 => translator.line(&self.partial).await?,
                    _ if !self.is_all_accepted() => return Ok(Pushed::LastLineGrew),
                    _ => {}
                }
            }
            self.partial.clear();
            self.accepted = 0;
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
        let grew = self.accepted > 0 && !self.is_all_accepted();
        Ok(if grew { Pushed::LastLineGrew } else { Pushed::Good })
    }

    /// Whether only blanks follow the accepted bytes.
    fn is_all_accepted(&self) -> bool {
        self.partial.get(self.accepted..).is_some_and(is_blank)
    }

    /// What follows the last line break.
    pub(super) fn last_line(&mut self) -> LastLine {
        if self.skipping {
            return LastLine::Cut;
        }
        let (accepted, length) = (self.accepted, self.partial.len());
        match self.classified {
            _ if accepted > 0 || is_blank(&self.partial) => LastLine::Nothing,
            Some((at, last)) if at == length => last,
            _ => {
                let last = if is_object(&self.partial) { LastLine::Whole } else { LastLine::Cut };
                self.classified = Some((length, last));
                last
            }
        }
    }

    /// Accepts a last line that is [whole](LastLine::Whole) except for its line break. If it continues after all,
    /// [`push`](Self::push) returns [`Pushed::LastLineGrew`].
    pub(super) async fn accept_last_line(&mut self, translator: &mut Translator) -> Result<(), FeedError> {
        self.accepted = self.partial.len();
        translator.line(&self.partial).await
    }

    /// Ends the input, and returns what followed the last line break.
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
            LastLine::Cut => translator.cut_line()?,
        }
        Ok(last)
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_whitespace)
}

/// Whether this is a whole JSON object. No proper beginning of a record is one.
fn is_object(bytes: &[u8]) -> bool {
    let begins = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let bytes =
        if begins == Some(&0xef) { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
    bytes.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(bytes).is_ok()
}
