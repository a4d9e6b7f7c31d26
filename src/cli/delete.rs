//! `crumbd delete`.

use clap::Args;

use super::{Daemon, Failure, output};
use crate::model::Key;

/// Remove one key (only where the daemon's feed takes writes)
///
/// Prints the cursor at which the key is absent. Deleting an absent key changes nothing and is no error.
#[derive(Args)]
pub(super) struct Delete {
    #[command(flatten)]
    daemon: Daemon,
    /// The key.
    key: String,
}

impl Delete {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let cursor = self.daemon.client()?.delete(&Key::from(self.key.as_str())).await?;
        Ok(output::line(cursor)?)
    }
}
