//! The streams of a connection: how many there are, and which clients read nothing.
//!
//! A stream is stalled when bytes of its answer wait for the client, and the client lets none of them pass for the stall
//! timeout. Two cases look the same and are none: the socket is full (the system closes a connection whose client
//! acknowledges nothing), and the client reads other streams slowly, which share a window with this one. The library
//! serves waiting streams in turn. So a stream that was passed over for more than a whole turn is shut by its client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use hyper::rt::Executor;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::http::http2::{MAX_QUEUED_BYTES, MAX_STREAMS};

/// Tasks of streams after which no more requests are read. A client that resets its streams at once has more of them than
/// streams, until they have noticed.
const MAX_TASKS: usize = 4 * MAX_STREAMS as usize;

/// The list of answers is looked through when it has this many, or twice as many as the last time.
const MIN_SWEEP: usize = 64;

/// What the streams of a connection share.
pub(super) struct Streams {
    begun_at: Instant,
    /// Streams that have not ended.
    active: AtomicUsize,
    any_begun: AtomicBool,
    /// When the last one ended. Times are in milliseconds since `begun_at`.
    idle_since: AtomicU64,
    /// Bytes of answers that were written, and when.
    written: AtomicU64,
    written_at: AtomicU64,
    /// Whether the socket takes no more, and when it took something last after that.
    is_blocked: AtomicBool,
    unblocked_at: AtomicU64,
    live: Mutex<Live>,
    /// The stream whose task the library starts next.
    starting: Mutex<Option<Arc<StreamState>>>,
    /// Woken when a task ends, while too many run.
    reader: AtomicWaker,
}

/// The streams that have not ended, or have bytes that are not written.
struct Live {
    list: Vec<Arc<StreamState>>,
    sweep_at: usize,
}

/// A stream's part of it.
pub(super) struct StreamState {
    streams: Arc<Streams>,
    /// Pieces of the answer that the library has and did not write to its end.
    in_flight: AtomicU32,
    /// When the client last let something pass, and how much was written on the connection by then.
    moved_at: AtomicU64,
    written_then: AtomicU64,
    is_stalled: AtomicBool,
    has_ended: AtomicBool,
    task: AtomicWaker,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            begun_at: Instant::now(),
            active: AtomicUsize::new(0),
            any_begun: AtomicBool::new(false),
            idle_since: AtomicU64::new(0),
            written: AtomicU64::new(0),
            written_at: AtomicU64::new(0),
            is_blocked: AtomicBool::new(false),
            unblocked_at: AtomicU64::new(0),
            live: Mutex::new(Live { list: Vec::new(), sweep_at: MIN_SWEEP }),
            starting: Mutex::new(None),
            reader: AtomicWaker::new(),
        }
    }

    fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.begun_at).as_millis() as u64
    }

    fn time(&self, millis: u64) -> Instant {
        self.begun_at + Duration::from_millis(millis)
    }

    /// Begins a stream, whose task is the next one to start.
    pub(super) fn begin(self: &Arc<Self>) -> Arc<StreamState> {
        self.active.fetch_add(1, Ordering::AcqRel);
        self.any_begun.store(true, Ordering::Release);
        let state = Arc::new(StreamState {
            streams: Arc::clone(self),
            in_flight: AtomicU32::new(0),
            moved_at: AtomicU64::new(0),
            written_then: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        *self.starting.lock() = Some(Arc::clone(&state));
        let Live { list, sweep_at } = &mut *self.live.lock();
        if list.len() >= *sweep_at {
            sweep(list, sweep_at);
        }
        list.push(Arc::clone(&state));
        state
    }

    /// Wakes the tasks of all streams. They ask whether the daemon shuts down, and do not listen for it themselves.
    pub(super) fn wake_all(&self) {
        self.live.lock().list.iter().for_each(|stream| stream.task.wake());
    }

    /// Whether any stream was begun.
    pub(super) fn any_begun(&self) -> bool {
        self.any_begun.load(Ordering::Acquire)
    }

    /// The time since which there is no stream.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.active.load(Ordering::Acquire) == 0;
        is_idle.then(|| self.time(self.idle_since.load(Ordering::Acquire)))
    }

    /// Resolves when more requests may be read.
    pub(super) fn poll_may_read(&self, cx: &mut Context<'_>) -> Poll<()> {
        let full = || self.active.load(Ordering::Acquire) >= MAX_TASKS;
        if !full() {
            return Poll::Ready(());
        }
        self.reader.register(cx.waker());
        if full() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Records whether the socket takes more.
    pub(super) fn socket_writes(&self, is_ready: bool) {
        if is_ready && self.is_blocked.load(Ordering::Relaxed) {
            self.unblocked_at.store(self.millis(Instant::now()), Ordering::Relaxed);
        }
        self.is_blocked.store(!is_ready, Ordering::Relaxed);
    }

    /// Ends the streams whose clients read nothing. Returns when to look again, or why the connection has to end: the
    /// library has all of an answer and cannot be told to drop it.
    pub(super) fn check_stalls(
        &self,
        stall: Duration,
        now: Instant,
    ) -> Result<Option<Instant>, &'static str> {
        if self.is_blocked.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Live { list, sweep_at } = &mut *self.live.lock();
        sweep(list, sweep_at);
        let unblocked_at = self.unblocked_at.load(Ordering::Relaxed);
        let is_over = |since: u64| now >= self.time(since) + stall;
        let nothing_moves = is_over(self.written_at.load(Ordering::Relaxed).max(unblocked_at));
        let answers = || list.iter().filter(|stream| stream.in_flight.load(Ordering::Acquire) > 0);
        let a_turn = 2 * (answers().count() * MAX_QUEUED_BYTES) as u64;
        let mut next = None;
        for stream in answers() {
            let since = stream.moved_at.load(Ordering::Relaxed).max(unblocked_at);
            let meanwhile =
                self.written.load(Ordering::Relaxed) - stream.written_then.load(Ordering::Relaxed);
            let at = match is_over(since) {
                false => self.time(since) + stall,
                true if !nothing_moves && meanwhile < a_turn => now + stall / 4,
                true if stream.has_ended.load(Ordering::Acquire) => {
                    return Err("the client reads nothing of an answer");
                }
                true => {
                    stream.is_stalled.store(true, Ordering::Release);
                    stream.task.wake();
                    continue;
                }
            };
            next = Some(next.map_or(at, |next: Instant| next.min(at)));
        }
        Ok(next)
    }
}

