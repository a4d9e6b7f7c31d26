//! What is on the view's trail: each breadcrumb with its encoded answers, and the snapshots that streams begin with.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::Breadcrumb;
use crate::model::{Cursor, Sequence};
use crate::trail::SnapshotItem;
use crate::view::answer::{BreadcrumbInfo, Draft};
use crate::view::body_cache::CodedBody;
use crate::view::{Answer, Format, Reason};
use crate::wire::{Coding, MediaType, Mode};

const MEDIA: usize = MediaType::ALL.len();
const FORMATS: usize = MEDIA * Coding::ALL.len();

/// Breadcrumbs with more updates are encoded when somebody asks: whoever asks first pays, off the
/// threads that wake the others.
const MAX_DELTAS: usize = 2000;

/// One item of the view's trail, or of a snapshot that is spliced onto it.
pub(in crate::view) enum Item {
    Breadcrumb(EncodedBreadcrumb),
    Snapshot(Answer),
    EndOfSnapshot(Sequence),
}

/// A breadcrumb, and the answers that lead to it from the one before.
///
/// It does not hold the breadcrumb itself: a reader that is slow would keep its state in memory.
pub(in crate::view) struct EncodedBreadcrumb {
    /// What the answers lead from.
    from: Cursor,
    pub(in crate::view) info: BreadcrumbInfo,
    provisional: bool,
    /// By format; none where nobody had asked for the format when the breadcrumb came.
    answers: [Option<Box<Answer>>; FORMATS],
}

/// The formats in which answers are wanted.
#[derive(Default)]
pub(super) struct Demand {
    /// By format: the number of the last breadcrumb at which somebody waited who wants it.
    wanted_at: [AtomicU64; FORMATS],
}

fn place(format: Format) -> usize {
    format.media as usize + MEDIA * format.coding as usize
}

impl Demand {
    /// Somebody waits at this breadcrumb who will want this format.
    pub(super) fn note(&self, format: Format, at: Sequence) {
        let wanted_at = &self.wanted_at[place(format)];
        // A plain load is shared by all cores; a store is not.
        if wanted_at.load(Ordering::Relaxed) < at.0 {
            wanted_at.store(at.0, Ordering::Relaxed);
        }
    }

    fn is_for(&self, format: Format, sequence: Sequence) -> bool {
        self.wanted_at[place(format)].load(Ordering::Relaxed) + 1 >= sequence.0
    }
}

impl EncodedBreadcrumb {
    /// A breadcrumb without answers.
    pub(super) fn bare(breadcrumb: &Breadcrumb) -> Self {
        let answers = [const { None }; FORMATS];
        let (info, provisional) = (BreadcrumbInfo::of(breadcrumb), breadcrumb.is_provisional());
        Self { from: breadcrumb.from(), info, provisional, answers }
    }

    /// A breadcrumb with the answers that are wanted by those who wait at the one before; also how many were
    /// encoded.
    pub(super) fn encode(breadcrumb: &Breadcrumb, demand: &Demand) -> (Self, u64) {
        let mut encoded = Self::bare(breadcrumb);
        let same_history =
            encoded.from.history == encoded.info.cursor.history && !breadcrumb.is_provisional();
        if !same_history || breadcrumb.deltas().len() > MAX_DELTAS {
            return (encoded, 0);
        }
        let mut count = 0;
        for media in MediaType::ALL {
            let mut plain = None;
            for coding in Coding::ALL {
                let format = Format { media, coding };
                if demand.is_for(format, encoded.info.sequence) {
                    let plain = plain.get_or_insert_with(|| {
                        count += 1;
                        Plain::encode(breadcrumb, media)
                    });
                    encoded.answers[place(format)] = plain.answer(format).map(Box::new);
                }
            }
        }
        (encoded, count)
    }

    /// Whether a client that stands at this cursor has this state and status.
    pub(in crate::view) fn is_at(&self, cursor: Cursor) -> bool {
        self.info.cursor == cursor && !self.provisional
    }

    /// The answer that leads here from this cursor, if it was made.
    pub(in crate::view) fn answer(&self, from: Cursor, format: Format) -> Option<&Answer> {
        self.answers[place(format)].as_deref().filter(|_| self.from == from)
    }
}

/// The body of one step before it is compressed.
struct Plain {
    draft: Draft,
    body: CodedBody,
}

impl Plain {
    fn encode(breadcrumb: &Breadcrumb, media: MediaType) -> Self {
        let (from, now) = (breadcrumb.from(), breadcrumb.cursor());
        let same_state = from.revision == now.revision && from.check == now.check;
        let reason = if same_state { Reason::Status } else { Reason::Next };
        let draft = Draft::new(breadcrumb, from, Mode::Delta, reason, true);
        let bytes = draft.encode(media, breadcrumb.deltas()).into();
        Self { draft, body: CodedBody { bytes, coding: Coding::Identity } }
    }

    /// None where it cannot be compressed: who asks is told why when it is tried again.
    fn answer(&self, format: Format) -> Option<Answer> {
        Some(self.draft.answer(self.body.clone().compressed(format.coding).ok()?, format))
    }
}

impl Item {
    /// The breadcrumb, unless it is part of a snapshot.
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
            Self::Snapshot(answer) => answer.sequence.0,
            Self::EndOfSnapshot(sequence) => sequence.0,
        }
    }

    fn end_of_snapshot(index: u64) -> Self {
        Self::EndOfSnapshot(Sequence(index))
    }
}
