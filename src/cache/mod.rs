//! The one writer: it applies what the feed says to a persistent map and drops breadcrumbs.
//!
//! Typha's `snapcache`, rebuilt: a [`Breadcrumb`] is the whole state at one revision (an O(1)
//! clone of the map), the deltas since the breadcrumb before it, and the sync status; breadcrumbs
//! hang together in a linked list ([`crate::trail`]), and a reader walks it at its own pace.
//!
//! Why a list and one wake rather than a channel per client: a channel per client means a registry
//! to keep, a loop over all clients per update, and a decision for every full channel. With the
//! list nobody knows the clients: each holds a pointer, and one that is slow is merely behind.
//!
//! Promises:
//! - one task owns the map, nobody else writes it, and a breadcrumb never changes;
//! - an upstream revision is applied whole: no breadcrumb ends inside one;
//! - a key occurs once in a breadcrumb's deltas, as `New` or `Updated` relative to the breadcrumb
//!   before; what changes nothing makes no breadcrumb;
//! - what a revision changes and sets back never happened; what a later one sets back is an update, with
//!   the later revision, so that an entry's revision does not depend on where breadcrumbs were cut;
//! - a status is never seen before the data that came before it;
//! - a key whose update is refused (too large, not readable) is absent from that revision on, as if it had been deleted:
//!   an old value is never kept as the current one, so replicas agree whatever each has seen before.
//!
//! It must never wait for a reader, encode anything, or do I/O: what has to last is handed to a [`Journal`].

mod breadcrumb;
mod config;
mod handle;
mod ingest;
mod journal;
mod pending;
mod publish;
mod reader;
mod refused;
mod restore;
mod resync;
mod snapshot;
mod store;
mod table;
mod weight;

pub use breadcrumb::{Breadcrumb, Delta, DeltaKind, KnownPast, Step};
pub use config::{CacheConfig, CacheStats};
pub use handle::{Cache, Stopped};
pub use ingest::IngestTask;
pub use journal::{BreadcrumbRecord, Journal, JournalError};
pub use reader::{PastAwaited, Position, Reader};
pub use refused::{RefusedKey, RefusedKeys};
pub use restore::{RestoreError, RestoredBreadcrumb, RestoredChange, SnapshotBuilder, SnapshotPart};
pub use snapshot::Snapshot;

pub use crate::trail::Limits as WindowLimits;
