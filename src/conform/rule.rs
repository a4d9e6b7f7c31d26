//! The rules of a client: what each scene is for.

use std::fmt;

/// A rule that every client keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Rule {
    /// A body counts when it is whole.
    Whole,
    /// Count and digest are checked.
    Proof,
    /// The next request continues from the last applied cursor.
    Resume,
    /// `Link` is followed as it is.
    Link,
    /// A 204 carries a newer cursor.
    Move,
    /// After 410 or `reset` the whole state is read again.
    Gone,
    /// After a resync, deletions are told only when the status is `in-sync`.
    Settle,
    /// An empty state after a resync deletes nothing, unless the application agreed.
    Empty,
    /// `Retry-After` is kept.
    Later,
    /// There are pauses between failures.
    Pace,
    /// The connection is kept.
    Connection,
    /// Only 200 and 204 are answers; redirects are not followed.
    Status,
    /// What cannot get better ends the client.
    Fatal,
    /// Keys and values are bytes.
    Bytes,
    /// Content codings are decoded.
    Coding,
    /// `prefix=` is sent.
    Prefix,
    /// What is not known is ignored.
    NewFields,
    /// An answer that does not come is given up.
    Silence,
    /// A replica that is behind is waited for.
    Ahead,
    /// Revisions are not compared.
    Lower,
}

impl Rule {
    /// The name in reports and on the page for clients.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Proof => "proof",
            Self::Resume => "resume",
            Self::Link => "link",
            Self::Move => "move",
            Self::Gone => "gone",
            Self::Settle => "settle",
            Self::Empty => "empty",
            Self::Later => "later",
            Self::Pace => "pace",
            Self::Connection => "connection",
            Self::Status => "status",
            Self::Fatal => "fatal",
            Self::Bytes => "bytes",
            Self::Coding => "coding",
            Self::Prefix => "prefix",
            Self::NewFields => "new-fields",
            Self::Silence => "silence",
            Self::Ahead => "ahead",
            Self::Lower => "lower",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