/// Removes the streams that have ended.
fn sweep(list: &mut Vec<Arc<StreamState>>, sweep_at: &mut usize) {
    list.retain(|stream| {
        !stream.has_ended.load(Ordering::Acquire) || stream.in_flight.load(Ordering::Acquire) > 0
    });
    *sweep_at = MIN_SWEEP.max(2 * list.len());
    list.shrink_to(*sweep_at);
}

impl StreamState {
    /// Called when the library gets a piece.
    pub(super) fn piece_begins(&self) {
        if self.in_flight.fetch_add(1, Ordering::AcqRel) == 0 {
            self.moved();
        }
    }

    /// Called when bytes of a piece are written.
    pub(super) fn written(&self, bytes: usize) {
        let streams = &self.streams;
        streams.written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.moved();
        streams.written_at.store(self.moved_at.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn moved(&self) {
        let streams = &self.streams;
        self.moved_at.store(streams.millis(Instant::now()), Ordering::Relaxed);
        self.written_then.store(streams.written.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Called when the library drops a piece, which is written or given up.
    pub(super) fn piece_ends(&self) {
        if self.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.task.wake();
        }
    }

    /// Resolves when the library has no piece.
    pub(super) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<()> {
        let has_none = || self.in_flight.load(Ordering::Acquire) == 0;
        if has_none() {
            return Poll::Ready(());
        }
        self.task.register(cx.waker());
        if has_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Starts the tasks of a connection's streams.
#[derive(Clone)]
pub(super) struct StreamsExecutor(pub(super) Arc<Streams>);

impl<F> Executor<F> for StreamsExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        match self.0.starting.lock().take() {
            Some(state) => drop(tokio::spawn(StreamTask { future, state: TaskState(state) })),
            None => drop(tokio::spawn(future)),
        }
    }
}

pin_project! {
    /// The task of a stream. When it is dropped before its end, the library resets the stream.
    struct StreamTask<F> {
        #[pin]
        future: F,
        state: TaskState,
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let state = &this.state.0;
        state.task.register(cx.waker());
        if state.is_stalled.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        this.future.poll(cx)
    }
}

/// The stream that ends with its task.
struct TaskState(Arc<StreamState>);

impl Drop for TaskState {
    fn drop(&mut self) {
        let Self(state) = self;
        let streams = &state.streams;
        state.has_ended.store(true, Ordering::Release);
        drop(state.task.take());
        streams.idle_since.store(streams.millis(Instant::now()), Ordering::Release);
        streams.active.fetch_sub(1, Ordering::AcqRel);
        streams.reader.wake();
    }
}
