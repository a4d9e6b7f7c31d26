//! The answers of the newest breadcrumb, made before its waiters are woken.
//!
//! Nearly all who wait stand at the breadcrumb before the next one and want the same few formats.
//! Their answers are made once, ahead of the wake, and found here without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::{Answer, Format};
use crate::cache::Breadcrumb;
use crate::model::{Cursor, Sequence};
use crate::wire::{Coding, MediaType};

const MEDIA: usize = MediaType::ALL.len();
const FORMATS: usize = MEDIA * Coding::ALL.len();

#[derive(Default)]
pub(super) struct Hot {
    /// By format: the number of the last breadcrumb at which somebody waited who wants it.
    wanted_at: [AtomicU64; FORMATS],
    ready: ArcSwapOption<Ready>,
}

struct Ready {
    from: Cursor,
    to: Sequence,
    answers: [Option<Answer>; FORMATS],
}

fn place(format: Format) -> usize {
    format.media as usize + MEDIA * format.coding as usize
}

impl Hot {
    /// Somebody waits at this breadcrumb who will want this format.
    pub(super) fn want(&self, format: Format, at: Sequence) {
        let wanted_at = &self.wanted_at[place(format)];
        // A plain load is shared by all cores; a store is not.
        if wanted_at.load(Ordering::Relaxed) < at.0 {
            wanted_at.store(at.0, Ordering::Relaxed);
        }
    }

    /// Makes the answers that waiters of the breadcrumb before this one want.
    pub(super) fn prepare(&self, breadcrumb: &Breadcrumb, make: impl Fn(Format) -> Option<Answer>) {
        let to = breadcrumb.sequence();
        let mut answers = [const { None }; FORMATS];
        for media in MediaType::ALL {
            for coding in Coding::ALL {
                let format = Format { media, coding };
                if self.wanted_at[place(format)].load(Ordering::Relaxed) + 1 >= to.0 {
                    answers[place(format)] = make(format);
                }
            }
        }
        let ready = answers.iter().any(Option::is_some);
        self.ready.store(ready.then(|| Arc::new(Ready { from: breadcrumb.from(), to, answers })));
    }

    /// Gives `take` the answer that leads from the cursor to the newest breadcrumb, if it was made. No
    /// reference to it is taken: all cores would fight for the count.
    pub(super) fn with<T>(
        &self,
        from: Cursor,
        newest: Sequence,
        format: Format,
        take: impl FnOnce(&Answer) -> T,
    ) -> Option<T> {
        let ready = self.ready.load();
        let ready = ready.as_ref().filter(|ready| ready.to == newest && ready.from == from)?;
        ready.answers[place(format)].as_ref().map(take)
    }
}
