//! A streaming list: a watch that begins with the whole state, which the server sends from its watch cache as it goes.
//!
//! Servers have it from 1.32 on, if it is not switched off. Others refuse it, or take it for a watch: then pages are read.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{debug, info};

use super::error::KubeError;
use super::events::{Event, Lines, delete, put, split};
use super::session::{BATCH, Loaded, Session};
use crate::feed::Activity;
use crate::model::{FeedEvent, History, Revision};

/// A server that sends for so long nothing of its state, or only what was set after the list began, has taken the request
/// for an ordinary watch.
const NO_PROGRESS: Duration = Duration::from_secs(10);

impl Session<'_> {
    /// Reads all objects, as a resync that the caller ends or aborts; `None` if the server has no streaming list.
    pub(super) async fn read_streaming_list(
        &self,
        history: Option<History>,
    ) -> Result<Option<Loaded>, KubeError> {
        let begun_at = self.newest_revision().await?;
        let path = format!(
            "{}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=3600{}",
            self.resource.path,
            self.target.selectors()
        );
        let mut lines = match self.client.open(&path, "a streaming list").await {
            Ok(answer) => Lines::new(answer),
            Err(KubeError::Refused { code: 400 | 405 | 415 | 422 | 501, message, .. }) => {
                debug!("the server has no streaming list: {message}");
                return Ok(None);
            }
            Err(error) => return Err(self.explain(error)),
        };
        self.sink.upstream().does(Activity::Listing { page: 1 });
        info!("reading a streaming list from Kubernetes");
        // Its revision comes at its end.
        let whole_at = Some(Revision::NAMED_AT_THE_END);
        self.sink.send(FeedEvent::ResyncBegin { history, whole_at, lossy: true }).await?;
        let (mut objects, mut bytes): (u64, u64) = (0, 0);
        let mut progress = Instant::now();
        loop {
            let some = match timeout_at(progress + NO_PROGRESS, lines.next()).await {
                Ok(lines) => lines?.ok_or(KubeError::Closed)?,
                Err(_) => {
                    info!("the server has no streaming list: its state does not end");
                    self.sink.send(FeedEvent::ResyncAborted).await?;
                    return Ok(None);
                }
            };
            self.sink.upstream().heard();
            let mut has_progressed = false;
            let mut updates = Vec::with_capacity(BATCH);
            for line in split(&some) {
                let event = Event::read(line, &self.resource.type_meta, self.target.keep);
                match event.map_err(|error| self.explain(error))? {
                    Event::Set { object, is_new } => {
                        objects += u64::from(is_new);
                        bytes += line.len() as u64;
                        has_progressed |= object.revision <= begun_at;
                        updates.push(put(object));
                    }
                    Event::Deleted(object) => {
                        objects = objects.saturating_sub(1);
                        updates.push(delete(&object));
                    }
                    Event::Bookmark { revision, ends_the_list: true } => {
                        self.send(updates).await?;
                        return Ok(Some(Loaded { revision, objects, bytes }));
                    }
                    Event::Bookmark { .. } => {}
                }
                if updates.len() == BATCH {
                    self.send(std::mem::replace(&mut updates, Vec::with_capacity(BATCH))).await?;
                }
            }
            self.send(updates).await?;
            // After it was sent: the time for which the cache was full is not the server's.
            if has_progressed {
                progress = Instant::now();
            }
        }
    }
}
