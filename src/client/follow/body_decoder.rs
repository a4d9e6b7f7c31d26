//! Puts bodies together from records.

use crate::client::{CheckedState, ClientError, Progress};
use crate::wire::{Header, Record};

/// The body of which records arrive.
#[derive(Debug, Default)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and nearly always the large one")]
pub(super) enum BodyDecoder {
    /// No body: its header has not arrived.
    #[default]
    Idle,
    /// A state, put together as it arrives.
    Snapshot(Header, CheckedState, Progress),
    /// Updates. They are applied once all have arrived, because half a body must not change the state.
    Updates(Header, Vec<Record>),
}

/// A complete body.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and nearly always the large one")]
pub(super) enum Body {
    /// A state.
    Snapshot(Header, CheckedState),
    /// Updates, with their `end`.
    Updates(Header, Vec<Record>),
    /// The client's state cannot be continued, for this reason.
    Reset(String),
}

impl BodyDecoder {
    /// Takes the next record; returns the body that it completes.
    pub(super) fn take(
        &mut self,
        record: Record,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Option<Body>, ClientError> {
        let is_end = matches!(record, Record::End(_));
        match (&mut *self, record) {
            (Self::Idle, Record::Reset { reason }) => {
                return Ok(Some(Body::Reset(reason.unwrap_or_default())));
            }
            (Self::Idle, Record::Snapshot(header)) => {
                let seen = Progress { entries: 0, total: header.count };
                progress(seen);
                let mut state = CheckedState::default();
                state.describe(&header);
                *self = Self::Snapshot(header, state, seen);
            }
            (Self::Idle, Record::Breadcrumb(header)) => *self = Self::Updates(header, Vec::new()),
            (Self::Snapshot(_, mirror, seen), record) => {
                mirror.apply(&record)?;
                seen.entries += u64::from(!is_end);
                progress(*seen);
            }
            (Self::Updates(_, records), record) => records.push(record),
            (Self::Idle, _) => {
                return Err(ClientError::Protocol("a record came before the header of its body".to_owned()));
            }
        }
        if !is_end {
            return Ok(None);
        }
        Ok(match std::mem::take(self) {
            Self::Idle => None,
            Self::Snapshot(header, mirror, _) => Some(Body::Snapshot(header, mirror)),
            Self::Updates(header, records) => Some(Body::Updates(header, records)),
        })
    }

    /// Whether a body is incomplete.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self, Self::Idle)
    }
}
