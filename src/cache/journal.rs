//! Where writes go before they can be read.

use super::Delta;
use crate::model::Revision;

/// Makes changes last before anybody sees them: what was read once is never taken back by a crash.
///
/// The ingest task calls it once per breadcrumb, so that under load many writes share one call: that
/// is the group commit.
pub trait Journal: Send + 'static {
    /// Returns once the changes would survive the end of the process and of the machine. It may block: it
    /// is called off the async threads.
    ///
    /// # Errors
    /// A sentence. Then nothing of it may survive, and the writes are refused.
    fn append(&mut self, revision: Revision, deltas: &[Delta]) -> Result<(), String>;
}
