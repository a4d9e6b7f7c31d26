//! `/v1/breadcrumbs/…`: the current one, the next one, kept ones, and what lies between two.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use tokio::time::Instant;

use crate::http::app::App;
use crate::http::auth::access::{Access, EffectiveScope, while_granted};
use crate::http::budget::{self, held};
use crate::http::collection::{Collection, Context};
use crate::http::rep::negotiate::format;
use crate::http::rep::problem::Problem;
use crate::http::rep::query::{Query, Wait, path_cursor};
use crate::http::rep::reply::{self, Caching, Place, Reply, answer, framed};
use crate::model::Cursor;
use crate::view::{Format, Next, Reason, ViewError};
use crate::wire::Mode;

/// How long a read at a cursor ahead of this daemon waits for it to catch up.
const CATCH_UP: Duration = Duration::from_secs(10);

/// The deadline of a read that asks for one state.
pub(in crate::http) fn catch_up() -> Instant {
    Instant::now() + CATCH_UP
}

pub(in crate::http) async fn current(
    cx: Context,
    Extension(access): Extension<Access>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let scope = access.scope(Query::parse(&uri, &["prefix"])?.prefix())?;
    let format = format(&headers)?;
    let newest = cx.collection.view.newest()?;
    let etag = reply::state_etag(newest.cursor(), &scope);
    if reply::not_modified(&headers, &etag) {
        // Most who ask so have it already: no body is made for them.
        let (cursor, sequence) = (newest.cursor(), newest.sequence());
        let place = Place { cursor, sequence, mode: Mode::None, reason: Reason::NotModified, scope: &scope };
        return Ok(framed(reply::unchanged(cx.source(), place, &etag, Caching::Revalidate)));
    }
    let permit = cx.app.budgets.snapshot(budget::expected(&newest, scope.keys())).await?;
    let at_least = newest.sequence();
    drop(newest);
    let snapshot = cx.collection.view.current(at_least, scope.keys(), format).await?;
    let permit = cx.app.budgets.fit(permit, snapshot.body.len()).await?;
    Ok(held(answer(cx.source(), &headers, snapshot, &scope, Caching::Revalidate), permit))
}

/// A long poll, as it is asked for.
#[derive(Clone)]
pub(in crate::http) struct NextRequest {
    pub(in crate::http) collection: Arc<Collection>,
    pub(in crate::http) cursor: Cursor,
    pub(in crate::http) scope: EffectiveScope,
    pub(in crate::http) format: Format,
    pub(in crate::http) wait: Wait,
}

impl NextRequest {
    /// `uri` is the address below the collection's base.
    pub(in crate::http) fn parse(
        collection: &Arc<Collection>,
        uri: &Uri,
        format: Format,
        access: &Access,
    ) -> Result<Self, Problem> {
        let cursor = path_cursor(uri, 0)?;
        let mut query = Query::parse(uri, &["wait", "prefix", "rights"])?;
        let (wait, rights) = (query.wait()?, query.rights()?);
        let scope = access.scope(query.prefix())?.was(rights)?;
        Ok(Self { collection: Arc::clone(collection), cursor, scope, format, wait })
    }

    /// Whether its answer is everybody's, and nobody's rights can end it: thousands are mostly of this kind.
    pub(in crate::http) fn is_common(&self) -> bool {
        self.scope.is_everything() && self.scope.grant().is_none()
    }

    /// Waits for what comes after the cursor, or until `over` resolves, or the client's rights end.
    pub(in crate::http) async fn follow(&self, app: &App, over: impl Future<Output = Reason>) -> Outcome {
        let _waiter = match app.budgets.waiter() {
            Ok(waiter) => waiter,
            Err(full) => return Box::pin(self.without_waiting(app, full)).await,
        };
        // Made where it is awaited: a future that is moved is kept twice.
        let next = || self.collection.view.next(self.cursor, self.scope.keys(), self.format, over);
        let outcome = match self.scope.grant() {
            None => Ok(next().await?),
            // Boxed: a waiter of an open daemon is not to be larger for it.
            Some(grant) => Box::pin(while_granted(grant, async { Ok(next().await?) })).await,
        };
        outcome.inspect(|next| app.metrics.polled(self.cursor, next))
    }

    /// What there is already. Who would have to wait is told that there is no place for it.
    async fn without_waiting(&self, app: &App, full: Problem) -> Outcome {
        let over = std::future::ready(Reason::Timeout);
        let next = async {
            Ok::<_, NextError>(
                self.collection.view.next(self.cursor, self.scope.keys(), self.format, over).await?,
            )
        };
        let next = match self.scope.grant() {
            None => next.await?,
            Some(grant) => while_granted(grant, next).await?,
        };
        match next {
            Next::Nothing { reason: Reason::Timeout, .. } if !self.wait.is_zero() => Err(full.into()),
            next => {
                app.metrics.polled(self.cursor, &next);
                Ok(next)
            }
        }
    }

    /// The one place that decides how a long poll is answered, whoever writes the bytes.
    pub(in crate::http) fn reply(&self, app: &App, outcome: Outcome) -> Reply {
        let (scope, source) = (&self.scope, self.collection.source(app.is_guarded()));
        match outcome {
            Ok(Next::Answer(updates)) => {
                let caching = if updates.at_once { Caching::Seconds } else { Caching::Revalidate };
                answer(source, &HeaderMap::new(), updates, scope, caching)
            }
            Ok(Next::Nothing { cursor, sequence, reason }) => {
                reply::nothing(source, cursor, sequence, reason, scope)
            }
            Err(error) => error.0.into_reply(),
        }
    }
}

/// What came of a long poll.
pub(in crate::http) type Outcome = Result<Next, NextError>;

/// Why a long poll came to nothing.
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
    Extension(access): Extension<Access>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let request = NextRequest::parse(&cx.collection, &uri, format(&headers)?, &access)?;
    let deadline = request.wait.deadline();
    let over = async {
        tokio::select! {
            () = cx.app.my_turn() => Reason::ShuttingDown,
            () = tokio::time::sleep_until(deadline) => Reason::Timeout,
        }
    };
    let outcome = request.follow(&cx.app, over).await;
    Ok(framed(request.reply(&cx.app, outcome)))
}

pub(in crate::http) async fn kept(
    cx: Context,
    Extension(access): Extension<Access>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let cursor = path_cursor(&uri, 0)?;
    let scope = access.scope(Query::parse(&uri, &["prefix"])?.prefix())?;
    let format = format(&headers)?;
    let permit =
        cx.app.budgets.snapshot(budget::expected(&cx.collection.view.newest()?, scope.keys())).await?;
    let kept = async { Ok(cx.collection.view.kept(cursor, scope.keys(), format, catch_up()).await?) };
    let snapshot = access.while_granted::<_, Problem>(kept).await?;
    let permit = cx.app.budgets.fit(permit, snapshot.body.len()).await?;
    Ok(held(answer(cx.source(), &headers, snapshot, &scope, Caching::Immutable), permit))
}

pub(in crate::http) async fn diff(
    cx: Context,
    Extension(access): Extension<Access>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (from, to) = (path_cursor(&uri, 0)?, path_cursor(&uri, 2)?);
    let scope = access.scope(Query::parse(&uri, &["prefix"])?.prefix())?;
    let format = format(&headers)?;
    let diff = async { Ok(cx.collection.view.diff(from, to, scope.keys(), format, catch_up()).await?) };
    let diff = access.while_granted::<_, Problem>(diff).await?;
    let permit = cx.app.budgets.snapshot(diff.body.len()).await?;
    Ok(held(answer(cx.source(), &headers, diff, &scope, Caching::Immutable), permit))
}
