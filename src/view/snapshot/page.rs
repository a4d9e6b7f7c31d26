//! A page: consecutive entries in key order, and their encoded bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::encoded::Encoded;
use super::idle_bytes::IdleBytes;
use crate::model::Entry;
use crate::view::Format;
use crate::wire::{BodyWriter, Checksum, Coding, PieceCoder, PutKind, WireError};

/// The weight of an entry beside its key and value, in bytes. It stands for the rest of the record, and it limits the
/// number of small entries in a page: each change encodes a page again.
const ENTRY_WEIGHT: usize = 256;

/// A heavier page is split into pages of about [`FILL_WEIGHT`]: 96 empty entries, or 48 of 256 bytes. Only a page with a
/// single very large entry can be heavier.
///
/// Smaller pages make the next snapshot cheaper, and compressed snapshots larger, because each page is compressed on
/// its own (100,000 keys of 40 bytes, values of 200; `benches/benches/snapshot.rs`):
///
/// | maximum weight, filled to | cost of 100 changed keys, as a part of encoding all | zstd, gzip: larger than one stream by |
/// |---|---|---|
/// | 16, 11 KiB | 1/29 – 1/35 | +17 %, +13 % |
/// | 24, 16 KiB | 1/22 – 1/25 | +12 %, +9 % |
/// | 32, 22 KiB | 1/17 – 1/19 | +9 %, +6 % |
///
/// At a million keys the part is a tenth of that.
pub(super) const MAX_WEIGHT: usize = 24 << 10;

/// The weight of new pages, and of those from a split.
pub(super) const FILL_WEIGHT: usize = 16 << 10;

/// A lighter page is merged with a neighbour.
pub(super) const MIN_WEIGHT: usize = 6 << 10;

/// The weight of an entry in a page.
pub(super) fn weight_of(entry: &Entry) -> usize {
    ENTRY_WEIGHT + entry.payload_bytes()
}

/// About how many bytes these entries take in a body.
pub(super) fn size_of_entries<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> u64 {
    entries.into_iter().map(|entry| entry.payload_bytes() as u64 + 80).sum()
}

/// One or more entries. A page is immutable; a change makes a new one.
pub(super) struct Page {
    entries: Vec<Entry>,
    /// The weight of all entries.
    weight: usize,
    pieces: Encoded<Piece>,
}

/// A page in one format. In JSON it begins with a comma, because it is never first in a body.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) checksum: Checksum,
    /// The runs in flight that contain it.
    pub(super) holders: Holders,
    /// Counts the bytes while no run in flight contains them.
    pub(super) idle: IdleBytes,
}

impl Drop for Piece {
    fn drop(&mut self) {
        if !self.holders.any() {
            self.idle.remove(self.bytes.len() as u64);
        }
    }
}

/// How many holders some bytes have.
#[derive(Default)]
pub(super) struct Holders(AtomicUsize);

impl Holders {
    /// Adds a holder; whether it is the only one.
    pub(super) fn add(&self) -> bool {
        self.0.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// Removes a holder; whether it was the only one.
    pub(super) fn remove(&self) -> bool {
        self.0.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

impl Page {
    pub(super) fn new(mut entries: Vec<Entry>, weight: usize) -> Arc<Self> {
        debug_assert!(!entries.is_empty());
        entries.shrink_to_fit();
        Arc::new(Self { entries, weight, pieces: Encoded::new() })
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    #[cfg(test)]
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// A lower bound of the encoded length: keys, values and a few bytes per record.
    pub(super) fn min_encoded_bytes(&self) -> usize {
        self.weight - self.entries.len() * (ENTRY_WEIGHT - 6)
    }

    pub(super) fn first_key(&self) -> &[u8] {
        self.entries.first().map_or(&[], Entry::key)
    }

    /// The entries and their weight; copied only if the page is shared.
    pub(super) fn into_entries(self: Arc<Self>) -> (Vec<Entry>, usize) {
        match Arc::try_unwrap(self) {
            Ok(page) => (page.entries, page.weight),
            Err(shared) => (shared.entries.clone(), shared.weight),
        }
    }

    pub(super) fn piece(&self, encoder: &mut Encoder) -> Result<Arc<Piece>, WireError> {
        let format = encoder.format;
        self.pieces.get_or_encode(format, || {
            let uncompressed = Format { coding: Coding::Identity, ..format };
            match self.pieces.get(uncompressed) {
                Some(piece) => encoder.compress(&piece.bytes),
                None => encoder.encode(&self.entries),
            }
        })
    }

    /// About how many bytes its piece would add to those in flight.
    pub(super) fn unheld_bytes(&self, format: Format) -> u64 {
        match self.pieces.get(format) {
            Some(piece) if piece.holders.any() => 0,
            Some(piece) => piece.bytes.len() as u64,
            None => size_of_entries(&self.entries),
        }
    }

    /// Passes the uncompressed bytes to `read`. They are encoded for this call, unless they are cached.
    pub(super) fn read_uncompressed<R>(&self, encoder: &mut Encoder, read: impl FnOnce(&[u8]) -> R) -> R {
        match self.pieces.get(Format { coding: Coding::Identity, ..encoder.format }) {
            Some(piece) => read(&piece.bytes),
            None => read(encoder.write(&self.entries)),
        }
    }

    #[cfg(test)]
    pub(super) fn has(&self, format: Format) -> bool {
        self.pieces.get(format).is_some()
    }

    /// Drops the encoded bytes of the other formats, except those that are being sent.
    pub(super) fn retain_formats(&self, retain: impl Fn(Format) -> bool) {
        self.pieces.retain(|format, piece| retain(format) || piece.holders.any());
    }

    /// Passes on how many bytes no request is sending, by format.
    pub(super) fn idle_by_format(&self, mut count: impl FnMut(Format, u64)) {
        self.pieces.for_each(|format, piece| {
            if !piece.holders.any() {
                count(format, piece.bytes.len() as u64);
            }
        });
    }
}

/// An encoder of pages in one format. It reuses its buffers.
pub(super) struct Encoder {
    pub(super) format: Format,
    idle: IdleBytes,
    pub(super) coder: PieceCoder,
    uncompressed: Vec<u8>,
}

impl Encoder {
    /// The bytes that it makes are counted here.
    pub(super) fn new(format: Format, idle: &IdleBytes) -> Result<Self, WireError> {
        let (coder, idle) = (PieceCoder::new(format.coding)?, idle.clone());
        Ok(Self { format, idle, coder, uncompressed: Vec::new() })
    }

    fn write(&mut self, entries: &[Entry]) -> &[u8] {
        let mut writer = BodyWriter::resume(self.format.media, std::mem::take(&mut self.uncompressed));
        entries.iter().for_each(|entry| writer.put(PutKind::New, entry));
        self.uncompressed = writer.take();
        &self.uncompressed
    }

    fn encode(&mut self, entries: &[Entry]) -> Result<Piece, WireError> {
        self.write(entries);
        let uncompressed = std::mem::take(&mut self.uncompressed);
        let piece = self.compress(&uncompressed);
        self.uncompressed = uncompressed;
        piece
    }

    fn compress(&mut self, uncompressed: &[u8]) -> Result<Piece, WireError> {
        let (compressed, checksum) = self.coder.inner(uncompressed)?;
        // Copied, because the compressor's buffer has spare capacity.
        let (bytes, idle) = (Bytes::copy_from_slice(&compressed), self.idle.clone());
        idle.add(bytes.len() as u64);
        Ok(Piece { bytes, checksum, holders: Holders::default(), idle })
    }
}
