//! The newest state in key order, in pages that are encoded once and shared by all snapshots.
//!
//! The map has no order, and to sort and encode a million keys takes a second or two. So the order is
//! kept ([`page_tree`]) in pages of some dozens of entries ([`page`]), each with its own encoded and
//! compressed bytes in every format that is in use. The pages follow the breadcrumbs ([`version`]): after
//! `d` changed keys at most `d` pages are others, and the next snapshot ([`assemble`]) encodes those
//! and shares the rest. So does a snapshot of an older breadcrumb, which is the newest one with what
//! happened since taken back, and a snapshot under a prefix, which is a run of pages.
//!
//! Invariants: pages are in key order and none is empty; what was encoded of a page is never changed,
//! only forgotten; nothing here holds a breadcrumb between two requests; everything is let go when nobody
//! asks for snapshots ([`snapshot_cache`]). All work is done off the async threads, once for all who wait for
//! it ([`single_flight`]), and none of it by the ingest task.

mod assemble;
mod encoded;
mod page;
mod page_tree;
mod rebalance;
mod single_flight;
mod snapshot_cache;
#[cfg(test)]
mod tests;
mod version;

pub(super) use snapshot_cache::SnapshotCache;
