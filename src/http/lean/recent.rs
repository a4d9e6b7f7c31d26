//! A small cache of the newest values. Each thread has its own.

/// The last `N` values by their key. The oldest one makes room.
pub(super) struct Recent<K, V, const N: usize> {
    entries: Vec<(K, V)>,
    oldest: usize,
}

impl<K: PartialEq, V, const N: usize> Recent<K, V, N> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), oldest: 0 }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.entries.iter().find(|(kept, _)| kept == key).map(|(_, value)| value)
    }

    /// Adds a value, in place of the one with the same key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if let Some((_, kept)) = self.entries.iter_mut().find(|(kept, _)| *kept == key) {
            *kept = value;
        } else if self.entries.len() < N {
            self.entries.push((key, value));
        } else {
            self.entries[self.oldest] = (key, value);
            self.oldest = (self.oldest + 1) % N;
        }
    }
}
