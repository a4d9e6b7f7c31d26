//! `stdin:`, NDJSON records from standard input.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt};
use tracing::info;

use super::lines::{LineSplitter, Pushed, READ_BYTES};
use super::registry::{Kind, Storage};
use super::spec::ParsedFeed;
use super::translate::Translator;
use super::{Activity, Feed, FeedConfig, FeedError, FeedSettings, Sink, Warm};
use crate::model::{FeedEvent, History, SyncStatus};

pub(super) const KIND: Kind = Kind {
    schemes: &["stdin"],
    form: "stdin:",
    example: "stdin:",
    summary: "NDJSON records from standard input",
    options: &[],
    storage: Storage::None,
    strict_has_no_effect: None,
    parse: |url| {
        url.has_no_rest()?;
        Ok(ParsedFeed::one(Arc::new(StdinConfig)))
    },
};

#[derive(Debug)]
struct StdinConfig;

impl FeedConfig for StdinConfig {
    fn identity(&self) -> String {
        "stdin:".to_owned()
    }

    fn open<'a>(&'a self, settings: &'a FeedSettings) -> BoxFuture<'a, Result<Box<dyn Feed>, FeedError>> {
        let feed = StdinFeed::new(settings.strict);
        Box::pin(async { Ok(Box::new(feed) as Box<dyn Feed>) })
    }
}

/// Standard input as a feed. It cannot be read again, so its history ends with the process.
pub struct StdinFeed {
    history: History,
    strict: bool,
}

impl StdinFeed {
    /// Reads standard input; `strict` makes a bad record fatal.
    pub fn new(strict: bool) -> Self {
        Self { history: History::random(), strict }
    }

    async fn read(self, mut input: impl AsyncRead + Unpin, sink: Sink) -> Result<(), FeedError> {
        sink.send(FeedEvent::Status(SyncStatus::ResyncInProgress)).await?;
        // Its history is this process's own, so no other daemon can be ahead in it.
        sink.upstream().is_exhausted();
        sink.upstream().does(Activity::Watching);
        let mut translator = Translator::new(sink.clone(), "standard input".to_owned(), self.strict);
        let mut lines = LineSplitter::default();
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let read = input.read(&mut chunk).await.map_err(FeedError::Stdin)?;
            if read == 0 {
                break;
            }
            // No last line is accepted before the end, so none can have grown.
            let _: Pushed = lines.push(&chunk[..read], &mut translator).await?;
            // A short read means that the pipe is empty for now, not that this is all: a pipe holds 64 KiB, and its
            // writer may be slow.
            if read < chunk.len() {
                translator.paused().await?;
            }
        }
        let last = lines.finish(&mut translator).await?;
        translator.finish(last).await?;
        sink.upstream().does(Activity::Ended);
        info!("standard input has ended; the state stays as it is");
        Ok(())
    }
}

impl Feed for StdinFeed {
    fn history(&self) -> Option<History> {
        Some(self.history)
    }

    fn run(self: Box<Self>, sink: Sink, _: Option<Warm>) -> BoxFuture<'static, Result<(), FeedError>> {
        Box::pin(self.read(tokio::io::stdin(), sink))
    }
}
