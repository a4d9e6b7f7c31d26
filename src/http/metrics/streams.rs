//! Counters of streams.

use prometheus_client::metrics::counter::Counter;

use crate::http::api::stream::Framing;
use crate::wire::Mode;

/// The counters of all streams.
#[derive(Default)]
pub(in crate::http) struct Streams {
    /// By framing.
    begun: [Counter; Framing::ALL.len()],
    ended: [Counter; Framing::ALL.len()],
    /// Bodies by mode.
    bodies: [Counter; Mode::ALL.len()],
    /// Resets: a reader had to discard its state.
    resets: Counter,
}

impl Streams {
    pub(in crate::http) fn count_begin(&self, framing: Framing) {
        self.begun[framing as usize].inc();
    }

    pub(in crate::http) fn count_end(&self, framing: Framing) {
        self.ended[framing as usize].inc();
    }

    pub(in crate::http) fn count_body(&self, mode: Mode) {
        self.bodies[mode as usize].inc();
    }

    pub(in crate::http) fn count_reset(&self) {
        self.resets.inc();
    }

    /// The media type, the open streams, and all streams since the start.
    pub(super) fn by_framing(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        Framing::ALL.into_iter().map(|framing| {
            // In this order, so that the difference is never negative.
            let ended = self.ended[framing as usize].get();
            let begun = self.begun[framing as usize].get();
            (framing.as_str(), begun.saturating_sub(ended), begun)
        })
    }

    /// The mode, and the number of bodies.
    pub(super) fn bodies(&self) -> impl Iterator<Item = (&'static str, u64)> {
        // Heartbeats are not counted.
        let modes = Mode::ALL.into_iter().filter(|mode| *mode != Mode::None);
        modes.map(|mode| (mode.as_str(), self.bodies[mode as usize].get()))
    }

    pub(super) fn resets(&self) -> u64 {
        self.resets.get()
    }
}
