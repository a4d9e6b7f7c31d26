//! Feed, cache and breadcrumbs within one program, without HTTP.
//!
//! `cargo run --example embed`

use std::error::Error;
use std::sync::Arc;

use crumbd::cache::{Cache, CacheConfig};
use crumbd::ingest::IngestBuffer;
use crumbd::model::{History, SyncStatus, Update};

/// What the reader has seen, a line for each breadcrumb.
pub async fn run() -> Result<Vec<String>, Box<dyn Error>> {
    let buffer = Arc::new(IngestBuffer::channel(64)?);
    let (cache, ingest) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
    tokio::spawn(ingest.run());

    // A reader holds a breadcrumb: the whole state of one moment, and the way to the next one.
    let reader = cache.reader();
    let mut breadcrumb = reader.current_breadcrumb();
    let following = tokio::spawn(async move {
        let mut lines = Vec::new();
        while breadcrumb.sync_status() != SyncStatus::InSync {
            let Ok(next) = breadcrumb.next().await else { break };
            breadcrumb = next;
            lines.push(format!("{} keys, {}", breadcrumb.kvs().len(), breadcrumb.sync_status()));
        }
        lines
    });

    for n in 0..3 {
        cache.on_updates(vec![Update::put(format!("key-{n}"), "value")]).await?;
    }
    cache.on_status_updated(SyncStatus::InSync).await?;
    Ok(following.await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    run().await?.iter().for_each(|line| println!("{line}"));
    Ok(())
}
