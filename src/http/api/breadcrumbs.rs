//! `/v1/breadcrumbs/…`: current, next, kept, diff.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::http::header::IF_MATCH;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use crate::http::access_log::{Line, Notes, RequestHead};
use crate::http::app::App;
use crate::http::auth::access::{Access, EffectiveScope, while_granted};
use crate::http::budget::{HeadBytes, NoPlace};
use crate::http::client::{Client, Peer};
use crate::http::client_table::{Activity, ClientName};
use crate::http::collection::{Collection, Context};
use crate::http::rep::conditions::if_none_match_has;
use crate::http::rep::negotiate::format;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::{Query, Wait, path_cursor};
use crate::http::rep::relay::{self, RELAY, STEPS};
use crate::http::rep::reply::{self, Caching, CrumbdHeaders, Reply, answer, into_response};
use crate::model::Cursor;
use crate::view::{Format, Next, OneByOneWith, Reason, ViewError};
use crate::wire::{MediaType, Mode};

/// How long a read at a cursor ahead of this daemon waits for the daemon to catch up.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// The deadline of a read at a cursor.
pub(in crate::http) fn catch_up_deadline() -> Instant {
    Instant::now() + CATCH_UP_TIMEOUT
}

pub(in crate::http) async fn current(cx: Context, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let scope = cx.access.scope(Query::parse(&uri, &["prefix"])?.prefixes()?)?;
    let format = format(&headers)?;
    let name = cx.app.client_name(&headers)?;
    let note = |cursor| {
        if let Some(row) = cx.app.client_row(name.as_ref(), &cx.peer, &cx.collection) {
            row.note(Activity::Current, cursor);
        }
    };
    let newest = cx.collection.view.newest()?;
    let etag = reply::state_etag(newest.cursor(), &scope, format.media);
    // `If-Match` comes first, and is looked at with the whole answer.
    if !headers.contains_key(IF_MATCH) && if_none_match_has(&headers, &etag) {
        // No body is encoded for a client that has it.
        let (cursor, sequence) = (newest.cursor(), newest.sequence());
        note(cursor);
        let values =
            CrumbdHeaders { cursor, sequence, mode: Mode::None, reason: Reason::NotModified, scope: &scope };
        return Ok(into_response(reply::not_modified(cx.source(), values, &etag, Caching::Revalidate)));
    }
    let at_least = newest.sequence();
    drop(newest);
    let account = cx.client().account();
    let snapshot = cx.collection.view.current(at_least, scope.keys(), format, account).await?;
    note(snapshot.cursor);
    Ok(into_response(answer(cx.source(), snapshot, &scope, Caching::Revalidate)))
}

/// A request for a long poll.
#[derive(Clone)]
pub(in crate::http) struct NextRequest {
    pub(in crate::http) collection: Arc<Collection>,
    pub(in crate::http) cursor: Cursor,
    pub(in crate::http) scope: EffectiveScope,
    pub(in crate::http) format: Format,
    pub(in crate::http) wait: Wait,
    /// The name that the client gives itself, if there is a table of clients.
    name: Option<ClientName>,
    /// What the access log says of it, if it is on. The framework's requests have their lines by themselves.
    pub(in crate::http) logged: Option<Arc<RequestHead>>,
    /// For a relay, which gets each breadcrumb and no squash: what else it reads.
    one_by_one: Option<OneByOneWith>,
}

impl NextRequest {
    /// Parses the request. `uri` is relative to the collection's base path.
    pub(in crate::http) fn parse(
        collection: &Arc<Collection>,
        uri: &Uri,
        format: Format,
        access: &Access,
        name: Option<ClientName>,
    ) -> Result<Self, Problem> {
        let cursor = path_cursor(uri, 0)?;
        let mut query = Query::parse(uri, &["wait", "prefix", "rights"])?;
        let (wait, rights) = (query.wait()?, query.rights()?);
        let scope = access.scope(query.prefixes()?)?.require_rights(rights)?;
        let collection = Arc::clone(collection);
        Ok(Self { collection, cursor, scope, format, wait, name, logged: None, one_by_one: None })
    }

    /// The request's line in the access log, if that is on.
    pub(in crate::http) fn line(&self, app: &App, peer: &Peer) -> Option<Box<Line>> {
        let mut line = Line::begin(app, Arc::clone(self.logged.as_ref()?), peer)?;
        line.is_of(self.scope.grant());
        line.asks_after(self.cursor, &self.collection);
        Some(line)
    }

    /// The same request of a relay, if the headers say that it is one. A body of JSON is one object, and so is a squash.
    fn of_relay(self, headers: &HeaderMap) -> Self {
        let is_list = !matches!(self.format.media, MediaType::Json | MediaType::JsonStrings);
        let with = match headers.contains_key(STEPS) {
            true => OneByOneWith::Steps,
            false => OneByOneWith::Deltas,
        };
        Self { one_by_one: (is_list && headers.contains_key(RELAY)).then_some(with), ..self }
    }

    /// Notes in the table of clients that the client asks.
    pub(in crate::http) fn note(&self, app: &App, peer: &Peer) {
        if let Some(row) = app.client_row(self.name.as_ref(), peer, &self.collection) {
            row.note(Activity::Next, self.cursor);
        }
    }

    /// The name that the client gives itself.
    pub(in crate::http) fn name(&self) -> Option<ClientName> {
        self.name.clone()
    }

    /// Whether all clients get the same answer, and no rights can be revoked. Most long polls are of this kind.
    pub(in crate::http) fn is_common(&self) -> bool {
        self.scope.is_everything() && self.scope.grant().is_none()
    }

