//! A datastore-syncer snapshot cache: point it at a feed of updates; clients GET the current
//! breadcrumb, then long-poll the next one, for ever, with nothing but HTTP.
//!
//! A *breadcrumb* is the whole state at one revision (an O(1) copy of a persistent map), the changes since the breadcrumb
//! before it, and the sync status. Breadcrumbs hang together in a linked list, the *trail*. A client is a *cursor*
//! into that list: it may be slow, disconnect, or come to another replica, and goes on from where it was.
//!
//! # The way of the data
//!
//! Data flows through the rooms from left to right and never back:
//!
//! ```text
//! feed → ingest → cache → view → http → (network) → client
//!                   └─ trail ─┘    the linked list: of breadcrumbs in cache, of encoded ones in view
//! ```
//!
//! **How a PUT becomes a breadcrumb.** The handler (`http/api/write.rs`) hands the update to
//! `PushHandle::write` in `feed/push`, which puts it into the [`ingest::IngestBuffer`]. The one writer,
//! [`cache::IngestTask`], takes what the buffer holds, applies it to the map (`cache/store.rs`), has it
//! persisted where there is a journal, and appends a [`cache::Breadcrumb`] to the trail (`cache/publish.rs`).
//! Then the PUT is answered. Updates of every other feed take the same way from `feed/`.
//!
//! **How a client that waits is answered.** [`view::FanoutTask`] follows the cache's trail. It encodes what
//! waiting clients want, once a format, and appends it to the view's trail, which wakes them. The connection's task
//! (`http/lean/mod.rs`) finds the answer by [`view::View::try_next`] and writes the shared bytes with one write.
//! Nearly every answer takes this *fast path*. Everything else asks [`view::View::next`], which finds the way from any
//! cursor to now in one place (`view/catch_up.rs`): nothing, a delta, a squash, or that the cursor is gone.
//!
//! **Where everything is wired together**: `daemon/running.rs` and `daemon/collection.rs`.
//!
//! # The rooms
//!
//! | room | what it is for | its invariant | may import |
//! |---|---|---|---|
//! | [`model`] | the vocabulary: key, entry, update, revision, history, cursor, status, digest | no I/O, no channels, no counters | – |
//! | [`wire`] | records ⇄ bytes: JSON, NDJSON, bincode, compression; [`wire::protocol`] is the contract; the messages of etcd's API | lossless both ways; knows no HTTP | model |
//! | [`feed`] | where updates come from, one folder a feed | never reads the cache, drops nothing | model, wire, ingest, value; the relay also client |
//! | [`ingest`] | the bounded buffer between feed and cache | knows no keys; hands back what it refuses | – |
//! | [`trail`] | the linked list, and the window of its items that are kept | knows no keys; only the window keeps old items in memory | – |
//! | [`value`] | values that change: who watches one gets the newest; health, and warnings that recur | knows no keys; keeps no history | – |
//! | [`cache`] | the map: one writer applies updates and publishes breadcrumbs | a [`cache::Reader`] cannot write; never waits for a reader | model, ingest, trail |
//! | [`state`] | the state directory, on an embedded database | reads the cache only; what is not proved is not served | model, wire, value, cache |
//! | [`view`] | what readers ask: snapshots, deltas, squashes, diffs, watches | encodes nothing twice; knows no HTTP | model, wire, trail, cache |
//! | [`http`] | the interface: collections, endpoints, tokens, TLS | holds no client state between requests | model, wire, value, view, a feed's handles |
//! | [`client`] | the other side of the network: follower and mirror | written from the contract alone | model, wire |
//! | [`conform`] | the conformance suite for clients: a scripted daemon and its scenes | written from the contract alone; knows neither daemon nor client | model, wire |
//! | [`daemon`] | feeds, caches, views and the interface, wired together | tasks are started here and nowhere else | all of the above but client |
//! | [`cli`] | the commands, one a file | – | everything |
//!
//! `tests/imports.rs` fails when a room imports what it may not.
//!
//! # Invariants
//!
//! - One task owns the map. A breadcrumb never changes, and never ends inside an upstream revision.
//! - A status is never seen before the data that came before it: `in-sync` means that the state is the upstream's.
//! - An answer leads exactly from the state at the client's cursor to the state at the answer's cursor. A gap is an error.
//! - The same answer is encoded once, however many ask for it.
//! - A client that waits or is slow keeps nothing in memory but its cursor. Only the window keeps old breadcrumbs.
//! - Every queue, cache and wait has a named limit. Over a limit the answer says so, and when to come back.
//! - A write is answered after it can be read, and with a state directory after it is on disk.
//!
//! # Deliberately absent
//!
//! - Sessions, subscriptions and queues per client: a client that is behind gets a squash.
//! - Callbacks from left rooms into right ones, and constructors that start tasks: what runs is returned and spawned.
//! - Consensus: replicas follow the same upstream and agree because they apply the same revisions.
//! - `unsafe` code.
//!
//! # The API boundary
//!
//! The wire contract ([`wire::protocol`]) is stable: it is added to, not changed. Of the crate, [`daemon`], [`feed`],
//! [`cache`], [`client`], and what they are made of ([`model`], [`ingest`], [`wire`]) are meant for other programs; [`trail`] and
//! [`value`] are building blocks that stand for themselves. The other rooms belong to the daemon. They are public only with the
//! feature `internals`, which the tests and benches of this repository have; it promises nothing.
//!
//! Pages to read on: [`docs::guide`], [`docs::clients`], [`docs::files`], [`docs::etcd`], [`docs::operations`], [`docs::metrics`], [`docs::runbook`], [`docs::figures`], [`docs::comparison`], [`docs::design`]. Where the
//! ideas come from, and which test holds which case of the originals' tests: [`cases`].
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

