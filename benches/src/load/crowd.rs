//! Many waiters.
//!
//! A waiter is: connect, ask, wait, read, ask again. It comes back after a 503 when it was told to, and
//! connects anew with the same request when its connection ends, a few times: a daemon that goes away
//! for good is a failure, not something to wait for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Answer, Board, Connection, LoadError, LongPoll, Target};

/// Connections that are made at once: below every usual accept queue.
pub(super) const CONNECTING: usize = 128;

/// Tries to get a broken connection back.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// A longer pause than this is not obeyed.
const LONGEST_PAUSE_S: u64 = 30;

/// Waiters or readers at work, until this is dropped.
#[derive(Debug)]
pub struct Crowd {
    tasks: JoinSet<()>,
}

/// What is the same for all.
struct Shared<P> {
    target: Target,
    poll: P,
    board: Arc<Board>,
    connecting: Semaphore,
}

/// What to do after an answer.
enum Then {
    AskNext,
    AskAgainAfter(Duration),
    GiveUp(String),
}

impl Crowd {
    /// Starts so many waiters.
    pub fn start<P: LongPoll>(target: &Target, poll: P, waiters: usize, board: Arc<Board>) -> Self {
        let connecting = Semaphore::new(CONNECTING);
        let shared = Arc::new(Shared { target: target.clone(), poll, board, connecting });
        let mut tasks = JoinSet::new();
        for waiter in 0..waiters {
            tasks.spawn(wait_for_ever(shared.clone(), waiter));
        }
        Self { tasks }
    }

    pub(super) fn of(tasks: JoinSet<()>) -> Self {
        Self { tasks }
    }

    /// Sends them home. Returns when their connections are closed on our side.
    pub async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn wait_for_ever<P: LongPoll>(shared: Arc<Shared<P>>, waiter: usize) {
    let mut request = Vec::new();
    shared.poll.first(waiter, &mut request);
    let failure = match shared.connect(waiter).await {
        Ok(connection) => shared.follow(waiter, connection, request).await,
        Err(error) => error.to_string(),
    };
    shared.board.has_failed(failure);
}

impl<P: LongPoll> Shared<P> {
    async fn connect(&self, waiter: usize) -> Result<Connection, LoadError> {
        // Never closed, so never an error.
        let _turn = self.connecting.acquire().await;
        self.target.connect(waiter).await
    }

    /// Returns only when there is nothing more to be done, with the reason.
    async fn follow(&self, waiter: usize, mut connection: Connection, mut request: Vec<u8>) -> String {
        let mut asked = false;
        loop {
            let then = match self.poll_once(waiter, &mut connection, &mut request, &mut asked).await {
                Ok(then) => then,
                Err(error @ LoadError::Answer(_)) => return error.to_string(),
                Err(error) => match self.reconnect(waiter).await {
                    Ok(new) => {
                        connection = new;
                        continue;
                    }
                    Err(again) => return format!("{error}; then: {again}"),
                },
            };
            match then {
                Then::AskNext => {}
                Then::AskAgainAfter(pause) => {
                    self.board.was_refused();
                    sleep(pause).await;
                }
                Then::GiveUp(reason) => return reason,
            }
            if connection.is_closing() {
                match self.reconnect(waiter).await {
                    Ok(new) => connection = new,
                    Err(error) => return error.to_string(),
                }
            }
        }
    }

    async fn poll_once(
        &self,
        waiter: usize,
        connection: &mut Connection,
        request: &mut Vec<u8>,
        asked: &mut bool,
    ) -> Result<Then, LoadError> {
        connection.send(request).await?;
        if !*asked {
            *asked = true;
            self.board.has_asked();
        }
        if self.poll.reads_bodies() {
            let read = |answer: &Answer<'_>| self.take(waiter, answer, answer.body.len() as u64, request);
            connection.answer(read).await
        } else {
            let got = connection.download(None).await?;
            Ok(self.take(waiter, &got.answer(), got.bytes, request))
        }
    }

    fn take(&self, waiter: usize, answer: &Answer<'_>, body_bytes: u64, request: &mut Vec<u8>) -> Then {
        match answer.status {
            200 | 204 => {
                let before = self.board.last(waiter);
                match self.poll.next(waiter, before, answer, request) {
                    Ok(_) if answer.status == 204 => self.board.was_idle(),
                    Ok(heard) => self.board.heard(waiter, heard, body_bytes),
                    Err(reason) => return Then::GiveUp(reason),
                }
                Then::AskNext
            }
            429 | 503 => {
                let pause = answer.number("retry-after").unwrap_or(1).min(LONGEST_PAUSE_S);
                Then::AskAgainAfter(Duration::from_secs(pause))
            }
            status => Then::GiveUp(format!("a waiter was answered {status}: {}", answer.detail())),
        }
    }

    async fn reconnect(&self, waiter: usize) -> Result<Connection, LoadError> {
        let mut pause = FIRST_PAUSE;
        let mut tries = 1;
        loop {
            self.board.has_reconnected();
            match self.connect(waiter).await {
                Ok(connection) => return Ok(connection),
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => sleep(pause).await,
            }
            tries += 1;
            pause *= 2;
        }
    }
}
