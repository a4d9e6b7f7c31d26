//! The admission of a request, its rights in a collection, and the scope of its answer.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use xxhash_rust::xxh3::Xxh3;

use crate::http::access_log::Notes;
use crate::http::app::App;
use crate::http::auth::{Grant, KeyRights, Revocation};
use crate::http::client::Peer;
use crate::http::collection::Collection;
use crate::http::rep::problem::Problem;
use crate::model::{CollectionName, Key, KeySelector};

/// The admission of a request, which has a known token or needs none. It says nothing of any key: what may be read and
/// written is the [`Access`] to a collection. Every request that reaches a handler has an `Admission` among its extensions.
#[derive(Clone)]
pub(in crate::http) struct Admission(Option<Grant>);

/// The rights of a request in its collection.
#[derive(Clone)]
pub(in crate::http) struct Access(Option<GrantedAccess>);

#[derive(Clone)]
struct GrantedAccess {
    grant: Grant,
    /// The collection's name; `None` for the default one.
    collection: Option<CollectionName>,
}

impl GrantedAccess {
    fn keys(&self) -> &KeyRights {
        self.grant.rights().in_collection(self.collection.as_ref())
    }
}

/// A request over its client's rate that is to be refused by its handler.
#[derive(Clone)]
pub(in crate::http) struct OverRate(pub(in crate::http) Problem);

/// Admits a request with a known token, and attaches its [`Admission`]. Counts it for its token, or else for its address.
pub(in crate::http) async fn admit(
    State(app): State<App>,
    peer: Peer,
    mut request: Request,
) -> Result<Request, Problem> {
    let admission = authorization(request.headers()).and_then(|token| app.admit(token));
    let grant = admission.as_ref().ok().and_then(Admission::grant);
    if let Err(problem) = app.budgets.request(app.client(grant, &peer)) {
        // After an error an `EventSource` never comes back, so the handler of streams answers.
        if admission.is_err() || !request.uri().path().ends_with("/stream") {
            return Err(problem);
        }
        request.extensions_mut().insert(OverRate(problem));
    }
    let admission = admission?;
    if let (Some(notes), Some(grant)) = (request.extensions().get::<Notes>(), &admission.0) {
        notes.is_of(grant);
    }
    request.extensions_mut().insert(admission);
    Ok(request)
}

/// Counts a request that needs no token for its address.
pub(in crate::http) async fn count(
    State(app): State<App>,
    peer: Peer,
    request: Request,
) -> Result<Request, Problem> {
    app.budgets.request(peer.client()).map(|()| request)
}

/// The bearer token of a request, if it has one.
fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut all = headers.get_all(AUTHORIZATION).into_iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => Ok(one.to_str().ok().and_then(bearer_token)),
        (Some(_), Some(_)) => Err(Problem::bad_request("the Authorization header is given twice")),
    }
}

/// The token in the value of an `Authorization` header.
pub(in crate::http) fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl App {
    /// The admission of a client with this token.
    pub(in crate::http) fn admit(&self, token: Option<&str>) -> Result<Admission, Problem> {
        let Some(authorizer) = &self.authorizer else { return Ok(Admission(None)) };
        let Some(token) = token else {
            let detail = "this daemon requires a token; send the header \"Authorization: Bearer TOKEN\"";
            return Err(Problem::unauthorized("token-missing", detail));
        };
        let grant = authorizer.admit(token);
        grant.map(|grant| Admission(Some(grant))).ok_or_else(|| {
            Problem::unauthorized("token-unknown", "this token is unknown; it may have been removed")
        })
    }

    /// Whether the client may know what depends on every key of every collection.
    pub(in crate::http) fn may_monitor_all(&self, admission: &Admission) -> bool {
        self.collections.iter().all(|collection| admission.may_monitor(collection))
    }

    /// Whether requests need a token.
    pub(in crate::http) fn is_guarded(&self) -> bool {
        self.authorizer.is_some()
    }
}

impl Admission {
    /// The admission to a daemon without tokens.
    #[cfg(test)]
    pub(in crate::http) fn open() -> Self {
        Self(None)
    }

    /// The grant of the client's token; `None` on a daemon without tokens.
    pub(in crate::http) fn grant(&self) -> Option<&Grant> {
        self.0.as_ref()
    }

