//! The backlog of a watcher.

use super::watcher::{GetError, Watcher};

/// A watcher that yields only the backlog, and then [`GetError::BacklogDone`]. Made
/// by [`Watcher::backlog_only`]. The idea is Metropolis' `BacklogOnly`.
///
/// ```
/// use crumbd::value::{GetError, RangedValue, ValueWatch, Watcher};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let ports = RangedValue::new();
/// ports.set("http", 80);
/// ports.set("https", 443);
/// let mut watcher = ports.watch();
/// let mut known = Vec::new();
/// let mut backlog = (&mut watcher).backlog_only();
/// while let Ok(port) = backlog.get().await {
///     known.push((port.key, port.value));
/// }
/// assert_eq!(known, [("http", Some(80)), ("https", Some(443))]);
///
/// ports.remove(&"http");
/// assert_eq!(watcher.get().await.map(|port| port.value), Ok(None));
/// # }
/// ```
#[derive(Debug)]
pub struct BacklogOnly<W> {
    watcher: W,
}

impl<W> BacklogOnly<W> {
    pub(super) fn new(watcher: W) -> Self {
        Self { watcher }
    }
}

impl<W: Watcher> Watcher for BacklogOnly<W> {
    type Item = W::Item;

    async fn get(&mut self) -> Result<W::Item, GetError> {
        self.watcher.get_backlog().await
    }

    async fn get_backlog(&mut self) -> Result<W::Item, GetError> {
        self.watcher.get_backlog().await
    }
}
