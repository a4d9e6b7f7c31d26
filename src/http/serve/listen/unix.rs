//! A unix socket: a file that is made at the start and removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::{UnixListener, UnixSocket};
use tracing::{debug, info};

/// A path at which no unix socket can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketPathError {
    /// Somebody accepts connections there.
    #[error("another program listens there; stop it, or choose another path")]
    InUse,
    /// There is a file that is no socket.
    #[error("there is a file that is no socket; it is left as it is. Remove it, or choose another path")]
    NotASocket,
    /// It cannot be found out whether somebody listens there.
    #[error("there is a socket, and whether somebody listens there cannot be found out: {0}")]
    Unknown(io::Error),
    /// The system refuses it.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// The file of a unix socket. Dropping it removes the file, unless another one has taken its place.
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            debug!(path = %self.path.display(), %error, "the unix socket cannot be removed");
        }
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Listens at the path. A socket on which nobody accepts connections is replaced.
pub(super) fn listen(
    path: &Path,
    mode: u32,
    backlog: u32,
) -> Result<(UnixListener, SocketFile), SocketPathError> {
    if is_stale(path)? {
        info!(path = %path.display(), "replacing a unix socket on which nobody listens");
        fs::remove_file(path)?;
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    let file = SocketFile { path: path.to_owned(), id: file_id(path)? };
    // Before it listens, so that nobody connects whom the mode keeps out.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok((socket.listen(backlog)?, file))
}

/// Whether the path is free, or has a socket on which nobody listens.
///
/// # Errors
/// [`SocketPathError`] if it can have no socket.
pub(super) fn check(path: &Path) -> Result<(), SocketPathError> {
    SocketAddrUnix::new(path).map_err(io::Error::from)?;
    if !is_stale(path)? {
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::metadata(parent)?;
    }
    Ok(())
}

/// Whether there is a socket on which nobody listens; false if there is nothing.
fn is_stale(path: &Path) -> Result<bool, SocketPathError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(SocketPathError::NotASocket),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    // Without waiting: a program that listens and accepts nothing must not hold up the start.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
    match connect(&socket, &address) {
        Err(Errno::CONNREFUSED) => Ok(true),
        // It was removed meanwhile.
        Err(Errno::NOENT) => Ok(false),
        // Its queue of connections may be full, or it may be a socket of another type.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(SocketPathError::InUse),
        Err(error) => Err(SocketPathError::Unknown(error.into())),
    }
}
