//! The writer's end of the list.
//!
//! There is one writer by type: every append takes `&mut self`, so appends need no lock and no
//! retry. An append has three steps whose order matters. It **links** the new item to the old head,
//! so that a reader that loads the new head, and one that walks to it, see the same
//! chain. It **stores the head**. Then it **wakes** the waiters on the old head. If they were woken before the
//! link is written, they would sleep for ever; see `item.rs` for their side.
//!
//! # Joining chains
//!
//! [`EventBuffer::append_buffer`] links another buffer's item after our own, as a snapshot's buffer
//! is joined to the live one. Readers walk from one to the other without noticing. From then on the last
//! item belongs to the other buffer's writer, and a chain has one writer. So our buffer
//! refuses every further append, and its drop does not end the other's chain. Appending at the end of
//! the other chain instead would show our items to all readers of the
//! other buffer, and its writer's head would already be linked.
//!
//! # The end
//!
//! A buffer ends with [`EventBuffer::append_err`]. If the writer is dropped without it, the drop
//! ends the buffer with [`Closed`], because no reader may wait for ever.

use std::error::Error;
use std::fmt;

use super::error::{AppendError, Closed, SharedError, TerminalError};
use super::item::{BufferItem, Content, Node};
use super::sync::{Arc, ArcSwap, join_lock};

/// The writer of a list that any number of readers follow, each at its own pace. The idea is
/// Consul's `EventBuffer`.
///
/// The buffer itself holds only the newest item; older ones live as long as a reader holds
/// them. There is no limit on the number of items, so a holder of old ones must set its own (see
/// [`WindowLimits`](super::WindowLimits)). Dropping the buffer ends it for its readers with [`Closed`].
pub struct EventBuffer<T> {
    head: Head<T>,
    /// Whether the chain was joined to another buffer, whose writer appends to it now.
    joined: bool,
}

/// A read-only handle to the newest item of an [`EventBuffer`]. A clone is one reference
/// count. It may outlive the buffer, and then shows the error that ended it.
pub struct Head<T> {
    newest: Arc<ArcSwap<Node<T>>>,
}

impl<T> EventBuffer<T> {
    /// An empty buffer. Its head is an empty item, from which the first value can be awaited.
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

    /// Joins this buffer to another one: `item`, and all that follow it now or later, come next.
    /// The head becomes the last item of that chain so far.
    ///
    /// From then on only the other buffer's writer extends or ends the chain. Further appends to this buffer are
    /// refused, and dropping it ends nothing.
    ///
    /// Takes time proportional to the length of the chain after `item`.
    ///
    /// # Errors
    ///
    /// [`AppendError::Cycle`] if `item` leads to this buffer's own head, and those of
    /// [`append`](Self::append). The buffer is unchanged then.
    pub fn append_buffer(&mut self, item: BufferItem<T>) -> Result<(), AppendError> {
        self.check_open()?;
        // Most of the walk is done without the lock, the rest with it.
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

    /// Ends the buffer with an error, which every reader gets after the values before
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

    /// The newest item: empty in a new buffer, the error in one that has ended. It no longer changes after
    /// [`append_buffer`](Self::append_buffer).
    pub fn head(&self) -> BufferItem<T> {
        self.head.head()
    }

    /// A read-only handle for other tasks.
    pub fn reader(&self) -> Head<T> {
        self.head.clone()
    }

    /// Links `item`, makes it the head, and wakes its waiters.
    fn publish(&mut self, item: BufferItem<T>) -> Result<(), AppendError> {
        self.check_open()?;
        let old = self.head();
        // This cannot fail, because only this writer links its head. A failure would mean that the chain has
        // another writer, as the error says.
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
        // Refused if the buffer has ended or was joined to another one.
        let _refused = self.append_err(Box::<dyn Error + Send + Sync>::from(Closed));
    }
}

impl<T> Head<T> {
    /// The newest item now. Never blocks, nor blocks the writer.
    pub fn head(&self) -> BufferItem<T> {
        BufferItem::from_node(self.newest.load_full())
    }

    /// Calls `read` with the value of the newest item, if it has one. No reference is counted, so thousands of concurrent
    /// callers do not contend for the count.
    pub fn peek<R>(&self, read: impl FnOnce(Option<&T>) -> R) -> R {
        read(self.newest.load().value())
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
