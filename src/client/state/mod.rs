//! A copy of the state: [`CheckedState`] as it is built from records, [`MirrorSnapshot`] as applications read it,
//! [`EntryChange`] as they hear of it.

mod checked_state;
mod entry_change;
mod snapshot;

pub use checked_state::{CheckedState, MismatchError};
pub use entry_change::EntryChange;
pub use snapshot::MirrorSnapshot;
