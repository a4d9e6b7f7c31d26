//! Long work that blocks, on a thread of its own.

use std::thread;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Runs a future that blocks on a thread of its own, to its end. The runtime's threads for work that blocks are few, and
/// are for short work: collections that held one each would leave none.
///
/// The task ends with the future. It panics if the future does, or if no thread can be started.
///
/// # Panics
/// Outside of a tokio runtime.
pub(crate) fn run_on_own_thread(
    name: &str,
    running: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let runtime = Handle::current();
    let (ended, end) = oneshot::channel();
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
        runtime.block_on(running);
        _ = ended.send(());
    });
    tokio::spawn(async move {
        assert!(started.is_ok(), "no thread can be started; is there a limit on processes (ulimit -u)?");
        assert!(end.await.is_ok(), "the thread has crashed");
    })
}
