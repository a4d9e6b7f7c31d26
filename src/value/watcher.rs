//! The traits of watchable values and their watchers.

use std::future::Future;

use super::backlog::BacklogOnly;
use super::filter::Filter;

/// A value that can be watched. The trait has no method to set it, because values are set in different ways. The idea is
/// Metropolis' `ValueWatch`.
pub trait ValueWatch {
    /// The type of its watchers.
    type Watcher: Watcher;

    /// A new watcher, which begins with the current value.
    fn watch(&self) -> Self::Watcher;
}

/// One consumer's view of a value that changes. The idea is Metropolis' `Watcher`.
///
/// Two concurrent `get`s of one watcher would each see only some of the changes.
/// Metropolis refuses the second one at run time; here it does not compile:
///
/// ```compile_fail,E0499
/// # use crumbd::value::{Value, Watcher};
/// # async fn get_twice() {
/// let value = Value::<u32>::new();
/// let mut watcher = value.watch();
/// let (one, other) = (watcher.get(), watcher.get());
/// # let _ = (one.await, other.await);
/// # }
/// ```
///
/// Each consumer has its own watcher:
///
/// ```
/// # use crumbd::value::{Value, Watcher};
/// # async fn get_twice() {
/// let value = Value::<u32>::new();
/// let (mut watcher, mut another) = (value.watch(), value.watch());
/// let (one, other) = (watcher.get(), another.get());
/// # let _ = (one.await, other.await);
/// # }
/// ```
///
/// Dropping a watcher closes it.
pub trait Watcher: Send {
    /// The type of the values.
    type Item: Send;

    /// Waits for the next value: at first the current one, then the newest one that was set since the last `get`.
    ///
    /// Cancel-safe. There is no deadline; wrap the call in a timeout to set one.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] if no value can come any more and the last one was returned.
    fn get(&mut self) -> impl Future<Output = Result<Self::Item, GetError>> + Send;

    /// The next value of the *backlog*: the values that existed when this watcher first read.
    /// Values that are set later are left for [`get`](Self::get). This does not
    /// wait for a set, but may wait for the state to be loaded.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`GetError::BacklogDone`] once all of it was returned, and after any `get`, which ends the backlog. And those of
    /// `get`.
    fn get_backlog(&mut self) -> impl Future<Output = Result<Self::Item, GetError>> + Send;

    /// A watcher that yields only the backlog; see [`BacklogOnly`]. Call it on a `&mut` to use the watcher
    /// afterwards.
    fn backlog_only(self) -> BacklogOnly<Self>
    where
        Self: Sized,
    {
        BacklogOnly::new(self)
    }

    /// A watcher that yields only the values for which the predicate holds. Call it on a `&mut` to use the watcher
    /// afterwards.
    fn filter<P>(self, mut predicate: P) -> Filter<Self, impl FnMut(Self::Item) -> Option<Self::Item> + Send>
    where
        Self: Sized,
        P: FnMut(&Self::Item) -> bool + Send,
    {
        Filter::new(self, move |item| predicate(&item).then_some(item))
    }

    /// A watcher that yields the values for which `map` returns `Some`, mapped.
    fn filter_map<U: Send, F>(self, map: F) -> Filter<Self, F>
    where
        Self: Sized,
        F: FnMut(Self::Item) -> Option<U> + Send,
    {
        Filter::new(self, map)
    }
}

/// A borrowed watcher. Values that it yields count as seen by the watcher itself.
impl<W: Watcher> Watcher for &mut W {
    type Item = W::Item;

    fn get(&mut self) -> impl Future<Output = Result<Self::Item, GetError>> + Send {
        W::get(self)
    }

    fn get_backlog(&mut self) -> impl Future<Output = Result<Self::Item, GetError>> + Send {
        W::get_backlog(self)
    }
}

/// The reason why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The value was dropped, and its last value was returned.
    #[error("the watched value was dropped, so no other value can come")]
    Closed,
    /// All of the backlog was returned.
    #[error("the backlog is done; use `get` to wait for later values")]
    BacklogDone,
}
