//! How many connections the system allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Files that are open beside the connections: the feed's, the state's, the refusals'.
const SPARE: u64 = 512;

/// Raises the soft limit of open files as far as it is needed and allowed, and says how many
/// connections there may be: at most `wanted`.
///
/// A daemon that runs out of files cannot even say no: so it stops at a number for which there are enough.
pub(super) fn connections(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(SPARE);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is: no limit.
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if number(current) >= needed {
        return wanted;
    }
    let raised = Some(needed.min(number(maximum)));
    let allowed = match setrlimit(Resource::Nofile, Rlimit { current: raised, maximum }) {
        Ok(()) => number(raised),
        Err(error) => {
            warn!(%error, "the limit of open files cannot be raised");
            number(current)
        }
    };
    let possible = usize::try_from(allowed.saturating_sub(SPARE)).unwrap_or(usize::MAX).clamp(1, wanted);
    if possible < wanted {
        info!(
            possible,
            wanted, "the limit of open files (ulimit -Hn) allows fewer connections than --max-connections"
        );
    }
    possible
}
