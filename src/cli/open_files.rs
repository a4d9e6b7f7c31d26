//! The number of connections that the system allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Open files beside the connections: of the feed, the state directory, and connections that are being refused.
const SPARE: u64 = 512;

/// Raises the soft limit of open files as far as needed and allowed. Returns how many connections are possible: at most
/// `wanted`.
///
/// A daemon without free files cannot even refuse a connection. So it accepts only as many as there are files for.
pub(super) fn connections(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(SPARE);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` means no limit.
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
