//! Bodies put together from records.

use super::{ClientError, Mirror, Progress};
use crate::wire::{Header, Record};

/// A body that is being read.
#[derive(Debug, Default)]
pub(super) enum Reading {
    /// Its header has not come.
    #[default]
    Nothing,
    /// A state, put into a mirror of its own as it comes.
    Snapshot(Header, Mirror, Progress),
    /// Updates. They are applied once all are there: half a body must not move a mirror.
    Updates(Header, Vec<Record>),
}

/// A body that was read to its end.
#[derive(Debug)]
pub(super) enum Body {
    /// A state.
    Snapshot(Header, Mirror),
    /// Updates, with the end.
    Updates(Header, Vec<Record>),
    /// The word that what the client has cannot be continued, and why.
    Reset(String),
}

impl Reading {
    /// Takes the next record; gives the body that it completes.
    pub(super) fn take(
        &mut self,
        record: Record,
        progress: &mut impl FnMut(Progress),
    ) -> Result<Option<Body>, ClientError> {
        let is_end = matches!(record, Record::End(_));
        match (&mut *self, record) {
            (Self::Nothing, Record::Reset { reason }) => {
                return Ok(Some(Body::Reset(reason.unwrap_or_default())));
            }
            (Self::Nothing, Record::Snapshot(header)) => {
                let seen = Progress { entries: 0, total: header.count };
                progress(seen);
                *self = Self::Snapshot(header, Mirror::default(), seen);
            }
            (Self::Nothing, Record::Breadcrumb(header)) => *self = Self::Updates(header, Vec::new()),
            (Self::Snapshot(_, mirror, seen), record) => {
                mirror.apply(&record)?;
                seen.entries += u64::from(!is_end);
                progress(*seen);
            }
            (Self::Updates(_, records), record) => records.push(record),
            (Self::Nothing, _) => {
                return Err(ClientError::Protocol("a record came before the header of its body".to_owned()));
            }
        }
        if !is_end {
            return Ok(None);
        }
        Ok(match std::mem::take(self) {
            Self::Nothing => None,
            Self::Snapshot(header, mirror, _) => Some(Body::Snapshot(header, mirror)),
            Self::Updates(header, records) => Some(Body::Updates(header, records)),
        })
    }

    /// Whether a part of a body was read.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self, Self::Nothing)
    }
}
