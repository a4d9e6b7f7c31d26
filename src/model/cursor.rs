//! The cursor: a client's position.

use std::fmt;
use std::str::FromStr;

use super::{Digest, History, Revision, SyncStatus};

/// A client's position, from which *any* daemon that follows the same history can continue.
///
/// Text form: `{history}.{revision}.{w|r|s}{check}`, for example `5f0c11d29a3b4e77.1842.s9d03c1f2`.
/// Clients treat it as opaque. Every cursor has exactly one text form, so equal texts mean equal cursors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    /// The history that the revision belongs to.
    pub history: History,
    /// The revision of the client's state.
    pub revision: Revision,
    /// The status that the client got with it. A change of status alone makes a new breadcrumb.
    pub status: SyncStatus,
    /// The check of the state at that revision. Two upstreams can have the same history id (a file
    /// rewritten with the same beginning, a store recreated under the same name). A daemon whose
    /// state at the revision has another check refuses the cursor.
    pub check: Check,
}

/// The low 32 bits of a state's digest; in a cursor, sealed with the [`CursorKey`](super::CursorKey) if there is one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Check(u32);

impl Check {
    /// The 32 bits.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// The check with these bits.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

impl From<Digest> for Check {
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn from(digest: Digest) -> Self {
        Self(digest.bits() as u32)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}{:08x}", self.history, self.revision, self.status.letter(), self.check.0)
    }
}

/// The error for a text that is not a cursor.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "malformed cursor {0:?}: copy a cursor unchanged from a Crumbd-Cursor header, a body's \"cursor\" \
     or a Link; start from GET /v1/breadcrumbs/current"
)]
pub struct CursorError(pub String);

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        parse(text).ok_or_else(|| CursorError(text.chars().take(160).collect()))
    }
}

fn parse(text: &str) -> Option<Cursor> {
    let mut parts = text.split('.');
    let (history, digits, rest) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (letter, check) = rest.split_at_checked(1)?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if check.len() != 8 || !check.bytes().all(hex) {
        return None;
    }
    let canonical =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
    Some(Cursor {
        history: history.parse().ok()?,
        revision: Revision(digits.parse().ok().filter(|_| canonical)?),
        status: SyncStatus::ALL.into_iter().find(|s| s.letter() == letter)?,
        check: Check(u32::from_str_radix(check, 16).ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_round_trips_and_has_one_text_form() {
        let check = Check(0x00ab_cdef);
        let cursor = |revision, status| Cursor {
            history: History::derive(b"x"),
            revision: Revision(revision),
            status,
            check,
        };
        for status in SyncStatus::ALL {
            for revision in [0, 1, 10, u64::MAX] {
                let cursor = cursor(revision, status);
                assert_eq!(cursor.to_string().parse(), Ok(cursor));
            }
        }
        let good = cursor(7, SyncStatus::InSync).to_string();
        for bad in [
            "".to_owned(),
            "..".to_owned(),
            good.to_uppercase(),
            good.replace(".7.", ".07."),
            good.replace(".7.", ".+7."),
            good.replace(".7.", ".18446744073709551616."),
            format!("{good}.s"),
            format!("{good} "),
            format!("{good}0"),
            good.replace(".s", ".x"),
            good.replace("s00abcdef", "s"),
            good.replace("s00abcdef", "ß0abcdef"),
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad:?} was taken for a cursor");
        }
    }
}
