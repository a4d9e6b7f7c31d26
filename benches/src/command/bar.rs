//! The progress of a measurement, on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr, or nothing when that is no terminal.
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A bar that counts up to `total` of `what`.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        let visible = std::io::stderr().is_terminal();
        let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target).with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:40} {human_pos} of {human_len}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// A bar of the time that has passed, which moves by itself as long as `work` lasts.
    pub(super) async fn during<T>(what: &'static str, time: Duration, work: impl Future<Output = T>) -> T {
        const STEP: Duration = Duration::from_millis(500);
        let bar = Self::new(what, time.as_secs());
        let began = tokio::time::Instant::now();
        let moving = async {
            loop {
                tokio::time::sleep(STEP).await;
                bar.at(began.elapsed().as_secs().min(time.as_secs()));
            }
        };
        tokio::select! {
            done = work => done,
            () = moving => unreachable!("it moves for ever"),
        }
    }

    pub(super) fn at(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
