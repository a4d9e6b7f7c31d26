//! A body: shared bytes in one part or many.

use std::sync::Arc;

use bytes::Bytes;

use super::budget::OverBudget;
use super::lease::{BodyBytes, Claim, Held, SharedBytes};

/// Shared bytes in the order in which they are sent. A clone copies no bytes. A body of many parts is never
/// concatenated; the parts are written one after the other.
///
/// The parts are grouped in *runs*, which are shared too: a million keys are about thirty thousand parts, and a
/// body that differs from the previous one in a single part reuses all other runs.
///
/// A large body is counted while requests hold it: a request's clone has a part in the body's lease.
#[derive(Clone, Debug)]
pub struct Body {
    parts: Parts,
    /// The length of all parts, in bytes.
    len: u64,
    /// The part of a request in the body's lease. The clones of caches have none.
    held: Option<Arc<Held>>,
}

/// Consecutive parts of a body.
pub(crate) type Run = Arc<[Bytes]>;

#[derive(Clone, Debug)]
enum Parts {
    One(Bytes),
    Counted(Arc<Counted>),
}

/// A body that is counted.
struct Counted {
    runs: Box<[Run]>,
    bytes: Arc<BodyBytes>,
}

impl std::fmt::Debug for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counted").field("runs", &self.runs.len()).finish_non_exhaustive()
    }
}

impl Body {
    /// A body of these runs; `len` is their total length in bytes.
    pub fn from_runs(runs: Vec<Run>, len: u64) -> Self {
        Self::sharing(runs, len, len, Vec::new())
    }

    /// A body of these runs, of which `alone` bytes are in no other body.
    pub(super) fn sharing(runs: Vec<Run>, len: u64, alone: u64, shared: Vec<Arc<dyn SharedBytes>>) -> Self {
        let counted = Counted { runs: runs.into(), bytes: BodyBytes::new(alone, shared) };
        Self { parts: Parts::Counted(Arc::new(counted)), len, held: None }
    }

    /// A body of bytes that no other body shares. It is counted even if it is small.
    pub(super) fn counted(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self::from_runs(vec![Run::from([Bytes::from(bytes)])], len)
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
            Parts::Counted(counted) => counted.runs.get(number).map(|run| &run[..]),
        }
    }

    /// The bytes, if they are in one piece.
    pub fn as_one(&self) -> Option<&Bytes> {
        match (self.run(0), self.run(1)) {
            (Some([one]), None) => Some(one),
            _ => None,
        }
    }

    /// Whether it is counted while requests hold it.
    pub(super) fn is_counted(&self) -> bool {
        matches!(self.parts, Parts::Counted(_))
    }

    /// The request's part in the lease. Keep it until the bytes are written.
    pub fn held(&self) -> Option<Arc<Held>> {
        self.held.clone()
    }

    /// The body for a request; waits for room if no other request holds the body.
    pub(super) async fn for_request(&self, claim: &mut Claim) -> Result<Self, OverBudget> {
        let Parts::Counted(counted) = &self.parts else { return Ok(self.clone()) };
        let held = counted.bytes.held_by(claim).await?;
        Ok(Self { held, ..self.clone() })
    }

    /// The body for the request that has made it in the room of its claim.
    pub(super) fn made_in(&self, claim: &mut Claim) -> Self {
        let Parts::Counted(counted) = &self.parts else { return self.clone() };
        Self { held: claim.lease(&counted.bytes), ..self.clone() }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let len = bytes.len() as u64;
        Self { parts: Parts::One(bytes), len, held: None }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}
