//! What etcd's clients ask: ranges at any kept revision, and watches of every single write.
//!
//! It is there only for a cache that keeps every write. A watch is a revision in the [`log`]: nothing is kept for a stream
//! that is slow. A breadcrumb's events are encoded once, and each range of keys that is watched selects its own once
//! ([`watchers`]).
//!
//! It knows protocol buffers and etcd's rules, and no gRPC.

mod encode;
mod key_range;
mod linear;
mod log;
mod read;
mod room;
mod watch;
mod watchers;

pub(crate) use key_range::KeyRange;
pub(crate) use linear::NotLinear;
pub(in crate::view) use log::Log;
pub(crate) use read::{RangeError, RangeQuery, ReadState, SortOrder, SortTarget, encoded_len};
pub(crate) use room::Room;
pub(crate) use watch::{NewWatch, WatchMessage, WatchStream};
pub(crate) use watchers::WatchOptions;

use std::sync::Arc;

use super::View;

impl View {
    /// A stream of watches; `None` for a cache that does not keep every write.
    pub(crate) fn etcd_watches(&self) -> Option<WatchStream> {
        Some(WatchStream::new(Arc::clone(self.etcd_log.as_ref()?)))
    }
}
