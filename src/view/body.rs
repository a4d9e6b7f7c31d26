//! A body to send: shared bytes, in one part or in many.

use std::sync::{Arc, OnceLock};

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
    Runs(Arc<Runs>),
}

#[derive(Debug)]
struct Runs {
    runs: Box<[Run]>,
    /// For readers that want one list.
    flat: OnceLock<Box<[Bytes]>>,
}

impl Body {
    /// A body of these parts.
    pub fn of_parts(parts: impl Into<Run>) -> Self {
        let parts = parts.into();
        let len = parts.iter().map(|part| part.len() as u64).sum();
        Self::of_runs(vec![parts], len)
    }

    /// A body of these runs, which are `len` bytes in all.
    pub fn of_runs(runs: Vec<Run>, len: u64) -> Self {
        Self { parts: Parts::Runs(Arc::new(Runs { runs: runs.into(), flat: OnceLock::new() })), len }
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
            Parts::Runs(many) => many.runs.get(number).map(|run| &run[..]),
        }
    }

    /// The parts in order, as one list. It is made once a body and costs a step for each part:
    /// [`Body::run`] costs nothing.
    pub fn parts(&self) -> &[Bytes] {
        match &self.parts {
            Parts::One(bytes) => std::slice::from_ref(bytes),
            Parts::Runs(many) => match &many.runs[..] {
                [run] => run,
                runs => many.flat.get_or_init(|| runs.iter().flat_map(|run| run.iter().cloned()).collect()),
            },
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
