//! The encoded forms of a page or group, by format.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::view::Format;

/// At most one `T` per format. The list is short: few formats are in use at a time.
pub(super) struct Encoded<T>(Mutex<Vec<(Format, Arc<T>)>>);

impl<T> Encoded<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(super) fn get(&self, format: Format) -> Option<Arc<T>> {
        find(&self.0.lock(), format)
    }

    /// The cached form, or the one that `make` returns. The lock is not held meanwhile: two bodies that are encoded at
    /// the same time may both make it, and then share one.
    pub(super) fn get_or_encode<E>(
        &self,
        format: Format,
        encode: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        if let Some(found) = self.get(format) {
            return Ok(found);
        }
        let made = Arc::new(encode()?);
        let mut all = self.0.lock();
        if let Some(found) = find(&all, format) {
            return Ok(found);
        }
        // There are thousands of these lists: no spare capacity.
        all.reserve_exact(1);
        all.push((format, Arc::clone(&made)));
        Ok(made)
    }

    /// Drops the other forms.
    pub(super) fn retain(&self, retain: impl Fn(Format, &T) -> bool) {
        let mut all = self.0.lock();
        all.retain(|(format, form)| retain(*format, form));
        all.shrink_to_fit();
    }

    /// Passes on each form.
    pub(super) fn for_each(&self, mut pass: impl FnMut(Format, &T)) {
        self.0.lock().iter().for_each(|(format, form)| pass(*format, form));
    }
}

fn find<T>(all: &[(Format, Arc<T>)], format: Format) -> Option<Arc<T>> {
    all.iter().find(|(other, _)| *other == format).map(|(_, encoded)| Arc::clone(encoded))
}
