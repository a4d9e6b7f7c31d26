//! The connection for writes: to one member of the cluster at a time, apart from that of the feed.

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::feed::etcd::client::Connection;
use crate::feed::etcd::{EtcdAccess, EtcdError, EtcdTarget};
use crate::wire::etcd::kv::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};

/// A connection that is opened when it is needed, and again after it failed.
pub(super) struct Member {
    target: EtcdTarget,
    access: EtcdAccess,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Connection>,
    /// The endpoint to try first.
    next: usize,
    /// Counts the connections.
    number: u64,
}

/// Whether a request may be sent again after the connection failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Always,
    IfNotDone,
}

impl Member {
    pub(super) fn new(target: EtcdTarget, access: EtcdAccess) -> Self {
        let state = State { next: fastrand::usize(..target.endpoints.len().max(1)), ..State::default() };
        Self { target, access, state: Mutex::new(state) }
    }

    /// One transaction. It is sent again only where it was certainly not done.
    pub(super) async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, CallError> {
        let send = |etcd: Connection| {
            let request = request.clone();
            async move { etcd.txn(request).await }
        };
        self.call(Repeat::IfNotDone, send).await
    }

    /// One range, which changes nothing.
    pub(super) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, CallError> {
        let send = |etcd: Connection| {
            let request = request.clone();
            async move { etcd.range(request).await }
        };
        self.call(Repeat::Always, send).await
    }

    /// A call of a client, as it is. It is sent again only where it was certainly not done.
    pub(super) async fn pass_on(
        &self,
        path: &'static str,
        message: Bytes,
        max_answer: usize,
    ) -> Result<Bytes, CallError> {
        let send = |etcd: Connection| {
            let message = message.clone();
            async move { etcd.pass_on(path, message, max_answer).await }
        };
        self.call(Repeat::IfNotDone, send).await
    }

    /// The same for a call that is a stream: one message and its answer.
    pub(super) async fn pass_on_to_stream(
        &self,
        path: &'static str,
        message: Bytes,
    ) -> Result<Bytes, CallError> {
        let send = |etcd: Connection| {
            let message = message.clone();
            async move { etcd.pass_on_to_stream(path, message).await }
        };
        self.call(Repeat::Always, send).await
    }

    /// Sends a request: to another member where this one has certainly not done it, and after a new login where etcd
    /// asks for one.
    async fn call<A, F: Future<Output = Result<A, EtcdError>>>(
        &self,
        repeat: Repeat,
        send: impl Fn(Connection) -> F,
    ) -> Result<A, CallError> {
        let mut tries = self.target.endpoints.len() + 1;
        let mut may_log_in = true;
        loop {
            let (connection, number) = self.connection().await.map_err(CallError::NotSent)?;
            let error = match send(connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.wants_login() && std::mem::replace(&mut may_log_in, false) {
                self.forget(number, false).await;
                continue;
            }
            let not_done = error.was_not_sent() || error.has_no_leader();
            let broken = error.is_broken_connection() || error.is_late();
            if not_done || broken {
                self.forget(number, true).await;
            }
            tries -= 1;
            let again = not_done || (broken && repeat == Repeat::Always);
            if tries == 0 || !again {
                return Err(if not_done { CallError::NotSent(error) } else { CallError::Answered(error) });
            }
        }
    }

    /// The open connection, or a new one to the first member that can be reached.
    async fn connection(&self) -> Result<(Connection, u64), EtcdError> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.open {
            return Ok((connection.clone(), state.number));
        }
        let mut failure = EtcdError::Nonsense("no endpoint");
        for _ in &self.target.endpoints {
            let endpoint = &self.target.endpoints[state.next % self.target.endpoints.len()];
            match Connection::open(endpoint, &self.access).await {
                Ok(connection) => {
                    state.number += 1;
                    state.open = Some(connection.clone());
                    return Ok((connection, state.number));
                }
                Err(error) => failure = error,
            }
            state.next += 1;
        }
        Err(failure)
    }

    /// Opens another connection next time: to another member, if this one has failed.
    async fn forget(&self, number: u64, failed: bool) {
        let mut state = self.state.lock().await;
        if state.number == number && state.open.take().is_some() && failed {
            state.next += 1;
        }
    }
}

/// A failed request.
pub(super) enum CallError {
    /// No member has done it.
    NotSent(EtcdError),
    /// etcd's refusal, or a connection that failed after the request was sent.
    Answered(EtcdError),
}
