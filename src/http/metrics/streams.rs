//! What is counted of streams, whose one answer says nothing of what they tell.

use crate::http::api::stream::Framing;
use crate::wire::Mode;
use prometheus_client::metrics::counter::Counter;

/// Of all streams of this process.
#[derive(Default)]
pub(in crate::http) struct Streams {
    /// By framing.
    begun: [Counter; Framing::ALL.len()],
    ended: [Counter; Framing::ALL.len()],
    /// Bodies that were told, by mode.
    bodies: [Counter; Mode::ALL.len()],
    /// Times that a reader had to forget what it had.
    resets: Counter,
}

impl Streams {
    pub(in crate::http) fn begins(&self, framing: Framing) {
        self.begun[framing as usize].inc();
    }

    pub(in crate::http) fn ends(&self, framing: Framing) {
        self.ended[framing as usize].inc();
    }

    pub(in crate::http) fn told(&self, mode: Mode) {
        self.bodies[mode as usize].inc();
    }

    pub(in crate::http) fn reset(&self) {
        self.resets.inc();
    }

    /// Media type, streams that run, and those that ever began.
    pub(super) fn running(&self) -> impl Iterator<Item = (&'static str, u64, u64)> {
        Framing::ALL.into_iter().map(|framing| {
            // In this order, so that there are never fewer than none.
            let ended = self.ended[framing as usize].get();
            let begun = self.begun[framing as usize].get();
            (framing.as_str(), begun.saturating_sub(ended), begun)
        })
    }

    /// Mode, and bodies of it.
    pub(super) fn bodies(&self) -> impl Iterator<Item = (&'static str, u64)> {
        // A heartbeat that moves the cursor has no body of its own.
        let told = Mode::ALL.into_iter().filter(|mode| *mode != Mode::None);
        told.map(|mode| (mode.as_str(), self.bodies[mode as usize].get()))
    }

    pub(super) fn resets(&self) -> u64 {
        self.resets.get()
    }
}
