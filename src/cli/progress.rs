//! The progress bar of many keys, on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The least number of keys that gets a progress bar.
const BIG_SNAPSHOT: u64 = 10_000;

/// The progress bar of many keys, on a terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar that is not shown yet; nor later, if it is not `wanted` or standard error is no terminal.
    pub(super) fn new(wanted: bool) -> Self {
        let visible = wanted && std::io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} keys");
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows that so many keys are done, if they are many in all.
    pub(super) fn show(&self, done: u64, total: Option<u64>) {
        let Some(total) = total.filter(|total| *total >= BIG_SNAPSHOT) else { return };
        if self.0.length() != Some(total) {
            self.0.set_length(total);
        }
        self.0.set_position(done);
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}
