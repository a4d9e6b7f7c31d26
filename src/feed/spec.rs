//! The text after `--feed`.

use std::fmt;
use std::sync::Arc;

use super::registry::{Kind, kinds};
use super::url::FeedUrl;
use super::{Feed, FeedConfig, FeedError, FeedSettings};

/// A feed as `--feed` names it.
#[derive(Clone, Debug)]
pub(crate) struct FeedSpec {
    text: Arc<str>,
    kind: &'static Kind,
    config: Arc<dyn FeedConfig>,
}

/// A feed of a URL, and the name that its collection gets from the URL, if there are several.
#[derive(Clone, Debug)]
pub(crate) struct NamedFeed {
    /// The name that the URL gives to the collection.
    pub name: Option<String>,
    /// The feed.
    pub spec: FeedSpec,
}

/// One of the feeds of a URL, as its kind has parsed it.
pub(super) struct ParsedFeed {
    /// The name of its collection, if the URL gives one. It does if there are several feeds.
    pub(super) name: Option<String>,
    pub(super) config: Arc<dyn FeedConfig>,
}

impl ParsedFeed {
    /// The only feed of a URL.
    pub(super) fn one(config: Arc<dyn FeedConfig>) -> Vec<Self> {
        vec![Self { name: None, config }]
    }
}

/// Text that does not name a feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("feed {text:?}: {reason}")]
pub struct SpecError {
    text: String,
    reason: String,
}

impl FeedSpec {
    /// Parses a URL. Most name one feed.
    ///
    /// # Errors
    /// [`SpecError`].
    pub(crate) fn parse(text: &str) -> Result<Vec<NamedFeed>, SpecError> {
        let error = |reason: String| SpecError { text: text.to_owned(), reason };
        let mut url = match FeedUrl::parse(text) {
            Some(parsed) => parsed.map_err(error)?,
            None => return Err(error(unknown())),
        };
        let kind = Kind::find(url.scheme).ok_or_else(|| error(unknown()))?;
        let parsed = (kind.parse)(&mut url).map_err(error)?;
        let options: Vec<&str> = kind.options.iter().map(|(name, _)| *name).collect();
        url.has_no_more_options(&options).map_err(error)?;
        let named = |ParsedFeed { name, config }| NamedFeed {
            name,
            spec: Self { text: Arc::from(text), kind, config },
        };
        Ok(parsed.into_iter().map(named).collect())
    }

    /// The kind of the feed.
    pub(crate) fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The scheme of its URL.
    pub(crate) fn scheme(&self) -> &str {
        self.text.split(':').next().unwrap_or_default()
    }

    /// Whether it is an etcd feed, to which the `--etcd-…` flags apply.
    pub(crate) fn is_etcd(&self) -> bool {
        self.kind.schemes.contains(&"etcd")
    }

    /// See [`FeedConfig::identity`].
    pub(crate) fn identity(&self) -> String {
        self.config.identity()
    }

    /// See [`FeedConfig::takes_writes`].
    pub(crate) fn takes_writes(&self) -> bool {
        self.config.takes_writes()
    }

    /// See [`FeedConfig::check`].
    pub(crate) fn check(&self, settings: &FeedSettings) -> Vec<FeedError> {
        self.config.check(settings)
    }

    /// See [`FeedConfig::open`].
    ///
    /// # Errors
    /// [`FeedError`], if the feed can never work. An upstream that cannot be reached is no error.
    pub(crate) async fn open(&self, settings: &FeedSettings) -> Result<Box<dyn Feed>, FeedError> {
        self.config.open(settings).await
    }
}

fn unknown() -> String {
    let forms: Vec<&str> = kinds().iter().map(|kind| kind.form).collect();
    format!("it is one of {}; `crumbd feeds` explains them", forms.join(", "))
}

impl fmt::Display for FeedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    #[test]
    fn a_feed_is_one_of_those_there_are() {
        for (text, identity) in [
            ("push:", "push:"),
            ("stdin:", "stdin:"),
            ("file:/a?follow=true", "file:/a"),
            ("file:///a", "file:/a"),
            ("etcd://a:1,b:2/x/y", "etcd:x/y"),
            ("etcds://a:1//registry/", "etcd:/registry/"),
            ("etcd://a:1", "etcd:"),
            ("etcd://a:1/a%3Fb", "etcd:a?b"),
            ("etcds://a:1/x?ca=/etc/ca%20b.pem", "etcd:x"),
        ] {
            let feeds = FeedSpec::parse(text).unwrap();
            assert_eq!((feeds.len(), feeds[0].spec.identity().as_str()), (1, identity), "{text}");
            assert_eq!(feeds[0].spec.to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_a_feed_is_said() {
        for (bad, says) in [
            ("etcd:", "looks like etcd://"),
            ("etcd://", "no HOST:PORT"),
            ("etcd://a/x", "no HOST:PORT"),
            ("etcd://u:p@a:1/x", "credentials"),
            ("etcd://a:1/x?y=z", "\"y\" is no option of this feed: it has"),
            ("etcd://a:1/x?ca", "has no value"),
            ("etcd:// a:1/x", "cannot be part"),
            ("etcd://a%20b:1/x", "cannot be part"),
            ("", "it is one of push:"),
            ("push", "it is one of push:"),
            ("push:x", "nothing follows"),
            ("push:?x=1", "this feed has none"),
            ("file:", "needs a path"),
            ("file:a?tail=1", "it has follow"),
            ("file:a?follow=yes", "true or false"),
            ("file:a?follow=true&follow=true", "twice"),
            ("http://x", "it is one of push:"),
            ("a.ndjson", "`crumbd feeds`"),
        ] {
            let error = FeedSpec::parse(bad).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(says), "{bad:?}: {error}");
        }
    }
}
