//! New files, and how they get to the disk.

use crate::cli::file_attributes::Attributes;
use crate::cli::file_error::FileError;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The most files and directories that are synced one by one. Where more are new, the whole file system is synced once.
const MAX_SINGLE_SYNCS: usize = 64;

/// Files and directories that are not on disk yet.
#[derive(Debug, Default)]
pub(super) struct Unsynced(BTreeSet<PathBuf>);

impl Unsynced {
    pub(super) fn add(&mut self, path: &Path) {
        // One more than the limit says enough.
        if self.0.len() <= MAX_SINGLE_SYNCS {
            self.0.insert(path.to_owned());
        }
    }

    /// Brings all of them to the disk. `root` is on the same file system.
    pub(super) fn sync(&mut self, root: &Path) -> Result<(), FileError> {
        let paths = std::mem::take(&mut self.0);
        if paths.len() > MAX_SINGLE_SYNCS {
            return sync_file_system(root).map_err(FileError::at("sync", root));
        }
        for path in paths {
            match sync(&path) {
                // Removed since, or a directory above it is a file now.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                synced => synced.map_err(FileError::at("sync", &path))?,
            }
        }
        Ok(())
    }
}

/// Brings one file or directory to the disk.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(target_os = "linux")]
fn sync_file_system(root: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(root)?)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system(_root: &Path) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// Writes a new file. Until it has its owner and mode, nobody else can read it.
pub(super) fn write_new(path: &Path, content: &[u8], attributes: &Attributes) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    attributes.give_to_file(&file)?;
    Ok(file)
}

/// Replaces a file by another one that is whole and on disk, by way of `temporary`.
pub(super) fn replace(
    path: &Path,
    temporary: &Path,
    content: &[u8],
    attributes: &Attributes,
) -> Result<(), FileError> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed.map_err(FileError::at("remove", temporary))?,
    }
    let file = write_new(temporary, content, attributes).map_err(FileError::at("write", temporary))?;
    file.sync_all().map_err(FileError::at("sync", temporary))?;
    fs::rename(temporary, path).map_err(FileError::at("replace", path))
}
