//! The kinds of feeds there are. To add one: its folder, and its line in [`KINDS`].

use std::fmt;

#[cfg(feature = "etcd")]
use super::etcd;
#[cfg(feature = "kubernetes")]
use super::kubernetes;
use super::spec::ParsedFeed;
use super::url::FeedUrl;
use super::{file, push, relay, stdin};

/// All kinds, in the order in which `crumbd feeds` lists them.
static KINDS: &[&Kind] = &[
    &push::KIND,
    &file::KIND,
    &stdin::KIND,
    #[cfg(feature = "etcd")]
    &etcd::KIND,
    &relay::KIND,
    #[cfg(feature = "kubernetes")]
    &kubernetes::KIND,
];

/// A kind of feed: what is known of it before one is configured.
pub(crate) struct Kind {
    /// The schemes of its URLs.
    pub schemes: &'static [&'static str],
    /// The form of its URL.
    pub form: &'static str,
    /// A URL that works.
    pub example: &'static str,
    /// What it reads, in one line.
    pub summary: &'static str,
    /// Its options, each with what it says.
    pub options: &'static [(&'static str, &'static str)],
    /// What a state directory is to it.
    pub storage: Storage,
    /// Why `--strict` has no effect, if it has none.
    pub strict_has_no_effect: Option<&'static str>,
    /// Parses a URL. The error says what is wrong and what would be right.
    pub(super) parse: fn(&mut FeedUrl<'_>) -> Result<Vec<ParsedFeed>, String>,
}

/// What a state directory is to a feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Storage {
    /// A copy of the upstream's state, for the next start.
    Copy,
    /// The datastore itself.
    Datastore,
    /// Of no use, because the data end with the process. Only one feed of the kind can be there.
    None,
}

/// All kinds of feeds.
pub(crate) fn kinds() -> &'static [&'static Kind] {
    KINDS
}

impl Kind {
    /// The kind with this scheme.
    pub(super) fn find(scheme: &str) -> Option<&'static Self> {
        KINDS.iter().copied().find(|kind| kind.schemes.contains(&scheme))
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("schemes", &self.schemes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;
    use crate::feed::FeedSpec;

    #[test]
    fn every_kind_understands_its_example_and_no_two_have_a_scheme_in_common() {
        let mut schemes: Vec<&str> = kinds().iter().flat_map(|kind| kind.schemes).copied().collect();
        for kind in kinds() {
            let parsed = FeedSpec::parse(kind.example).unwrap();
            assert!(parsed.iter().all(|feed| feed.spec.kind().schemes == kind.schemes), "{}", kind.example);
        }
        let count = schemes.len();
        schemes.sort_unstable();
        schemes.dedup();
        assert_eq!(schemes.len(), count);
    }
}