    /// The rights in a collection. It is an error if there are none.
    pub(in crate::http) fn access_to(&self, collection: &Collection) -> Result<Access, Problem> {
        let Some(grant) = &self.0 else { return Ok(Access(None)) };
        let name = collection.name();
        let granted = GrantedAccess { grant: grant.clone(), collection: name.cloned() };
        if granted.keys().is_empty() && !self.may_administrate() {
            return Err(forbidden(&match name {
                Some(name) => format!(
                    "this token has no rights in the collection \"{name}\"; its line of the tokens file gives them with \
                     \"collections\": {{\"{name}\": {{\"read\": [\"PREFIX\"]}}}}"
                ),
                None => "this token has no rights in the default collection; its line of the tokens file gives them with \
                         \"read\": [\"PREFIX\"]"
                    .to_owned(),
            }));
        }
        Ok(Access(Some(granted)))
    }

    /// Whether the client may know what depends on every key of a collection, such as sizes.
    pub(in crate::http) fn may_monitor(&self, collection: &Collection) -> bool {
        self.access_to(collection).is_ok_and(|access| access.may_monitor())
    }

    /// The name of the token for the log.
    #[cfg(feature = "etcd")]
    pub(in crate::http) fn token_name(&self) -> Option<String> {
        self.0.as_ref().and_then(Grant::name)
    }

    /// Whether the client may know of other clients.
    fn may_administrate(&self) -> bool {
        self.0.as_ref().is_none_or(|grant| grant.rights().admin)
    }

    /// Refuses a client that may not know of other clients.
    pub(in crate::http) fn require_admin(&self) -> Result<(), Problem> {
        match self.may_administrate() {
            true => Ok(()),
            false => Err(forbidden(
                "this token is not for administration (\"admin\": true in its line of the tokens file)",
            )),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Admission {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let admission = parts.extensions.get::<Self>().cloned();
        admission.ok_or_else(|| forbidden("the rights of this request are unknown"))
    }
}

impl Access {
    /// The readable ones among the requested keys.
    pub(in crate::http) fn scope(&self, asked: KeySelector) -> Result<EffectiveScope, Problem> {
        let Some(access) = &self.0 else { return Ok(EffectiveScope::open(asked)) };
        let readable = access.keys().read.narrowed_to_all(&asked);
        if readable.is_empty() {
            return Err(forbidden("this token may read none of the requested keys"));
        }
        let fingerprint = if readable == asked { 0 } else { fingerprint_of(&readable) };
        let guarded = Guarded { grant: access.grant.clone(), fingerprint };
        Ok(EffectiveScope { asked, keys: readable, guarded: Some(Arc::new(guarded)) })
    }

    /// The admission of the request.
    pub(in crate::http) fn admission(&self) -> Admission {
        Admission(self.grant().cloned())
    }

    /// The grant of the client's token; `None` on a daemon without tokens.
    pub(in crate::http) fn grant(&self) -> Option<&Grant> {
        self.0.as_ref().map(|access| &access.grant)
    }

    /// Whether it permits this in the collection.
    fn permits(&self, what: impl FnOnce(&KeyRights) -> bool) -> bool {
        self.0.as_ref().is_none_or(|access| what(access.keys()))
    }

    /// Whether the key may be read.
    pub(in crate::http) fn may_read(&self, key: &[u8]) -> bool {
        self.permits(|keys| keys.read.matches(key))
    }

    /// The keys that may be written.
    #[cfg(feature = "etcd")]
    pub(in crate::http) fn writable(&self) -> KeySelector {
        self.0.as_ref().map_or(KeySelector::ALL, |access| access.keys().write.clone())
    }

    /// Whether every key may be read.
    fn may_read_everything(&self) -> bool {
        self.permits(|keys| keys.read.is_all())
    }

    /// Whether the client may know what depends on every key, such as sizes, without reading the keys.
    pub(in crate::http) fn may_monitor(&self) -> bool {
        self.may_read_everything() || self.grant().is_none_or(|grant| grant.rights().admin)
    }

    /// Whether some key may be read.
    pub(in crate::http) fn may_read_something(&self) -> bool {
        self.permits(|keys| !keys.read.is_empty())
    }

    /// Refuses a client that may not read the key, whether the key exists or not.
    pub(in crate::http) fn require_read(&self, key: &Key) -> Result<(), Problem> {
        match self.may_read(key.as_bytes()) {
            true => Ok(()),
            false => Err(forbidden(&format!("this token may not read the key \"{key}\""))),
        }
    }

    /// Refuses a client that may not write the key.
    pub(in crate::http) fn require_write(&self, key: &[u8]) -> Result<(), Problem> {
        match self.permits(|keys| keys.write.matches(key)) {
            true => Ok(()),
            false => {
                let key = Key::copy_from(key);
                Err(forbidden(&format!("this token may not write the key \"{key}\"")))
            }
        }
    }

    /// Refuses a client that may write no key at all.
    pub(in crate::http) fn require_some_write(&self) -> Result<(), Problem> {
        match self.permits(|keys| !keys.write.is_empty()) {
            true => Ok(()),
            false => Err(forbidden("this token may not write any key")),
        }
    }

    /// Refuses a client that may not write every key.
    pub(in crate::http) fn require_full_write(&self) -> Result<(), Problem> {
        match self.permits(|keys| keys.write.is_all()) {
            true => Ok(()),
            false => {
                Err(forbidden("a snapshot replaces the whole state, but this token may not write every key"))
            }
        }
    }

    /// The result of `work`, or an error as soon as the rights are revoked.
    pub(in crate::http) async fn while_granted<T, E: From<Problem>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match self.grant() {
            Some(grant) => while_granted(grant, work).await,
            None => work.await,
        }
    }
}

/// The result of `work`, or an error as soon as the grant is revoked. A result that is ready at that moment is dropped.
pub(in crate::http) async fn while_granted<T, E: From<Problem>>(
    grant: &Grant,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let revoked = |revocation| Err(revocation_problem(revocation).into());
    tokio::select! {
        biased;
        revocation = grant.revoked() => revoked(revocation),
        done = work => match grant.revocation() {
            Some(revocation) => revoked(revocation),
            None => done,
        },
    }
}

fn forbidden(detail: &str) -> Problem {
    Problem::forbidden("not-permitted", detail)
}

/// The answer to a client whose rights are revoked during its request.
fn revocation_problem(revocation: Revocation) -> Problem {
    match revocation {
        Revocation::Changed => Problem::forbidden(
            "permission-changed",
            "the rights of this token have changed; start again from GET …/breadcrumbs/current",
        ),
        Revocation::Removed => Problem::unauthorized("token-removed", "this token has been removed"),
    }
}

/// A hash of the readable keys among the requested ones. 0 means all of them.
fn fingerprint_of(readable: &KeySelector) -> u64 {
    let mut hasher = Xxh3::new();
    for prefix in readable.iter() {
        hasher.update(&(prefix.as_bytes().len() as u64).to_le_bytes());
        hasher.update(prefix.as_bytes());
    }
    hasher.digest().max(1)
}

/// The effective scope of an answer: the requested keys that the client may read.
#[derive(Clone)]
pub(in crate::http) struct EffectiveScope {
    /// The keys of the request.
    asked: KeySelector,
    keys: KeySelector,
    /// Behind a pointer, to keep the waiters of a daemon without tokens small.
    guarded: Option<Arc<Guarded>>,
}

struct Guarded {
    grant: Grant,
    /// See [`fingerprint_of`].
    fingerprint: u64,
}

impl EffectiveScope {
    /// The scope of a request to a daemon without tokens.
    pub(in crate::http) fn open(asked: KeySelector) -> Self {
        Self { keys: asked.clone(), asked, guarded: None }
    }

