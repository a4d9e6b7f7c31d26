//! Authorization: tokens and the keys that they may read and write.
//!
//! Breadcrumbs, encoded bodies and pages are shared by all clients. An [`Authorizer`] turns a bearer token into a
//! [`Grant`]. The *effective scope* of a request is the set of requested keys that the grant may read.
//!
//! * If all requested keys are readable, the answer is the shared one, from the same caches.
//! * If some are readable, the client sees a filtered state, as with `prefix=`: count and digest are left out, and
//!   changes of other keys do not wake it.
//! * If none is readable, the answer is a 403. Without a known token it is a 401.
//!
//! A grant never changes. When the rights of a token change, its grant is revoked ([`Grant::revoked`]): requests that
//! wait with it are answered at once, and the next request gets a new grant. The client's state was read with the old
//! rights. So the `next` link carries their fingerprint, and under other rights it is a 410 instead of a state with
//! missing keys (`access.rs`).
//!
//! Not hidden: revisions are the same for all clients, so a client sees that something changed elsewhere. Cursors are the
//! same too, but their check is sealed ([`CursorKey`](crate::model::CursorKey)): it says nothing of the state.
//!
//! A token has rights in each collection on their own. A request is admitted (`Admission`) before its collection is
//! known. Only the collection's `Access` says what may be read and written there; no handler decides rights.
//!
//! This room never reads the cache.

pub(super) mod access;
pub(super) mod cors;
pub(super) mod host;
pub(super) mod origin;
mod token;
mod tokens;

pub use cors::{OriginError, Origins};
pub use host::Hosts;
pub use token::{CollectionPattern, NewRights, NewToken, TokenError, random_secret};
pub use tokens::{LineError, Tokens, TokensError};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;

use crate::http::budget::Budgets;
use crate::http::client::Client;
use crate::model::{CollectionName, KeySelector};
use crate::value::{Value, ValueWatch, Watcher};

/// The source of grants.
pub trait Authorizer: Send + Sync + 'static {
    /// The grant of this token; `None` for an unknown token. Called for every request.
    fn admit(&self, token: &str) -> Option<Grant>;
}

/// What a token permits in a collection. The default is nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyRights {
    /// The keys that it may read.
    pub read: KeySelector,
    /// The keys that it may set and delete.
    pub write: KeySelector,
}

impl KeyRights {
    /// Whether they permit nothing.
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.write.is_empty()
    }

    fn cover(&self, other: &Self) -> bool {
        self.read.covers(&other.read) && self.write.covers(&other.write)
    }
}

/// What a token permits. The default is nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rights {
    /// In the default collection.
    pub default: KeyRights,
    /// In these named collections.
    pub named: BTreeMap<CollectionName, KeyRights>,
    /// In each other named collection.
    pub other_named: KeyRights,
    /// Whether it may do what is for operators only.
    pub admin: bool,
}

impl Rights {
    /// The rights in a collection; without a name, in the default one.
    pub fn in_collection(&self, name: Option<&CollectionName>) -> &KeyRights {
        match name {
            None => &self.default,
            Some(name) => self.named.get(name).unwrap_or(&self.other_named),
        }
    }

    /// Whether these rights permit all that the others do.
    fn cover(&self, other: &Self) -> bool {
        let named = self.named.keys().chain(other.named.keys());
        let cover = |name| self.in_collection(name).cover(other.in_collection(name));
        self.admin >= other.admin
            && self.other_named.cover(&other.other_named)
            && named.map(Some).chain([None]).all(cover)
    }

    /// Whether each collection of which they permit something may be read whole.
    fn hide_nothing(&self) -> bool {
        let mut all = [&self.default, &self.other_named].into_iter().chain(self.named.values());
        let permit_something = all.clone().any(|keys| !keys.is_empty());
        permit_something && all.all(|keys| keys.read.is_all() || keys.is_empty())
    }
}

/// The reason for which a grant is revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// The token has other rights now.
    Changed,
    /// The token was removed.
    Removed,
}

/// The rights of a token until they change. Clones are the same grant.
#[derive(Clone)]
pub struct Grant(Arc<GrantState>);

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("rights", self.rights()).finish_non_exhaustive()
    }
}

struct GrantState {
    rights: Rights,
    revocation: Value<Revocation>,
    /// Whether `revocation` is set. Every request checks it, and a flag needs no lock.
    is_revoked: AtomicBool,
    /// The name of the token in the log, if it has one.
    name: ArcSwapOption<String>,
    /// The client that the token is in the budgets, once it was asked for. The next grant of the token shares it.
    client: Arc<OnceLock<Arc<Client>>>,
}

impl Grant {
    /// A grant of these rights.
    pub fn new(rights: Rights) -> Self {
        Self::of_client(rights, Arc::default())
    }

    /// Sets the name of the token for the log.
    pub fn set_name(&self, name: Option<String>) {
        self.0.name.store(name.map(Arc::new));
    }

    /// The name of the token for the log.
    pub fn name(&self) -> Option<String> {
        self.0.name.load().as_deref().cloned()
    }

    /// A grant of other rights for the same token.
    #[must_use]
    pub fn with_rights(&self, rights: Rights) -> Self {
        Self::of_client(rights, Arc::clone(&self.0.client))
    }

    fn of_client(rights: Rights, client: Arc<OnceLock<Arc<Client>>>) -> Self {
        let (revocation, is_revoked) = (Value::new(), AtomicBool::new(false));
        Self(Arc::new(GrantState { rights, revocation, is_revoked, name: ArcSwapOption::empty(), client }))
    }

    /// The client that the token is in these budgets.
    pub(in crate::http) fn client(&self, budgets: &Budgets) -> &Arc<Client> {
        self.0.client.get_or_init(|| budgets.token_client())
    }

    /// The granted rights.
    pub fn rights(&self) -> &Rights {
        &self.0.rights
    }

    /// Revokes it, which ends all requests that wait with it. Only the first reason counts.
    pub fn revoke(&self, reason: Revocation) {
        if self.revocation().is_none() {
            self.0.revocation.set(reason);
            self.0.is_revoked.store(true, Ordering::Release);
        }
    }

    /// The reason for which it is revoked, if it is.
    pub fn revocation(&self) -> Option<Revocation> {
        self.0.is_revoked.load(Ordering::Acquire).then(|| self.0.revocation.current())?
    }

    /// Resolves when it is revoked. Cancel-safe.
    pub async fn revoked(&self) -> Revocation {
        // The value lives as long as `self`, so it is not closed.
        ValueWatch::watch(&self.0.revocation).get().await.unwrap_or(Revocation::Removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_sees_the_first_revocation_of_its_grant() {
        let grant = Grant::new(Rights::default());
        let waiting = tokio::spawn({
            let grant = grant.clone();
            async move { grant.revoked().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(grant.revocation(), None);
        grant.revoke(Revocation::Changed);
        grant.revoke(Revocation::Removed);
        assert_eq!(waiting.await.ok(), Some(Revocation::Changed));
        assert_eq!(grant.revoked().await, Revocation::Changed, "a later waiter sees it too");
    }
}