// What only some features use is dead code without them; it is checked with all of them.
#![cfg_attr(
    not(all(feature = "cli", feature = "etcd", feature = "internals")),
    allow(dead_code, unused_imports)
)]
// They panic where nobody reads; `cli/output.rs` does not.
// What is `pub` is for other programs, and has a name there. What only the rooms use is `pub(crate)`.
#![cfg_attr(feature = "internals", warn(unreachable_pub))]
#![warn(unnameable_types)]
// The pages are read by those who work on the rooms, too: they are made with private items.
#![allow(rustdoc::private_intra_doc_links)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod cache;
#[doc = include_str!("cases.md")]
pub mod cases {}
/// The `crumbd` command: reads the arguments of the process, and does what they say.
#[cfg(feature = "cli")]
pub use cli::main as run_command;

#[cfg(all(feature = "cli", feature = "internals"))]
pub mod cli;
#[cfg(all(feature = "cli", not(feature = "internals")))]
mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "cli")]
mod conform;
#[cfg(feature = "daemon")]
pub mod daemon;
/// Pages for people: how to use it, how to run it, why it is as it is.
pub mod docs {
    #[doc = include_str!("docs/clients.md")]
    pub mod clients {}
    #[doc = include_str!("docs/comparison.md")]
    pub mod comparison {}
    #[doc = include_str!("docs/design.md")]
    pub mod design {}
    #[doc = include_str!("docs/etcd.md")]
    pub mod etcd {}
    #[doc = include_str!("docs/figures.md")]
    pub mod figures {}
    #[doc = include_str!("docs/files.md")]
    pub mod files {}
    #[doc = include_str!("docs/guide.md")]
    pub mod guide {}
    #[doc = include_str!("docs/metrics.md")]
    pub mod metrics {}
    #[doc = include_str!("docs/operations.md")]
    pub mod operations {}
    #[doc = include_str!("docs/runbook.md")]
    pub mod runbook {}
    #[doc = include_str!("docs/tree.md")]
    pub mod tree {}
}
#[cfg(feature = "daemon")]
pub mod feed;
#[cfg(all(feature = "daemon", feature = "internals"))]
pub mod http;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod http;
pub mod ingest;
pub mod model;
#[cfg(all(feature = "daemon", feature = "internals"))]
pub mod state;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod state;
pub mod trail;
pub mod value;
#[cfg(all(feature = "daemon", feature = "internals"))]
pub mod view;
#[cfg(all(feature = "daemon", not(feature = "internals")))]
mod view;
#[cfg(feature = "wire")]
pub mod wire;
