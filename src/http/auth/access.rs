//! What one request may do, and which part of what it asks for it gets.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use xxhash_rust::xxh3::Xxh3;

use crate::http::app::App;
use crate::http::auth::{Grant, Revocation};
use crate::http::rep::problem::Problem;
use crate::model::{Key, KeySelector};

/// What the client of a request may do. Every request that comes to a handler has one.
#[derive(Clone)]
pub(in crate::http) struct Access(Option<Grant>);

/// Lets a request pass that comes with a known token, together with what it may do.
pub(in crate::http) async fn admit(State(app): State<App>, mut request: Request) -> Result<Request, Problem> {
    let access = app.admit(bearer(request.headers())?)?;
    request.extensions_mut().insert(access);
    Ok(request)
}

/// The token of a request that has one.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut all = headers.get_all(AUTHORIZATION).into_iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => Ok(one.to_str().ok().and_then(token_of)),
        (Some(_), Some(_)) => Err(Problem::bad_request("the Authorization header is there twice")),
    }
}

/// The token in the value of an `Authorization` header.
pub(in crate::http) fn token_of(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

impl App {
    /// What a client with this token may do.
    pub(in crate::http) fn admit(&self, token: Option<&str>) -> Result<Access, Problem> {
        let Some(guard) = &self.guard else { return Ok(Access(None)) };
        let Some(token) = token else {
            let detail = "this daemon wants a token: send it as \"Authorization: Bearer TOKEN\"";
            return Err(Problem::unauthorized("token-missing", detail));
        };
        let grant = guard.admit(token);
        grant.map(|grant| Access(Some(grant))).ok_or_else(|| {
            Problem::unauthorized("token-unknown", "nobody knows this token; it may have been removed")
        })
    }

    /// Whether tokens are wanted.
    pub(in crate::http) fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }
}

impl Access {
    /// What of the keys with this prefix may be read.
    pub(in crate::http) fn scope(&self, prefix: Option<Key>) -> Result<EffectiveScope, Problem> {
        let Some(grant) = &self.0 else { return Ok(EffectiveScope::open(prefix)) };
        let asked = prefix.as_ref().map_or(&[][..], Key::as_bytes);
        let readable = grant.rights().read.narrowed_to(asked);
        if readable.is_empty() {
            return Err(forbidden("this token may read nothing of what is asked for"));
        }
        let fingerprint =
            if grant.rights().read.covers_prefix(asked) { 0 } else { fingerprint_of(&readable) };
        let guarded = Guarded { grant: grant.clone(), fingerprint };
        Ok(EffectiveScope { asked: prefix, keys: readable, guarded: Some(Arc::new(guarded)) })
    }

    /// What everybody may do where no tokens are wanted.
    #[cfg(test)]
    pub(in crate::http) fn open() -> Self {
        Self(None)
    }

    /// Whether the key may be read.
    pub(in crate::http) fn may_read(&self, key: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|grant| grant.may_read(key))
    }

    /// Whether every key may be read.
    pub(in crate::http) fn may_read_everything(&self) -> bool {
        self.0.as_ref().is_none_or(|grant| grant.rights().read.is_all())
    }

    /// Refuses who may not read the key, whether it is there or not.
    pub(in crate::http) fn read(&self, key: &Key) -> Result<(), Problem> {
        match self.may_read(key.as_bytes()) {
            true => Ok(()),
            false => Err(forbidden(&format!("this token may not read the key \"{key}\""))),
        }
    }

    /// Refuses who may not write the key.
    pub(in crate::http) fn write(&self, key: &[u8]) -> Result<(), Problem> {
        match self.0.as_ref().is_none_or(|grant| grant.may_write(key)) {
            true => Ok(()),
            false => {
                let key = Key::copy_from(key);
                Err(forbidden(&format!("this token may not write the key \"{key}\"")))
            }
        }
    }

    /// Refuses who may not write any key.
    pub(in crate::http) fn write_something(&self) -> Result<(), Problem> {
        match self.0.as_ref().is_none_or(|grant| !grant.rights().write.is_empty()) {
            true => Ok(()),
            false => Err(forbidden("this token may not write any key")),
        }
    }

    /// Refuses who may not write every key.
    pub(in crate::http) fn write_everything(&self) -> Result<(), Problem> {
        match self.0.as_ref().is_none_or(|grant| grant.rights().write.is_all()) {
            true => Ok(()),
            false => {
                Err(forbidden("a snapshot replaces the whole state, and this token may not write all of it"))
            }
        }
    }

    /// Runs until done, or until the rights are over.
    pub(in crate::http) async fn while_granted<T, E: From<Problem>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match &self.0 {
            Some(grant) => while_granted(grant, work).await,
            None => work.await,
        }
    }
}

