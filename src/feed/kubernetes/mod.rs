//! `kubernetes:?resource=GROUP/VERSION/PLURAL`: the objects of one type, by a list at one revision and a watch from there.
//!
//! What the feed promises:
//!
//! - A key is `namespace/name`, or `name` where there are no namespaces. A value is the object as the server sent it, byte
//!   for byte, without `managedFields` and the last-applied annotation ([`object`]). Nothing is decoded as a tree.
//! - A revision is a resourceVersion. The history is derived from the cluster's identity (the UID of the namespace
//!   `kube-system`), the type and the selectors, so replicas agree on both, and each continues the other's cursors.
//! - A cluster that was restored from a backup keeps its identity. So at the start, and after a server that could not be
//!   reached, the whole state at our revision is compared with the server's ([`session`]). If it is another one, the feed counts up a generation, and that
//!   is another history.
//! - A revision that the server has lost (410: as a status, as an `ERROR` event, for a continue token) is a list whose
//!   difference appears as one ordinary breadcrumb.
//! - It is in sync only once everything up to the revision that the server has named in this session has arrived. Watches
//!   that end early without an event are not trusted: the current state is listed instead.
//! - Whatever the server refuses, the daemon serves what it has, is not in sync, and says why.
//!
//! One client is a [`session`]; a new one reads the credentials again. A [`watch`] says by its end what is to be done.
//! That it is silently dead is found out by an [`audit`].

mod audit;
mod backfill;
mod client;
mod config;
mod discovery;
mod error;
mod events;
mod kubeconfig;
mod list;
mod object;
mod plugin;
mod resume_point;
mod session;
mod streaming_list;
mod token;
mod watch;

pub(super) use config::KIND;

use std::convert::Infallible;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::backoff::Backoff;
use super::{Activity, Feed, FeedError, Sink, Warm};
use crate::model::{FeedEvent, History, SyncStatus};
use config::KubeTarget;
use error::{KubeError, one_line};
use resume_point::ResumePoint;
use session::{Memory, Session};

/// The longest time without a sign of life: the feed asks its server every few seconds, and a list may take a while.
const MAX_SILENCE: Duration = Duration::from_secs(300);

/// The objects of one type as a feed.
struct KubeFeed {
    target: KubeTarget,
    memory: Memory,
    /// The state of the last run, until the cluster has been asked whether it is the same one.
    warm: Option<Warm>,
}

impl KubeFeed {
    /// A feed of this target. [`Feed::run`] connects, and never gives up.
    fn new(target: KubeTarget) -> Self {
        Self { target, memory: Memory::default(), warm: None }
    }

    async fn session(
        &mut self,
        sink: &Sink,
        resume: &mut Option<ResumePoint>,
    ) -> Result<Infallible, KubeError> {
        let Self { target, memory, warm } = self;
        let opening = Session::open(target, sink.clone(), memory);
        // Before anything is served there is no status to report.
        let session = if resume.is_some() { sink.report_if_slow(opening).await? } else { opening.await? };
        session.run(resume, warm).await
    }

    /// One session after the other.
    async fn follow(mut self, sink: Sink, warm: Option<Warm>) -> Result<(), FeedError> {
        self.warm = warm;
        let mut resume = None;
        let mut backoff = Backoff::default();
        loop {
            sink.upstream().does(Activity::Connecting);
            let error = match self.session(&sink, &mut resume).await {
                Ok(never) => match never {},
                Err(KubeError::Feed(error)) => return Err(error),
                Err(error) => error,
            };
            let said = one_line(&error.to_string());
            let memory = &mut self.memory;
            memory.failed_sessions += u32::from(std::mem::take(&mut memory.has_connected));
            memory.is_verified &= error.leaves_the_cluster_as_it_was();
            let failures = backoff.failed(sink.upstream()).max(memory.failed_sessions);
            // A broken connection is replaced at once; clients are told of what lasts longer.
            if failures.max(memory.unproved_sessions) > 1 || error.is_refusal() {
                sink.upstream().has_problem(Some(said.clone()));
                if resume.is_some() {
                    sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
                }
            }
            let at_least = error.pause().max(memory.pause());
            backoff.pause(sink.upstream(), "kubernetes", &said, at_least).await;
        }
    }
}

impl Feed for KubeFeed {
    /// Known only once the cluster has answered with its identity.
    fn history(&self) -> Option<History> {
        None
    }

    fn max_silence(&self) -> Option<Duration> {
        Some(MAX_SILENCE)
    }

    fn can_read_history(&self) -> bool {
        true
    }

    fn run(self: Box<Self>, sink: Sink, warm: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>> {
        Box::pin(self.follow(sink, warm))
    }
}
