//! The events that a feed sends to the cache.

use std::fmt;

use super::{Check, Cursor, Digest, Entry, History, Key, Revision, StateLimit, SyncStatus, Transaction};

/// One change of one key.
#[derive(Clone, Debug)]
pub enum Change {
    /// The key has this value now. The cache decides whether it is new or updated, because a feed's
    /// claim is usually wrong after a resync.
    Put(Entry),
    /// The key was deleted.
    Delete(Key),
    /// The key has changed to a value that the feed could not read. The text is the reason, as a sentence.
    Unreadable(Key, String),
}

impl Change {
    /// The changed key.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(entry) => entry.key(),
            Self::Delete(key) | Self::Unreadable(key, _) => key.as_bytes(),
        }
    }
}

/// One change and its revision, if the upstream gives one.
#[derive(Clone, Debug)]
pub struct Update {
    /// The change.
    pub change: Change,
    /// The revision of the change. With `None` the cache assigns the next one.
    pub revision: Option<Revision>,
}

impl Update {
    /// An update that sets a key.
    pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Entry::new(key.as_ref(), value.as_ref(), None).into()
    }

    /// An update that deletes a key.
    pub fn delete(key: impl AsRef<[u8]>) -> Self {
        Self { change: Change::Delete(Key::copy_from(key.as_ref())), revision: None }
    }

    /// The same update with the upstream's revision.
    pub fn at(self, revision: u64) -> Self {
        Self { revision: Some(Revision(revision)), ..self }
    }
}

impl From<Entry> for Update {
    fn from(entry: Entry) -> Self {
        Self { change: Change::Put(entry), revision: None }
    }
}

/// The grouping of a batch's updates into upstream revisions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grouping {
    /// Adjacent updates with the same revision are one; an update without a revision is one by itself.
    ByRevision,
    /// All updates are one revision, applied as a whole or not at all.
    Whole,
    /// All updates are one revision, and are the whole state: other keys are deleted in the same revision.
    Replace,
}

/// A condition of a write, checked right before the write is applied.
#[derive(Clone, Debug)]
pub enum Condition {
    /// The key exists, at one of these revisions.
    AtOneOf(Key, Vec<Revision>),
    /// The key exists.
    Exists(Key),
    /// The key does not exist.
    Absent(Key),
    /// The key does not exist, or is at none of these revisions.
    AtNoneOf(Key, Vec<Revision>),
}

/// A batch of updates from a feed.
#[derive(Debug)]
pub struct Batch {
    /// The updates, in order.
    pub updates: Vec<Update>,
    /// Their grouping into revisions.
    pub grouping: Grouping,
    /// The conditions, all of which must hold; otherwise nothing of the batch is applied.
    pub conditions: Vec<Condition>,
    /// The acknowledgement, sent once the updates can be read.
    pub ack: Option<Ack>,
}

impl Batch {
    /// A batch without conditions and acknowledgement.
    pub fn new(updates: Vec<Update>, grouping: Grouping) -> Self {
        Self { updates, grouping, conditions: Vec::new(), ack: None }
    }
}

/// The acknowledgement of a write.
pub type Ack = ReplyTo<Result<Committed, Refusal>>;

/// A handle that sends one answer back. Dropping it sends none.
pub struct ReplyTo<T>(Box<dyn FnOnce(T) + Send>);

impl<T> ReplyTo<T> {
    /// A handle that passes the answer to this function.
    pub fn new(send: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(send))
    }

    /// Sends the answer.
    pub fn send(self, answer: T) {
        (self.0)(answer);
    }
}

impl<T> fmt::Debug for ReplyTo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyTo").finish_non_exhaustive()
    }
}

/// The result of an applied write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The cursor of the first breadcrumb that contains the write.
    pub cursor: Cursor,
    /// The revision of the write itself; `None` when it changed nothing.
    pub revision: Option<Revision>,
    /// The number of keys that it changed.
    pub changed: usize,
}

