//! Transactions: updates that are decided where they are applied.

use std::fmt;

use super::{Ack, Entry, Revision, Update};

/// The state in which a [`Transaction`] is decided.
pub trait ReadEntries {
    /// The revision of the state.
    fn revision(&self) -> Revision;

    /// The entry of a key.
    fn entry(&self, key: &[u8]) -> Option<Entry>;

    /// The entries whose keys are wanted, in key order. It goes through all keys.
    fn select(&self, wanted: &dyn Fn(&[u8]) -> bool) -> Vec<Entry>;
}

/// The decision of a [`Transaction`]: its updates, in a state that nobody changes before they are applied. They are one
/// revision, the next one.
pub type Decide = Box<dyn FnOnce(&dyn ReadEntries) -> Vec<Update> + Send>;

/// A write that depends on the state. It is decided by the one task that writes, so it holds up all others meanwhile.
pub struct Transaction {
    /// Its updates.
    pub decide: Decide,
    /// The acknowledgement, sent once the updates can be read.
    pub ack: Ack,
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}
