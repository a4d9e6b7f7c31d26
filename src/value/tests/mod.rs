//! The promises of values. Each test that has a counterpart among those of Metropolis' package
//! `event` is named in [`crate::cases`].

mod one;
mod piped;
mod ranged;
mod resync;

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;

use super::{GetError, KeyChange, RangedValue, Value, ValueWatch, Watcher};

/// The time after which a test counts as hung.
const DEADLINE: Duration = Duration::from_secs(20);

async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.expect("nothing here takes so long")
}

/// What `get` returns at once, or `None` if it would wait.
fn now<W: Watcher>(watcher: &mut W) -> Option<Result<W::Item, GetError>> {
    watcher.get().now_or_never()
}

/// A change as text: `key=value`, or `key` alone for a deletion.
fn shown<V: std::fmt::Display>(change: KeyChange<&str, V>) -> String {
    match change.value {
        Some(value) => format!("{}={value}", change.key),
        None => change.key.to_owned(),
    }
}
