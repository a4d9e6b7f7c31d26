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

impl Destination {
    /// The file at this path, which gets `new_mode` if it is not there yet.
    pub(super) fn new(path: &Path, new_mode: Mode) -> Self {
        // A symbolic link stays one.
        Self { path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), new_mode }
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
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        // In the same directory, from where it can be renamed.
        let temporary = Temporary(self.path.with_file_name(format!(".{name}.crumbd-new")));
        let path = temporary.0.as_path();
        // Left by a process that was killed.
        _ = fs::remove_file(path);
        let file = self.write(path, content, old.as_ref()).map_err(FileError::at("write", path))?;
        if let Some(check) = check {
            let mut command = shell(&check.command);
            command.arg(path);
            let checked = Handle::current().block_on(run_to_end(command, &check.command, check.time_limit));
            checked.map_err(|reason| Refused { path: self.path.clone(), reason })?;
        }
        file.sync_all().map_err(FileError::at("sync", path))?;
        fs::rename(path, &self.path).map_err(FileError::at("replace", &self.path))?;
        let directory =
            self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
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
