//! The service `etcdserverpb.Watch`.
//!
//! The body of the answer is the stream itself: it reads requests and makes messages only while the client has room for
//! them. What a watch was not told of yet is in the log, not here.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Response;
use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream;
use hyper::body::Frame;
use prost::Message;
use tokio::time::Instant;
use tonic::Status;

use super::front::{Call, number};
use super::grpc::{self, Body, Messages};
use super::status;
use crate::http::budget::HeadBytes;
use crate::http::client::{Client, WaiterGuard};
use crate::http::metrics::etcd::Counted;
use crate::model::{Key, KeySelector, Revision};
use crate::view::View;
use crate::view::etcd::{KeyRange, NewWatch, WatchMessage, WatchOptions, WatchStream};
use crate::wire::etcd::ResponseHeader;
use crate::wire::etcd::watch::{
    FilterType, WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse,
};

/// About how many bytes are made at a time.
const FRAME_BYTES: usize = 32 << 10;

/// How often a watch that asks for it is told how far it is, while it has no events.
const PROGRESS_EVERY: Duration = Duration::from_secs(600);

/// The watch id of an answer that is for no single watch.
const NO_WATCH: i64 = -1;

impl Call {
    /// `Watch`.
    pub(super) fn watch(self, messages: Messages) -> Result<Response<Body>, Status> {
        let readable = self.readable()?;
        self.view().newest().map_err(|error| status::of_view(&error))?;
        let watches = self.view().etcd_watches();
        let watches =
            watches.ok_or_else(|| status::unavailable("this daemon keeps no history for watches"))?;
        let (app, place) = (self.app().clone(), self.place()?);
        let session = Session {
            header: self.front.header(Revision::ZERO),
            watches,
            readable,
            guards: HashMap::new(),
            progress: HashMap::new(),
            progress_at: None,
            asked: None,
            overdue: None,
            next_id: 0,
            messages: Some(messages),
            out: Outgoing::default(),
            drain: Box::pin(async move { app.drain_delay().await }),
            end: End::Open,
            _place: (place, self.app().metrics.etcd.streams.count()),
            call: self,
        };
        Ok(grpc::stream(stream::unfold(session, |mut session| async move {
            let frame = session.next_frame().await?;
            Some((Ok::<_, Infallible>(frame), session))
        })))
    }
}

/// A stream of watches.
struct Session {
    call: Call,
    /// The header of its messages, but for the revision.
    header: ResponseHeader,
    watches: WatchStream,
    readable: KeySelector,
    /// The place of the stream itself in the budgets.
    _place: (WaiterGuard<Arc<Client>>, Counted),
    /// The places of the watches.
    guards: HashMap<i64, (WaiterGuard<Arc<Client>>, Counted)>,
    /// The watches that want to be told how far they are, and when they were last told something.
    progress: HashMap<i64, Instant>,
    progress_at: Option<Instant>,
    next_id: i64,
    /// `None` once the client sends no more.
    messages: Option<Messages>,
    /// Up to where progress is to be told once the watches were told everything, and how often: whether it is asked for, or due.
    asked: Option<(Revision, u32)>,
    overdue: Option<Revision>,
    out: Outgoing,
    drain: BoxFuture<'static, ()>,
    end: End,
}

enum End {
    Open,
    /// What is in `out` is the last, and this is the status.
    With(Status),
    Sent,
}

/// What happens to a stream.
enum Input {
    Request(Result<Option<Bytes>, Status>),
    Due,
    Drain,
    Revoked,
    Progress,
}

impl Session {
    async fn next_frame(&mut self) -> Option<Frame<Bytes>> {
        loop {
            if let Some(bytes) = self.out.next() {
                return Some(Frame::data(bytes));
            }
            match std::mem::replace(&mut self.end, End::Sent) {
                End::Open => self.end = End::Open,
                End::With(status) => return Some(grpc::trailers(&status)),
                End::Sent => return None,
            }
            if self.watches.is_due() {
                self.tell();
                continue;
            }
            if self.tell_progress() {
                continue;
            }
            if self.watches.has_ended() {
                self.end = End::With(status::unavailable("the daemon is stopping"));
                continue;
            }
            match self.input().await {
                Input::Request(request) => {
                    if let Err(status) = self.take(request).await {
                        self.end = End::With(status);
                    }
                }
                Input::Due => {}
                Input::Drain => {
                    self.end = End::With(status::unavailable(
                        "the daemon is stopping; the watches go on where they are on another replica, or here after the restart",
                    ));
                }
                Input::Revoked => {
                    self.end = End::With(status::permission_denied());
                }
                Input::Progress => self.overdue = Some(self.watches.look()),
            }
        }
    }

