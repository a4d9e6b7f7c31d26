//! The snapshot cache: the newest state in key order, in pages that are encoded once and shared by all snapshots.
//!
//! The cache's map is unordered, and sorting and encoding a million keys takes a second or two. So the order is kept
//! in a [`page_tree`] of [`page`]s with a few dozen entries each. A page has its own encoded and compressed bytes in
//! every format in use. The pages follow the breadcrumbs ([`version`]): `d` changed keys replace at most `d` pages, and
//! the next snapshot ([`assemble`]) encodes those and shares the rest. A snapshot of an older breadcrumb shares pages
//! too: it is the newest one with the changes since reverted. A snapshot of a prefix is a range of pages.
//!
//! Invariants: pages are in key order and none is empty; encoded bytes of a page never change; no breadcrumb is held
//! between two requests; everything is dropped when no snapshot was requested for some time ([`snapshot_cache`]), and the
//! encoded bytes that no request is sending stay within a limit ([`idle_bytes`]). All work runs on blocking threads, once for all concurrent requests ([`single_flight`]), and none on the ingest task.

mod assemble;
mod encoded;
mod idle_bytes;
mod page;
mod page_tree;
mod rebalance;
mod single_flight;
mod snapshot_cache;
#[cfg(test)]
mod tests;
mod version;

#[cfg(feature = "etcd")]
pub(super) use page_tree::PageTree;
pub(super) use snapshot_cache::SnapshotCache;
