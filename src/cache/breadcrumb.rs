//! A breadcrumb: state, deltas, status.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::{BreadcrumbRecord, Snapshot};
use crate::model::{Check, Cursor, Digest, Entry, Past, PastStep, Revision, Sequence, SyncStatus};
use crate::trail::{BufferItem, TerminalError};

/// What happened to a key from one breadcrumb to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeltaKind {
    /// It was absent and is there now.
    New,
    /// It was there with another value or ttl.
    Updated,
    /// It was there and is gone.
    Deleted,
}

/// One key's change from one breadcrumb to the next.
#[derive(Clone, Debug)]
pub struct Delta {
    /// What happened.
    pub kind: DeltaKind,
    /// The new entry; for a deletion the old one (its key is what counts).
    pub entry: Entry,
    /// When it happened; for a deletion this is not the entry's own revision.
    pub revision: Revision,
}

/// One change of one key at one revision *inside* a breadcrumb that covers several: what a
/// cursor from another process, which cut its breadcrumbs elsewhere, needs to continue here.
#[derive(Clone, Debug)]
pub struct Step {
    /// When.
    pub revision: Revision,
    /// An entry with the key in question.
    pub entry: Entry,
    /// Whether the key was there before this step.
    pub existed: bool,
    /// What the state looked like after it, where that is known: a cursor between two steps is
    /// recognised by it.
    pub check: Option<Check>,
}

/// What a breadcrumb is made of.
pub(super) struct Crumb {
    pub(super) sequence: Sequence,
    pub(super) timestamp: SystemTime,
    pub(super) state: Snapshot,
    pub(super) status: SyncStatus,
    /// The cursor of the breadcrumb before; the first one's own.
    pub(super) from: Cursor,
    /// Of its first change; that of its state where nothing changed.
    pub(super) first_revision: Revision,
    pub(super) deltas: Box<[Delta]>,
    /// In order of revision; empty when all deltas are of one revision.
    pub(super) steps: Box<[Step]>,
    /// Set where a lossy resync ended: what happened right before is not known, or told later.
    pub(super) blind: Option<Blind>,
    /// No upstream has said yet what history this is: cursors made of it would not last.
    pub(super) provisional: bool,
}

impl Crumb {
    pub(super) fn record(&self) -> BreadcrumbRecord<'_> {
        BreadcrumbRecord {
            cursor: cursor_of(&self.state, self.status),
            first_revision: self.first_revision,
            timestamp: self.timestamp,
            digest: self.state.digest(),
            count: self.state.len() as u64,
            deltas: &self.deltas,
            steps: &self.steps,
        }
    }
}

/// What is known of the way to a state that was read as a whole.
pub(super) struct Blind {
    pub(super) past: watch::Sender<PastState>,
}

/// See [`Blind`].
#[derive(Clone)]
pub(super) enum PastState {
    /// The feed may still tell.
    Awaited,
    /// It has told this.
    Known(Arc<KnownPast>),
    /// It cannot.
    Unknown,
}

/// The way to a state, as far as the feed could find out.
pub struct KnownPast {
    pub(super) base: Revision,
    pub(super) through: Revision,
    pub(super) steps: Box<[Step]>,
    /// What the state looked like at `base`, where that is known.
    pub(super) base_check: Option<Check>,
}

impl KnownPast {
    /// Traces a way back from the digest of the state at its end.
    pub(super) fn trace(past: Past, end: Digest) -> Self {
        let mut digest = past.leads_to_the_end.then_some(end);
        let step = |step: PastStep| {
            let check = digest.map(Check::from);
            digest = digest.zip(step.change).map(|(after, change)| after.before(change));
            let entry = Entry::new(step.key.as_bytes(), b"", None);
            Step { revision: step.revision, entry, existed: step.existed, check }
        };
        let mut steps: Vec<Step> = past.steps.into_iter().rev().map(step).collect();
        steps.reverse();
        let base_check = digest.map(Check::from);
        Self { base: past.base, through: past.through, steps: steps.into(), base_check }
    }

    /// Whether the state at the cursor's revision looked as it says, as far as that is known.
    pub(super) fn fits(&self, cursor: Cursor) -> bool {
        let after = self.steps.partition_point(|step| step.revision <= cursor.revision);
        let check = match after.checked_sub(1).and_then(|at| self.steps.get(at)) {
            Some(step) => step.check,
            None => self.base_check,
        };
        check.is_none_or(|check| check == cursor.check)
    }

    /// Every change on the way, one revision at a time.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl Blind {
    pub(super) fn new() -> Self {
        Self { past: watch::Sender::new(PastState::Awaited) }
    }

