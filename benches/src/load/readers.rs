//! Many readers of streams.
//!
//! A reader sends one request and reads the events of one answer that never ends. It does not come back: a stream that
//! ends while it is measured is a failure.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::crowd::{CONNECTING, Crowd};
use super::events::Events;
use super::{Board, Connection, Heard, LoadError, Target, numbers_in};

/// The request of a reader, and what is in the events. One serves all readers of a crowd.
pub trait EventStream: Send + Sync + 'static {
    /// The request with which every reader begins.
    fn request(&self) -> Vec<u8>;

    /// Reads whole events, one or several. `before` is the number that the reader had heard last. `None` when they
    /// publish nothing, as a heartbeat.
    fn heard(&self, before: u64, events: &[u8]) -> Option<Heard>;
}

/// Readers of `/v1/stream`, as events.
#[derive(Debug, Clone)]
pub struct CrumbdStream {
    request: String,
}

impl CrumbdStream {
    /// Streams that begin after this cursor.
    pub fn new(target: &Target, cursor: &str) -> Self {
        let fields = target.fields();
        let request =
            format!("GET /v1/stream?from={cursor} HTTP/1.1\r\n{fields}Accept: text/event-stream\r\n\r\n");
        Self { request }
    }
}

impl EventStream for CrumbdStream {
    fn request(&self) -> Vec<u8> {
        self.request.clone().into_bytes()
    }

    fn heard(&self, _: u64, events: &[u8]) -> Option<Heard> {
        let (last, count) = numbers_in(events)?;
        Some(Heard { last, count: Some(count) })
    }
}

struct Shared<S> {
    target: Target,
    stream: S,
    board: Arc<Board>,
    connecting: Semaphore,
}

impl Crowd {
    /// Starts so many readers.
    pub fn of_readers<S: EventStream>(target: &Target, stream: S, readers: usize, board: Arc<Board>) -> Self {
        let connecting = Semaphore::new(CONNECTING);
        let shared = Arc::new(Shared { target: target.clone(), stream, board, connecting });
        let mut tasks = JoinSet::new();
        for reader in 0..readers {
            let shared = shared.clone();
            tasks.spawn(async move {
                let Err(error) = shared.read_for_ever(reader).await;
                shared.board.has_failed(error.to_string());
            });
        }
        Self::of(tasks)
    }
}

impl<S: EventStream> Shared<S> {
    async fn begin(&self, reader: usize) -> Result<(Connection, Events), LoadError> {
        // Never closed, so never an error.
        let _turn = self.connecting.acquire().await;
        let mut connection = self.target.connect(reader).await?;
        connection.send(&self.stream.request()).await?;
        let begun = connection.begin_stream().await?;
        let mut events = Events::default();
        self.take(reader, &mut events, &begun)?;
        Ok((connection, events))
    }

    async fn read_for_ever(&self, reader: usize) -> Result<Infallible, LoadError> {
        let (mut connection, mut events) = self.begin(reader).await?;
        self.board.has_asked();
        loop {
            connection.read(|bytes| self.take(reader, &mut events, bytes)).await??;
        }
    }

    fn take(&self, reader: usize, events: &mut Events, bytes: &[u8]) -> Result<(), LoadError> {
        events.take(bytes, |whole| {
            if let Some(heard) = self.stream.heard(self.board.last(reader), whole) {
                self.board.heard(reader, heard, whole.len() as u64);
            }
        })
    }
}
