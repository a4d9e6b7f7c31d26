//! The only writer of the state: it applies the feed's events to a persistent map and publishes breadcrumbs.
//!
//! Typha's `snapcache`, rebuilt: a [`Breadcrumb`] is the whole state at one revision (an O(1)
//! clone of the map), the deltas since the breadcrumb before it, and the sync status. Breadcrumbs
//! form a linked list ([`crate::trail`]), which each reader follows at its own pace.
//!
//! Why a list and one wake rather than a channel per client: a channel per client means a registry
//! of clients, a loop over all of them per update, and a decision for every full channel. With the
//! list the cache knows no clients: each holds a pointer, and a slow one is merely behind.
//!
//! Promises:
//! - one task owns the map, nobody else writes it, and a breadcrumb never changes;
//! - an upstream revision is atomic: no breadcrumb ends inside one;
//! - a key occurs once in a breadcrumb's deltas, as `New` or `Updated` relative to the breadcrumb
//!   before; an event that changes nothing makes no breadcrumb;
//! - a key that one revision changes and sets back is unchanged; a key that a later revision sets back is updated, with
//!   the later revision, so that an entry's revision does not depend on where breadcrumbs end;
//! - a status is never visible before the data that came before it;
//! - a key whose update is refused (too large, unreadable) is absent from that revision on, as if it had been deleted:
//!   an old value never stays as the current one, so replicas agree whatever each has seen before.
//!
//! It must never wait for a reader, encode anything, or do I/O. Durable changes go through a [`Journal`].

mod breadcrumb;
mod config;
mod handle;
mod ingest;
mod journal;
mod own_thread;
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
mod writes;

pub use breadcrumb::KnownPast;
pub use breadcrumb::StepWrite;
pub use breadcrumb::{Breadcrumb, Delta, DeltaKind, Step};
pub use config::CacheConfig;
pub use config::CacheOptions;
pub use config::CacheStats;
pub(crate) use config::Completeness;
pub use config::PersistFailure;
pub use config::PersistState;
pub use handle::{Cache, Stopped};
pub use ingest::IngestTask;
pub use journal::BreadcrumbRecord;
pub use journal::{Journal, JournalError};
pub(crate) use own_thread::run_on_own_thread;
pub use reader::PastAwaited;
pub(crate) use reader::StepsTo;
pub use reader::WindowUsage;
pub use reader::{Position, Reader};
pub use refused::{RefusedKey, RefusedKeys};
pub use restore::RestoreError;
pub(crate) use restore::SnapshotBuilder;
pub use restore::{RestoredBreadcrumb, RestoredChange};
pub use snapshot::Snapshot;
pub use writes::WritesAwaited;
pub use writes::{Write, Writes};

pub use crate::trail::WindowLimits;
