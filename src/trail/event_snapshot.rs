//! A snapshot, spliced onto the live list, so that a reader walks one chain.
//!
//! ```text
//! snapshot's buffer   ·──▶ a ──▶ b ──▶ end of snapshot @7 ─┐ splice
//!                                                          ▼
//! live buffer         @5 ──▶ @6 ──▶ @7 ─────────────────▶ @8 ──▶ @9 ──▶ …
//!                     ▲ the head when the snapshot began
//! ```
//!
//! The idea is Consul's `EventSnapshot` (`agent/consul/stream`).
//!
//! # The splice
//!
//! The live head is captured **before** the state is read, so every event that the snapshot does not
//! contain is the captured item or comes after it. When the snapshot is complete at index `n`, the first item
//! with an index greater than `n` follows it, **beginning the search with the captured item itself**: an implementation
//! that searches only after the captured item may lose an event. If there is no such item yet, the snapshot is joined to
//! the item that comes after the last one. In that case events up to `n` may still be appended, and a reader must skip
//! them.

use super::{BufferItem, EventBuffer, TerminalError};

/// An item of a list of snapshots and events.
pub trait SnapshotItem: Sized {
    /// The index of the state after this item.
    fn index(&self) -> u64;

    /// The item that marks the end of a snapshot at this index.
    fn end_of_snapshot(index: u64) -> Self;
}

/// The buffer that a snapshot is written to.
pub struct SnapshotBuffer<T>(EventBuffer<T>);

impl<T> SnapshotBuffer<T> {
    /// Appends an item of the state.
    pub fn append(&mut self, item: T) {
        let added = self.0.append(item);
        debug_assert!(added.is_ok(), "nobody else ends or joins this buffer");
    }
}

/// The state at some index, the item that marks its end, and every item of the live list after it.
///
/// It keeps the state and everything that is appended to the live list since in memory, so it must be dropped soon.
pub struct EventSnapshot<T> {
    start: BufferItem<T>,
    index: u64,
}

impl<T: SnapshotItem> EventSnapshot<T> {
    /// Takes a snapshot, followed by the live list from `head` on (see the module). Capture `head` before calling this,
    /// so that no event is missed. `snap` writes the state and returns its index. An index of 0 becomes 1.
    ///
    /// # Errors
    /// The error of `snap`, or that which ended the live list.
    pub async fn take<E: From<TerminalError>>(
        head: BufferItem<T>,
        snap: impl AsyncFnOnce(&mut SnapshotBuffer<T>) -> Result<u64, E>,
    ) -> Result<Self, E> {
        let mut buffer = SnapshotBuffer(EventBuffer::new());
        let start = buffer.0.head();
        let index = snap(&mut buffer).await?.max(1);
        let next = first_after(head, index)?;
        buffer.append(T::end_of_snapshot(index));
        let joined = buffer.0.append_buffer(next);
        debug_assert!(joined.is_ok(), "a new buffer can be joined to one that is older than it");
        Ok(Self { start, index })
    }
}

impl<T> EventSnapshot<T> {
    /// The empty item before its first one.
    pub fn start(&self) -> BufferItem<T> {
        self.start.clone()
    }

    /// The index of the state.
    pub fn index(&self) -> u64 {
        self.index
    }
}

/// The first item, from `item` on, with an index above `index`. If there is none yet, an empty item that the next one
/// will follow.
fn first_after<T: SnapshotItem>(item: BufferItem<T>, index: u64) -> Result<BufferItem<T>, TerminalError> {
    if let Some(error) = item.error() {
        return Err(error.clone());
    }
    let is_later = |item: &BufferItem<T>| item.value().map(|value| value.index() > index);
    if is_later(&item) == Some(true) {
        return Ok(item);
    }
    let mut item = item;
    loop {
        let next = item.follow_after()?;
        match is_later(&next) {
            // Empty: there is no next item yet. Later: this is it.
            None | Some(true) => return Ok(next),
            Some(false) => item = next,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test may unwrap
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Clone, Copy)]
    enum Item {
        Of(u64, &'static str),
        End(u64),
    }

    impl SnapshotItem for Item {
        fn index(&self) -> u64 {
            let (Self::Of(index, _) | Self::End(index)) = self;
            *index
        }

        fn end_of_snapshot(index: u64) -> Self {
            Self::End(index)
        }
    }

    fn live(indexes: impl IntoIterator<Item = u64>) -> EventBuffer<Item> {
        let mut live = EventBuffer::new();
        indexes.into_iter().for_each(|index| drop(live.append(Item::Of(index, "live")).unwrap()));
        live
    }

    async fn snapshot(
        head: BufferItem<Item>,
        index: u64,
        items: usize,
    ) -> Result<EventSnapshot<Item>, TerminalError> {
        EventSnapshot::take(head, async |buffer: &mut SnapshotBuffer<Item>| {
            (0..items).for_each(|_| buffer.append(Item::Of(index, "snapshot")));
            Ok(index)
        })
        .await
    }

    /// The items after `start`.
    fn read(start: &BufferItem<Item>) -> Vec<Item> {
        let next = |item: &BufferItem<Item>| item.next_no_block().unwrap();
        std::iter::successors(next(start), next).map(|item| *item.value().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_snapshot_is_followed_by_its_end_and_exactly_the_later_items() {
        for (items, before, after) in [(10, 0, 0), (10, 0, 10), (0, 5, 0), (10, 5, 10)] {
            let mut buffer = live([]);
            let head = buffer.head();
            // Events that the state contains may be appended after the head was captured.
            (0..before).for_each(|at| drop(buffer.append(Item::Of(991 + at, "old")).unwrap()));
            let snapshot = snapshot(head, 1000, items).await.unwrap();
            (0..after).for_each(|at| drop(buffer.append(Item::Of(1001 + at, "live")).unwrap()));
            let mut expected = vec![Item::Of(1000, "snapshot"); items];
            expected.push(Item::End(1000));
            expected.extend((0..after).map(|at| Item::Of(1001 + at, "live")));
            assert_eq!(read(&snapshot.start()), expected, "{items} {before} {after}");
            assert_eq!(snapshot.index(), 1000);
        }
    }

    #[tokio::test]
    async fn the_search_begins_with_the_captured_head() {
        let buffer = live([6, 7]);
        let snapshot = snapshot(buffer.head(), 6, 1).await.unwrap();
        assert_eq!(read(&snapshot.start()), [Item::Of(6, "snapshot"), Item::End(6), Item::Of(7, "live")]);
    }

    #[tokio::test]
    async fn index_0_becomes_1() {
        let buffer = live([]);
        let snapshot = snapshot(buffer.head(), 0, 0).await.unwrap();
        assert_eq!(read(&snapshot.start()), [Item::End(1)]);
    }

    #[tokio::test]
    async fn a_failed_snapshot_and_an_ended_list_are_errors() {
        let mut buffer = live([1]);
        let head = buffer.head();
        let failed = EventSnapshot::take(head, async |_: &mut SnapshotBuffer<Item>| {
            Err::<u64, Box<dyn std::error::Error + Send + Sync>>("no state".into())
        });
        assert_eq!(failed.await.err().unwrap().to_string(), "no state");
        buffer.append_err(Box::<dyn std::error::Error + Send + Sync>::from("the end")).unwrap();
        assert!(snapshot(buffer.head(), 1, 1).await.err().unwrap().to_string().ends_with("the end"));
    }
}
