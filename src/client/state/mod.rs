//! A copy of the state: [`CheckedState`] as it is built from records, [`MirrorSnapshot`] as applications read it,
//! [`Change`] as they hear of it.

mod change;
mod checked_state;
mod snapshot;

pub use change::Change;
pub use checked_state::{CheckedState, MismatchError};
pub use snapshot::MirrorSnapshot;
