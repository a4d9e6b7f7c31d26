//! The items of the view's trail: breadcrumbs with their encoded answers, and the snapshots of new streams.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::Breadcrumb;
use crate::model::{Cursor, Sequence};
use crate::trail::SnapshotItem;
use crate::view::answer::{BreadcrumbInfo, Draft};
use crate::view::body_cache::EncodedBody;
use crate::view::{Answer, Format};
use crate::wire::{Coding, MediaType};

const MEDIA: usize = MediaType::ALL.len();
const FORMATS: usize = MEDIA * Coding::ALL.len();

/// A breadcrumb with more updates is not encoded by the fan-out, which would delay all wakes, but on the first request.
pub(super) const MAX_DELTAS: usize = 2000;

/// An item of the view's trail, or of a snapshot that is spliced onto it.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all items are breadcrumbs, and every reader visits them"
)]
pub(in crate::view) enum Item {
    Breadcrumb(EncodedBreadcrumb),
    /// A snapshot, without the body: a reader at this position would keep it in memory.
    Snapshot(Sequence),
    EndOfSnapshot(Sequence),
}

/// A breadcrumb's header fields, and the answers that lead to it from its predecessor.
///
/// It does not hold the breadcrumb itself: a slow reader would keep the whole state in memory.
pub(in crate::view) struct EncodedBreadcrumb {
    /// The cursor of the predecessor.
    from: Cursor,
    pub(in crate::view) info: BreadcrumbInfo,
    provisional: bool,
    /// By format; `None` if the format was not in demand.
    answers: [Option<Box<Answer>>; FORMATS],
}

/// The formats that waiters want.
#[derive(Default)]
pub(super) struct Demand {
    /// By format: the last breadcrumb at which a waiter wanted it.
    wanted_at: [AtomicU64; FORMATS],
}

fn index_of(format: Format) -> usize {
    format.media as usize + MEDIA * format.coding as usize
}

impl Demand {
    /// Notes that a waiter at this breadcrumb wants this format.
    pub(super) fn note(&self, format: Format, at: Sequence) {
        let wanted_at = &self.wanted_at[index_of(format)];
        // Usually a load is enough; a store would take the cache line from the other cores.
        if wanted_at.load(Ordering::Relaxed) < at.0 {
            wanted_at.store(at.0, Ordering::Relaxed);
        }
    }

    fn is_for(&self, format: Format, sequence: Sequence) -> bool {
        self.wanted_at[index_of(format)].load(Ordering::Relaxed) + 1 >= sequence.0
    }
}

impl EncodedBreadcrumb {
    /// A breadcrumb without answers.
    pub(super) fn without_answers(breadcrumb: &Breadcrumb) -> Self {
        let answers = [const { None }; FORMATS];
        let (info, provisional) = (BreadcrumbInfo::of(breadcrumb), breadcrumb.is_provisional());
        Self { from: breadcrumb.from(), info, provisional, answers }
    }

    /// A breadcrumb with the answers that are in demand, and how many bodies were encoded for them.
    pub(super) fn encode(breadcrumb: &Breadcrumb, demand: &Demand) -> (Self, u64) {
        let mut encoded = Self::without_answers(breadcrumb);
        let same_history =
            encoded.from.history == encoded.info.cursor.history && !breadcrumb.is_provisional();
        if !same_history || breadcrumb.deltas().len() > MAX_DELTAS {
            return (encoded, 0);
        }
        let mut count = 0;
        for media in MediaType::ALL {
            let mut uncompressed = None;
            for coding in Coding::ALL {
                let format = Format { media, coding };
                if demand.is_for(format, encoded.info.sequence) {
                    let uncompressed = uncompressed.get_or_insert_with(|| {
                        count += 1;
                        Uncompressed::encode(breadcrumb, media)
                    });
                    encoded.answers[index_of(format)] = uncompressed.answer(format).map(Box::new);
                }
            }
        }
        (encoded, count)
    }

    /// Whether a client at this cursor has this state and status.
    pub(in crate::view) fn is_at(&self, cursor: Cursor) -> bool {
        self.info.cursor == cursor && !self.provisional
    }

    /// The encoded answer from this cursor, if it exists.
    pub(in crate::view) fn answer(&self, from: Cursor, format: Format) -> Option<&Answer> {
        self.answers[index_of(format)].as_deref().filter(|_| self.from == from)
    }
}

/// The answer of a breadcrumb before compression.
struct Uncompressed {
    draft: Draft,
    body: EncodedBody,
}

impl Uncompressed {
    fn encode(breadcrumb: &Breadcrumb, media: MediaType) -> Self {
        let draft = Draft::step(breadcrumb, true);
        let body = EncodedBody::plain(draft.encode(media, breadcrumb.deltas()));
        Self { draft, body }
    }

    /// `None` if compression fails; the request then tries again and reports the error.
    fn answer(&self, format: Format) -> Option<Answer> {
        Some(self.draft.answer(self.body.clone().compressed(format.coding).ok()?, format))
    }
}

impl Item {
    /// The breadcrumb; `None` for an item of a snapshot.
    pub(in crate::view) fn breadcrumb(&self) -> Option<&EncodedBreadcrumb> {
        match self {
            Self::Breadcrumb(encoded) => Some(encoded),
            Self::Snapshot(_) | Self::EndOfSnapshot(_) => None,
        }
    }
}

impl SnapshotItem for Item {
    fn index(&self) -> u64 {
        match self {
            Self::Breadcrumb(encoded) => encoded.info.sequence.0,
            Self::Snapshot(sequence) | Self::EndOfSnapshot(sequence) => sequence.0,
        }
    }

    fn end_of_snapshot(index: u64) -> Self {
        Self::EndOfSnapshot(Sequence(index))
    }
}
