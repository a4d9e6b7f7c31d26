//! What a feed tells the cache.

use std::fmt;

use super::{Cursor, Digest, Entry, History, Key, Revision, SyncStatus};

/// One change of one key.
#[derive(Clone, Debug)]
pub enum Change {
    /// The key has this value now. Whether it is new or updated is for the cache to say: a feed's
    /// claim may be wrong, and after a resync it usually is.
    Put(Entry),
    /// The key is gone.
    Delete(Key),
    /// The key has changed, to something that the feed could not read: a sentence says why.
    Unreadable(Key, String),
}

impl Change {
    /// The key it is about.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put(entry) => entry.key(),
            Self::Delete(key) | Self::Unreadable(key, _) => key.as_bytes(),
        }
    }
}

/// One change and the revision at which the upstream made it, when the upstream says.
#[derive(Clone, Debug)]
pub struct Update {
    /// What changed.
    pub change: Change,
    /// When it changed; `None` lets the cache count.
    pub revision: Option<Revision>,
}

impl Update {
    /// Sets a key.
    pub fn put(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        Entry::new(key.as_ref(), value.as_ref(), None).into()
    }

    /// Removes a key.
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

/// Which updates of a batch belong together as one upstream revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grouping {
    /// Neighbours with the same revision; an update that names none stands alone.
    ByRevision,
    /// All of them: one revision, applied whole or not at all.
    Whole,
    /// All of them, and they are the whole state: keys that they do not set are deleted, in the
    /// same revision.
    Replace,
}

/// What must hold for a conditional write, checked in the moment before it is applied.
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

/// Updates on their way from a feed to the cache.
#[derive(Debug)]
pub struct Batch {
    /// The updates, in order.
    pub updates: Vec<Update>,
    /// Which of them belong together.
    pub grouping: Grouping,
    /// All must hold, or nothing of the batch is applied.
    pub conditions: Vec<Condition>,
    /// Told once the updates can be read.
    pub ack: Option<Ack>,
}

impl Batch {
    /// Updates that nobody waits for.
    pub fn new(updates: Vec<Update>, grouping: Grouping) -> Self {
        Self { updates, grouping, conditions: Vec::new(), ack: None }
    }
}

/// Where the answer to a write goes.
pub type Ack = ReplyTo<Result<Committed, Refusal>>;

/// Where an answer goes. Whoever asked is told once; one that is dropped tells nobody anything.
pub struct ReplyTo<T>(Box<dyn FnOnce(T) + Send>);

impl<T> ReplyTo<T> {
    /// Answers go to this.
    pub fn new(tell: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(tell))
    }

    /// Answers.
    pub fn send(self, answer: T) {
        (self.0)(answer);
    }
}

impl<T> fmt::Debug for ReplyTo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyTo").finish_non_exhaustive()
    }
}

/// A write was applied: reading at or after this cursor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The first breadcrumb that contains the write.
    pub cursor: Cursor,
    /// The revision of the write itself; `None` when it changed nothing.
    pub revision: Option<Revision>,
    /// How many keys it really changed.
    pub changed: usize,
}

/// Why a write was not applied; then nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A condition does not hold.
    #[error("the condition on key \"{key}\" does not hold: {found}")]
    ConditionFailed {
        /// The key of the condition.
        key: Key,
        /// How the key stands, as a sentence.
        found: String,
    },
    /// The write could not be made to last.
    #[error("the write could not be kept, so it was not done: {reason}")]
    NotKept {
        /// What the journal says.
        reason: String,
    },
    /// The write could not be made to last, and what was begun could not be taken back.
    #[error("the write could not be kept, and may or may not be there after a restart: {reason}")]
    Unsettled {
        /// What the journal says.
        reason: String,
    },
    /// A revision above [`Revision::MAX_CLAIM`].
    #[error(
        "key \"{key}\": the revision {claimed} is above {}, the highest that a feed may claim",
        Revision::MAX_CLAIM
    )]
    Claim {
        /// The key, cut to a readable length.
        key: Key,
        /// What was claimed.
        claimed: Revision,
    },
    /// A key or a value over its limit.
    #[error("key \"{key}\": its {what} has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// The key, cut to a readable length.
        key: Key,
        /// `key` or `value`.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// What would be accepted.
        limit: usize,
    },
    /// A record of the feed that names a key and cannot be read.
    #[error("key \"{key}\": {reason}")]
    Unreadable {
        /// The key, cut to a readable length.
        key: Key,
        /// What is wrong with the record, and where it is.
        reason: String,
    },
}

