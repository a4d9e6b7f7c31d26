//! `file:PATH[?follow=true]` as a setting.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{FileFeed, NoFile};
use crate::feed::registry::{Kind, Storage};
use crate::feed::spec::ParsedFeed;
use crate::feed::url::FeedUrl;
use crate::feed::{Feed, FeedConfig, FeedError, FeedSettings};

pub(in crate::feed) const KIND: Kind = Kind {
    schemes: &["file"],
    form: "file:PATH[?follow=true]",
    example: "file:/etc/agents.ndjson?follow=true",
    summary: "NDJSON records from a file",
    options: &[("follow", "true: also read what is appended, and notice when the file is replaced")],
    storage: Storage::Copy,
    strict_has_no_effect: None,
    parse,
};

/// A file as it is configured.
#[derive(Debug)]
struct FileConfig {
    path: PathBuf,
    follow: bool,
}

fn parse(url: &mut FeedUrl<'_>) -> Result<Vec<ParsedFeed>, String> {
    if url.rest.is_empty() {
        return Err("a file feed needs a path, as in file:feed.ndjson".to_owned());
    }
    let path = PathBuf::from(url.rest.strip_prefix("//").unwrap_or(url.rest));
    Ok(ParsedFeed::one(Arc::new(FileConfig { path, follow: url.take_bool("follow")? })))
}

impl FeedConfig for FileConfig {
    /// The canonical path.
    fn identity(&self) -> String {
        let place = self.path.canonicalize().or_else(|_| std::path::absolute(&self.path));
        format!("file:{}", place.as_ref().unwrap_or(&self.path).display())
    }

    /// A followed file may be absent: the daemon waits for it.
    fn check(&self, _: &FeedSettings) -> Vec<FeedError> {
        let path = || self.path.clone();
        let error = match readable(&self.path) {
            Err(error) if self.follow && error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => Some(FeedError::File { path: path(), source }),
            Ok(found) => NoFile::of(found.file_type()).map(|kind| FeedError::NoFile { path: path(), kind }),
        };
        error.into_iter().collect()
    }

    fn open<'a>(&'a self, settings: &'a FeedSettings) -> BoxFuture<'a, Result<Box<dyn Feed>, FeedError>> {
        Box::pin(async {
            let feed = FileFeed::open(self.path.clone(), self.follow, settings.strict).await?;
            Ok(Box::new(feed) as Box<dyn Feed>)
        })
    }
}

/// Opens regular files only. Opening a pipe could wait for its writer, or take its data.
fn readable(path: &Path) -> io::Result<Metadata> {
    let found = std::fs::metadata(path)?;
    if found.is_file() {
        File::open(path)?;
    }
    Ok(found)
}