    /// The outcome of the long poll of this peer, of whose request this much is kept. It waits until `over` resolves or the client's rights are revoked.
    pub(in crate::http) async fn follow(
        &self,
        app: &App,
        peer: &Peer,
        head: HeadBytes,
        over: impl Future<Output = Reason>,
    ) -> Outcome {
        let client = app.client(self.scope.grant(), peer);
        let _waiter = match app.budgets.waiter(&**client, self.scope.keys(), head) {
            Ok(waiter) => waiter,
            Err(full) => return Box::pin(self.without_waiting(app, client, full)).await,
        };
        // A closure, so that the future is built where it is awaited and not stored twice.
        let next = || self.next(client, over);
        let outcome = match self.scope.grant() {
            None => Ok(next().await?),
            // Boxed to keep the waiters of a daemon without tokens small.
            Some(grant) => Box::pin(while_granted(grant, async { Ok(next().await?) })).await,
        };
        outcome.inspect(|next| app.metrics.observe_poll(self.cursor, next))
    }

    async fn next(&self, client: &Client, over: impl Future<Output = Reason>) -> Result<Next, ViewError> {
        let (view, keys, account) = (&self.collection.view, self.scope.keys(), client.account());
        match self.one_by_one {
            None => view.next(self.cursor, keys, self.format, account, over).await,
            Some(with) => {
                Box::pin(view.next_one_by_one(self.cursor, keys, self.format, with, account, over)).await
            }
        }
    }

    /// The outcome without a wait, for a request over the budget of waiters. A request that would have to wait is refused.
    async fn without_waiting(&self, app: &App, client: &Client, full: NoPlace) -> Outcome {
        let next =
            async { Ok::<_, NextError>(self.next(client, std::future::ready(Reason::Timeout)).await?) };
        let next = match self.scope.grant() {
            None => next.await?,
            Some(grant) => while_granted(grant, next).await?,
        };
        match next {
            Next::Nothing { reason: Reason::Timeout, .. } if !self.wait.is_zero() => {
                Err(app.budgets.no_place(full, client).into())
            }
            next => {
                app.metrics.observe_poll(self.cursor, &next);
                Ok(next)
            }
        }
    }

    /// The reply to the long poll, for both fronts.
    pub(in crate::http) fn reply(&self, app: &App, outcome: Outcome) -> Reply {
        let (scope, source) = (&self.scope, self.collection.source(app));
        match outcome {
            Ok(Next::Answer(updates)) => {
                let caching = if updates.at_once { Caching::Seconds } else { Caching::Revalidate };
                answer(source, updates, scope, caching)
            }
            Ok(Next::Nothing { cursor, sequence, reason }) => {
                reply::no_content(source, cursor, sequence, reason, scope)
            }
            Err(error) => error.0.into_reply(),
        }
    }
}

/// The outcome of a long poll.
pub(in crate::http) type Outcome = Result<Next, NextError>;

/// The error of a long poll.
pub(in crate::http) struct NextError(Problem);

impl From<ViewError> for NextError {
    fn from(error: ViewError) -> Self {
        Self(error.into())
    }
}

impl From<Problem> for NextError {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

pub(in crate::http) async fn next(
    cx: Context,
    notes: Option<Extension<Notes>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = cx.app.client_name(&headers)?;
    let request = NextRequest::parse(&cx.collection, &uri, format(&headers)?, &cx.access, name)?;
    let request = request.of_relay(&headers);
    if let Some(Extension(notes)) = notes {
        notes.asks_after(request.cursor, &request.collection);
    }
    drop((uri, headers));
    request.note(&cx.app, &cx.peer);
    let deadline = request.wait.deadline();
    let outcome = request.follow(&cx.app, &cx.peer, cx.head, cx.app.wait_ends(deadline)).await;
    Ok(into_response(request.reply(&cx.app, outcome)))
}

pub(in crate::http) async fn kept(cx: Context, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let cursor = path_cursor(&uri, 0)?;
    let scope = cx.access.scope(Query::parse(&uri, &["prefix"])?.prefixes()?)?;
    let format = format(&headers)?;
    let (account, deadline) = (cx.client().account(), catch_up_deadline());
    if relay::asks_for_past(&headers) && scope.is_everything() && format.media == MediaType::Bincode {
        let past = cx.collection.view.past(cursor, format, account).await?;
        let reply = past.map(|past| into_response(answer(cx.source(), past, &scope, Caching::Immutable)));
        return Ok(reply.unwrap_or_else(|| StatusCode::NO_CONTENT.into_response()));
    }
    let kept = async { Ok(cx.collection.view.kept(cursor, scope.keys(), format, account, deadline).await?) };
    let snapshot = cx.access.while_granted::<_, Problem>(kept).await?;
    Ok(into_response(answer(cx.source(), snapshot, &scope, Caching::Immutable)))
}

pub(in crate::http) async fn diff(cx: Context, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let (from, to) = (path_cursor(&uri, 0)?, path_cursor(&uri, 2)?);
    let scope = cx.access.scope(Query::parse(&uri, &["prefix"])?.prefixes()?)?;
    let format = format(&headers)?;
    let (account, deadline) = (cx.client().account(), catch_up_deadline());
    let diff =
        async { Ok(cx.collection.view.diff(from, to, scope.keys(), format, account, deadline).await?) };
    let diff = cx.access.while_granted::<_, Problem>(diff).await?;
    Ok(into_response(answer(cx.source(), diff, &scope, Caching::Immutable)))
}
