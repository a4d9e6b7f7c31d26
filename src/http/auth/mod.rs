//! Who may see what.
//!
//! Everything in front of this room is shared: breadcrumbs, encoded bodies, pages know nobody. What a
//! client may read of them is decided here, key by key, when it is delivered: an [`Authorizer`]
//! turns a bearer token into a [`Grant`], and the request's scope is what was asked for *and* may be read.
//!
//! * Where that is all that was asked for, the answer is everybody's, from the same caches.
//! * Where it is less, the client sees a filtered state, as with `prefix=`: the number of keys and
//!   the digest of the whole are left out, and what happens elsewhere does not even wake it.
//! * Where it is nothing, the answer is a 403; without a known token it is a 401.
//!
//! A grant never changes. When the rights of a token do, its grant is *over* ([`Grant::over`]): those
//! who wait with it are answered at once, and the next request gets the new one. What a client
//! holds was then made under other rights, so the `next` link names the rights it was made under,
//! and another answer to "which keys?" is a 410 instead of a state with holes (`access.rs`).
//!
//! What is not hidden: revisions, cursors and when they move are the same for everybody, and a cursor
//! carries 32 bits of the whole state's digest. From those nobody learns a key or a value; who already
//! knows the whole state but for one value of few possible ones could find that one out.
//!
//! This room never reads the cache, and nothing here is decided by a handler: a request comes to one
//! only with an `Access`, which says what it may do.

pub(super) mod access;
pub(super) mod origin;
mod token;
mod tokens;

pub use token::{NewToken, TokenError};
pub use tokens::{Tokens, TokensError};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::KeySelector;
use crate::value::{Value, ValueWatch, Watcher};

/// Tells what the holder of a token may do.
pub trait Authorizer: Send + Sync + 'static {
    /// What belongs to this token; nothing where nobody knows it. It is asked for every request.
    fn admit(&self, token: &str) -> Option<Grant>;
}

/// What may be done with which keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// Keys that may be read.
    pub read: KeySelector,
    /// Keys that may be set and deleted.
    pub write: KeySelector,
}

/// Why a grant is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// The token has other rights now.
    Changed,
    /// The token is not known any more.
    Removed,
}

/// The rights of a token for as long as they do not change. Clones are the same grant.
///
/// For whoever delivers one event after the other: [`Grant::may_read`] for each key, and
/// [`Grant::over`] beside the wait for the next.
#[derive(Clone, Debug)]
pub struct Grant(Arc<Held>);

#[derive(Debug)]
struct Held {
    rights: Rights,
    /// Set once, when it is over.
    over: Value<Revocation>,
    /// Whether it is set: every request asks, and a flag costs no lock.
    is_over: AtomicBool,
}

impl Grant {
    /// A grant of these rights.
    pub fn new(rights: Rights) -> Self {
        Self(Arc::new(Held { rights, over: Value::new(), is_over: AtomicBool::new(false) }))
    }

    /// What may be done.
    pub fn rights(&self) -> &Rights {
        &self.0.rights
    }

    /// Whether the key may be read.
    pub fn may_read(&self, key: &[u8]) -> bool {
        self.0.rights.read.matches(key)
    }

    /// Whether the key may be written.
    pub fn may_write(&self, key: &[u8]) -> bool {
        self.0.rights.write.matches(key)
    }

    /// Ends it: everybody who waits with it is told. The first reason counts.
    pub fn end(&self, why: Revocation) {
        if self.is_over().is_none() {
            self.0.over.set(why);
            self.0.is_over.store(true, Ordering::Release);
        }
    }

    /// Whether it is over, and why.
    pub fn is_over(&self) -> Option<Revocation> {
        self.0.is_over.load(Ordering::Acquire).then(|| self.0.over.current())?
    }

    /// Resolves when it is over. Cancel-safe.
    pub async fn over(&self) -> Revocation {
        // The value lives as long as `self`, so it is not closed.
        ValueWatch::watch(&self.0.over).get().await.unwrap_or(Revocation::Removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_with_a_grant_is_told_the_first_reason_for_its_end() {
        let grant = Grant::new(Rights::default());
        let waiting = tokio::spawn({
            let grant = grant.clone();
            async move { grant.over().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(grant.is_over(), None);
        grant.end(Revocation::Changed);
        grant.end(Revocation::Removed);
        assert_eq!(waiting.await.ok(), Some(Revocation::Changed));
        assert_eq!(grant.over().await, Revocation::Changed, "who comes later is told too");
    }
}
