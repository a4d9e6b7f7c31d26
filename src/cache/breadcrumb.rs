//! A breadcrumb: state, deltas, status.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;

use super::weight::step_bytes;
use super::{BreadcrumbRecord, Snapshot};
use crate::model::{
    Check, Cursor, CursorKey, Digest, Entry, EntryLimits, KeyStep, Past, PastStep, PastValue, Revision,
    Sequence, SyncStatus,
};
use crate::trail::{BufferItem, TerminalError};

/// The kind of a key's change from one breadcrumb to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeltaKind {
    /// The key was absent and is present now.
    New,
    /// The key was present with another value or ttl.
    Updated,
    /// The key was present and is absent now.
    Deleted,
}

/// One key's change from one breadcrumb to the next.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The kind of change.
    pub kind: DeltaKind,
    /// The new entry. For a deletion an entry with the key, whose value means nothing.
    pub entry: Entry,
    /// The revision of the change. For a deletion it differs from the entry's own revision.
    pub revision: Revision,
}

/// One change of one key at one revision *inside* a breadcrumb that covers several revisions.
///
/// Another process may have ended a breadcrumb at a revision in between. A cursor from there continues with the steps
/// after it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The revision of the change.
    pub revision: Revision,
    /// An entry with the key. It is the key's entry after the step only if `write` says so.
    pub entry: Entry,
    /// Whether the key was there before this step.
    pub existed: bool,
    /// The check of the state after it, when it is known. A cursor at this revision must be of the same state.
    pub check: Option<Check>,
    /// What the step did to the key.
    pub write: StepWrite,
}

/// What a [`Step`] did to its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StepWrite {
    /// It set the key to the step's entry.
    Put,
    /// It deleted the key.
    Deleted,
    /// Not kept: see [`CacheConfig::keep_every_write`](super::CacheConfig::keep_every_write).
    NotKept,
}

impl From<KeyStep> for Step {
    fn from(KeyStep { revision, key, existed, check }: KeyStep) -> Self {
        let (entry, write) = (Entry::new(key.as_bytes(), b"", None), StepWrite::NotKept);
        Self { revision, entry, existed, check, write }
    }
}

impl From<&Step> for KeyStep {
    fn from(Step { revision, entry, existed, check, .. }: &Step) -> Self {
        Self { revision: *revision, key: entry.to_key(), existed: *existed, check: *check }
    }
}

/// The contents of a breadcrumb.
pub(super) struct BreadcrumbData {
    pub(super) sequence: Sequence,
    pub(super) timestamp: SystemTime,
    pub(super) state: Snapshot,
    /// The cursor of a client that has the state and the status.
    pub(super) cursor: Cursor,
    /// The cursor of the breadcrumb before; the first one's own.
    pub(super) from: Cursor,
    /// The revision of the first change, or of the state when nothing changed.
    pub(super) first_revision: Revision,
    pub(super) deltas: Box<[Delta]>,
    /// In order of revision; empty when all deltas are of one revision.
    pub(super) steps: Box<[Step]>,
    /// Set when a lossy resync ended here: the changes right before it are missing, at least for now.
    pub(super) gap: Option<Gap>,
    /// Whether the history is still unknown, so that cursors of this breadcrumb would not last.
    pub(super) provisional: bool,
}

impl BreadcrumbData {
    pub(super) fn record(&self) -> BreadcrumbRecord<'_> {
        BreadcrumbRecord {
            cursor: self.cursor,
            first_revision: self.first_revision,
            timestamp: self.timestamp,
            digest: self.state.digest(),
            count: self.state.len() as u64,
            deltas: &self.deltas,
            steps: &self.steps,
        }
    }
}

/// The missing changes before a state that was read as a whole, and what the feed has found out about them since.
pub(super) struct Gap {
    pub(super) past: watch::Sender<PastState>,
}

