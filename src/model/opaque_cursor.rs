//! The cursor as a client sees it.

use std::fmt;
use std::str::FromStr;

use super::{Cursor, CursorError};

/// The longest cursor, in bytes.
const MAX_BYTES: usize = 200;

/// A cursor of which nothing is known but its text. A client hands it back as it came, also to a newer daemon whose
/// cursors look different. The text is 1 to 200 characters of `[A-Za-z0-9._~-]`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpaqueCursor {
    /// Zeros follow the text, so that equal texts are equal cursors.
    bytes: [u8; MAX_BYTES],
    length: u8,
}

impl OpaqueCursor {
    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    /// What a daemon of this version reads in it.
    ///
    /// # Errors
    /// [`CursorError`] if it is a cursor of another version.
    pub fn read(&self) -> Result<Cursor, CursorError> {
        self.as_str().parse()
    }
}

impl From<Cursor> for OpaqueCursor {
    fn from(cursor: Cursor) -> Self {
        let text = cursor.to_string();
        debug_assert!(text.len() <= MAX_BYTES, "a cursor of ours has 47 at most");
        let mut bytes = [0; MAX_BYTES];
        let length = text.len().min(MAX_BYTES);
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self { bytes, length: length.try_into().unwrap_or(u8::MAX) }
    }
}

impl FromStr for OpaqueCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let malformed = || CursorError(text.chars().take(160).collect());
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_allowed) {
            return Err(malformed());
        }
        let mut bytes = [0; MAX_BYTES];
        bytes.get_mut(..text.len()).ok_or_else(malformed)?.copy_from_slice(text.as_bytes());
        Ok(Self { bytes, length: text.len().try_into().map_err(|_| malformed())? })
    }
}

impl fmt::Display for OpaqueCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for OpaqueCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpaqueCursor({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_text_comes_back_as_it_was_and_others_are_refused() {
        for text in ["a", "v2~x.Y-_0", &"z".repeat(MAX_BYTES)] {
            assert_eq!(text.parse::<OpaqueCursor>().map(|cursor| cursor.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "a b", "a/b", "ä", "a%20", &"z".repeat(MAX_BYTES + 1)] {
            assert!(text.parse::<OpaqueCursor>().is_err(), "{text:?}");
        }
    }
}
