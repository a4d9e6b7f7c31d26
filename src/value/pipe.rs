//! From a watcher into a channel.

use tokio::sync::mpsc;

use super::watcher::{GetError, Watcher};

/// Moves what the watcher yields into a channel, for those who read many things from one. The idea
/// is Metropolis' `Pipe`.
///
/// It asks the watcher only when there is room, so a receiver that was away gets what is newest
/// then and not what was newest when it left (but for what is in the channel already: a capacity
/// of 1 keeps that small).
///
/// Dropping the future stops it wherever it is, also while the receiver does not read. Nothing is
/// in between then: the watcher goes on, if it was lent by `&mut`, with what was not sent.
///
/// # Errors
///
/// How the watcher ended. It is `Ok` when the receiver has gone.
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
