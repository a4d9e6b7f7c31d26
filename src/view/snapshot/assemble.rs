//! The assembly of a snapshot's body from pages.
//!
//! ```text
//! opening  header, selected entries of the first page   encoded for this body
//! inner    whole pages                                  shared with all other bodies
//! closing  selected entries of the last page, end       encoded for this body
//! ```
//!
//! The first page is never shared, even if all of it is selected: in JSON its first entry has no comma before it.
//!
//! A body that is one zstd frame shares no compressed pages ([`Format::is_one_frame`]).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::idle_bytes::IdleBytes;
use super::page::{Encoder, Page, size_of_entries};
use super::page_tree::{PageTree, PieceRun, TreePosition};
use crate::model::{Entry, KeySelector};
use crate::view::body::{Body, Run};
use crate::view::body_cache::UNCOMPRESSED_BYTES;
use crate::view::lease::SharedBytes;
use crate::view::{Format, ViewError};
use crate::wire::{BodyWriter, Coding, End, FrameCoder, Header, PutKind, WireError};

/// The parts in a run of a body that is one frame. A part has up to 128 KiB.
const FRAME_RUN: usize = 8;

/// About how many bytes a header and an end take.
const FRAME_BYTES: u64 = 512;

/// An assembled body.
pub(super) struct Assembled {
    pub(super) body: Body,
    /// The coding that was applied.
    pub(super) coding: Coding,
    /// The bytes that no other body shares.
    pub(super) unshared_bytes: u64,
}

/// The body of the entries in this range.
pub(super) fn assemble(
    pages: &PageTree,
    range: Range<TreePosition>,
    header: &Header,
    end: &End,
    format: Format,
) -> Result<Assembled, ViewError> {
    Ok(Parts::of(pages, range).assemble(pages, header, end, format)?)
}

/// The body of the entries under several prefixes, for tokens that may read just these. It shares no pages, so its cost
/// grows with its length.
pub(super) fn assemble_selected(
    pages: &PageTree,
    keys: &KeySelector,
    header: &Header,
    end: &End,
    format: Format,
) -> Result<Assembled, ViewError> {
    let size = size_of_entries(selected(pages, keys)) as usize;
    let mut writer = BodyWriter::snapshot(format.media, header, size);
    selected(pages, keys).for_each(|entry| writer.put(PutKind::New, entry));
    Ok(one_part(writer.finish(end), format.coding)?)
}

/// About how many bytes the body of the entries in this range would add to those in flight.
pub(super) fn unheld_bytes(pages: &PageTree, range: Range<TreePosition>, format: Format) -> u64 {
    let parts = Parts::of(pages, range);
    let inner = parts.inner(pages);
    let inner = inner.map(|(group, range)| pages.groups()[group].unheld_bytes(range, format));
    FRAME_BYTES + size_of_entries(parts.first) + inner.sum::<u64>() + size_of_entries(parts.last)
}

/// The same for the entries under several prefixes.
pub(super) fn selected_bytes(pages: &PageTree, keys: &KeySelector) -> u64 {
    FRAME_BYTES + size_of_entries(selected(pages, keys))
}

fn selected<'a>(pages: &'a PageTree, keys: &'a KeySelector) -> impl Iterator<Item = &'a Entry> {
    let listed = keys.iter().flat_map(|prefix| pages.list(prefix.as_bytes(), None));
    listed.filter(|entry| keys.matches(entry.key()))
}

/// The selected entries: those of the first and the last page, and the whole pages between them.
struct Parts<'a> {
    first: &'a [Entry],
    inner: Range<TreePosition>,
    last: &'a [Entry],
}

impl<'a> Parts<'a> {
    fn of(pages: &'a PageTree, range: Range<TreePosition>) -> Self {
        let Range { start, end } = range;
        let entries = |at: TreePosition| pages.page(at).map_or(&[][..], |page| page.entries());
        let inner_start = TreePosition { page: start.page + 1, entry: 0, ..start };
        let inner_end = TreePosition { entry: 0, ..end };
        if start >= end {
            return Self { first: &[], inner: end..end, last: &[] };
        }
        if (start.group, start.page) == (end.group, end.page) {
            return Self { first: &entries(start)[start.entry..end.entry], inner: end..end, last: &[] };
        }
        let first = &entries(start)[start.entry..];
        Self { first, inner: inner_start..inner_end, last: &entries(end)[..end.entry] }
    }

    /// The whole pages, as ranges within their groups.
    fn inner(&self, pages: &PageTree) -> impl Iterator<Item = (usize, Range<usize>)> {
        let Range { start, end } = self.inner;
        let within = move |(group, len): (usize, usize)| {
            let from = if group == start.group { start.page } else { 0 };
            let to = if group == end.group { end.page } else { len };
            (from < to).then_some((group, from..to))
        };
        let lens: Vec<(usize, usize)> =
            pages.groups().iter().map(|group| group.pages().len()).enumerate().collect();
        lens.into_iter()
            .skip(start.group)
            .take_while(move |(group, _)| *group <= end.group)
            .filter_map(within)
    }

