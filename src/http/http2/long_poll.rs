//! Plain long polls over HTTP/2, without the routes: nearly every stream is one, and waits.
//!
//! As in the lean front, a request is plain if every front answers it alike, and the answer comes from the fast path of the
//! view. Everything else is answered as the routes do it, by [`NextRequest::follow`].

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method, Request};
use axum::response::Response;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, sleep_until};

use crate::http::access_log::Line;
use crate::http::api::breadcrumbs::{NextRequest, Outcome};
use crate::http::app::App;
use crate::http::budget::HeadBytes;
use crate::http::client::Peer;
use crate::http::http2::routes::without_connection_headers;
use crate::http::lean::plain_next;
use crate::http::rep::reply::into_response;
use crate::http::serve::drain::Shutdown;
use crate::view::{Answer, Next, Reason, TryNext};

thread_local! {
    /// The last plain long poll. After a breadcrumb, equal clients ask for the same, and share one object.
    static LAST: RefCell<Option<LastRequest>> = const { RefCell::new(None) };
}

struct LastRequest {
    /// The app that parsed it; another one in this process may require tokens.
    app: u64,
    target: PathAndQuery,
    headers: HeaderMap,
    request: Arc<NextRequest>,
}

/// The plain long poll that the request is, if it is one.
pub(super) fn plain(request: &Request<Incoming>, app: &App) -> Option<Arc<NextRequest>> {
    if request.method() != Method::GET || !request.body().is_end_stream() {
        return None;
    }
    let (target, headers) = (request.uri().path_and_query()?, request.headers());
    let same = |last: &LastRequest| {
        let is_same =
            last.app == app.id && last.target.as_str() == target.as_str() && last.headers == *headers;
        (is_same && last.request.scope.is_granted()).then(|| Arc::clone(&last.request))
    };
    if let Some(same) = LAST.with_borrow(|last| last.as_ref().and_then(same)) {
        return Some(same);
    }
    let request = Arc::new(plain_next(target.as_str(), headers, app)?);
    let (target, headers) = (target.clone(), headers.clone());
    LAST.set(Some(LastRequest { app: app.id, target, headers, request: Arc::clone(&request) }));
    Some(request)
}

/// The end of a wait: its deadline, or the shutdown. When that begins, the connection wakes all streams, so one that waits
/// does not listen for it.
async fn wait_ends(app: &App, deadline: Instant) -> Reason {
    let (mut sleep, mut draining) = (pin!(sleep_until(deadline)), false);
    poll_fn(|cx| {
        if !draining && app.shutdown.has_begun() {
            draining = true;
            // Ready at once, since it has begun.
            let begun = pin!(app.shutdown.begun()).poll(cx);
            let delay = begun.map(|window| Shutdown::answer_delay(window, app.waiters()));
            if let Poll::Ready(delay) = delay {
                sleep.as_mut().reset(Instant::now() + delay);
            }
        }
        sleep.as_mut().poll(cx).map(|()| if draining { Reason::ShuttingDown } else { Reason::Timeout })
    })
    .await
}

/// The refusal of a plain long poll over its client's rate.
pub(super) fn over_rate(app: &App, peer: &Peer, request: &NextRequest) -> Option<Response> {
    let problem = app.budgets.request(app.client(request.scope.grant(), peer)).err()?;
    Some(reply(app, request, Err(problem.into()), request.line(app, peer)))
}

/// Answers a plain long poll, which was counted.
pub(super) async fn answer(app: App, peer: Peer, request: Arc<NextRequest>) -> Result<Response, Infallible> {
    request.note(&app, &peer);
    let line = request.line(&app, &peer);
    let mut over = pin!(wait_ends(&app, request.wait.deadline()));
    let outcome = match try_wait(&app, &peer, &request, over.as_mut()).await {
        Ok(next) => Ok(next),
        Err(Other { reason, at_once }) => {
            let over = async {
                match reason {
                    Some(reason) => reason,
                    None => over.await,
                }
            };
            Box::pin(follow(&app, &peer, &request, over, at_once)).await
        }
    };
    Ok(reply(&app, &request, outcome, line))
}

fn reply(app: &App, request: &NextRequest, outcome: Outcome, line: Option<Box<Line>>) -> Response {
    let reply = request.reply(app, outcome);
    app.metrics.count_reply(&reply);
    if let Some(mut line) = line {
        line.is_answered(reply.status().as_u16(), reply.headers());
        line.bytes = reply.body().len();
        line.is_complete = true;
    }
    without_connection_headers(into_response(reply))
}

/// The fast path has no answer; the view has to find it.
struct Other {
    /// Why the wait is over, if it is.
    reason: Option<Reason>,
    /// Whether nothing was waited for.
    at_once: bool,
}

/// Waits in the fast path.
async fn try_wait(
    app: &App,
    peer: &Peer,
    request: &NextRequest,
    mut over: Pin<&mut impl Future<Output = Reason>>,
) -> Result<Next, Other> {
    let mut at_once = true;
    let other = |reason, at_once| Err(Other { reason, at_once });
    if !request.is_common() || app.shutdown.has_begun() {
        return other(None, at_once);
    }
    let keys = request.scope.keys();
    let Ok(_waiter) = app.budgets.waiter(&**peer.client(), keys, HeadBytes::default()) else {
        return other(None, at_once);
    };
    let view = &request.collection.view;
    loop {
        let next = match view.try_next(request.cursor, request.format, at_once, Answer::clone) {
            TryNext::Answered(answer) => {
                let next = Next::Answer(Answer { at_once, ..answer });
                app.metrics.observe_poll(request.cursor, &next);
                return Ok(next);
            }
            TryNext::Pending(next) => next,
            TryNext::Unknown => return other(None, at_once),
        };
        tokio::select! {
            biased;
            arrived = next.arrived() => if !arrived {
                return other(None, at_once);
            },
            reason = over.as_mut() => return other(Some(reason), at_once),
        }
        at_once = false;
    }
}

/// The outcome of any long poll.
async fn follow(
    app: &App,
    peer: &Peer,
    request: &NextRequest,
    over: impl Future<Output = Reason>,
    at_once: bool,
) -> Outcome {
    let mut outcome = request.follow(app, peer, HeadBytes::default(), over).await;
    if let Ok(Next::Answer(answer)) = &mut outcome {
        answer.at_once &= at_once;
    }
    outcome
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;
    use crate::http::{AppConfig, Collection, Shutdown};

    /// A connection may have hundreds of waiting streams.
    const MAX_BYTES: usize = 648;

    #[tokio::test]
    async fn a_waiting_stream_is_small() {
        let app = App::new([Collection::empty()], Shutdown::default(), AppConfig::smallest());
        let peer = app.budgets.peer(([127, 0, 0, 1], 1).into());
        let mut headers = HeaderMap::new();
        headers.insert("host", "a".parse().unwrap());
        let path = "/v1/breadcrumbs/5f0c11d29a3b4e77.1842.s9d03c1f2/next";
        let request = Arc::new(plain_next(path, &headers, &app).unwrap());
        let bytes = size_of_val(&answer(app, peer, request));
        assert!(bytes <= MAX_BYTES, "{bytes} bytes; the limit is {MAX_BYTES}");
    }
}
