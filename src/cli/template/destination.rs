//! The file that a template is rendered to.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::cli::Failure;
use crate::cli::after_change::{RunError, run_to_end, shell};
use crate::cli::file_attributes::Mode;
use crate::cli::file_error::FileError;
use crate::http::read_regular;

/// A command that must succeed before a file is replaced.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) command: String,
    pub(super) time_limit: Duration,
}

/// The check has refused a new file.
#[derive(Debug, thiserror::Error)]
#[error("{} stays as it is, because its check has failed: {reason}", path.display())]
struct Refused {
    path: PathBuf,
    reason: RunError,
}

/// The place of a file is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} cannot be written, because there is no directory {}: make it, or name another file",
    path.display(),
    directory.display()
)]
pub(super) struct NoDirectory {
    path: PathBuf,
    directory: PathBuf,
}

/// The most symbolic links that lead to a file, as on Linux.
const MAX_LINKS: usize = 40;

/// The most characters of a file's name that its temporary name has: no name may have more than 255 bytes.
const MAX_NAME_CHARS: usize = 50;

/// A file to be replaced.
pub(super) struct Destination {
    path: PathBuf,
    new_mode: Mode,
}

/// A new file under another name. Dropping it removes it.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed, most often.
        _ = fs::remove_file(&self.0);
    }
}

/// Where the file at this path is, or will be: at the end of symbolic links, which stay.
pub(super) fn locate(path: &Path) -> Result<PathBuf, Failure> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        found => return Ok(found.map_err(FileError::at("look at", path))?),
    }
    let mut end = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&end) else { break };
        end = directory_of(&end).join(target);
    }
    let directory = directory_of(&end);
    let no_directory = || NoDirectory { path: path.to_owned(), directory: directory.to_owned() };
    let name = end.file_name().ok_or_else(no_directory)?;
    match fs::canonicalize(directory) {
        Ok(directory) => Ok(directory.join(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(no_directory().into()),
        Err(error) => Err(FileError::at("look at", directory)(error).into()),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Destination {
    /// The file at this path, which gets `new_mode` if it is not there yet.
    pub(super) fn new(path: &Path, new_mode: Mode) -> Result<Self, Failure> {
        Ok(Self { path: locate(path)?, new_mode })
    }

    /// Removes new files that a process has left here that was killed. Where that fails, they are in nobody's way.
    pub(super) fn remove_left_over(&self) {
        let begin = self.temporary_name();
        let files = fs::read_dir(directory_of(&self.path)).into_iter().flatten().flatten();
        for file in files.filter(|file| file.file_name().to_string_lossy().starts_with(&begin)) {
            _ = fs::remove_file(file.path());
        }
    }

    /// The beginning of the name that a new file has first.
    fn temporary_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        format!(".{}.crumbd-new-", name.chars().take(MAX_NAME_CHARS).collect::<String>())
    }

    /// Replaces the file if its content is another one and the check agrees; returns whether it has done so. Blocks.
    pub(super) fn replace(&self, content: &[u8], check: Option<&Check>) -> Result<bool, Failure> {
        let old = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            metadata => Some(metadata.map_err(FileError::at("look at", &self.path))?),
        };
        // Anything else, such as a pipe, is an error, and is not waited for.
        let read = || read_regular(&self.path, u64::MAX).map_err(FileError::at("read", &self.path));
        if old.is_some() && read()? == content {
            return Ok(false);
        }
        // In the same directory, from where it can be renamed. No other process has this name: what is renamed is whole.
        let name = format!("{}{:016x}", self.temporary_name(), fastrand::u64(..));
        let temporary = Temporary(self.path.with_file_name(name));
        let path = temporary.0.as_path();
        let file = self.write(path, content, old.as_ref()).map_err(FileError::at("write", path))?;
        if let Some(check) = check {
            let mut command = shell(&check.command);
            command.arg(path);
            let checked = Handle::current().block_on(run_to_end(command, &check.command, check.time_limit));
            checked.map_err(|reason| Refused { path: self.path.clone(), reason })?;
        }
        file.sync_all().map_err(FileError::at("sync", path))?;
        fs::rename(path, &self.path).map_err(FileError::at("replace", &self.path))?;
        let directory = directory_of(&self.path);
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(FileError::at("sync", directory))?;
        Ok(true)
    }

    fn write(&self, path: &Path, content: &[u8], old: Option<&fs::Metadata>) -> io::Result<File> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        if let Some(old) = old {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
                std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
        }
        let mode = old.map_or(self.new_mode.0, |old| old.mode() & 0o7777);
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(file)
    }
}
