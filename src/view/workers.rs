//! The threads that make large bodies.
//!
//! There are as many as cores, however many views a process has: more would only slow each other and the writers down.
//! They are threads of their own, because the allocator keeps some freed memory for each thread. Among the runtime's hundreds of blocking threads that
//! would be a large body for each of them.
//!
//! Small bodies do not wait for large ones: they are made on the runtime's blocking threads, and a limit keeps those few.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::ViewError;
use super::body_cache::run_blocking;

/// An idle thread ends after this time, and its memory is given back.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How many small bodies are made at a time, for each core.
const SMALL_PER_CORE: usize = 4;

/// The threads of this process.
pub(super) static WORKERS: LazyLock<Workers> = LazyLock::new(Workers::new);

/// The threads.
pub(super) struct Workers {
    /// It runs blocking tasks only. `None` if it cannot be started; then the caller's runtime does the work.
    runtime: Option<Runtime>,
    /// Limits the small bodies that are made at a time.
    small: Semaphore,
}

/// Removes a task from the queue when nobody waits for it any more. One that runs is finished.
struct Queued<T>(JoinHandle<T>);

impl<T> Drop for Queued<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Workers {
    fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(cores)
            .thread_keep_alive(KEEP_ALIVE)
            .thread_name("crumbd-encode")
            .build();
        let runtime = runtime
            .inspect_err(|error| tracing::warn!(%error, "cannot start the threads that encode large bodies"))
            .ok();
        Self { runtime, small: Semaphore::new(SMALL_PER_CORE * cores) }
    }

    /// Runs work for a small body.
    pub(super) async fn run_small<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ViewError> {
        // The semaphore is never closed.
        let _permit = self.small.acquire().await.ok();
        run_blocking(work).await
    }

    /// Runs this on one of the threads, in the order of the calls.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ViewError> {
        let mut queued = Queued(match &self.runtime {
            Some(runtime) => runtime.spawn_blocking(work),
            None => tokio::task::spawn_blocking(work),
        });
        Ok((&mut queued.0).await?)
    }
}
