//! The state directory: the state of a daemon, kept for the next start.
//!
//! A library stores it durably (redb); we prove that what it holds is what was written. Each row has a checksum, each
//! state its count and digest, and both are checked at every start. If the directory *is* the datastore (`push:`),
//! nothing is served that cannot be proved: the daemon refuses to start, changes nothing and says what to do. Other
//! feeds can read their state again: damaged files are moved aside, and the start is a cold one.
//!
//! | file | what it is |
//! |---|---|
//! | `state.crumbd` | the database (`database.rs`): entries, and the breadcrumbs of the kept window after them |
//! | `acknowledged` | `push:` only: how far the database must reach (`acknowledged.rs`) |
//! | `state.tmp`, `acknowledged.tmp` | one of these while it is created; it is renamed when it is complete |
//! | `cursor-key` | the secrets of the cursors of a daemon with tokens and without `--cursor-key` (`cursor_secret.rs`) |
//! | `state.damaged` | a database that was moved aside; it is never read |
//!
//! The directory is locked while it is used: one daemon a directory. May import `model`, `wire`, `trail` (its limits)
//! and `cache` (read only).

mod acknowledged;
mod cursor_secret;
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

pub(crate) use cursor_secret::cursor_secrets;
pub use directory::{FeedIdentity, Kept, StateDir};
pub use error::Damage;
pub use error::StateError;
pub use push::PushStore;
pub(crate) use saver::Saver;