    /// The keys.
    pub(in crate::http) fn keys(&self) -> &KeySelector {
        &self.keys
    }

    /// The requested keys.
    pub(in crate::http) fn asked(&self) -> &KeySelector {
        &self.asked
    }

    /// Whether some of the requested keys are left out.
    pub(in crate::http) fn is_narrowed(&self) -> bool {
        self.fingerprint().is_some_and(|fingerprint| fingerprint > 0)
    }

    /// Whether all keys were requested and none is left out. Such answers are shared by all clients.
    pub(in crate::http) fn is_everything(&self) -> bool {
        self.keys.is_all()
    }

    /// The fingerprint of the readable keys; `None` on a daemon without tokens.
    pub(in crate::http) fn fingerprint(&self) -> Option<u64> {
        self.guarded.as_ref().map(|guarded| guarded.fingerprint)
    }

    /// The scope, if it has the fingerprint of the `next` link. Under other rights the client's state would miss keys, or
    /// keep keys that are no longer updated.
    pub(in crate::http) fn require_rights(self, link: Option<u64>) -> Result<Self, Problem> {
        if link.is_none_or(|link| self.has_rights(link)) { Ok(self) } else { Err(Problem::rights_changed()) }
    }

    /// Whether the readable keys have this fingerprint.
    pub(in crate::http) fn has_rights(&self, fingerprint: u64) -> bool {
        self.fingerprint().unwrap_or(0) == fingerprint
    }

    /// Whether the rights have not been revoked.
    pub(in crate::http) fn is_granted(&self) -> bool {
        self.grant().is_none_or(|grant| grant.revocation().is_none())
    }

    /// The admission of the client.
    pub(in crate::http) fn admission(&self) -> Admission {
        Admission(self.grant().cloned())
    }

    /// The grant of the client's token.
    pub(in crate::http) fn grant(&self) -> Option<&Grant> {
        self.guarded.as_ref().map(|guarded| &guarded.grant)
    }
}