    fn assemble(
        &self,
        pages: &PageTree,
        header: &Header,
        end: &End,
        format: Format,
    ) -> Result<Assembled, WireError> {
        let size = |entries: &[Entry]| size_of_entries(entries) as usize;
        let inner: Vec<_> = self.inner(pages).collect();
        let mut opening = BodyWriter::snapshot(format.media, header, size(self.first) + size(self.last));
        self.first.iter().for_each(|entry| opening.put(PutKind::New, entry));
        let whole_pages =
            || inner.iter().flat_map(|(group, range)| &pages.groups()[*group].pages()[range.clone()]);
        if !worth_sharing(whole_pages()) {
            let between = whole_pages().flat_map(|page| page.entries());
            between.for_each(|entry| opening.put(PutKind::New, entry));
            self.last.iter().for_each(|entry| opening.put(PutKind::New, entry));
            return one_part(opening.finish(end), format.coding);
        }
        let mut closing = BodyWriter::resume(format.media, Vec::with_capacity(size(self.last) + 512));
        self.last.iter().for_each(|entry| closing.put(PutKind::New, entry));
        let (opening, closing) = (opening.take(), closing.finish(end));
        if format.is_one_frame() {
            return one_frame(&opening, whole_pages, &closing, format, pages.idle());
        }
        let mut encoder = Encoder::new(format, pages.idle())?;
        let mut runs: Vec<Run> = Vec::with_capacity(inner.len() + 2);
        let (opening, mut checksum) = encoder.coder.opening(&opening)?;
        let mut unshared_bytes = opening.len() as u64;
        let mut len = unshared_bytes;
        runs.push(Run::from([Bytes::from(opening)]));
        let mut shared: Vec<Arc<dyn SharedBytes>> = Vec::with_capacity(inner.len());
        for (group, range) in inner {
            let group = &pages.groups()[group];
            let run = match group.pages().len() == range.len() {
                true => group.run(&mut encoder)?,
                false => Arc::new(PieceRun::of(&group.pages()[range], &mut encoder)?),
            };
            checksum.append(&run.checksum);
            len += run.bytes;
            runs.push(Run::clone(&run.parts));
            shared.push(run);
        }
        let closing = encoder.coder.closing(&closing, checksum)?;
        unshared_bytes += closing.len() as u64;
        len += closing.len() as u64;
        runs.push(Run::from([Bytes::from(closing)]));
        let body = Body::sharing(runs, len, unshared_bytes, shared);
        Ok(Assembled { body, coding: format.coding, unshared_bytes })
    }
}

/// Whether a body of these pages is certainly long enough for compression. Shorter ones are sent uncompressed.
fn worth_sharing<'a>(pages: impl Iterator<Item = &'a Arc<Page>>) -> bool {
    let mut min_bytes = 0;
    pages.into_iter().any(|page| {
        min_bytes += page.min_encoded_bytes();
        min_bytes > UNCOMPRESSED_BYTES
    })
}

/// The body as one zstd frame, whose cost grows with its length. The pages are written twice, because a frame begins
/// with its length; this is a small part of the compression.
fn one_frame<'a, P>(
    opening: &[u8],
    whole_pages: impl Fn() -> P,
    closing: &[u8],
    format: Format,
    idle: &IdleBytes,
) -> Result<Assembled, WireError>
where
    P: Iterator<Item = &'a Arc<Page>>,
{
    let mut encoder = Encoder::new(Format { coding: Coding::Identity, ..format }, idle)?;
    let of_pages: usize = whole_pages().map(|page| page.read_uncompressed(&mut encoder, <[u8]>::len)).sum();
    let mut frame = FrameCoder::new((opening.len() + of_pages + closing.len()) as u64)?;
    frame.write(opening)?;
    for page in whole_pages() {
        page.read_uncompressed(&mut encoder, |uncompressed| frame.write(uncompressed))?;
    }
    frame.write(closing)?;
    let parts = frame.finish()?;
    let len = parts.iter().map(|part| part.len() as u64).sum();
    let runs = parts.chunks(FRAME_RUN).map(Run::from).collect();
    Ok(Assembled { body: Body::from_runs(runs, len), coding: format.coding, unshared_bytes: len })
}

fn one_part(uncompressed: Vec<u8>, coding: Coding) -> Result<Assembled, WireError> {
    let coding = if uncompressed.len() > UNCOMPRESSED_BYTES { coding } else { Coding::Identity };
    let bytes = if coding == Coding::Identity { uncompressed } else { coding.encode(&uncompressed)? };
    let unshared_bytes = bytes.len() as u64;
    Ok(Assembled { body: Body::counted(bytes), coding, unshared_bytes })
}
