//! Signals, caught from the beginning: in the middle of a start nothing is killed.
//!
//! | signal | the daemon | other commands |
//! |---|---|---|
//! | SIGTERM, SIGINT | during the start: ends it. Later: drains; a second one cuts the drain short, a third one the saving of the state | end, as the system does it |
//! | SIGHUP | reads tokens and certificates again, or says that there is nothing to read: see [`crate::http::Reload`] | ends, as the system does it: the terminal has gone |
//! | SIGXFSZ | the write fails, as on a full disk | the same |
//! | SIGPIPE | ignored, as in every Rust program: the write fails | see [`super::output`] |

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// SIGTERM and SIGINT, caught from the moment that this is made.
pub(super) struct Stop {
    caught: Option<(Signal, Signal)>,
}

impl Stop {
    pub(super) fn listen() -> Self {
        let both = signal(SignalKind::terminate())
            .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
        let caught = both
            .inspect_err(|error| warn!(%error, "SIGTERM cannot be caught: it will end this process at once"))
            .ok();
        Self { caught }
    }

    /// Resolves at the next one, which may have come already. Cancel-safe.
    pub(super) async fn asked(&mut self) {
        let Some((terminate, interrupt)) = &mut self.caught else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// From now on a file that may not grow (`ulimit -f`) is an error of the write that would make it grow, as a full disk
/// is; the signal that comes with it would kill the process.
pub(super) fn survive_a_limit_of_file_size() {
    // Once caught it stays caught. Where it cannot be, it is as it was.
    _ = signal(SignalKind::from_raw(Number::XFSZ.as_raw()));
}
