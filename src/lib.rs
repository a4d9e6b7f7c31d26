//! A datastore-syncer snapshot cache: point it at a feed of updates; clients GET the current
//! breadcrumb, then long-poll the next one, for ever, with nothing but HTTP.
//!
//! # The house
//!
//! Data walks through the rooms from left to right and never back:
//!
//! ```text
//! feed → ingest → cache → trail → view → http → (network) → client
//! ```
//!
//! | room | what it is for | its invariant |
//! |---|---|---|
//! | [`model`] | the vocabulary: key, entry, update, revision, history, cursor, status, digest | no I/O; imports nothing of ours |
//! | [`wire`] | records ⇄ bytes: JSON, NDJSON, bincode, compression | lossless both ways; knows no HTTP |
//! | [`feed`] | where updates come from, one file each | never reads the cache, drops nothing |
//! | [`ingest`] | the bounded buffer between feed and cache | knows no keys; hands back what it refuses |
//! | [`cache`] | the one writer: applies updates, drops breadcrumbs | only it writes the map; never waits for a reader |
//! | [`trail`] | the linked list of breadcrumbs, and the window of those that are kept | knows no keys; only the window pins memory |
//! | [`value`] | values that change: whoever watches one gets the newest | knows no keys of ours; keeps no history |
//! | [`view`] | what readers ask of breadcrumbs: bodies, squashes, diffs | reads only; encodes nothing twice; knows no HTTP |
//! | [`http`] | the interface | holds no client state between requests |
//! | [`state`] | the state directory, on an embedded database: the state, kept for the next start | reads the cache only; what is not proved is not served |
//! | [`client`] | the other side of the network: mirror and follower | written from the wire contract alone |
//! | [`cli`] | the commands | everything is wired together in `cli/serve.rs` |
//!
//! A room imports only what stands here: `model`, `ingest`, `trail` and `value` nothing of ours; `wire` model;
//! `cache` model, ingest, trail; `client` model, wire; `feed` model, wire, ingest; `view` model, wire,
//! trail, cache; `state` model, wire, trail (its limits), cache (read only); `http` model, wire, value, view, cache (read only) and a feed's write handle.
//!
//! # Where to start reading
//!
//! An update's way: a line of a file in [`feed::FileFeed`], an event ([`model::FeedEvent`]) in the
//! buffer ([`ingest::Buffer`]), a change of the map and a [`cache::Breadcrumb`]
//! ([`cache::IngestTask`]), an item of the [`trail::EventBuffer`], a body made by
//! [`view::View::next`], an answer of [`http::router`]. The contract of the wire is
//! [`wire::protocol`].
//!
//! Where the ideas come from, and which test holds which case of the originals' tests: [`cases`].
//!
//! # A cache in a program of one's own
//!
//! ```
//! use std::sync::Arc;
//! use crumbd::cache::{Cache, CacheConfig};
//! use crumbd::ingest::IngestBuffer;
//! use crumbd::model::{History, SyncStatus, Update};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let buffer = Arc::new(IngestBuffer::channel(64)?);
//! let (cache, ingest) = Cache::new(CacheConfig::default(), Some(History::random()), buffer);
//! tokio::spawn(ingest.run());
//!
//! let first = cache.current_breadcrumb();
//! cache.on_updates(vec![Update::put("greeting", "hello")]).await?;
//! cache.on_status_updated(SyncStatus::InSync).await?;
//!
//! let next = first.next().await?;
//! assert_eq!(next.kvs().get(b"greeting").map(|entry| entry.value()), Some(&b"hello"[..]));
//! assert!(first.kvs().is_empty(), "a breadcrumb never changes");
//! # Ok(())
//! # }
//! ```

// They panic where nobody reads; `cli/output.rs` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cache;
#[doc = include_str!("cases.md")]
pub mod cases {}
pub mod cli;
pub mod client;
pub mod feed;
pub mod http;
pub mod ingest;
pub mod model;
pub mod state;
pub mod trail;
pub mod value;
pub mod view;
pub mod wire;
