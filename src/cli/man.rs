//! `crumbd man`.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_mangen::generate_to;

use super::{Cli, Failure, output};

/// Write the manual pages into a directory
///
/// One page a command: crumbd.1, crumbd-serve.1 and so on. `man -l DIR/crumbd-serve.1` shows one.
#[derive(Args)]
pub(super) struct Man {
    /// The directory, such as /usr/local/share/man/man1. It is made if it is missing.
    dir: PathBuf,
}

/// The pages cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the manual pages cannot be written into {}: {source}", dir.display())]
struct Unwritable {
    dir: PathBuf,
    source: io::Error,
}

impl Man {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { dir } = self;
        let written = std::fs::create_dir_all(&dir).and_then(|()| generate_to(Cli::command(), &dir));
        match written {
            Ok(()) => Ok(output::line(format_args!("written into {}", dir.display()))?),
            Err(source) => Err(Unwritable { dir, source }.into()),
        }
    }
}
