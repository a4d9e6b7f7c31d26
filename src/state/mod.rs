//! The state directory: what a daemon holds, kept for the next start.
//!
//! Durable storage is a library's work (redb); its proof is ours. Each row has a checksum, each state its count and
//! digest, and both are checked at every start. Where the directory *is* the datastore (`push:`), what cannot be proved
//! is not served: the daemon refuses to start, touches nothing and says what to do. Elsewhere the state can be had
//! again: what is damaged is moved aside, and the start is a cold one.
//!
//! | file | what it is |
//! |---|---|
//! | `state.crumbd` | the database (`database.rs`): entries, and the breadcrumbs of the kept window after them |
//! | `acknowledged` | `push:` only: how far the database must reach (`acknowledged.rs`) |
//! | `state.tmp`, `acknowledged.tmp` | one of these while it is made; it has its name when it is whole |
//! | `state.damaged` | a database that was moved aside; nobody reads it |
//!
//! The directory is locked for as long as it is used: one daemon a directory. May import `model`, `wire`, `trail` (its limits)
//! and `cache` (read only).

mod acknowledged;
mod database;
mod directory;
mod error;
mod journal;
mod load;
mod push;
mod row;
mod saver;
mod storage;
mod writer;

pub use directory::{FeedIdentity, Kept, StateDir};
pub use error::{Damage, StateError};
pub use push::PushStore;
pub use saver::Saver;