impl Refusal {
    /// What is wrong with an update, without its key; `None` where it is a write as a whole that was refused.
    pub fn fault(&self) -> Option<String> {
        match self {
            Self::ConditionFailed { .. } | Self::NotKept { .. } | Self::Unsettled { .. } => None,
            Self::Claim { claimed, .. } => Some(format!(
                "the revision {claimed} is above {}, the highest that a feed may claim",
                Revision::MAX_CLAIM
            )),
            Self::TooLarge { what, bytes, limit, .. } => {
                Some(format!("its {what} has {bytes} bytes, the limit is {limit}"))
            }
            Self::Unreadable { reason, .. } => Some(reason.clone()),
        }
    }
}

/// What a feed's `end` record says of the state before it; a mismatch means a damaged feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResyncClaim {
    /// Number of keys.
    pub count: Option<u64>,
    /// Digest of the state.
    pub digest: Option<Digest>,
}

/// How a state that was read again stands to the one before, going by keys, values and when each key was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Both are the same, key by key and value by value.
    Same,
    /// It may be a later state of the same upstream: every key that was set at or before the revision of the state
    /// before is there with the same value.
    Later,
    /// It is none: a key that was set by then is not there, or with another value.
    Other,
}

/// Everything a feed can say. The order in which it says things is the order in which they are applied.
#[derive(Debug)]
#[non_exhaustive]
pub enum FeedEvent {
    /// The feed's sync status changed.
    Status(SyncStatus),
    /// Updates.
    Updates(Batch),
    /// The feed reads the whole state again. What is served stays as it is until `ResyncEnd`.
    /// Another one before the end starts the reading anew.
    ResyncBegin {
        /// Set when the revisions that follow are those of another upstream; cursors then end.
        history: Option<History>,
        /// Set when everything up to the end is one revision (a `snapshot` record); otherwise each
        /// update counts as it would outside of a resync.
        whole_at: Option<Revision>,
        /// Set when what happened between the state before and the one that is read is not known:
        /// cursors in between can be continued only once a `Past` tells.
        lossy: bool,
    },
    /// The state is complete: keys that did not come again are deleted, and the difference to
    /// what was served is published as one ordinary breadcrumb.
    ResyncEnd {
        /// The revision at which the upstream's state was read, when it says.
        revision: Option<Revision>,
        /// What the feed believes the state to be.
        claim: ResyncClaim,
        /// False when the feed was cut off: then nothing is swept.
        complete: bool,
    },
    /// Asks how what came since `ResyncBegin` stands to the state before it. Changes nothing.
    Compare(ReplyTo<Likeness>),
    /// What came since `ResyncBegin` counts for nothing: the state before it stands. Without a resync under way it
    /// says nothing.
    ResyncGivenUp,
    /// What happened before a lossy resync that ended at revision `end`; `None` when that cannot be known.
    /// May come again with more.
    Past {
        /// The revision of the resync.
        end: Revision,
        /// The way there.
        past: Option<Past>,
    },
}

/// The changes on the way to a state that was read as a whole, without their values.
#[derive(Clone, Debug)]
pub struct Past {
    /// Every change after this revision is among the steps …
    pub base: Revision,
    /// … up to and with this one.
    pub through: Revision,
    /// Whether the state after the last step is the one at the end, as far as keys that live on go.
    pub leads_to_the_end: bool,
    /// In order of revision.
    pub steps: Vec<PastStep>,
}

/// A change of one key.
#[derive(Clone, Debug)]
pub struct PastStep {
    /// When.
    pub revision: Revision,
    /// Which key.
    pub key: Key,
    /// How the upstream had it before.
    pub before: PastValue,
    /// How the upstream had it since.
    pub after: PastValue,
}

/// A key as the upstream had it at some time, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastValue {
    /// It was not there.
    Absent,
    /// It had a value of this length, with which it counted so in the digest of the state.
    Known {
        /// Bytes of the value.
        bytes: usize,
        /// Of the key with the value.
        digest: Digest,
    },
    /// It was there; with what value is not known any more.
    Unknown,
}

impl PastValue {
    /// A key that was there with this value.
    pub fn of(key: &[u8], value: &[u8]) -> Self {
        let mut digest = Digest::default();
        digest.add(&Entry::new(key, value, None));
        Self::Known { bytes: value.len(), digest }
    }
}
