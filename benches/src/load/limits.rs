//! The limit of open files: each client is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::LoadError;

/// Files that are open beside the connections.
const SPARE: u64 = 64;

/// Makes sure that so many connections may be open at once, raising the limit where that is allowed.
///
/// # Errors
/// [`LoadError::OpenFiles`].
pub fn need_open_files(connections: usize) -> Result<(), LoadError> {
    let needed = (connections as u64).saturating_add(SPARE);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is: no limit.
    let limit = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if limit(current) >= needed {
        return Ok(());
    }
    // The hard limit is for the administrator to raise; who is one gets it.
    let maximum = if limit(maximum) >= needed { maximum } else { Some(needed) };
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    raised.map_err(|_| LoadError::OpenFiles { needed, limit: limit(getrlimit(Resource::Nofile).maximum) })
}
