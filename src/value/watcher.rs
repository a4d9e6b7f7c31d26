//! What can be watched, and what a watcher can do.

use std::future::Future;

use super::backlog::BacklogOnly;
use super::filter::Filter;

/// The side of a value that is read. It is apart from setting because some values are set by
/// other means than a method, or by nobody here. The idea is Metropolis' `ValueWatch`.
pub trait ValueWatch {
    /// What it gives to each consumer.
    type Watcher: Watcher;

    /// A watcher, which begins with what is current now.
    fn watch(&self) -> Self::Watcher;
}

/// One consumer's view of something that changes. The idea is Metropolis' `Watcher`.
///
/// Two `get`s at once of one watcher would each see some of the changes and neither all of them.
/// Metropolis refuses the second one when it is called; here it does not compile:
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
/// Each consumer has one of its own:
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
    /// What it yields.
    type Item: Send;

    /// Waits for the next value: at first what is current, then what was set since the last one
    /// that was returned. Of several, the newest.
    ///
    /// Cancel-safe. There is no deadline; wrap the call in a timeout where one is wanted.
    ///
    /// # Errors
    ///
    /// [`GetError::Closed`] if nothing can come any more and everything was returned.
    fn get(&mut self) -> impl Future<Output = Result<Self::Item, GetError>> + Send;

    /// The next value of the *backlog*, which is what there was when this watcher first looked.
    /// What is set later does not belong to it and waits for a [`get`](Self::get). This does not
    /// wait for something to be set, but may wait until it is known what there is.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`GetError::BacklogDone`] once all of it was returned, and then for good: also after a
    /// `get`, which ends the backlog, whatever it returned. And those of `get`.
    fn get_backlog(&mut self) -> impl Future<Output = Result<Self::Item, GetError>> + Send;

    /// Yields the backlog only; see [`BacklogOnly`]. Call it on a `&mut` to go on with the watcher
    /// afterwards.
    fn backlog_only(self) -> BacklogOnly<Self>
    where
        Self: Sized,
    {
        BacklogOnly::new(self)
    }

    /// Yields the values for which the predicate holds, and goes on waiting at others. Call it on a
    /// `&mut` for a single `get`.
    fn filter<P>(self, mut predicate: P) -> Filter<Self, impl FnMut(Self::Item) -> Option<Self::Item> + Send>
    where
        Self: Sized,
        P: FnMut(&Self::Item) -> bool + Send,
    {
        Filter::new(self, move |item| predicate(&item).then_some(item))
    }

    /// Yields what `map` makes of a value, and goes on waiting where that is nothing.
    fn filter_map<U: Send, F>(self, map: F) -> Filter<Self, F>
    where
        Self: Sized,
        F: FnMut(Self::Item) -> Option<U> + Send,
    {
        Filter::new(self, map)
    }
}

/// What a borrowed watcher has returned is seen by the watcher.
impl<W: Watcher> Watcher for &mut W {
    type Item = W::Item;

    fn get(&mut self) -> impl Future<Output = Result<Self::Item, GetError>> + Send {
        W::get(self)
    }

    fn get_backlog(&mut self) -> impl Future<Output = Result<Self::Item, GetError>> + Send {
        W::get_backlog(self)
    }
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// Those who could set it have gone, and everything they had set was returned.
    #[error("nobody is left who could set the value")]
    Closed,
    /// The backlog was asked for, and all of it was returned.
    #[error("everything that was there at the beginning has been returned; get what comes next")]
    BacklogDone,
}
