//! The shared data types: update, revision, cursor, digest and others.
//!
//! Every room may import this one. It imports no other room and does no I/O. Numbers that must not
//! be mixed up have their own types ([`Revision`], [`Sequence`], [`History`]), rather than `u64`.

mod collection_name;
mod cursor;
mod cursor_key;
mod digest;
mod encoding;
mod entry;
mod event;
mod key;
mod key_selector;
mod limits;
mod revision;
mod status;
mod transaction;

pub use collection_name::{CollectionName, CollectionNameError};
pub use cursor::{Check, Cursor, CursorError};
pub use cursor_key::{CursorKey, CursorKeyError};
pub use digest::{Digest, DigestError};
pub use encoding::Encoding;
pub use entry::{Entry, MAX_KEY_BYTES, Ttl, WriteInfo};
pub use event::{
    Ack, Batch, Change, Committed, Comparison, Condition, FeedEvent, Grouping, KeyStep, Past, PastStep,
    PastValue, Refusal, ReplyTo, ResyncClaim, Update, UpstreamBreadcrumb, Verdict,
};
pub use key::Key;
pub use key_selector::KeySelector;
pub use limits::EntryLimits;
pub use revision::{History, HistoryError, Revision, Sequence, Sighting};
pub use status::{StatusError, SyncStatus};
pub use transaction::{Decide, ReadEntries, Transaction};
