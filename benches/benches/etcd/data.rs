//! The keys and values: 40 and 200 bytes, as in the ingest bench.

use crumbd::model::Entry;
use fastrand::Rng;

pub const KEY_BYTES: usize = 40;
pub const VALUE_BYTES: usize = 200;

/// All keys begin so.
pub const PREFIX: &str = "bench/";

const FILLER: &str = "half of it is text that compresses well, running and ready on a node with a long name";

/// Neighbours in number are not neighbours in etcd's order.
pub fn key(index: usize) -> String {
    let scrambled = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let key = format!("{PREFIX}pods/{scrambled:016x}-{index:012}");
    debug_assert_eq!(key.len(), KEY_BYTES);
    key
}

/// A JSON object, as most values are. Half of it is text like that of its neighbours and half is random, so that
/// the state file does not shrink to nothing.
pub fn value(index: usize, version: u64) -> String {
    let mut random = Rng::with_seed((index as u64) << 8 | version);
    let mut value = format!(r#"{{"index":{index:08},"text":"{FILLER}","id":""#);
    while value.len() < VALUE_BYTES - 2 {
        value.push(random.alphanumeric());
    }
    value.push_str("\"}");
    debug_assert_eq!(value.len(), VALUE_BYTES);
    value
}

/// What the daemon holds of a key.
pub fn entry(index: usize, version: u64) -> Entry {
    Entry::new(key(index).as_bytes(), value(index, version).as_bytes(), None)
}
