//! The key that hides a state's check in a cursor.
//!
//! The digest of a state is a sum over its entries. So two cursors with plain checks reveal the difference that a single
//! change made, and a guess of the changed value can be verified, even by a client that may not read the key. Under a
//! key the check is a MAC of the revision and the check: it is another one at every revision, and says nothing about the
//! state to those who do not know the key.

use std::str::FromStr;
use std::sync::Arc;

use ring::hmac::{HMAC_SHA256, Key, sign};

use super::{Check, Revision};

/// The number of hex digits of a secret: 32 bytes.
const HEX_DIGITS: usize = 64;

/// The key of the checks in cursors. The default has no secret, and checks are plain. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct CursorKey(
    /// The first one makes cursors. A cursor that any of them made is accepted.
    Arc<[Key]>,
);

/// The reason for which a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorKeyError {
    /// A line is something else than a secret.
    #[error(
        "line {0} is not a secret of {HEX_DIGITS} hex digits; `openssl rand -hex 32` makes one, and each line holds one"
    )]
    Line(usize),
    /// There is no secret.
    #[error("there is no secret; `openssl rand -hex 32` makes one")]
    Empty,
    /// There are too many secrets.
    #[error("there are {given} secrets; at most {most} are allowed, the current one first", given = .0, most = CursorKey::MAX_SECRETS)]
    TooMany(usize),
}

impl CursorKey {
    /// The most secrets: a current one, and the ones before it.
    pub const MAX_SECRETS: usize = 8;

    /// The key of a collection. Without it a client of one collection could test a guess of another collection's state.
    #[must_use]
    pub fn for_collection(&self, name: &str) -> Self {
        let derived = |key: &Key| Key::new(HMAC_SHA256, sign(key, name.as_bytes()).as_ref());
        Self(self.0.iter().map(derived).collect())
    }

    /// The check in a cursor for a state at this revision.
    pub(crate) fn seal(&self, revision: Revision, plain: Check) -> Check {
        self.0.first().map_or(plain, |key| seal(key, revision, plain))
    }

    /// Whether `sealed` is the check in a cursor for a state at this revision.
    pub(crate) fn accepts(&self, revision: Revision, plain: Check, sealed: Check) -> bool {
        match &*self.0 {
            [] => plain == sealed,
            keys => keys.iter().any(|key| seal(key, revision, plain) == sealed),
        }
    }
}

fn seal(key: &Key, revision: Revision, plain: Check) -> Check {
    let mut input = [0; 12];
    input[..8].copy_from_slice(&revision.0.to_le_bytes());
    input[8..].copy_from_slice(&plain.bits().to_le_bytes());
    let mut bits = [0; 4];
    bits.copy_from_slice(&sign(key, &input).as_ref()[..4]);
    Check::from_bits(u32::from_le_bytes(bits))
}

impl FromStr for CursorKey {
    type Err = CursorKeyError;

    /// One secret a line, the current one first. Empty lines, and lines that begin with `#`, are ignored.
    fn from_str(text: &str) -> Result<Self, CursorKeyError> {
        let lines = text.lines().map(str::trim).zip(1..);
        let secrets = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let keys = secrets.map(|(line, number)| secret(line).ok_or(CursorKeyError::Line(number)));
        let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(CursorKeyError::Empty),
            1..=Self::MAX_SECRETS => Ok(Self(keys.into())),
            many => Err(CursorKeyError::TooMany(many)),
        }
    }
}

fn secret(line: &str) -> Option<Key> {
    if line.len() != HEX_DIGITS || !line.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let bytes =
        line.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    Some(Key::new(HMAC_SHA256, &bytes.collect::<Option<Vec<u8>>>()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    fn key(secrets: &[char]) -> CursorKey {
        let lines: Vec<String> = secrets.iter().map(|digit| digit.to_string().repeat(HEX_DIGITS)).collect();
        lines.join("\n").parse().unwrap()
    }

    #[test]
    fn a_check_is_another_one_at_every_revision_and_under_every_key() {
        let (plain, at) = (Check::from_bits(7), Revision(1));
        let one = key(&['1']);
        assert_ne!(one.seal(at, plain), one.seal(Revision(2), plain));
        assert_ne!(one.seal(at, plain), key(&['2']).seal(at, plain));
        assert_ne!(one.seal(at, plain), one.for_collection("a").seal(at, plain));
        assert_eq!(one.seal(at, plain), key(&['1']).seal(at, plain), "replicas agree");
        assert_eq!(CursorKey::default().seal(at, plain), plain);
    }

    #[test]
    fn an_older_secret_is_accepted_and_the_first_one_makes_cursors() {
        let (plain, at) = (Check::from_bits(7), Revision(1));
        let (old, rotated) = (key(&['1']), key(&['2', '1']));
        assert!(rotated.accepts(at, plain, old.seal(at, plain)));
        assert!(rotated.accepts(at, plain, rotated.seal(at, plain)));
        assert!(!old.accepts(at, plain, rotated.seal(at, plain)));
        assert!(!rotated.accepts(Revision(2), plain, old.seal(at, plain)));
        assert!(!rotated.accepts(at, plain, plain), "a plain check is not accepted");
    }

    #[test]
    fn an_invalid_line_is_named() {
        let good = "a".repeat(HEX_DIGITS);
        let parse = |text: &str| text.parse::<CursorKey>().err();
        assert_eq!(parse(&format!("# the key\n\n{good}\r\n")), None);
        assert_eq!(parse(&format!("{good}\n{good}0")), Some(CursorKeyError::Line(2)));
        assert_eq!(parse(&"é".repeat(32)), Some(CursorKeyError::Line(1)));
        assert_eq!(parse("# nothing\n"), Some(CursorKeyError::Empty));
        assert_eq!(parse(&format!("{good}\n").repeat(9)), Some(CursorKeyError::TooMany(9)));
    }
}
