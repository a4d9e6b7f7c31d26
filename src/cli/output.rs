//! What commands print. Everything that goes to standard output or, beside the log, to standard error goes through
//! here, and nothing of it panics.
//!
//! A reader that has gone (`crumbd dump | head`) ends a command quietly and with success: it has seen enough. Every
//! other fault of standard output, such as a full disk, is a sentence and exit code 1. Where even the sentence cannot be
//! written there is nobody to tell, and the exit code says it.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Why something could not be printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    /// Whoever read it has gone.
    #[error("nobody reads standard output any more")]
    NobodyReads,
    /// What the system says.
    #[error("standard output: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Failed(error),
        }
    }
}

/// Standard output, for much text in small pieces. [`Output::finish`] says whether all of it was taken.
pub(super) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(super) fn new() -> Self {
        Self(BufWriter::new(io::stdout().lock()))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), PrintError> {
        Ok(self.0.write_all(bytes)?)
    }

    pub(super) fn finish(mut self) -> Result<(), PrintError> {
        Ok(self.0.flush()?)
    }
}

/// Resolves, with [`PrintError::NobodyReads`], when the reader of standard output has gone: for a command that may have
/// nothing to print for hours. Never where that cannot be known, as of a file.
pub(super) async fn reader_gone() -> PrintError {
    let gone = || {
        let stdout = io::stdout();
        // Nothing is waited for but what is always told: that the other end is closed.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        loop {
            match poll(&mut watched, None) {
                Err(Errno::INTR) => {}
                Ok(_) => return watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP),
                Err(_) => return false,
            }
        }
    };
    match tokio::task::spawn_blocking(gone).await {
        Ok(true) => PrintError::NobodyReads,
        _ => std::future::pending().await,
    }
}

/// Prints these bytes and nothing else.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), PrintError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints a line.
pub(super) fn line(text: impl Display) -> Result<(), PrintError> {
    bytes(format!("{text}\n").as_bytes())
}

/// Says something on standard error, under the program's name.
pub(super) fn say(text: impl Display) {
    _ = line_on_stderr(format_args!("crumbd: {text}"));
}

/// A line on standard error.
///
/// # Errors
/// When nobody can read it.
pub(super) fn line_on_stderr(text: impl Display) -> io::Result<()> {
    // One write: lines of several processes into one file stay lines.
    io::stderr().lock().write_all(format!("{text}\n").as_bytes())
}
