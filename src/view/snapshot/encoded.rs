//! What was encoded of something, in the formats that were asked for.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::view::Format;

/// At most one `T` a format. The list is short: few formats are asked for at the same time.
pub(super) struct Encoded<T>(Mutex<Vec<(Format, Arc<T>)>>);

impl<T> Encoded<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn get(&self, format: Format) -> Option<Arc<T>> {
        find(&self.0.lock(), format)
    }

    /// The one there is, else the one that is made now. Not made under the lock: two bodies of one
    /// format that are prepared at the same time may both make it, and then share one.
    pub(super) fn get_or_make<E>(
        &self,
        format: Format,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(found) = self.get(format) {
            return Ok(found);
        }
        let made = Arc::new(make()?);
        let mut all = self.0.lock();
        if let Some(found) = find(&all, format) {
            return Ok(found);
        }
        // There are thousands of these lists, so none has room to spare.
        all.reserve_exact(1);
        all.push((format, Arc::clone(&made)));
        Ok(made)
    }

    /// Forgets the formats that are not wanted.
    pub(super) fn keep(&self, wanted: impl Fn(Format) -> bool) {
        let mut all = self.0.lock();
        all.retain(|(format, _)| wanted(*format));
        all.shrink_to_fit();
    }
}

fn find<T>(all: &[(Format, Arc<T>)], format: Format) -> Option<Arc<T>> {
    all.iter().find(|(other, _)| *other == format).map(|(_, coded)| Arc::clone(coded))
}