    /// Nothing more will be told.
    pub(super) fn give_up(&self) {
        self.past.send_if_modified(|past| {
            let awaited = matches!(past, PastState::Awaited);
            if awaited {
                *past = PastState::Unknown;
            }
            awaited
        });
    }
}

/// The whole state at one revision, the updates since the breadcrumb before, and the sync status.
///
/// A cheap handle. Holding one keeps it and everything that comes after it in memory, so hold it
/// only while working on it.
#[derive(Clone)]
pub struct Breadcrumb {
    /// Always one with a value. One reference and not two: every waiter takes one, twice a wake, and
    /// all cores count on the same address.
    item: BufferItem<Arc<Crumb>>,
}

impl Breadcrumb {
    /// Gives the item back when it carries nothing (the trail's sentinel).
    pub(super) fn of(item: BufferItem<Arc<Crumb>>) -> Result<Self, BufferItem<Arc<Crumb>>> {
        if item.value().is_some() { Ok(Self { item }) } else { Err(item) }
    }

    fn crumb(&self) -> &Crumb {
        self.item.value().expect("`of` takes no item without a value, and items never change")
    }

    /// Counts the breadcrumbs of this process from 1.
    pub fn sequence(&self) -> Sequence {
        self.crumb().sequence
    }

    /// When it was dropped.
    pub fn timestamp(&self) -> SystemTime {
        self.crumb().timestamp
    }

    /// What it says, to be kept by a journal or a follower of the trail.
    pub fn record(&self) -> BreadcrumbRecord<'_> {
        self.crumb().record()
    }

    /// The whole state.
    pub fn kvs(&self) -> &Snapshot {
        &self.crumb().state
    }

    /// The changes since the breadcrumb before, each key once.
    pub fn deltas(&self) -> &[Delta] {
        &self.crumb().deltas
    }

    /// The changes one revision at a time, where [`Breadcrumb::deltas`] spans several revisions.
    pub fn steps(&self) -> &[Step] {
        &self.crumb().steps
    }

    /// The feed's status.
    pub fn sync_status(&self) -> SyncStatus {
        self.crumb().status
    }

    /// The revision of the state.
    pub fn revision(&self) -> Revision {
        self.crumb().state.revision
    }

    /// Where a client stands that has this state and status.
    pub fn cursor(&self) -> Cursor {
        cursor_of(&self.crumb().state, self.crumb().status)
    }

    /// The cursor of the breadcrumb before.
    pub fn from(&self) -> Cursor {
        self.crumb().from
    }

    /// Whether the upstream is not known yet, so that no cursor should be handed out.
    pub fn is_provisional(&self) -> bool {
        self.crumb().provisional
    }

    /// The next breadcrumb, as soon as there is one. Cancel-safe: drop the future at any time.
    ///
    /// # Errors
    /// Once the cache has stopped and everything that it published has been seen.
    pub async fn next(&self) -> Result<Self, TerminalError> {
        let mut item = self.item.next().await?;
        loop {
            match Self::of(item) {
                Ok(breadcrumb) => return Ok(breadcrumb),
                Err(empty) => item = empty.next().await?,
            }
        }
    }

    /// Waits until there is a next breadcrumb. Cancel-safe.
    ///
    /// # Errors
    /// As for [`Breadcrumb::next`].
    pub async fn followed(&self) -> Result<(), TerminalError> {
        self.item.next_ref().await.map(|_| ())
    }

    /// Whether a lossy resync ended here: its deltas lead from the breadcrumb before, but not revision by revision.
    pub fn is_blind(&self) -> bool {
        self.crumb().blind.is_some()
    }

    /// What is known of the way here, now and later; `None` where nothing ever will be.
    pub(super) fn past(&self) -> Option<watch::Receiver<PastState>> {
        self.crumb().blind.as_ref().map(|blind| blind.past.subscribe())
    }

    /// The breadcrumbs after this one that exist already, oldest first.
    pub fn later(&self) -> impl Iterator<Item = Self> {
        let next = |crumb: &Self| Self::of(crumb.item.next_no_block().ok()??).ok();
        std::iter::successors(next(self), next)
    }
}

pub(super) fn cursor_of(state: &Snapshot, status: SyncStatus) -> Cursor {
    let check = state.digest().into();
    Cursor { history: state.history, revision: state.revision, status, check }
}

impl fmt::Debug for Breadcrumb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breadcrumb")
            .field("sequence", &self.sequence())
            .field("cursor", &self.cursor().to_string())
            .field("keys", &self.kvs().len())
            .field("deltas", &self.deltas().len())
            .finish_non_exhaustive()
    }
}
