//! A whole state as a plain map, and its digest computed the slow way.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

/// Every key with its value's bytes. Values are shared, so that a test can keep one state per cursor.
pub type State = BTreeMap<Vec<u8>, Arc<[u8]>>;

/// The digest's share of one entry: XXH3-128 of `u32le(len(key)) ‖ key ‖ value`.
pub fn entry_digest(key: &[u8], value: &[u8]) -> u128 {
    let mut bytes = u32::try_from(key.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    xxh3_128(&bytes)
}

/// The digest of a state from nothing but the state: the sum modulo 2^128 over its entries.
pub fn digest(state: &State) -> u128 {
    state.iter().fold(0, |sum: u128, (key, value)| sum.wrapping_add(entry_digest(key, value)))
}

/// A digest as it is written on the wire.
pub fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

/// The part of a state below a prefix.
pub fn below(state: &State, prefix: &[u8]) -> State {
    state.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The first few differences of two states, for a failure that can be read.
pub fn difference(left: &State, right: &State) -> String {
    let show =
        |v: Option<&Arc<[u8]>>| v.map_or("absent".into(), |v| format!("{:?}", String::from_utf8_lossy(v)));
    let mut lines: Vec<String> = Vec::new();
    for key in left.keys().chain(right.keys().filter(|k| !left.contains_key(*k))) {
        let (l, r) = (left.get(key), right.get(key));
        if l != r {
            lines.push(format!("  {:?}: {} / {}", String::from_utf8_lossy(key), show(l), show(r)));
        }
    }
    let more = lines.len().saturating_sub(5);
    lines.truncate(5);
    format!("{} keys / {} keys\n{}\n  … {more} more", left.len(), right.len(), lines.join("\n"))
}

/// Fails with the differences when two states are not the same.
pub fn assert_same(what: &str, seen: &State, expected: &State) {
    assert!(seen == expected, "{what}: seen / expected: {}", difference(seen, expected));
}