    async fn input(&mut self) -> Input {
        let Self { watches, messages, drain, call, progress_at, .. } = self;
        let request = async {
            match messages {
                Some(messages) => messages.next().await,
                None => std::future::pending().await,
            }
        };
        let revoked = async {
            match call.access.grant() {
                Some(grant) => _ = grant.revoked().await,
                None => std::future::pending().await,
            }
        };
        let progress = async {
            match progress_at {
                Some(at) => tokio::time::sleep_until(*at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = revoked => Input::Revoked,
            () = drain => Input::Drain,
            request = request => Input::Request(request),
            () = watches.ready() => Input::Due,
            () = progress => Input::Progress,
        }
    }

    async fn take(&mut self, request: Result<Option<Bytes>, Status>) -> Result<(), Status> {
        let Some(message) = request? else {
            self.messages = None;
            return Ok(());
        };
        match grpc::decode::<WatchRequest>(message)?.request {
            Some(WatchRequestUnion::Create(create)) => self.create(create).await,
            Some(WatchRequestUnion::Cancel(cancel)) => self.cancel(cancel.watch_id),
            Some(WatchRequestUnion::Progress(_)) => {
                let times = self.asked.map_or(0, |(_, times)| times);
                self.asked = Some((self.watches.look(), times.saturating_add(1)));
            }
            None => {}
        }
        Ok(())
    }

    async fn create(&mut self, create: WatchCreateRequest) {
        self.watches.caught_up().await;
        let newest = self.watches.newest();
        let refuse = |why: String| WatchResponse {
            watch_id: NO_WATCH,
            created: true,
            canceled: true,
            cancel_reason: why,
            ..WatchResponse::default()
        };
        // An empty key begins the range of all keys.
        let key = if create.key.is_empty() { Bytes::from_static(&[0]) } else { create.key };
        let range = KeyRange::new(key, create.range_end);
        let refusal = if range.is_empty() {
            Some("mvcc: watcher range is empty".to_owned())
        } else if create.watch_id != 0 && self.watches.contains(create.watch_id) {
            Some("mvcc: duplicate watch ID provided on the WatchStream".to_owned())
        } else if !(range.is_within(&self.readable) && range.is_within(self.call.front.followed())) {
            // etcd gives the status as text.
            Some("rpc error: code = PermissionDenied desc = etcdserver: permission denied".to_owned())
        } else {
            None
        };
        if let Some(why) = refusal {
            let header = self.header_at(newest);
            return self.say(WatchResponse { header, ..refuse(why) });
        }
        let id = self.id(create.watch_id);
        let app = self.call.app().clone();
        let client = Arc::clone(self.call.client());
        let keys = KeySelector::key(Key::copy_from(range.start()));
        match app.budgets.waiter(Arc::clone(&client), &keys, HeadBytes::default()) {
            Ok(guard) => _ = self.guards.insert(id, (guard, app.metrics.etcd.watches.count())),
            Err(full) => {
                let problem = app.budgets.no_place(full, &client);
                let header = self.header_at(newest);
                return self.say(WatchResponse { header, ..refuse(format!("crumbd: {}", problem.detail())) });
            }
        }
        let from = match create.start_revision {
            0 => newest.next(),
            revision => Revision(u64::try_from(revision).unwrap_or(0)),
        };
        let has = |filter: FilterType| create.filters.contains(&(filter as i32));
        let options = WatchOptions {
            previous: create.prev_kv,
            no_put: has(FilterType::Noput),
            no_delete: has(FilterType::Nodelete),
        };
        let header = self.header_at(newest);
        self.say(WatchResponse { header, watch_id: id, created: true, ..WatchResponse::default() });
        if create.progress_notify {
            self.progress.insert(id, Instant::now());
            self.progress_at.get_or_insert_with(|| Instant::now() + PROGRESS_EVERY);
        }
        if is_of_another_store(self.call.view().clone(), from).await {
            return self.compacted(id, self.watches.newest().next());
        }
        self.watches.add(NewWatch { id, range, options, from, fragment: create.fragment }).await;
    }

    /// The id of a new watch: the one that the client wants, or the next free one.
    fn id(&mut self, wanted: i64) -> i64 {
        if wanted != 0 {
            return wanted;
        }
        while self.watches.contains(self.next_id) {
            self.next_id += 1;
        }
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn cancel(&mut self, id: i64) {
        if self.watches.remove(id) {
            self.forget(id);
            let header = self.header_at(self.watches.newest());
            let (watch_id, canceled) = (id, true);
            self.say(WatchResponse { header, watch_id, canceled, ..WatchResponse::default() });
        }
    }

    fn forget(&mut self, id: i64) {
        self.guards.remove(&id);
        self.progress.remove(&id);
    }

    /// Tells the watches what they have not been told yet, some of it.
    fn tell(&mut self) {
        let now = Instant::now();
        for message in self.watches.take(FRAME_BYTES) {
            match message {
                WatchMessage::Events { id, revision, events, fragment } => {
                    let header = self.header_at(revision);
                    let head = WatchResponse { header, watch_id: id, fragment, ..WatchResponse::default() };
                    self.out.message(&head, events);
                    if let Some(told) = self.progress.get_mut(&id) {
                        *told = now;
                    }
                }
                WatchMessage::Compacted { id, first_kept } => self.compacted(id, first_kept),
            }
        }
    }

    /// Ends a watch that could begin again at this revision.
    fn compacted(&mut self, id: i64, first_kept: Revision) {
        self.forget(id);
        // The history may be another one now.
        self.header = self.call.front.header(Revision::ZERO);
        self.say(WatchResponse {
            header: self.header_at(self.watches.newest()),
            watch_id: id,
            canceled: true,
            compact_revision: number(first_kept),
            ..WatchResponse::default()
        });
    }

    /// Tells how far the watches are, as was asked for or is due. Everything before was told. Returns whether there was something to
    /// tell.
    fn tell_progress(&mut self) -> bool {
        if let Some((revision, times)) = self.asked.take() {
            self.asked = (times > 1).then_some((revision, times - 1));
            let header = self.header_at(revision);
            self.say(WatchResponse { header, watch_id: NO_WATCH, ..WatchResponse::default() });
            return true;
        }
        let Some(revision) = self.overdue.take() else { return false };
        let (now, header) = (Instant::now(), self.header_at(revision));
        let overdue = |told: &&mut Instant| now.duration_since(**told) >= PROGRESS_EVERY;
        let mut ids = Vec::new();
        for (id, told) in &mut self.progress {
            if overdue(&told) {
                *told = now;
                ids.push(*id);
            }
        }
        for watch_id in ids {
            self.say(WatchResponse { header, watch_id, ..WatchResponse::default() });
        }
        let next = self.progress.values().min().map(|told| *told + PROGRESS_EVERY);
        self.progress_at = next;
        true
    }

    fn header_at(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: number(revision), ..self.header })
    }

    fn say(&mut self, response: WatchResponse) {
        self.out.message(&response, Bytes::new());
    }
}

/// Whether no client of this store can have seen the revision before this one: the datastore itself is not there yet. Then the
/// revision is of a store that was replaced, and to wait for it would be to leave out what happens until then.
async fn is_of_another_store(view: View, from: Revision) -> bool {
    from > view.complete_to().next()
        && view.says_how_far_it_is()
        && view.linearize().await.is_ok()
        && from > view.complete_to().next()
}

/// Messages that wait to be sent.
#[derive(Default)]
struct Outgoing {
    ready: VecDeque<Bytes>,
    /// Small messages, in one frame.
    open: BytesMut,
}

impl Outgoing {
    /// Adds a message with these events after its other fields.
    fn message(&mut self, head: &WatchResponse, events: Bytes) {
        self.open.extend_from_slice(&grpc::prefix(head.encoded_len() + events.len()));
        // It fails only where there is no room, and the buffer grows.
        _ = head.encode(&mut self.open);
        if events.len() <= grpc::COPIED_BYTES {
            self.open.extend_from_slice(&events);
        } else {
            self.ready.push_back(self.open.split().freeze());
            self.ready.push_back(events);
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        // Taken whole, so that a stream that waits has no buffer.
        let open = std::mem::take(&mut self.open);
        (!open.is_empty()).then(|| open.freeze())
    }
}