/// The progress of filling a [`Gap`].
#[derive(Clone)]
pub(super) enum PastState {
    /// The feed may still read the changes back.
    Awaited,
    /// The feed has read these changes back, and may add more.
    Known(Arc<KnownPast>),
    /// The changes cannot be read back.
    Unknown,
}

/// The changes that lead to a state, as far as the feed could read them back.
pub struct KnownPast {
    pub(super) base: Revision,
    pub(super) through: Revision,
    pub(super) steps: Box<[Step]>,
    /// The check of the state at `base`, when it is known.
    pub(super) base_check: Option<Check>,
}

impl KnownPast {
    /// The newest changes of `past` that fit in `max_bytes`, each with the check of the state after it. The checks are
    /// computed backwards from `end`, the digest of the state at the end. A refused value counts as absent.
    pub(super) fn trace(past: Past, end: Digest, limits: EntryLimits, max_bytes: usize) -> Self {
        let (base, steps) = newest_steps(past.base, past.steps, max_bytes);
        let mut digest = past.leads_to_the_end.then_some(end);
        let step = |step: PastStep| {
            let key = step.key.as_bytes();
            let [before, after] = [step.before, step.after].map(|value| as_cached(key, value, limits));
            let check = digest.map(Check::from);
            digest = digest
                .and_then(|digest| Some(digest.minus(digest_share(after)?).plus(digest_share(before)?)));
            let existed = before != PastValue::Absent;
            let (entry, write) = match (step.entry, after) {
                (_, PastValue::Absent) if step.after == PastValue::Absent => (None, StepWrite::Deleted),
                (Some(entry), PastValue::Known { .. }) => (Some(entry), StepWrite::Put),
                _ => (None, StepWrite::NotKept),
            };
            let entry = entry.unwrap_or_else(|| Entry::new(key, b"", None));
            Step { revision: step.revision, entry, existed, check, write }
        };
        let mut steps: Vec<Step> = steps.into_iter().rev().map(step).collect();
        steps.reverse();
        let base_check = digest.map(Check::from);
        Self { base, through: past.through, steps: steps.into(), base_check }
    }

    /// The changes that another daemon knows. `None` if they are too many, or do not lead to the state with the check `end`
    /// at this revision.
    pub(super) fn relayed(
        steps: Vec<KeyStep>,
        through: Revision,
        end: Check,
        max_bytes: usize,
    ) -> Option<Self> {
        let is_whole = steps.is_sorted_by_key(|step| step.revision)
            && steps.last().is_some_and(|last| last.revision <= through && last.check == Some(end));
        let bytes: usize = steps.iter().map(|step| step_bytes(step.key.as_bytes())).sum();
        let mut steps = steps.into_iter().map(Step::from);
        let Step { revision: base, check: base_check, .. } =
            steps.next().filter(|_| is_whole && bytes <= max_bytes)?;
        Some(Self { base, through, steps: steps.collect(), base_check })
    }

    /// Whether the cursor's check is that of the state at its revision; true when that is not known.
    pub(super) fn fits(&self, cursor: Cursor, key: &CursorKey) -> bool {
        let after = self.steps.partition_point(|step| step.revision <= cursor.revision);
        let check = match after.checked_sub(1).and_then(|at| self.steps.get(at)) {
            Some(step) => step.check,
            None => self.base_check,
        };
        check.is_none_or(|check| key.accepts(cursor.revision, check, cursor.check))
    }

