//! The resume point of a stream: the `id` of an event, `from=` and `Last-Event-ID`.

use std::fmt;
use std::str::FromStr;

use crate::model::{Cursor, CursorError};

/// A cursor, and on a daemon with tokens the fingerprint of the rights under which its state was sent (`~` and hex
/// digits). Under other rights the client's state misses keys, or has keys that are no longer updated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct ResumePoint {
    pub(in crate::http) cursor: Cursor,
    pub(in crate::http) rights: Option<u64>,
}

impl fmt::Display for ResumePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cursor.fmt(f)?;
        self.rights.map_or(Ok(()), |rights| write!(f, "~{rights:x}"))
    }
}

impl FromStr for ResumePoint {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let Some((cursor, rights)) = text.split_once('~') else {
            return Ok(Self { cursor: text.parse()?, rights: None });
        };
        let is_hex = !rights.is_empty() && rights.bytes().all(|digit| digit.is_ascii_hexdigit());
        let rights = u64::from_str_radix(rights, 16).ok().filter(|_| is_hex);
        let malformed = || CursorError(text.chars().take(160).collect());
        Ok(Self { cursor: cursor.parse()?, rights: Some(rights.ok_or_else(malformed)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resume_point_survives_its_text() {
        let cursor = "5f0c11d29a3b4e77.1842.s9d03c1f2";
        for (text, rights) in [(cursor.to_owned(), None), (format!("{cursor}~1f"), Some(0x1f))] {
            let resume_point: Result<ResumePoint, _> = text.parse();
            assert_eq!(resume_point.as_ref().map(|resume_point| resume_point.rights), Ok(rights));
            assert_eq!(resume_point.map(|resume_point| resume_point.to_string()), Ok(text));
        }
        for bad in [format!("{cursor}~"), format!("{cursor}~+1"), format!("{cursor}~1~1"), "~1".to_owned()] {
            assert!(bad.parse::<ResumePoint>().is_err(), "{bad:?} was parsed");
        }
    }
}
