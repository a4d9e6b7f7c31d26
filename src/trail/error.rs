//! How a trail ends, and why an append is refused.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// What a buffer can be ended with: any error, shared by its readers. A `Box<dyn Error + Send +
/// Sync>` and a [`TerminalError`] turn into it by `into()`.
pub type SharedError = Arc<dyn Error + Send + Sync>;

/// The error that ended a buffer, shared by everyone who follows it.
///
/// Once a buffer has ended it stays so: each reader gets every item before the end, then this
/// error, however often it asks. Cloning is one reference count.
#[derive(Clone)]
pub struct TerminalError {
    cause: SharedError,
}

impl TerminalError {
    pub(super) fn new(cause: SharedError) -> Self {
        Self { cause }
    }

    /// The error that was given to [`append_err`](super::EventBuffer::append_err), to be
    /// downcast by those who know what it may be.
    pub fn cause(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.cause
    }

    /// Whether nobody ended the buffer on purpose: its writer was dropped (see [`Closed`]).
    pub fn is_closed(&self) -> bool {
        self.cause.is::<Closed>()
    }
}

impl fmt::Debug for TerminalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TerminalError").field(&self.cause).finish()
    }
}

impl fmt::Display for TerminalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event buffer has ended: {}", self.cause)
    }
}

impl Error for TerminalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}

/// Takes the cause out, so that one buffer's end can be passed on to another with
/// [`append_err`](super::EventBuffer::append_err) without being wrapped twice.
impl From<TerminalError> for SharedError {
    fn from(error: TerminalError) -> Self {
        error.cause
    }
}

/// The cause of a [`TerminalError`] when the writer was dropped without ending its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its writer went away without saying why")]
pub struct Closed;

/// Why an append was refused. The buffer and its readers are as they were before the call; the
/// value that was to be appended is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The buffer has ended with an error, and nothing comes after an error.
    #[error("the event buffer has ended with an error; start a new buffer to publish more")]
    Terminated,
    /// The end of this buffer belongs to another buffer since
    /// [`append_buffer`](super::EventBuffer::append_buffer), and a chain has one writer.
    #[error("this event buffer was joined to another one; append to that one instead")]
    Joined,
    /// The item leads to this buffer's own end: joining it would make the list a cycle.
    #[error("the item belongs to this event buffer already; joining it would make a cycle")]
    Cycle,
}
