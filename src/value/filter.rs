//! A filter for watchers.

use super::watcher::{GetError, Watcher};

/// A watcher that yields only the values for which its function returns `Some`. Made by [`Watcher::filter`]
/// and [`Watcher::filter_map`]. The idea is Metropolis' `Filter`.
///
/// The function sees the values that the watcher yields, which may skip some that were set.
#[derive(Debug)]
pub struct Filter<W, F> {
    watcher: W,
    map: F,
}

impl<W, F> Filter<W, F> {
    pub(super) fn new(watcher: W, map: F) -> Self {
        Self { watcher, map }
    }
}

impl<W, U, F> Watcher for Filter<W, F>
where
    W: Watcher,
    U: Send,
    F: FnMut(W::Item) -> Option<U> + Send,
{
    type Item = U;

    async fn get(&mut self) -> Result<U, GetError> {
        loop {
            let value = self.watcher.get().await?;
            if let Some(value) = (self.map)(value) {
                return Ok(value);
            }
        }
    }

    async fn get_backlog(&mut self) -> Result<U, GetError> {
        loop {
            let value = self.watcher.get_backlog().await?;
            if let Some(value) = (self.map)(value) {
                return Ok(value);
            }
        }
    }
}
