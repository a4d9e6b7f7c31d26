//! The mirror: a copy of the state that any thread reads, kept by a task of its own.

mod changes;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::changes::{ChangeSet, Changes};
use super::{ClientError, Event, Follower, MirrorSnapshot};
use crate::model::{Entry, SyncStatus};

/// A copy of the daemon's state, or of the keys with a prefix.
///
/// A task follows the daemon; reading never waits for it, and takes no lock for longer than a pointer is copied. When
/// the mirror is dropped, the task ends.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use crumbd::client::{Follower, Mirror};
///
/// let mirror = Mirror::start(Follower::builder("http://127.0.0.1:7811")?.start());
/// mirror.synced().await?;
/// println!("{:?}", mirror.get(b"greeting"));
/// let mut changes = mirror.changes();
/// while let Some(set) = changes.next().await {
///     println!("{} changes", set.changes.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Mirror {
    latest: watch::Receiver<Latest>,
    task: JoinHandle<()>,
}

/// What the task has learnt last.
#[derive(Debug, Clone, Default)]
struct Latest {
    state: MirrorSnapshot,
    status: Option<SyncStatus>,
    has_synced: bool,
    /// The failure since the last answer, if there was one.
    failure: Option<Arc<ClientError>>,
    /// Whether that failure is one that asking again does not mend.
    is_refused: bool,
}

impl Mirror {
    /// Follows in a task of its own, on the runtime of the caller.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(mut follower: Follower) -> Self {
        let state = follower.state().clone();
        let (latest, receiver) = watch::channel(Latest { state, ..Latest::default() });
        let task = tokio::spawn(async move {
            loop {
                let event = follower.next().await;
                let state = follower.state();
                latest.send_modify(|latest| latest.take(event, state));
            }
        });
        Self { latest: receiver, task }
    }

    /// The state as it is now: O(1), and never changed afterwards.
    pub fn snapshot(&self) -> MirrorSnapshot {
        self.latest.borrow().state.clone()
    }

    /// The entry of a key. Several keys of one moment are read from a [`Mirror::snapshot`].
    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        self.latest.borrow().state.get(key).cloned()
    }

    /// Whether the daemon has been in-sync once, so that the state was all of the datastore's.
    pub fn has_synced(&self) -> bool {
        self.latest.borrow().has_synced
    }

    /// Waits until [`Mirror::has_synced`].
    ///
    /// # Errors
    /// The reason, where the daemon refuses and asking again does not help. The mirror asks again all the same.
    pub async fn synced(&self) -> Result<(), Arc<ClientError>> {
        let mut latest = self.latest.clone();
        let decided = latest.wait_for(|latest| latest.has_synced || latest.is_refused).await;
        match decided.ok().filter(|latest| !latest.has_synced).and_then(|latest| latest.failure.clone()) {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// The daemon's sync status as of the last answer; `None` before the first one.
    pub fn status(&self) -> Option<SyncStatus> {
        self.latest.borrow().status
    }

    /// Why there is no newer answer: the failure since the last one.
    pub fn failure(&self) -> Option<Arc<ClientError>> {
        self.latest.borrow().failure.clone()
    }

    /// The changes from now on; the first of them is the whole state. As many as are wanted, each at a pace of its own.
    pub fn changes(&self) -> Changes {
        Changes::new(self.latest.clone())
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Latest {
    fn take(&mut self, event: Result<Event, ClientError>, state: &MirrorSnapshot) {
        self.state = state.clone();
        match event {
            Ok(Event::Changed(changed)) => {
                self.status = changed.header.status.or(self.status);
                self.has_synced |= self.status == Some(SyncStatus::InSync);
                (self.failure, self.is_refused) = (None, false);
            }
            Ok(Event::Unchanged | Event::Held { .. }) => (self.failure, self.is_refused) = (None, false),
            Ok(Event::Retry(retry)) => self.failure = Some(Arc::new(retry.error)),
            Err(error) => (self.failure, self.is_refused) = (Some(Arc::new(error)), true),
        }
    }
}
