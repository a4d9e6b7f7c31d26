//! The secret of the cursors of a daemon that was given none, kept for its next start.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::StateError;

const FILE: &str = "cursor-key";

/// The text of `cursor-key` in the state directory. If there is no such file, it is created with the secret that `make`
/// returns, readable for this user only.
///
/// # Errors
/// [`StateError::Io`].
pub fn cursor_secret(directory: &Path, make: impl FnOnce() -> String) -> Result<String, StateError> {
    let path = directory.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => return Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(StateError::io(&path, error)),
    }
    let (secret, temporary) = (make(), directory.join(format!("{FILE}.tmp")));
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        writeln!(file, "{secret}")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| StateError::io(&path, error))?;
    Ok(secret)
}
