//! Output of the commands. All text for standard output goes through here, and all text for standard error except the
//! log. Nothing here panics.
//!
//! When the reader of standard output has gone (`crumbd dump | head`), the command ends quietly, with exit code 0. Any
//! other error of standard output, such as a full disk, is a message and exit code 1. If the message cannot be written
//! either, only the exit code tells.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::escaped::Escaped;

/// An error of standard output.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    /// The reader has closed the pipe.
    #[error("the reader of standard output has gone")]
    ReaderGone,
    /// Any other error of the system.
    #[error("standard output: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failed(error),
        }
    }
}

/// Buffered standard output, for much text in small pieces. [`Output::finish`] returns the error of the last pieces.
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

/// Resolves, with [`PrintError::ReaderGone`], when the reader of standard output has gone. A command that may print
/// nothing for hours waits for this too. Never resolves where standard output has no reader, as with a file.
pub(super) async fn reader_gone() -> PrintError {
    let gone = || {
        let stdout = io::stdout();
        // With no flags, `poll` reports only errors and that the other end is closed.
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
        Ok(true) => PrintError::ReaderGone,
        _ => std::future::pending().await,
    }
}

/// Prints these bytes, without a line break.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), PrintError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Prints a line.
pub(super) fn line(text: impl Display) -> Result<(), PrintError> {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints a message on standard error, after the program's name. It may hold text from outside.
pub(super) fn say(text: impl Display) {
    _ = line_on_stderr(format_args!("crumbd: {}", Escaped::indented(text)));
}

/// Prints a line on standard error.
///
/// # Errors
/// The system's error.
pub(super) fn line_on_stderr(text: impl Display) -> io::Result<()> {
    // One write, so that lines of several processes into one file do not mix.
    io::stderr().lock().write_all(format!("{text}\n").as_bytes())
}
