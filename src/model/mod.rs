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
mod opaque_cursor;
mod revision;
mod status;
mod transaction;

pub use collection_name::{CollectionName, CollectionNameError};
pub use cursor::Check;
pub use cursor::{Cursor, CursorError};
pub use cursor_key::{CursorKey, CursorKeyError};
pub use digest::{Digest, DigestError};
pub use encoding::Encoding;
pub(crate) use entry::WriteInfo;
pub use entry::{Entry, MAX_KEY_BYTES, Ttl};
pub use event::{
    Ack, Batch, Change, Committed, Condition, FeedEvent, Grouping, Past, Refusal, ReplyTo, ResyncClaim,
    Update,
};
pub use event::{Comparison, KeyStep, PastStep, PastValue, UpstreamBreadcrumb, Verdict};
pub use key::Key;
pub use key_selector::KeySelector;
pub use limits::{EntryLimits, StateLimit};
pub use opaque_cursor::OpaqueCursor;
pub use revision::Sighting;
pub use revision::{History, HistoryError, Revision, Sequence};
pub use status::{StatusError, SyncStatus};
pub use transaction::{Decide, ReadEntries, Transaction};
