//! `crumbd dump`.

use clap::Args;

use super::output::Output;
use super::{Daemon, Failure};
use crate::model::{Key, OpaqueCursor};
use crate::wire::{self, MediaType, Record};

/// The last part of `crumbd dump --help`.
const EXAMPLES: &str = "\
Examples:
  crumbd dump > state.ndjson
  crumbd serve --feed file:state.ndjson
  crumbd load state.ndjson --url http://other:7811   (writes it to another daemon)
  curl --data-binary @state.ndjson localhost:7811/v1/updates   (replaces the state of a push: daemon)";

/// Print the whole state as NDJSON records
///
/// The output is a feed: `crumbd serve --feed file:…` reads it.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Dump {
    #[command(flatten)]
    daemon: Daemon,
    /// Only keys with this prefix.
    #[arg(long)]
    prefix: Option<String>,
    /// Print the state as it was at this cursor.
    #[arg(long, value_name = "CURSOR")]
    at: Option<OpaqueCursor>,
}

/// The daemon's answer ended without an `end` record.
#[derive(Debug, thiserror::Error)]
#[error("the daemon's answer was cut off: this dump is not complete")]
struct Incomplete;

impl Dump {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let prefix = self.prefix.as_deref().map(Key::from);
        let client = self.daemon.client()?;
        let mut records = client.snapshot(self.at, prefix.as_ref(), MediaType::Bincode).await?;
        let mut out = Output::new();
        let mut line = Vec::new();
        let mut ended = false;
        while let Some(record) = records.next().await? {
            ended = matches!(record, Record::End(_));
            line.clear();
            wire::write_record(&mut line, &record);
            line.push(b'\n');
            out.write(&line)?;
        }
        out.finish()?;
        if !ended {
            return Err(Incomplete.into());
        }
        Ok(())
    }
}
