//! A page: some entries that follow one another in key order, and what was encoded of them.

use std::sync::Arc;

use bytes::Bytes;

use super::encoded::Encoded;
use crate::model::Entry;
use crate::view::Format;
use crate::wire::{BodyWriter, Checksum, Coding, PieceCoder, PutKind, WireError};

/// What an entry weighs beside its key and value. It stands for the rest of its record, and it
/// bounds the number of entries where they are small: a change costs the encoding of a page.
const ENTRY_WEIGHT: usize = 256;

/// A page that weighs more is cut, into pages of about [`FILL_WEIGHT`]: 96 entries of no size, 48 of 256
/// bytes. Only an entry that is as heavy as that itself makes a heavier page.
///
/// Smaller pages make the next snapshot cheaper and compressed ones larger, since a page is
/// compressed alone (100,000 keys of 40 bytes, values of 200; `benches/benches/snapshot.rs`):
///
/// | weight at most, filled to | 100 changed keys, as a part of all encoding | zstd, gzip, over whole bodies' |
/// |---|---|---|
/// | 16, 11 KiB | 1/29 – 1/35 | +17 %, +13 % |
/// | 24, 16 KiB | 1/22 – 1/25 | +12 %, +9 % |
/// | 32, 22 KiB | 1/17 – 1/19 | +9 %, +6 % |
///
/// At a million keys the part is a tenth of that.
pub(super) const MAX_WEIGHT: usize = 24 << 10;

/// What pages weigh that are made of many entries at once, or by cutting.
pub(super) const FILL_WEIGHT: usize = 16 << 10;

/// A page that weighs less is joined with a neighbour.
pub(super) const MIN_WEIGHT: usize = 6 << 10;

/// What an entry weighs in a page.
pub(super) fn weight_of(entry: &Entry) -> usize {
    ENTRY_WEIGHT + entry.payload_bytes()
}

/// At least one entry. A page never changes: a change makes another page.
pub(super) struct Page {
    entries: Vec<Entry>,
    /// Of all entries.
    weight: usize,
    pieces: Encoded<Piece>,
}

/// A page in one format. In JSON it begins with a comma: it never comes first in a body.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) checksum: Checksum,
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

    /// No encoding of the page is shorter: keys and values, and a few bytes a record.
    pub(super) fn least_bytes(&self) -> usize {
        self.weight - self.entries.len() * (ENTRY_WEIGHT - 6)
    }

    pub(super) fn first_key(&self) -> &[u8] {
        self.entries.first().map_or(&[], Entry::key)
    }

    /// The entries and their weight; copied only when somebody else holds the page.
    pub(super) fn into_entries(self: Arc<Self>) -> (Vec<Entry>, usize) {
        match Arc::try_unwrap(self) {
            Ok(page) => (page.entries, page.weight),
            Err(shared) => (shared.entries.clone(), shared.weight),
        }
    }

    pub(super) fn piece(&self, encoder: &mut Encoder) -> Result<Arc<Piece>, WireError> {
        let format = encoder.format;
        self.pieces.get_or_make(format, || {
            let plain = Format { coding: Coding::Identity, ..format };
            match self.pieces.get(plain) {
                Some(plain) => encoder.code(&plain.bytes),
                None => encoder.encode(&self.entries),
            }
        })
    }

    #[cfg(test)]
    pub(super) fn has(&self, format: Format) -> bool {
        self.pieces.get(format).is_some()
    }

    /// Forgets what was encoded in formats that are not wanted.
    pub(super) fn keep(&self, wanted: impl Fn(Format) -> bool) {
        self.pieces.keep(wanted);
    }
}

/// Encodes pages in one format; keeps its memory from page to page.
pub(super) struct Encoder {
    pub(super) format: Format,
    pub(super) coder: PieceCoder,
    plain: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(format: Format) -> Result<Self, WireError> {
        Ok(Self { format, coder: PieceCoder::new(format.coding)?, plain: Vec::new() })
    }

    fn encode(&mut self, entries: &[Entry]) -> Result<Piece, WireError> {
        let mut writer = BodyWriter::resume(self.format.media, std::mem::take(&mut self.plain));
        entries.iter().for_each(|entry| writer.put(PutKind::New, entry));
        let plain = writer.take();
        let piece = self.code(&plain);
        self.plain = plain;
        piece
    }

    fn code(&mut self, plain: &[u8]) -> Result<Piece, WireError> {
        let (coded, checksum) = self.coder.inner(plain)?;
        // Copied, since the compressors' buffers are larger than what they come to hold.
        Ok(Piece { bytes: Bytes::copy_from_slice(&coded), checksum })
    }
}
