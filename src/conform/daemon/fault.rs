//! The faults that a scene can have, each at the next answer of a kind.

use std::time::Duration;

use super::body::Lie;

/// The place where a body is cut off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    /// Right after the head.
    Start,
    /// In the middle of the bytes.
    Half,
    /// Before the `end` record, or the closing brackets.
    BeforeEnd,
    /// The last byte is missing.
    LastByte,
}

/// How a body that is cut off ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// The connection is closed before `Content-Length` bytes, or inside a chunk.
    Closed,
    /// The last chunk comes, as if the body were whole: what some proxies do.
    Clean,
}

/// An answer to a long poll that comes at once and moves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AtOnce {
    /// 204 with the cursor that the client has.
    NoContent,
    /// 200 with that cursor: by turns no update, and the whole state.
    SameState,
}

/// A fault at one answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Another answer than the daemon's.
    Instead {
        /// The status.
        status: u16,
        /// Headers beside `Content-Length`.
        headers: Vec<(&'static str, String)>,
        /// The body.
        body: String,
    },
    /// Nothing comes, ever.
    NoAnswer,
    /// The connection is closed without an answer.
    Close,
    /// A stream ends before its first body.
    EndsAtOnce,
    /// The head ends after its first lines, and the connection with it.
    CutHead,
    /// The body is cut off.
    CutBody(Cut, Ending),
    /// The answer is whole but for `Link` and `Crumbd-Cursor`.
    NoLink,
    /// The answer is whole, but has this status.
    Status(u16),
    /// The answer is whole, but has this media type.
    MediaType(&'static str),
    /// The body says something wrong.
    Lie(Lie),
    /// The body comes in so many parts, with a pause before each.
    Slow(u32, Duration),
    /// Half of an event of a stream comes, and then nothing.
    Stall,
}

impl Fault {
    /// A problem of the daemon with this status and detail.
    pub(crate) fn problem(status: u16, title: &str, detail: &str) -> Self {
        let body = serde_json::json!({
            "type": format!("urn:crumbd:problem:{title}"),
            "title": title,
            "status": status,
            "detail": detail,
        });
        let headers = vec![("Content-Type", "application/problem+json".to_owned())];
        Self::Instead { status, headers, body: body.to_string() }
    }

    /// The same with one more header.
    pub(crate) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        if let Self::Instead { headers, .. } = &mut self {
            headers.push((name, value.to_string()));
        }
        self
    }

    /// Whether the fault is in the place of an answer: it comes at once, also to a client that waits.
    pub(super) fn is_of_the_head(&self) -> bool {
        matches!(self, Self::Instead { .. } | Self::NoAnswer | Self::Close | Self::EndsAtOnce | Self::CutHead)
    }
}
