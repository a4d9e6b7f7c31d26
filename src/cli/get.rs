//! `crumbd get`.

use clap::Args;

use super::{Daemon, Failure, output};
use crate::model::{Key, OpaqueCursor};

/// Print the value of one key
///
/// The value's bytes are printed as they are, with nothing added. An absent key is an error.
#[derive(Args)]
pub(super) struct Get {
    #[command(flatten)]
    daemon: Daemon,
    /// The key.
    key: String,
    /// Read the value as it was at this cursor.
    #[arg(long, value_name = "CURSOR")]
    at: Option<OpaqueCursor>,
}

impl Get {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let value = self.daemon.client()?.get(&Key::from(self.key.as_str()), self.at).await?;
        Ok(output::bytes(&value)?)
    }
}