/// The reason why a write or an update was not applied. Nothing of it was applied then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A condition does not hold.
    #[error("the condition on key \"{key}\" does not hold: {}", found_at(*found))]
    ConditionFailed {
        /// The key of the condition.
        key: Key,
        /// The key's revision; `None` if it does not exist.
        found: Option<Revision>,
    },
    /// The journal did not persist the write.
    #[error("the write was not applied, because it could not be persisted: {reason}")]
    NotPersisted {
        /// The journal's error.
        reason: String,
    },
    /// The journal did not persist the write, and could not undo it.
    #[error("the write could not be persisted, and may or may not exist after a restart: {reason}")]
    Unsettled {
        /// The journal's error.
        reason: String,
    },
    /// A revision above [`Revision::MAX_CLAIM`].
    #[error("key \"{key}\": {}", self.reason().unwrap_or_default())]
    RevisionTooHigh {
        /// The key, cut to a readable length.
        key: Key,
        /// The claimed revision.
        claimed: Revision,
    },
    /// A key or a value over its limit.
    #[error("key \"{key}\": {}", self.reason().unwrap_or_default())]
    TooLarge {
        /// The key, cut to a readable length.
        key: Key,
        /// `key` or `value`.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest size that is accepted.
        limit: usize,
    },
    /// A key, or a larger value, for which the state has no room.
    #[error("key \"{key}\": {}", self.reason().unwrap_or_default())]
    NoRoom {
        /// The key, cut to a readable length.
        key: Key,
        /// The limit that is reached.
        limit: StateLimit,
    },
    /// A record of the feed that names a key but cannot be read.
    #[error("key \"{key}\": {reason}")]
    Unreadable {
        /// The key, cut to a readable length.
        key: Key,
        /// The fault of the record, and its place in the feed.
        reason: String,
    },
}

impl Refusal {
    /// The fault of a single update, without its key; `None` if a write was refused as a whole.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            Self::ConditionFailed { .. } | Self::NotPersisted { .. } | Self::Unsettled { .. } => None,
            Self::RevisionTooHigh { claimed, .. } => Some(format!(
                "the revision {claimed} is above {}, the highest that a feed may claim",
                Revision::MAX_CLAIM
            )),
            Self::TooLarge { what, bytes, limit, .. } => {
                Some(format!("its {what} has {bytes} bytes, the limit is {limit}"))
            }
            Self::NoRoom { limit, .. } => {
                Some(format!("there is no room for it, because the collection has at most {limit}"))
            }
            Self::Unreadable { reason, .. } => Some(reason.clone()),
        }
    }

    /// The limit of the state that is reached, if that is the reason.
    pub(crate) fn state_limit(&self) -> Option<StateLimit> {
        match self {
            Self::NoRoom { limit, .. } => Some(*limit),
            _ => None,
        }
    }
}

fn found_at(revision: Option<Revision>) -> String {
    match revision {
        Some(revision) => format!("the key exists, at revision {revision}"),
        None => "the key does not exist".to_owned(),
    }
}

/// The count and digest in a feed's `end` record. A mismatch with the state before it means a damaged feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResyncClaim {
    /// The number of keys.
    pub count: Option<u64>,
    /// The digest of the state.
    pub digest: Option<Digest>,
}

/// The comparison of a state that was read again with the one before, by keys, values and the revisions that set them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Both are the same, key by key and value by value.
    Same,
    /// The new state may be a later one of the same upstream: every key in it that was set at or before the old state's
    /// revision has the same value in the old state.
    Later,
    /// The new state is not a later one: some key that was set by then is absent from the old state, or has another value
    /// there.
    Other,
}

