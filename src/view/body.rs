//! A body: shared bytes in one part or many.

use std::sync::Arc;

use bytes::Bytes;

/// Shared bytes in the order in which they are sent. A clone copies no bytes. A body of many parts is never
/// concatenated; the parts are written one after the other.
///
/// The parts are grouped in *runs*, which are shared too: a million keys are about thirty thousand parts, and a
/// body that differs from the previous one in a single part reuses all other runs.
#[derive(Clone, Debug)]
pub struct Body {
    parts: Parts,
    /// The length of all parts, in bytes.
    len: u64,
}

/// Consecutive parts of a body.
pub type Run = Arc<[Bytes]>;

#[derive(Clone, Debug)]
enum Parts {
    One(Bytes),
    Runs(Arc<[Run]>),
}

impl Body {
    /// A body of these runs; `len` is their total length in bytes.
    pub fn from_runs(runs: Vec<Run>, len: u64) -> Self {
        Self { parts: Parts::Runs(runs.into()), len }
    }

    /// Length in bytes, as in `Content-Length`.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the body has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The run with this number, from 0; `None` after the last one.
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
