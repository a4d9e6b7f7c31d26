//! Bytes to lines.

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
}

impl LineSplitter {
    pub(super) async fn push(
        &mut self,
        mut bytes: &[u8],
        translator: &mut Translator,
    ) -> Result<(), FeedError> {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            bytes = rest;
            if std::mem::take(&mut self.skipping) {
                translator.overlong_line(&self.partial, MAX_LINE_BYTES).await?;
            } else if self.partial.is_empty() {
                translator.line(line).await?;
            } else {
                self.partial.extend_from_slice(line);
                translator.line(&self.partial).await?;
            }
            self.partial.clear();
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
        Ok(())
    }

    /// Nothing follows: what is left is a line without its line break.
    pub(super) async fn finish(&mut self, translator: &mut Translator) -> Result<(), FeedError> {
        if std::mem::take(&mut self.skipping) {
            return translator.overlong_line(&std::mem::take(&mut self.partial), MAX_LINE_BYTES).await;
        }
        match std::mem::take(&mut self.partial) {
            line if line.is_empty() => Ok(()),
            line => translator.line(&line).await,
        }
    }
}
