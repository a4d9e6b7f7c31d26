//! The writer's end of the list.
//!
//! There is one writer by type: every append takes `&mut self`, so appends need no lock and no
//! retry. An append makes three steps whose order matters. It **links** the new item to the head,
//! so that a newcomer who gets the new head, and a reader who gets there by walking, find the same
//! chain; it **stores the head**; and it **wakes** those who wait on the old one. Woken before the
//! link was there, they would go back to sleep for good; see `item.rs` for their side.
//!
//! # Joining chains
//!
//! [`EventBuffer::append_buffer`] links another buffer's item after our own, as a snapshot's buffer
//! is joined to the live one: readers walk over the seam without noticing. From then on the last
//! item belongs to the other buffer's writer, and a chain has one writer. So ours has nothing left
//! to do: it refuses every further append, and its drop does not end the other's chain. Following
//! the chain to its end instead and appending there would put our items before all readers of the
//! other buffer, and leave its writer with a head that someone else has linked.
//!
//! # The end
//!
//! A buffer ends with [`EventBuffer::append_err`]. If the writer is dropped without it, the drop
//! ends the buffer with [`Closed`], because a reader must not wait for what cannot come.

use std::error::Error;
use std::fmt;

use super::error::{AppendError, Closed, SharedError, TerminalError};
use super::item::{BufferItem, Content, Node};
use super::sync::{Arc, ArcSwap, join_lock};

/// The writer of a list that any number of readers follow, each at its own pace. The idea is
/// Consul's `EventBuffer`.
///
/// The buffer itself holds the newest item only; what came before lives as long as someone holds
/// it. There is no limit on the number of items, so whoever keeps old ones must have one (see
/// [`Window`](super::Window)). Dropping the buffer ends it for its readers with [`Closed`].
pub struct EventBuffer<T> {
    head: Head<T>,
    /// Whether the end of the chain belongs to another buffer's writer.
    joined: bool,
}

/// The newest item of an [`EventBuffer`], for everyone but its writer. A clone is one reference
/// count, and it outlives the buffer: it then shows the error that ended it.
pub struct Head<T> {
    newest: Arc<ArcSwap<Node<T>>>,
}

impl<T> EventBuffer<T> {
    /// An empty buffer. Its head is an item without a value, from which the first one can be
    /// awaited.
    pub fn new() -> Self {
        let sentinel = BufferItem::new(Content::Empty).into_node();
        Self { head: Head { newest: Arc::new(ArcSwap::new(sentinel)) }, joined: false }
    }

    /// Appends a value, wakes the waiting readers, and returns the new item.
    ///
    /// # Errors
    ///
    /// [`AppendError::Terminated`] after an error, [`AppendError::Joined`] after
    /// [`append_buffer`](Self::append_buffer). The value is dropped.
    pub fn append(&mut self, value: T) -> Result<BufferItem<T>, AppendError> {
        let item = BufferItem::new(Content::Value(value));
        self.publish(item.clone())?;
        Ok(item)
    }

    /// Joins this buffer to another one: `item`, and all that follows it now or later, comes next.
    /// The head becomes the last item of that chain as it is seen now.
    ///
    /// After that this buffer's work is done. The chain goes on as its own writer appends to it,
    /// or ends as that writer ends it; the appends of this buffer are refused, and dropping it
    /// ends nothing.
    ///
    /// Takes time in proportion to the length of the chain after `item`.
    ///
    /// # Errors
    ///
    /// [`AppendError::Cycle`] if `item` leads to this buffer's own head, and those of
    /// [`append`](Self::append). Nothing has changed then, and the buffer remains usable as
    /// before.
    pub fn append_buffer(&mut self, item: BufferItem<T>) -> Result<(), AppendError> {
        self.check_open()?;
        // The long way without the lock, the rest with it.
        let last = item.last();
        let one_join_at_a_time = join_lock();
        let last = last.last();
        let old = self.head();
        if last.shares_link_with(&old) {
            return Err(AppendError::Cycle);
        }
        old.link(item).map_err(|_| AppendError::Joined)?;
        drop(one_join_at_a_time);
        self.joined = true;
        self.head.newest.store(last.into_node());
        old.wake();
        Ok(())
    }

    /// Ends the buffer with an error, which every reader gets once it has read the values before
    /// it. Nothing can be appended after it.
    ///
    /// # Errors
    ///
    /// As for [`append`](Self::append): a buffer ends once, and one that was joined to another
    /// does not end the other.
    pub fn append_err(&mut self, error: impl Into<SharedError>) -> Result<(), AppendError> {
        let error = TerminalError::new(error.into());
        self.publish(BufferItem::new(Content::Error(error)))
    }

    /// The newest item: empty in a new buffer, the error in one that has ended. After
    /// [`append_buffer`](Self::append_buffer) it stays at what was the end of the chain then.
    pub fn head(&self) -> BufferItem<T> {
        self.head.head()
    }

    /// A handle to the head for other tasks.
    pub fn reader(&self) -> Head<T> {
        self.head.clone()
    }

    /// Links `item`, shows it, and wakes those who wait for it.
    fn publish(&mut self, item: BufferItem<T>) -> Result<(), AppendError> {
        self.check_open()?;
        let old = self.head();
        // Only this writer links its head, so this cannot fail; if it did, the chain would have
        // another writer, and that is what the error says.
        old.link(item.clone()).map_err(|_| AppendError::Joined)?;
        self.head.newest.store(item.into_node());
        old.wake();
        Ok(())
    }

    fn check_open(&self) -> Result<(), AppendError> {
        if self.joined {
            Err(AppendError::Joined)
        } else if self.head().error().is_some() {
            Err(AppendError::Terminated)
        } else {
            Ok(())
        }
    }
}

impl<T> Default for EventBuffer<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for EventBuffer<T> {
    fn drop(&mut self) {
        // Refused, and rightly so, if the buffer has ended already or if its end is not ours.
        let _refused = self.append_err(Box::<dyn Error + Send + Sync>::from(Closed));
    }
}

impl<T> Head<T> {
    /// The newest item now. Waits for nobody, and nobody waits for it.
    pub fn head(&self) -> BufferItem<T> {
        BufferItem::from_node(self.newest.load_full())
    }

    /// Gives `look` the value of the newest item, if it has one. No reference is counted: thousands who look at
    /// the same moment do not fight for the count.
    pub fn peek<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        look(self.newest.load().value())
    }
}

impl<T> Clone for Head<T> {
    fn clone(&self) -> Self {
        Self { newest: Arc::clone(&self.newest) }
    }
}

impl<T: fmt::Debug> fmt::Debug for EventBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBuffer").field("head", &self.head()).field("joined", &self.joined).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for Head<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Head").field(&self.head()).finish()
    }
}
