//! The look of those who come by the thousand.
//!
//! Nearly all who follow want everything, stand at the newest breadcrumb or at the one before, and want an
//! answer that was made ahead. For them a look is two comparisons, and a wait is one registration.
//! Everything else, also every error, is for [`View::next`], which can do all of it.

use super::{Answer, Format, View};
use crate::cache::Breadcrumb;
use crate::model::{Cursor, Sequence};

/// What somebody sees who follows everything.
pub enum Glance<T> {
    /// What was made of the answer: it was there already.
    Answered(T),
    /// Nothing has come yet.
    Nothing(News),
    /// More than a look is needed: ask [`View::next`].
    Unclear,
}

/// What is waited for: the breadcrumb after the newest.
pub struct News {
    newest: Breadcrumb,
}

impl View {
    /// Looks whether there is anything after the cursor, for somebody who follows all keys. `answer`
    /// is given what is there; whether it was there [`at_once`](Answer::at_once) only the caller knows.
    pub fn glance<T>(&self, cursor: Cursor, format: Format, answer: impl FnOnce(&Answer) -> T) -> Glance<T> {
        // Who is woken in turns has to take a turn.
        if self.pace.is_some() {
            return Glance::Unclear;
        }
        let newest = self.cache.current_breadcrumb();
        if newest.is_provisional() {
            return Glance::Unclear;
        }
        if newest.cursor() == cursor {
            self.ahead.hot.want(format, newest.sequence());
            return Glance::Nothing(News { newest });
        }
        match self.ahead.hot.with(cursor, newest.sequence(), format, answer) {
            Some(made) => Glance::Answered(made),
            None => Glance::Unclear,
        }
    }
}

impl News {
    /// Resolves when it has come, with `true`, or when none will come any more. Cancel-safe.
    pub async fn came(&self) -> bool {
        self.newest.followed().await.is_ok()
    }

    /// The number of the breadcrumb that was the newest.
    pub fn sequence(&self) -> Sequence {
        self.newest.sequence()
    }
}
