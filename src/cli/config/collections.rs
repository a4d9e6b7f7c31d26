//! The collections that `--feed` names: `[NAME=]FEED`, any number of times.

use super::error::SettingError;
use super::reader::Reader;
use crate::feed::{FeedSpec, SpecError, Storage};
use crate::model::{CollectionName, CollectionNameError};

/// The feed of a daemon that was given none.
const DEFAULT_FEED: &str = "push:";

/// A collection to serve.
#[derive(Clone, Debug)]
pub(in crate::cli) struct CollectionFeed {
    /// The name; `None` for the default collection.
    pub(in crate::cli) name: Option<CollectionName>,
    /// Its feed.
    pub(in crate::cli) feed: FeedSpec,
}

/// An error in a feed, or in how several go together.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum FeedSettingError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Name(#[from] CollectionNameError),
    #[error("feed {url:?} names its collections itself ({}): leave {name}= out", names.join(", "))]
    NamedTwice { name: CollectionName, url: String, names: Vec<String> },
    #[error(
        "two feeds have no name, and only one can be served under /v1/: give the others names, as in routes={0}"
    )]
    TwoDefaults(FeedSpec),
    #[error("two feeds are named {0}: each collection has one feed, and a name of its own")]
    Duplicate(CollectionName),
    #[error("only one feed can be {0}")]
    OnlyOne(FeedSpec),
}

/// Reads the feeds. Without any the daemon is its own datastore.
pub(super) fn read(reader: &mut Reader<'_>) -> Vec<CollectionFeed> {
    let was_given = reader.given.get("feed").is_some();
    let parsed = reader.all("feed", parse, |origin, why| SettingError::Feed { origin, why });
    let mut collections: Vec<CollectionFeed> = Vec::new();
    for collection in parsed.into_iter().flatten() {
        match conflict(&collections, &collection) {
            None => collections.push(collection),
            Some(why) => {
                let origin = reader.given.origin("feed");
                reader.errors.extend(origin.map(|origin| SettingError::Feed { origin, why }));
            }
        }
    }
    if !was_given {
        // The default is valid.
        collections.extend(parse(DEFAULT_FEED).unwrap_or_default());
    }
    collections
}

fn parse(text: &str) -> Result<Vec<CollectionFeed>, FeedSettingError> {
    let (name, url) = match text.split_once('=') {
        // An option of a URL has an equals sign too, after the scheme's colon.
        Some((name, url)) if !name.contains(':') => (Some(name.parse::<CollectionName>()?), url),
        _ => (None, text),
    };
    let feeds = FeedSpec::parse(url)?;
    if let (Some(name), true) = (&name, feeds.len() > 1) {
        let names = feeds.into_iter().filter_map(|feed| feed.name).collect();
        return Err(FeedSettingError::NamedTwice { name: name.clone(), url: url.to_owned(), names });
    }
    feeds
        .into_iter()
        .map(|feed| {
            let own = feed.name.map(|name| name.parse::<CollectionName>()).transpose()?;
            Ok(CollectionFeed { name: name.clone().or(own), feed: feed.spec })
        })
        .collect()
}

/// Why a collection cannot be served beside others.
fn conflict(others: &[CollectionFeed], collection: &CollectionFeed) -> Option<FeedSettingError> {
    let feed = || collection.feed.clone();
    if others.iter().any(|other| other.name == collection.name) {
        return Some(match &collection.name {
            Some(name) => FeedSettingError::Duplicate(name.clone()),
            None => FeedSettingError::TwoDefaults(feed()),
        });
    }
    let is_single = collection.feed.kind().storage == Storage::None;
    let identity = collection.feed.identity();
    let taken = is_single && others.iter().any(|other| other.feed.identity() == identity);
    taken.then(|| FeedSettingError::OnlyOne(feed()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    #[test]
    fn a_name_stands_before_the_first_equals_sign_of_a_url_without_one() {
        for (text, name, url) in [
            ("push:", None, "push:"),
            ("file:a=b.ndjson?follow=true", None, "file:a=b.ndjson?follow=true"),
            ("agents=file:a=b", Some("agents"), "file:a=b"),
            ("a=etcd://h:1/x=y", Some("a"), "etcd://h:1/x=y"),
        ] {
            let parsed = parse(text).unwrap();
            assert_eq!(parsed.len(), 1, "{text}");
            assert_eq!(parsed[0].name.as_ref().map(CollectionName::as_str), name, "{text}");
            assert_eq!(parsed[0].feed.to_string(), url);
        }
        for (bad, says) in
            [("Pods=push:", "not the name of a collection"), ("=push:", "name"), ("pods=", "it is one of")]
        {
            let error = parse(bad).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }

    #[test]
    fn collections_that_exclude_each_other_are_refused() {
        let conflict = |texts: &[&str]| {
            let all: Vec<CollectionFeed> = texts.iter().flat_map(|text| parse(text).unwrap()).collect();
            let (last, others) = all.split_last().unwrap();
            conflict(others, last).map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(conflict(&["push:", "a=push:", "b=push:"]), "");
        assert!(conflict(&["push:", "stdin:"]).contains("as in routes=stdin:"));
        assert!(conflict(&["a=push:", "a=stdin:"]).contains("two feeds are named a"));
        assert!(conflict(&["a=stdin:", "b=stdin:"]).contains("only one feed can be stdin:"));
    }
}
