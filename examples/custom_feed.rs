//! A feed of one's own, served by a daemon of one's own: the load of this machine, once a second.
//!
//! `cargo run --example custom_feed`, then `curl localhost:7811/v1/kv/load/1m` and `curl localhost:7811/hello`.

use std::time::Duration;

use axum::{Router, routing::get};
use crumbd::daemon::{Daemon, DaemonBuilder, DaemonError};
use crumbd::feed::{BoxFuture, Feed, FeedError, Sink, Warm};
use crumbd::model::{History, SyncStatus, Update};

struct LoadAverages;

impl Feed for LoadAverages {
    fn history(&self) -> Option<History> {
        // Another one at each start, so clients read the state again then.
        Some(History::random())
    }

    fn run(self: Box<Self>, sink: Sink, _: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>> {
        Box::pin(async move {
            for round in 0_u64.. {
                let text = std::fs::read_to_string("/proc/loadavg").map_err(FeedError::other)?;
                let values = ["load/1m", "load/5m", "load/15m"].into_iter().zip(text.split(' '));
                // One revision: no client sees a part of it.
                let updates = values.map(|(key, value)| Update::put(key, value.to_owned().into_bytes()));
                sink.updates(updates.collect()).await?;
                if round == 0 {
                    sink.status(SyncStatus::InSync).await?;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Ok(())
        })
    }
}

/// The daemon: the feed, and a route of one's own.
pub fn daemon() -> DaemonBuilder {
    let routes = Router::new().route("/hello", get(|| async { "hello from a route of one's own\n" }));
    Daemon::builder().feed("load:", LoadAverages).routes(routes)
}

#[tokio::main]
async fn main() -> Result<(), DaemonError> {
    daemon().run().await
}
