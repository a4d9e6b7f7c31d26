//! The error that ends a trail, and the errors of an append.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// An error that ends a buffer, shared by its readers. A `Box<dyn Error + Send +
/// Sync>` and a [`TerminalError`] turn into it by `into()`.
pub type SharedError = Arc<dyn Error + Send + Sync>;

/// The error that ended a buffer, as its readers get it.
///
/// The end is final: each reader gets every item before it, and then this error on every call. A clone is one reference
/// count.
#[derive(Clone)]
pub struct TerminalError {
    cause: SharedError,
}

impl TerminalError {
    pub(super) fn new(cause: SharedError) -> Self {
        Self { cause }
    }

    /// The error that was given to [`append_err`](super::EventBuffer::append_err), for downcasting.
    pub fn cause(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.cause
    }

    /// Whether the writer was dropped without ending the buffer (see [`Closed`]).
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

/// The cause, so that [`append_err`](super::EventBuffer::append_err) can pass the end of one buffer on to another without
/// wrapping it twice.
impl From<TerminalError> for SharedError {
    fn from(error: TerminalError) -> Self {
        error.cause
    }
}

/// The cause of a [`TerminalError`] when the writer was dropped without ending its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its writer was dropped without giving a reason")]
pub struct Closed;

/// The reason why an append was refused. The buffer is unchanged, and the value is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The buffer has ended with an error, and nothing comes after an error.
    #[error("the event buffer has ended with an error; start a new buffer to publish more")]
    Terminated,
    /// This buffer was joined to another one by [`append_buffer`](super::EventBuffer::append_buffer), whose writer is now
    /// the only one.
    #[error("this event buffer was joined to another one; append to that one instead")]
    Joined,
    /// The item leads to this buffer's own end, so joining it would make a cycle.
    #[error("the item belongs to this event buffer already; joining it would make a cycle")]
    Cycle,
}
