//! The first load: how long it takes until everything is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crumbd::cache::{Cache, CacheConfig};
use crumbd::feed::Upstream;
use crumbd::feed::{EtcdAccess, EtcdFeed, EtcdTarget, Feed, Sink};
use crumbd::ingest::IngestBuffer;
use crumbd::model::SyncStatus;

use crate::bare::Bare;
use crate::daemon::Watched;
use crate::data::PREFIX;

/// Events between the feed and the cache: the daemon's default.
const BUFFER: usize = 1024;

/// The floor: a client that keeps nothing, from connecting on.
pub async fn floor(endpoint: &str, keys: usize) -> Duration {
    let started = Instant::now();
    assert_eq!(Bare::connect(endpoint).await.range_and_watch().await, keys);
    started.elapsed()
}

/// Feed and cache as a library, until there is a breadcrumb that is in-sync.
pub async fn library(endpoint: &str, keys: usize) -> Duration {
    let started = Instant::now();
    let buffer = Arc::new(IngestBuffer::channel(BUFFER).unwrap());
    let (cache, task) = Cache::new(CacheConfig::default(), None, Arc::clone(&buffer));
    let ingesting = tokio::spawn(task.run());
    let target = EtcdTarget { endpoints: vec![endpoint.to_owned()], prefix: PREFIX.as_bytes().to_vec() };
    let sink = Sink::new(buffer, Arc::new(Upstream::remote()));
    let feeding = tokio::spawn(Box::new(EtcdFeed::new(target, EtcdAccess::default())).run(sink, None));
    let mut crumb = cache.current_breadcrumb();
    while crumb.sync_status() != SyncStatus::InSync {
        crumb = crumb.next().await.unwrap();
    }
    let elapsed = started.elapsed();
    assert_eq!(crumb.kvs().len(), keys);
    feeding.abort();
    cache.stop();
    ingesting.await.unwrap();
    elapsed
}

/// The whole daemon, from the start of the process until it says that it is in-sync.
pub async fn daemon(feed: &str, keys: usize) -> Duration {
    let started = Instant::now();
    let daemon = Watched::start(&["--feed", feed]).await;
    let status = daemon.in_sync().await;
    assert_eq!(status["count"], keys);
    started.elapsed()
}
