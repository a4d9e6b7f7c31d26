//! A pipe from a watcher into a channel.

use tokio::sync::mpsc;

use super::watcher::{GetError, Watcher};

/// Moves the values of a watcher into a channel, for a consumer that reads several watchers from one channel. The idea
/// is Metropolis' `Pipe`.
///
/// It calls the watcher only when the channel has room, so a slow receiver gets the value that is newest then, after
/// those in the channel. Use a capacity of 1 to keep those few.
///
/// Dropping the future stops the pipe, also while the receiver does not read. No value is lost: a watcher that was lent
/// by `&mut` yields the unsent value next.
///
/// # Errors
///
/// The error that ended the watcher. It is `Ok` if the receiver was dropped.
pub async fn pipe<W: Watcher>(mut watcher: W, to: mpsc::Sender<W::Item>) -> Result<(), GetError> {
    while let Ok(room) = to.reserve().await {
        tokio::select! {
            biased;
            () = to.closed() => break,
            value = watcher.get() => room.send(value?),
        }
    }
    Ok(())
}
