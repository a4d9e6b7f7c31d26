//! `/v1/breadcrumbs/…`: the current one, the next one, kept ones, and what lies between two.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use tokio::time::Instant;

use super::negotiate::format;
use super::problem::Problem;
use super::query::{Query, path_cursor};
use super::reply::{self, Caching, Place, answer};
use super::routes::App;
use crate::view::{Next, Reason};
use crate::wire::Mode;

/// How long a read at a cursor ahead of this daemon waits for it to catch up.
const CATCH_UP: Duration = Duration::from_secs(10);

/// The deadline of a read that asks for one state.
pub(super) fn catch_up() -> Instant {
    Instant::now() + CATCH_UP
}

pub(super) async fn current(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let prefix = Query::parse(&uri, &["prefix"])?.prefix();
    let format = format(&headers)?;
    let newest = app.view.newest()?;
    let etag = reply::state_etag(newest.cursor());
    if reply::not_modified(&headers, &etag) {
        // Most who ask so have it already: no body is made for them.
        let (cursor, sequence) = (newest.cursor(), newest.sequence());
        let place = Place {
            cursor,
            sequence,
            mode: Mode::None,
            reason: Reason::NotModified,
            prefix: prefix.as_ref(),
        };
        return Ok(reply::unchanged(&app, place, &etag, Caching::Revalidate));
    }
    drop(newest);
    let snapshot = app.view.current(prefix.as_ref(), format).await?;
    Ok(answer(&app, &headers, snapshot, prefix.as_ref(), Caching::Revalidate))
}

pub(super) async fn next(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let cursor = path_cursor(&uri, 0)?;
    let mut query = Query::parse(&uri, &["wait", "prefix"])?;
    let (deadline, prefix) = (query.wait()?, query.prefix());
    let format = format(&headers)?;
    let waiter = app.shutdown.wait();
    let next = app.view.next(cursor, prefix.as_ref(), format, deadline, app.shutdown.my_turn()).await?;
    drop(waiter);
    Ok(match next {
        Next::Answer(updates) => {
            let caching = if updates.at_once { Caching::Seconds } else { Caching::Revalidate };
            answer(&app, &HeaderMap::new(), updates, prefix.as_ref(), caching)
        }
        Next::Nothing { cursor, sequence, reason } => {
            reply::nothing(&app, cursor, sequence, reason, prefix.as_ref())
        }
    })
}

pub(super) async fn kept(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let cursor = path_cursor(&uri, 0)?;
    let prefix = Query::parse(&uri, &["prefix"])?.prefix();
    let snapshot = app.view.kept(cursor, prefix.as_ref(), format(&headers)?, catch_up()).await?;
    Ok(answer(&app, &headers, snapshot, prefix.as_ref(), Caching::Immutable))
}

pub(super) async fn diff(State(app): State<App>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let (from, to) = (path_cursor(&uri, 0)?, path_cursor(&uri, 2)?);
    let prefix = Query::parse(&uri, &["prefix"])?.prefix();
    let diff = app.view.diff(from, to, prefix.as_ref(), format(&headers)?, catch_up()).await?;
    Ok(answer(&app, &headers, diff, prefix.as_ref(), Caching::Immutable))
}
