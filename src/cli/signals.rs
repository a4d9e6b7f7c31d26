//! Signals. They are caught from the beginning, so that no start is killed halfway.
//!
//! | signal | the daemon | other commands |
//! |---|---|---|
//! | SIGTERM, SIGINT | during the start: ends it. Later: drains; a second one ends the drain, a third one the saving of the state | the system ends the process, but for `mirror` and `template`: they finish the write that is under way; `conform` ends its programs first |
//! | SIGHUP | reads tokens and certificates again, or logs that there is nothing to read: see [`crate::http::Reload`] | the system ends the process: the terminal has gone; `conform` ends its programs first |
//! | SIGXFSZ | the write fails, as on a full disk | the same |
//! | SIGPIPE | ignored, as in every Rust program: the write fails | see [`super::output`] |

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

/// SIGTERM and SIGINT, caught from [`Stop::listen`] on.
pub(super) struct Stop {
    caught: Option<(Signal, Signal)>,
}

impl Stop {
    pub(super) fn listen() -> Self {
        let both = signal(SignalKind::terminate())
            .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
        let caught = both
            .inspect_err(
                |error| warn!(%error, "SIGTERM cannot be caught: it will end this process without a drain"),
            )
            .ok();
        Self { caught }
    }

    /// Resolves at the next signal, also at one that has come already. Cancel-safe.
    pub(super) async fn requested(&mut self) {
        let Some((terminate, interrupt)) = &mut self.caught else { return std::future::pending().await };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

/// Makes a write over the limit of file size (`ulimit -f`) fail, as on a full disk. Without this, SIGXFSZ would kill the
/// process.
pub(super) fn ignore_file_size_signal() {
    // Once caught it stays caught. If it cannot be caught, nothing changes.
    _ = signal(SignalKind::from_raw(Number::XFSZ.as_raw()));
}
