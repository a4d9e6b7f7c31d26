//! `crumbd mirror`.

mod directory;
mod file_name;
mod generations;
mod in_place;
mod layout;
mod manifest;
mod read_back;
mod write_file;

use std::path::PathBuf;

use clap::Args;

use self::directory::{Directory, OpenError};
use self::layout::{Layout, Selection};
use super::Failure;
use super::after_change::AfterChangeFlags;
use super::file_attributes::{Attributes, Mode, Owner};
use super::keep_files::{Files, KeepFlags, Reaction, Written};
use super::signals::Stop;
use crate::client::MirrorSnapshot;

/// The last part of `crumbd mirror --help`.
const EXAMPLES: &str = "\
Examples:
  The keys below nginx/ as files, of which nginx includes DIR/current/*.conf:
      crumbd mirror /etc/nginx/crumbd --prefix nginx/ --exec 'nginx -t && nginx -s reload'
  An init container:
      crumbd mirror /config --prefix app/ --once --timeout 2m
  A process that reads its files again at SIGHUP:
      crumbd mirror /run/app/config --prefix app/ --signal /run/app.pid HUP";

/// Keep a directory with one file for each key
///
/// DIR/current is a symbolic link to a directory with the whole state. It is replaced when the state changes, so a
/// reader that opens DIR/current sees one revision, never a mixture. Names that no file can have are escaped so that they
/// can be read back (see the page `files` of the documentation).
///
/// Files are written only when the daemon is in-sync. When it cannot be reached, they stay as they are. A restart reads
/// them back, checks them, and goes on from their cursor. SIGTERM finishes the write that is under way.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Mirror {
    /// The directory. It is made if it is not there; what is above it, too.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[command(flatten)]
    keep: KeepFlags,
    /// Replace files one by one in DIR itself, without a link. A change costs as much as the files that differ, however
    /// many keys there are; but a reader may see files of two revisions.
    #[arg(long)]
    in_place: bool,
    /// Replace the files of another --prefix or --collection that are in DIR, also where there are no keys now. Without
    /// it, such files are an error.
    #[arg(long)]
    take_over: bool,
    /// Mode of files, in octal.
    #[arg(long, value_name = "MODE", default_value = "0644")]
    file_mode: Mode,
    /// Mode of directories, in octal.
    #[arg(long, value_name = "MODE", default_value = "0755")]
    dir_mode: Mode,
    /// Owner of files and directories: names of /etc/passwd and /etc/group, or numbers [default: the user that runs this]
    #[arg(long, value_name = "USER[:GROUP]")]
    owner: Option<Owner>,
    #[command(flatten)]
    after_change: AfterChangeFlags,
}

impl Mirror {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let after = self.after_change.chosen()?;
        let mut stop = Stop::listen();
        let (directory, resume) = tokio::select! {
            opened = self.open() => opened?,
            () = stop.requested() => return self.keep.interrupted(),
        };
        let reaction = after.map(|after| Reaction {
            after,
            is_due: directory.command_is_due(),
            done: Box::new(directory.command_done()),
        });
        self.keep.keep(directory, resume, reaction, stop).await
    }

    async fn open(&self) -> Result<(Directory, Option<MirrorSnapshot>), Failure> {
        let Self { file_mode, dir_mode, owner, in_place, take_over, .. } = *self;
        let attributes = Attributes { file_mode, dir_mode, owner };
        let collection = self.keep.collection().to_owned();
        let selection = Selection { collection, prefix: self.keep.prefix.clone() };
        let (path, layout) = (self.directory.clone(), Layout::new(selection));
        let open = move || -> Result<_, OpenError> {
            Directory::open(&path, in_place, layout, attributes, take_over)
        };
        Ok(tokio::task::spawn_blocking(open).await??)
    }
}

impl Files for Directory {
    const MENDED_BY_CHANGES: bool = false;

    fn are_there(&self) -> bool {
        self.has_keys()
    }

    fn write(&mut self, state: &MirrorSnapshot) -> Written {
        match Self::write(self, state) {
            Ok(changed) => Written { changed, failure: None },
            Err(error) => Written { changed: 0, failure: Some(error.into()) },
        }
    }

    fn place(&self) -> (Option<PathBuf>, u64) {
        (Some(self.path().to_owned()), self.generation())
    }
}
