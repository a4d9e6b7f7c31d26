//! Encodes what etcd's clients read in bulk: keys and events, straight from entries.
//!
//! The messages of [`crate::wire::etcd`] would copy every key and value once more. The field numbers are theirs.

use std::collections::HashMap;

use bytes::{BufMut, Bytes};

use crate::cache::{Snapshot, Write};
use crate::model::{Entry, Revision};

/// The tag of a length-delimited field.
const fn delimited(field: u8) -> u8 {
    field << 3 | 2
}

/// The tag of a number.
const fn number(field: u8) -> u8 {
    field << 3
}

/// The length of a number, seven bits a byte.
pub(super) fn varint_len(number: u64) -> usize {
    (((number | 1).ilog2() * 9 + 73) / 64) as usize
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn number_len(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + varint_len(number) }
}

pub(super) fn put_number(out: &mut Vec<u8>, field: u8, value: u64) {
    // Zero is the default, which is left out.
    if value != 0 {
        out.put_u8(number(field));
        put_varint(out, value);
    }
}

fn bytes_len(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { 1 + varint_len(bytes as u64) + bytes }
}

fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_head(out, field, bytes.len());
        out.put_slice(bytes);
    }
}

/// The head of a message or of bytes of this length.
pub(super) fn put_head(out: &mut Vec<u8>, field: u8, length: usize) {
    out.put_u8(delimited(field));
    put_varint(out, length as u64);
}

/// A key as etcd shows it.
#[derive(Clone, Copy)]
pub(super) struct KeyValue<'a> {
    key: &'a [u8],
    value: &'a [u8],
    created: u64,
    modified: u64,
    version: u64,
    lease: u64,
}

impl<'a> KeyValue<'a> {
    pub(super) fn of(entry: &'a Entry, keys_only: bool) -> Self {
        let info = entry.write_info_or_default();
        Self {
            key: entry.key(),
            value: if keys_only { &[] } else { entry.value() },
            created: info.created.0,
            modified: entry.revision().unwrap_or_default().0,
            version: info.version,
            lease: info.lease.cast_unsigned(),
        }
    }

    /// The key of a deletion.
    fn deleted(key: &'a [u8], revision: Revision) -> Self {
        Self { key, value: &[], created: 0, modified: revision.0, version: 0, lease: 0 }
    }

    pub(super) fn len(&self) -> usize {
        bytes_len(self.key.len())
            + number_len(self.created)
            + number_len(self.modified)
            + number_len(self.version)
            + bytes_len(self.value.len())
            + number_len(self.lease)
    }

    /// Appends it as this field of a message.
    pub(super) fn put(&self, out: &mut Vec<u8>, field: u8) {
        put_head(out, field, self.len());
        put_bytes(out, 1, self.key);
        put_number(out, 2, self.created);
        put_number(out, 3, self.modified);
        put_number(out, 4, self.version);
        put_bytes(out, 5, self.value);
        put_number(out, 6, self.lease);
    }
}

/// The field of the events in a watch response.
const EVENTS: u8 = 11;

/// Writes as the events of a watch response, each with its own range of bytes.
pub(super) struct EncodedEvents {
    bytes: Bytes,
    /// The end of each event.
    ends: Box<[usize]>,
}

impl EncodedEvents {
    /// The events of these writes from the one at `from` on. With `before`, the state before the first one, each has the key
    /// as it was before.
    pub(super) fn of(writes: &[Write], from: usize, before: Option<&Snapshot>) -> Self {
        let (mut out, mut ends) = (Vec::new(), Vec::with_capacity(writes.len() - from));
        let mut last: HashMap<&[u8], Option<&Entry>> = HashMap::new();
        let mut of_revision = 0;
        for (at, write) in writes.iter().enumerate() {
            let key = write.entry.key();
            // The key before is that before the revision, also where the revision has two events of it.
            if before.is_some() && writes[of_revision].revision != write.revision {
                let done = writes[of_revision..at].iter();
                last.extend(done.map(|done| (done.entry.key(), done.is_put.then_some(&done.entry))));
                of_revision = at;
            }
            // A revision may delete a key and create it again. What it creates has no key before.
            let creates = write.is_put && write.entry.write_info_or_default().created == write.revision;
            let previous = before.filter(|_| !creates).and_then(|before| match last.get(key) {
                Some(last) => *last,
                None => before.get(key),
            });
            if at >= from {
                put_event(&mut out, write, previous);
                ends.push(out.len());
            }
        }
        out.shrink_to_fit();
        Self { bytes: out.into(), ends: ends.into() }
    }

    /// The events of these writes, in order. They are shared if they are neighbours.
    pub(super) fn select(&self, selected: &[usize]) -> Bytes {
        let start_of =
            |at: usize| at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end_of = |at: usize| self.ends.get(at).copied().unwrap_or(self.bytes.len());
        let (Some(first), Some(last)) = (selected.first(), selected.last()) else { return Bytes::new() };
        if last - first + 1 == selected.len() {
            return self.bytes.slice(start_of(*first)..end_of(*last));
        }
        let pieces = selected.iter().map(|at| &self.bytes[start_of(*at)..end_of(*at)]);
        Bytes::from(pieces.collect::<Vec<_>>().concat())
    }

    /// The length of one event.
    pub(super) fn len_of(&self, at: usize) -> usize {
        let start = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(at).map_or(0, |end| end - start)
    }
}

fn put_event(out: &mut Vec<u8>, write: &Write, previous: Option<&Entry>) {
    let kv = match write.is_put {
        true => KeyValue::of(&write.entry, false),
        false => KeyValue::deleted(write.entry.key(), write.revision),
    };
    let previous = previous.map(|entry| KeyValue::of(entry, false));
    let message = |kv: &KeyValue<'_>| 1 + varint_len(kv.len() as u64) + kv.len();
    let kind = u64::from(!write.is_put);
    let length = number_len(kind) + message(&kv) + previous.as_ref().map_or(0, message);
    put_head(out, EVENTS, length);
    put_number(out, 1, kind);
    kv.put(out, 2);
    previous.iter().for_each(|previous| previous.put(out, 3));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_number_is_that_of_its_bytes() {
        for shift in 0..64 {
            for number in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, number);
                assert_eq!(varint_len(number), out.len(), "{number}");
            }
        }
    }
}
