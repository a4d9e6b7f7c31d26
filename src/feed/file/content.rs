//! The content that was read of a file, to recognise it by.

use std::fs::File;
use std::io::Error;

use xxhash_rust::xxh3::Xxh3;

use super::open::read_full;

/// The bytes read at a time to compare content.
const COMPARE_BYTES: usize = 1 << 20;

/// How many of the last bytes are compared if comparing everything would cost too much.
const TAIL_BYTES: usize = 256;

/// Length, hash and last bytes of the content so far.
#[derive(Default)]
pub(super) struct Content {
    len: u64,
    hash: Xxh3,
    tail: Vec<u8>,
}

/// Tells one content from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fingerprint {
    len: u64,
    hash: u128,
}

impl Content {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.hash.update(bytes);
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..excess);
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint { len: self.len, hash: self.hash.digest128() }
    }

    /// The last bytes, and where they begin.
    pub(super) fn tail(&self) -> (u64, Vec<u8>) {
        (self.len - self.tail.len() as u64, self.tail.clone())
    }
}

impl Fingerprint {
    /// Whether the file begins with this content. Reads it all.
    pub(super) fn is_beginning_of(self, file: &File) -> Result<bool, Error> {
        let mut hash = Xxh3::new();
        let mut chunk = vec![0; COMPARE_BYTES];
        let mut at = 0;
        while at < self.len {
            let want = usize::try_from(self.len - at).map_or(COMPARE_BYTES, |rest| rest.min(COMPARE_BYTES));
            let read = read_full(file, &mut chunk[..want], at)?;
            if read < want {
                return Ok(false);
            }
            hash.update(&chunk[..read]);
            at += read as u64;
        }
        Ok(hash.digest128() == self.hash)
    }
}

/// Whether the file has these bytes at this position.
pub(super) fn has_at(file: &File, (from, bytes): &(u64, Vec<u8>)) -> Result<bool, Error> {
    let mut now = vec![0; bytes.len()];
    Ok(read_full(file, &mut now, *from)? == bytes.len() && now == *bytes)
}
