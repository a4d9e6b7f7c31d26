//! The single writes inside a breadcrumb, for readers that want every one of them.

use tokio::sync::watch;

use super::breadcrumb::PastState;
use super::{Breadcrumb, DeltaKind, Step, StepWrite};
use crate::model::{Entry, Revision};

/// One write of one key.
#[derive(Clone, Debug)]
pub struct Write {
    /// The revision of the write.
    pub revision: Revision,
    /// The key's entry after the write. For a deletion an entry with the key, whose value means nothing.
    pub entry: Entry,
    /// Whether the write set the key; otherwise it deleted the key.
    pub is_put: bool,
}

/// The writes that lead to a breadcrumb, as far as they are kept.
pub enum Writes {
    /// Every write after `base` up to the breadcrumb, in order of revision.
    After {
        /// The revision after which they begin. It is that of the breadcrumb before, unless changes in between are unknown.
        base: Revision,
        /// The writes.
        writes: Vec<Write>,
    },
    /// The feed may still read them back.
    Awaited(WritesAwaited),
    /// They are not known.
    Unknown,
}

/// A handle to wait on while the feed reads writes back. It does not keep the breadcrumb in memory.
pub struct WritesAwaited(watch::Receiver<PastState>);

impl WritesAwaited {
    /// Waits until more is known, or the breadcrumb is gone.
    pub(crate) async fn changed(&mut self) {
        _ = self.0.changed().await;
    }
}

impl Breadcrumb {
    /// Every write that leads from the breadcrumb before to this one. They are complete only in a cache that keeps every
    /// write.
    pub fn writes(&self) -> Writes {
        if let Some(mut past) = self.past() {
            let known = past.borrow_and_update().clone();
            return match known {
                PastState::Known(known) if known.through == self.revision() => {
                    after(known.base, writes_of(&known.steps))
                }
                PastState::Unknown => Writes::Unknown,
                PastState::Known(_) | PastState::Awaited => Writes::Awaited(WritesAwaited(past)),
            };
        }
        if self.from().history != self.cursor().history || self.is_provisional() {
            return Writes::Unknown;
        }
        let writes = match self.steps() {
            [] => self.writes_of_one_revision(),
            steps => writes_of(steps),
        };
        after(self.from().revision, writes)
    }

    /// The writes of a breadcrumb that is one revision.
    fn writes_of_one_revision(&self) -> Option<Vec<Write>> {
        let first = self.deltas().first().map(|delta| delta.revision);
        let write = |delta: &super::Delta| {
            let is_put = delta.kind != DeltaKind::Deleted;
            // In a resync each key has its own revision, and the writes in between are not known.
            let is_one = Some(delta.revision) == first && (!is_put || delta.entry.revision() == first);
            is_one.then(|| Write { revision: delta.revision, entry: delta.entry.clone(), is_put })
        };
        self.deltas().iter().map(write).collect()
    }
}

fn after(base: Revision, writes: Option<Vec<Write>>) -> Writes {
    writes.map_or(Writes::Unknown, |writes| Writes::After { base, writes })
}

/// The writes of these steps, if all of them are kept.
fn writes_of(steps: &[Step]) -> Option<Vec<Write>> {
    let write = |Step { revision, entry, write, .. }: &Step| {
        let is_put = match write {
            StepWrite::Put => true,
            StepWrite::Deleted => false,
            StepWrite::NotKept => return None,
        };
        Some(Write { revision: *revision, entry: entry.clone(), is_put })
    };
    steps.iter().map(write).collect()
}