/// An event of a feed. Events are applied in the order in which they are sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum FeedEvent {
    /// The feed's sync status changed.
    Status(SyncStatus),
    /// Keys changed.
    Updates(Batch),
    /// A write that is decided in the state as it is then.
    Transaction(Transaction),
    /// The feed begins to read the whole state again. The old state is served until `ResyncEnd`.
    /// Another `ResyncBegin` before the end starts the resync over.
    ResyncBegin {
        /// The new history, if the revisions that follow are those of another upstream. Old cursors become invalid.
        history: Option<History>,
        /// The revision of the new state, if all of it is one revision (a `snapshot` record). Otherwise each
        /// update has its own, as outside of a resync. `Revision::NAMED_AT_THE_END` if only `ResyncEnd` names it; then
        /// each update says when its key was set.
        whole_at: Option<Revision>,
        /// Whether the changes between the old state and the new one are unknown. Cursors in between can be
        /// continued only after a `Past`.
        lossy: bool,
    },
    /// The new state is complete. Keys that did not come again are deleted, and the difference to the old state
    /// is published as one ordinary breadcrumb.
    ResyncEnd {
        /// The revision at which the upstream's state was read, if known.
        revision: Option<Revision>,
        /// The count and digest that the feed expects.
        claim: ResyncClaim,
        /// False if the feed was truncated: then keys that did not come again stay.
        complete: bool,
    },
    /// One breadcrumb of another daemon. It is applied whole, as one breadcrumb here too, or not at all.
    Breadcrumb(UpstreamBreadcrumb),
    /// Compares the state read since `ResyncBegin` with the one before. Changes nothing.
    Compare(ReplyTo<Comparison>),
    /// Everything up to this revision of the upstream was sent before. For readers that ask how far the state is, also where
    /// later revisions changed nothing in it.
    Complete(Revision),
    /// Discards everything since `ResyncBegin` and restores the old state. Does nothing without a resync in progress.
    ResyncAborted,
    /// The changes that were missing before a lossy resync that ended at revision `end`. May be sent again with more.
    Past {
        /// The revision of the resync.
        end: Revision,
        /// The changes; `None` if they cannot be read back.
        past: Option<Past>,
    },
    /// The same as another daemon knows it. The first step names no change, but the state that the others begin at.
    RelayedPast {
        /// The revision of the resync.
        end: Revision,
        /// In order of revision.
        steps: Vec<KeyStep>,
    },
}

/// A breadcrumb of another daemon, which leads from the state of the cache to another state.
#[derive(Debug)]
pub struct UpstreamBreadcrumb {
    /// The changes, each with its revision.
    pub updates: Vec<Update>,
    /// The same one revision at a time, where the other daemon says more than the changes do.
    pub steps: Vec<KeyStep>,
    /// The revision of the state after them.
    pub revision: Revision,
    /// The sync status after them; `None` leaves it as it is.
    pub status: Option<SyncStatus>,
    /// The count and digest of the state after them, where the other daemon names them.
    pub claim: ResyncClaim,
    /// The reply: whether the changes lead to that state. If not, nothing of them was applied.
    pub reply: ReplyTo<Verdict>,
}

/// One change of one key at one revision inside a breadcrumb that covers several, without the value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyStep {
    /// The revision of the change.
    pub revision: Revision,
    /// The key.
    pub key: Key,
    /// Whether the key was there before.
    pub existed: bool,
    /// The check of the state after that revision, when it is known.
    pub check: Option<Check>,
}

/// Whether the changes of an [`UpstreamBreadcrumb`] lead to the state that it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They do, or nothing is claimed.
    Right,
    /// They cannot be compared: this cache refuses some keys that the other daemon keeps.
    Unknown,
    /// They do not, and were not applied.
    Wrong,
}

/// The changes that lead to a state which was read as a whole, without their values.
#[derive(Clone, Debug)]
pub struct Past {
    /// The steps hold every change after this revision …
    pub base: Revision,
    /// … up to and including this one.
    pub through: Revision,
    /// Whether the last step leads to the state that was read.
    pub leads_to_the_end: bool,
    /// In order of revision.
    pub steps: Vec<PastStep>,
}

/// A past change of one key.
#[derive(Clone, Debug)]
pub struct PastStep {
    /// The revision of the change.
    pub revision: Revision,
    /// The key.
    pub key: Key,
    /// The upstream's value before the change.
    pub before: PastValue,
    /// The upstream's value after the change.
    pub after: PastValue,
    /// The entry after the change, for a cache that keeps every write.
    pub entry: Option<Entry>,
}

/// A past value of a key, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastValue {
    /// The key was absent.
    Absent,
    /// The key had a value of this length and digest.
    Known {
        /// The bytes of the value.
        bytes: usize,
        /// The share of key and value in the digest of the state.
        digest: Digest,
    },
    /// The key had a value that is no longer known.
    Unknown,
}

impl PastValue {
    /// The past value of a key that had this value.
    pub(crate) fn of(key: &[u8], value: &[u8]) -> Self {
        let mut digest = Digest::default();
        digest.add(&Entry::new(key, value, None));
        Self::Known { bytes: value.len(), digest }
    }
}
