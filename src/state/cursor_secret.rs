//! The secrets of the cursors of a daemon that was given none, kept for its next start.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::StateError;

const FILE: &str = "cursor-key";

/// This secret, and after it those of earlier runs that `cursor-key` in the state directory has: one a line, at most
/// `max`. The file gets the same lines; it is readable for this user only.
///
/// # Errors
/// [`StateError::Io`].
pub(crate) fn cursor_secrets(directory: &Path, secret: &str, max: usize) -> Result<String, StateError> {
    let path = directory.join(FILE);
    let io = |error| StateError::io(&path, error);
    let before = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io(error)),
    };
    let earlier = before.lines().filter(|line| !line.is_empty() && *line != secret);
    let secrets: Vec<&str> = [secret].into_iter().chain(earlier).take(max).collect();
    let secrets = secrets.join("\n") + "\n";
    if secrets != before {
        write(directory, &path, &secrets).map_err(io)?;
    }
    Ok(secrets)
}

/// Writes the file aside and renames it, so that it is never half there.
fn write(directory: &Path, path: &Path, secrets: &str) -> std::io::Result<()> {
    let temporary = directory.join(format!("{FILE}.tmp"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(secrets.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}
