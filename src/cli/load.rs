//! `crumbd load`.

mod dump;
mod target;

use std::path::PathBuf;

use clap::Args;

use self::dump::{Dump, DumpError};
use self::target::Target;
use super::progress::Bar;
use super::{Daemon, Failure, output};
use crate::model::{Digest, Entry, Update};

/// The last part of `crumbd load --help`.
const EXAMPLES: &str = "\
Examples:
  crumbd load state.ndjson
  crumbd dump --url http://old:7811 | crumbd load --url http://new:7811
  crumbd load state.ndjson --replace   (deletes the keys that the dump does not have)";

/// Write the output of `crumbd dump` to a daemon that takes writes
///
/// Writes in small parts, so that a daemon that writes to etcd takes them. Keys that have the same value there already
/// are left out: after an interruption, the same command goes on where it stopped. Keys that are not in the dump stay,
/// unless --replace is given. At the end the state of the daemon is compared with the dump.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Load {
    #[command(flatten)]
    daemon: Daemon,
    /// The dump; `-` is standard input.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Delete the keys that the dump does not have. It must be of all keys.
    #[arg(long)]
    replace: bool,
    /// Leave out the times to live. A daemon that writes to etcd takes none.
    #[arg(long)]
    drop_ttl: bool,
}

/// The state is not the one that was loaded.
#[derive(Debug, thiserror::Error)]
#[error(
    "everything was written, but then the daemon had {found} keys with the digest {found_digest}, where {expected} keys \
     with the digest {expected_digest} were expected: does another client write there? Load again to set what differs"
)]
struct Different {
    found: u64,
    found_digest: Digest,
    expected: u64,
    expected_digest: Digest,
}

impl Load {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let mut dump = Dump::open(&self.file).await?;
        if self.replace && !dump.is_of_all_keys() {
            return Err(DumpError::OfSomeKeys.into());
        }
        let mut target = Target::read(self.daemon.client()?).await?;
        let bar = Bar::new(true);
        let loaded = self.load(&mut dump, &mut target, &bar).await;
        bar.clear();
        let keys = dump.count();
        loaded.map_err(|error| format!("{error}; {}", target.progress()))?;
        let verified = verify(&dump, &mut target, self.replace).await?;
        Ok(output::line(format_args!("{keys} keys: {}; {verified}", target.progress()))?)
    }

    async fn load(&self, dump: &mut Dump, target: &mut Target, bar: &Bar) -> Result<(), Failure> {
        while let Some((line, entry)) = dump.next().await? {
            if !target.has(&entry) {
                let entry = if self.drop_ttl { Entry::new(entry.key(), entry.value(), None) } else { entry };
                target.write(line, entry.into()).await?;
            }
            bar.show(dump.count(), dump.claimed_count());
        }
        target.flush().await?;
        if self.replace {
            let (line, others) = (dump.count() + 1, target.take_others());
            for key in others {
                target.write(line, Update::delete(key.as_bytes())).await?;
            }
            target.flush().await?;
        }
        Ok(())
    }
}

/// Compares the state of the daemon with the dump, and says how it did.
async fn verify(dump: &Dump, target: &mut Target, replaced: bool) -> Result<&'static str, Failure> {
    let Some((found, found_digest)) = target.state().await? else {
        return Ok("not verified, because this token may not read all keys");
    };
    let (others, others_digest) = if replaced { Default::default() } else { target.others() };
    let (expected, expected_digest) = (dump.count() + others, dump.digest().plus(others_digest));
    if (found, found_digest) != (expected, expected_digest) {
        return Err(Different { found, found_digest, expected, expected_digest }.into());
    }
    Ok(match others {
        0 => "verified: the daemon has exactly this state",
        _ => "verified: the daemon has this state, and the other keys that it had before",
    })
}