/// Runs until done, or until the grant is over. Also what is done by then is not told.
pub(in crate::http) async fn while_granted<T, E: From<Problem>>(
    grant: &Grant,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let over = |over| Err(over_problem(over).into());
    tokio::select! {
        biased;
        why = grant.over() => over(why),
        done = work => match grant.is_over() {
            Some(why) => over(why),
            None => done,
        },
    }
}

fn forbidden(detail: &str) -> Problem {
    Problem::forbidden("not-permitted", detail)
}

/// What those are told who wait while their rights change.
fn over_problem(over: Revocation) -> Problem {
    match over {
        Revocation::Changed => Problem::forbidden(
            "permission-changed",
            "what this token may read or write has changed; start again from GET /v1/breadcrumbs/current",
        ),
        Revocation::Removed => Problem::unauthorized("token-removed", "this token has just been removed"),
    }
}

/// Names the readable part of what was asked for, without telling it; 0 is all of it.
fn fingerprint_of(readable: &KeySelector) -> u64 {
    let mut hasher = Xxh3::new();
    for prefix in readable.iter() {
        hasher.update(&(prefix.as_bytes().len() as u64).to_le_bytes());
        hasher.update(prefix.as_bytes());
    }
    hasher.digest().max(1)
}

/// The keys that an answer may be about: what was asked for, as far as it may be read.
#[derive(Clone)]
pub(in crate::http) struct EffectiveScope {
    /// The prefix of the request.
    asked: Option<Key>,
    keys: KeySelector,
    /// Apart: a waiter of an open daemon is not to be larger for it.
    guarded: Option<Arc<Guarded>>,
}

struct Guarded {
    grant: Grant,
    /// Names what of the asked keys may be read, where that is not all of them; else 0.
    fingerprint: u64,
}

impl EffectiveScope {
    /// All that was asked for, where no tokens are wanted.
    pub(in crate::http) fn open(asked: Option<Key>) -> Self {
        let keys = asked.clone().map_or(KeySelector::ALL, KeySelector::prefix);
        Self { asked, keys, guarded: None }
    }

    /// The keys.
    pub(in crate::http) fn keys(&self) -> &KeySelector {
        &self.keys
    }

    /// The prefix that was asked for.
    pub(in crate::http) fn asked(&self) -> Option<&Key> {
        self.asked.as_ref()
    }

    /// Whether some of what was asked for is left out.
    pub(in crate::http) fn is_narrowed(&self) -> bool {
        self.fingerprint().is_some_and(|tag| tag > 0)
    }

    /// Whether everything was asked for and nothing is left out: then the answer is everybody's.
    pub(in crate::http) fn is_everything(&self) -> bool {
        self.keys.is_all() && self.asked.is_none()
    }

    /// Names the rights where there are any.
    pub(in crate::http) fn fingerprint(&self) -> Option<u64> {
        self.guarded.as_ref().map(|guarded| guarded.fingerprint)
    }

    /// Refuses a client whose state was made under other rights: it would have holes, or keep what is
    /// not told any more. `known` is what the `next` link said.
    pub(in crate::http) fn was(self, known: Option<u64>) -> Result<Self, Problem> {
        let now = self.fingerprint().unwrap_or(0);
        match known {
            Some(known) if now != known => Err(Problem::rights_changed()),
            _ => Ok(self),
        }
    }

    /// Whether the rights that it rests on have not changed.
    pub(in crate::http) fn is_granted(&self) -> bool {
        self.grant().is_none_or(|grant| grant.is_over().is_none())
    }

    /// What whoever asks may do.
    pub(in crate::http) fn access(&self) -> Access {
        Access(self.grant().cloned())
    }

    /// The grant that it rests on.
    pub(in crate::http) fn grant(&self) -> Option<&Grant> {
        self.guarded.as_ref().map(|guarded| &guarded.grant)
    }
}
