//! A body to send: shared bytes, in one part or in many.

use std::sync::Arc;

use bytes::Bytes;

/// Shared bytes in the order in which they are sent. A clone copies no byte, and a body of many
/// parts is never put together: whoever writes it writes the parts one after the other.
///
/// The parts come in *runs*, which are shared too: a million keys are some thirty thousand parts,
/// and a body that differs in one of them from the body before is made without touching the others.
#[derive(Clone, Debug)]
pub struct Body {
    parts: Parts,
    /// Of all parts, in bytes.
    len: u64,
}

/// Parts that follow one another.
pub type Run = Arc<[Bytes]>;

#[derive(Clone, Debug)]
enum Parts {
    One(Bytes),
    Runs(Arc<[Run]>),
}

impl Body {
    /// A body of these runs, which are `len` bytes in all.
    pub fn of_runs(runs: Vec<Run>, len: u64) -> Self {
        Self { parts: Parts::Runs(runs.into()), len }
    }

    /// Length in bytes, as in `Content-Length`.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The run with this number, from 0: write its parts, then those of the next run, until there
    /// is none.
    pub fn run(&self, number: usize) -> Option<&[Bytes]> {
        match &self.parts {
            Parts::One(bytes) => (number == 0).then(|| std::slice::from_ref(bytes)),
            Parts::Runs(runs) => runs.get(number).map(|run| &run[..]),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let len = bytes.len() as u64;
        Self { parts: Parts::One(bytes), len }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}
