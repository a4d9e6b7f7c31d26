//! `crumbd put`.

use std::io::Read;

use clap::Args;

use super::{Daemon, Failure, output};
use crate::model::Key;

/// The last part of `crumbd put --help`.
const EXAMPLES: &str = "\
Examples:
  crumbd put greeting hello
  crumbd put config/web --json '{\"replicas\": 3}'
  crumbd put logo - < logo.png";

/// Set one key (only where the daemon's feed takes writes)
///
/// Prints the cursor at which the new value can be read. It can be read at once.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Put {
    #[command(flatten)]
    daemon: Daemon,
    /// The key.
    key: String,
    /// The value, stored byte for byte; `-` reads it from standard input.
    #[arg(allow_hyphen_values = true)]
    value: String,
    /// The value is JSON: it is checked, and stored without insignificant whitespace.
    #[arg(long)]
    json: bool,
}

impl Put {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let value = match self.value.as_str() {
            "-" => {
                let mut bytes = Vec::new();
                std::io::stdin().lock().read_to_end(&mut bytes)?;
                bytes
            }
            text => text.as_bytes().to_vec(),
        };
        let content_type = if self.json { "application/json" } else { "application/octet-stream" };
        let cursor = self.daemon.client()?.put(&Key::from(self.key.as_str()), value, content_type).await?;
        Ok(output::line(cursor)?)
    }
}