    /// The changes, one revision at a time.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// The newest whole revisions of `steps` that fit in `max_bytes`, and the revision after which they begin.
fn newest_steps(base: Revision, mut steps: Vec<PastStep>, max_bytes: usize) -> (Revision, Vec<PastStep>) {
    let mut bytes = 0;
    let too_much = steps.iter().rposition(|step| {
        bytes += step_bytes(step.key.as_bytes()) + step.entry.as_ref().map_or(0, |entry| entry.value().len());
        bytes > max_bytes
    });
    let Some(cut) = too_much.and_then(|at| steps.get(at)).map(|step| step.revision) else {
        return (base, steps);
    };
    steps.drain(..steps.partition_point(|step| step.revision <= cut));
    (cut, steps)
}

/// The value that this cache had when the upstream had `value`: a refused one is absent.
fn as_cached(key: &[u8], value: PastValue, limits: EntryLimits) -> PastValue {
    match value {
        PastValue::Known { bytes, .. } if !limits.allow(key, bytes) => PastValue::Absent,
        value => value,
    }
}

/// The value's share of the state's digest, when it is known.
fn digest_share(value: PastValue) -> Option<Digest> {
    match value {
        PastValue::Absent => Some(Digest::default()),
        PastValue::Known { digest, .. } => Some(digest),
        PastValue::Unknown => None,
    }
}

impl Gap {
    pub(super) fn new() -> Self {
        Self { past: watch::Sender::new(PastState::Awaited) }
    }

    /// Notes that the changes cannot be read back, unless some were.
    pub(super) fn mark_unknown(&self) {
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
    /// Always an item with a value. It is the only reference, because every waiter clones the handle twice a wake-up, and
    /// all cores contend for the same count.
    item: BufferItem<Arc<BreadcrumbData>>,
}

impl Breadcrumb {
    /// The breadcrumb of an item, or the item itself when it has no value (the trail's sentinel).
    pub(super) fn of(item: BufferItem<Arc<BreadcrumbData>>) -> Result<Self, BufferItem<Arc<BreadcrumbData>>> {
        if item.value().is_some() { Ok(Self { item }) } else { Err(item) }
    }

    fn crumb(&self) -> &BreadcrumbData {
        self.item.value().expect("`of` takes no item without a value, and items never change")
    }

    /// The number of this breadcrumb, counted from 1 in each process.
    pub fn sequence(&self) -> Sequence {
        self.crumb().sequence
    }

    /// The time at which it was published.
    pub fn timestamp(&self) -> SystemTime {
        self.crumb().timestamp
    }

    /// Its record for a journal.
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
        self.crumb().cursor.status
    }

    /// The revision of the state.
    pub fn revision(&self) -> Revision {
        self.crumb().state.revision
    }

    /// The cursor of a client that has this state and status.
    pub fn cursor(&self) -> Cursor {
        self.crumb().cursor
    }

    /// The cursor of the breadcrumb before.
    pub fn from(&self) -> Cursor {
        self.crumb().from
    }

    /// Whether the upstream's history is still unknown, so that no cursor should be handed out.
    pub fn is_provisional(&self) -> bool {
        self.crumb().provisional
    }

    /// The next breadcrumb, as soon as there is one. Cancel-safe: drop the future at any time.
    ///
    /// # Errors
    /// The cache has stopped, and this is its last breadcrumb.
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
    pub(crate) async fn wait_for_next(&self) -> Result<(), TerminalError> {
        self.item.next_ref().await.map(|_| ())
    }

    /// Whether a lossy resync ended here: the deltas lead from the breadcrumb before, but skip revisions in between.
    pub(crate) fn follows_gap(&self) -> bool {
        self.crumb().gap.is_some()
    }

    /// The progress of filling the gap before this breadcrumb, if there is one.
    pub(super) fn past(&self) -> Option<watch::Receiver<PastState>> {
        self.crumb().gap.as_ref().map(|gap| gap.past.subscribe())
    }

    /// The breadcrumbs after this one that exist already, oldest first.
    pub fn later(&self) -> impl Iterator<Item = Self> {
        let next = |crumb: &Self| Self::of(crumb.item.next_no_block().ok()??).ok();
        std::iter::successors(next(self), next)
    }
}

pub(super) fn cursor_of(state: &Snapshot, status: SyncStatus, key: &CursorKey) -> Cursor {
    let check = key.seal(state.revision, state.digest().into());
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
