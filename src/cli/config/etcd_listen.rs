//! The addresses for etcd's clients: `[NAME=]ADDRESS:PORT`, any number of times.

use std::net::SocketAddr;

use super::CollectionFeed;
use super::error::{InvalidValue, SettingError};
use super::reader::Reader;
use crate::model::{CollectionName, CollectionNameError};

/// An address on which a collection is served to etcd's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct EtcdListen {
    /// The collection; `None` for the default one.
    pub(in crate::cli) collection: Option<CollectionName>,
    pub(in crate::cli) address: SocketAddr,
}

/// An error in an address for etcd's clients.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum EtcdListenError {
    #[error(transparent)]
    Name(#[from] CollectionNameError),
    #[error("{0:?} is {1}")]
    Address(String, InvalidValue),
    #[error("no feed has the name {0}; a feed gets a name by --feed NAME=URL")]
    UnknownCollection(CollectionName),
    #[error("no feed is without a name: say whose address it is, as in {0}={1}")]
    NoDefault(CollectionName, SocketAddr),
    #[cfg(not(feature = "etcd"))]
    #[error("this crumbd was built without etcd (the cargo feature `etcd`)")]
    NotBuilt,
}

/// Reads the addresses, each for one of these collections.
pub(super) fn read(reader: &mut Reader<'_>, collections: &[CollectionFeed]) -> Vec<EtcdListen> {
    let parse = |text: &str| parse(text, collections);
    reader.all("etcd-listen", parse, |origin, why| SettingError::EtcdListen { origin, why })
}

fn parse(text: &str, collections: &[CollectionFeed]) -> Result<EtcdListen, EtcdListenError> {
    #[cfg(not(feature = "etcd"))]
    if !text.is_empty() {
        return Err(EtcdListenError::NotBuilt);
    }
    let (collection, address) = match text.split_once('=') {
        Some((name, address)) => (Some(name.parse::<CollectionName>()?), address),
        None => (None, text),
    };
    let address: SocketAddr = address
        .parse()
        .map_err(|_| EtcdListenError::Address(address.to_owned(), InvalidValue::NotASocketAddress))?;
    let is_served = collections.iter().any(|served| served.name == collection);
    match (collection, collections.first().and_then(|first| first.name.clone())) {
        (collection, _) if is_served => Ok(EtcdListen { collection, address }),
        (Some(name), _) => Err(EtcdListenError::UnknownCollection(name)),
        (None, Some(first)) => Err(EtcdListenError::NoDefault(first, address)),
        // The feed is invalid, which is an error of its own.
        (None, None) => Ok(EtcdListen { collection: None, address }),
    }
}

#[cfg(all(test, feature = "etcd"))]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;
    use crate::feed::FeedSpec;

    #[test]
    fn an_address_is_for_a_collection_that_is_served() {
        let feed = |name: Option<&str>| CollectionFeed {
            name: name.map(|name| name.parse().unwrap()),
            feed: FeedSpec::parse("push:").unwrap().remove(0).spec,
        };
        let both = [feed(None), feed(Some("pods"))];
        let listen =
            |text: &str, feeds: &[CollectionFeed]| parse(text, feeds).map_err(|error| error.to_string());
        assert_eq!(listen("127.0.0.1:2379", &both).unwrap().collection, None);
        assert_eq!(listen("pods=[::]:2379", &both).unwrap().collection, both[1].name);
        for (text, feeds, says) in [
            ("2379", &both[..], "no address and port"),
            ("x=127.0.0.1:1", &both, "no feed has the name x"),
            ("127.0.0.1:1", &both[1..], "as in pods=127.0.0.1:1"),
        ] {
            let error = listen(text, feeds).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
