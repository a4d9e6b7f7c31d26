//! Copies of the state that check count and digest at every cursor.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crumbd::client::{Client, ClientError, Event, Follower, Retry};
use crumbd::model::{Digest, Revision};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::LoadError;

/// How often it is looked whether all have arrived.
const LOOK: Duration = Duration::from_millis(20);

/// Mirrors at work, until this is dropped.
#[derive(Debug)]
pub struct Mirrors {
    /// Dropped, they end.
    _tasks: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Where each stands.
    at: Vec<Mutex<Option<(Revision, Digest)>>>,
    checked: AtomicU64,
    snapshots: AtomicU64,
    wrong: AtomicU64,
    unreachable: AtomicU64,
    /// As [`Mirrors::arrive`] has found.
    in_sync: AtomicUsize,
    first_failure: Mutex<Option<String>>,
}

/// What the mirrors found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Mirrored {
    /// Mirrors.
    pub mirrors: usize,
    /// Cursors at which count and digest were compared, and were right.
    pub checked: u64,
    /// Snapshots that were read: one each, and one after every gap.
    pub snapshots: u64,
    /// Answers that did not fit the state: each is a fault of the daemon or of the client.
    pub wrong: u64,
    /// Requests that failed and were made again.
    pub unreachable: u64,
    /// Mirrors that hold the final state.
    pub in_sync: usize,
    /// What the first failure was.
    pub first_failure: Option<String>,
}

impl Mirrors {
    /// Starts one for each client.
    pub fn start(clients: Vec<Client>) -> Self {
        let shared = Arc::new(Shared {
            at: clients.iter().map(|_| Mutex::new(None)).collect(),
            checked: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            unreachable: AtomicU64::new(0),
            in_sync: AtomicUsize::new(0),
            first_failure: Mutex::new(None),
        });
        let mut tasks = JoinSet::new();
        for (mirror, client) in clients.into_iter().enumerate() {
            tasks.spawn(follow(shared.clone(), mirror, Follower::of(client).start()));
        }
        Self { _tasks: tasks, shared }
    }

    /// Waits until every mirror has read the state once.
    ///
    /// # Errors
    /// [`LoadError::Late`]; [`LoadError::Clients`] as soon as one got an answer that waiting does not mend.
    pub async fn all_follow(&self, patience: Duration) -> Result<(), LoadError> {
        let end = Instant::now() + patience;
        while self.count(|at| at.is_some()) < self.shared.at.len() {
            let count = self.shared.wrong.load(Relaxed);
            if count > 0 {
                let first = self.shared.first_failure.lock().clone().unwrap_or_default();
                return Err(LoadError::Clients { count, first });
            }
            if Instant::now() > end {
                return Err(LoadError::Late {
                    what: "all mirrors hold the state".to_owned(),
                    after: patience,
                });
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Waits until all stand at this revision or beyond it, or the time is over. `digest` is that of the
    /// daemon at the revision.
    pub async fn arrive(&self, revision: Revision, digest: &str, patience: Duration) {
        let end = Instant::now() + patience;
        let equal = |at: Option<(Revision, Digest)>| {
            at.is_some_and(|(at, found)| at > revision || (at == revision && found.to_string() == digest))
        };
        loop {
            let in_sync = self.count(equal);
            self.shared.in_sync.store(in_sync, Relaxed);
            if in_sync == self.shared.at.len() || Instant::now() > end {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// What was found until now.
    pub fn found(&self) -> Mirrored {
        let shared = &self.shared;
        Mirrored {
            mirrors: shared.at.len(),
            checked: shared.checked.load(Relaxed),
            snapshots: shared.snapshots.load(Relaxed),
            wrong: shared.wrong.load(Relaxed),
            unreachable: shared.unreachable.load(Relaxed),
            in_sync: shared.in_sync.load(Relaxed),
            first_failure: shared.first_failure.lock().clone(),
        }
    }

    fn count(&self, is: impl Fn(Option<(Revision, Digest)>) -> bool) -> usize {
        self.shared.at.iter().filter(|at| is(*at.lock())).count()
    }
}

async fn follow(shared: Arc<Shared>, mirror: usize, mut follower: Follower) {
    let failed = |error: &ClientError| {
        shared.first_failure.lock().get_or_insert(error.to_string());
        let counter = if error.may_pass() { &shared.unreachable } else { &shared.wrong };
        counter.fetch_add(1, Relaxed);
    };
    loop {
        match follower.next().await {
            Ok(Event::Changed(changed)) => {
                shared.checked.fetch_add(1, Relaxed);
                shared.snapshots.fetch_add(u64::from(changed.snapshot), Relaxed);
                let held = follower.state();
                *shared.at[mirror].lock() = changed.header.revision.map(|revision| (revision, held.digest()));
            }
            Ok(Event::Retry(Retry { error, .. })) | Err(error) => failed(&error),
            Ok(Event::Held { .. } | Event::Unchanged) => {}
        }
    }
}
