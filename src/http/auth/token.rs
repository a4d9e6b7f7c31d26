//! A token and its line in the tokens file.
//!
//! A token is 32 random bytes as text. The file has its SHA-256 only, so a copy of the file is of no use to an attacker.
//! A slow, salted hash as for passwords would add nothing: it protects secrets that can be guessed, and nobody guesses
//! 32 random bytes. It would slow down every request.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{CollectionName, CollectionNameError};

/// The prefix of every token. Secret scanners recognise a leaked token by it.
const TOKEN_PREFIX: &str = "crumbd_";

/// The number of random bytes in a token.
const RANDOM_BYTES: usize = 32;

/// The SHA-256 of a token, or of a whole tokens file.
pub(super) type Hash = [u8; 32];

/// The hash of these bytes.
pub(super) fn hash(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// The system's random number generator failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a secret: the system provides no random numbers")]
pub struct TokenError;

/// A new token and its line for the tokens file. The token is stored nowhere else.
#[derive(Debug)]
pub struct NewToken {
    /// The token, for `Authorization: Bearer …`.
    pub token: String,
    /// The line for the tokens file.
    pub line: String,
}

impl NewToken {
    /// A new token with these rights.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn make(rights: NewRights) -> Result<Self, TokenError> {
        let NewRights { name, read, write, collections, admin } = rights;
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random()?));
        let sha256 = hex(&hash(token.as_bytes()));
        let rights = LineRights { read, write };
        let named = collections.into_iter().map(|CollectionPattern(name)| (name, rights.clone()));
        let collections = LineCollections(named.collect());
        let LineRights { read, write } = if collections.is_empty() { rights } else { LineRights::default() };
        let line = Line { name, sha256, read, write, collections, admin };
        // Strings always serialize.
        let line = serde_json::to_string(&line).unwrap_or_default();
        Ok(Self { token, line })
    }
}

/// The rights of a new token.
#[derive(Clone, Debug, Default)]
pub struct NewRights {
    /// A name for people.
    pub name: Option<String>,
    /// The prefixes of the keys that it may read.
    pub read: Vec<String>,
    /// The prefixes of the keys that it may write.
    pub write: Vec<String>,
    /// The collections in which it may; none is the default collection.
    pub collections: Vec<CollectionPattern>,
    /// Whether it is an operator's.
    pub admin: bool,
}

/// The named collections that a member of `collections` is for: one, or with `*` each that has no member of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CollectionPattern(Option<CollectionName>);

/// The pattern of every named collection that has no member of its own.
const OTHERS: &str = "*";

impl FromStr for CollectionPattern {
    type Err = CollectionNameError;

    fn from_str(text: &str) -> Result<Self, CollectionNameError> {
        if text == OTHERS { Ok(Self(None)) } else { text.parse().map(|name| Self(Some(name))) }
    }
}

/// A secret for the key of cursors, as 64 hex digits.
///
/// # Errors
/// [`TokenError`].
pub fn random_secret() -> Result<String, TokenError> {
    Ok(hex(&random()?))
}

fn random() -> Result<[u8; RANDOM_BYTES], TokenError> {
    let mut random = [0; RANDOM_BYTES];
    SystemRandom::new().fill(&mut random).map_err(|_| TokenError)?;
    Ok(random)
}

/// One line of the file.
#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// 64 hex digits.
    pub(super) sha256: String,
    #[serde(default)]
    pub(super) read: Vec<String>,
    #[serde(default)]
    pub(super) write: Vec<String>,
    /// The rights in named collections.
    #[serde(default, skip_serializing_if = "LineCollections::is_empty")]
    pub(super) collections: LineCollections,
    /// Whether it is an operator's token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) admin: bool,
}

/// The rights in one collection.
#[derive(Serialize, Deserialize, Clone, Default, Debug)]
#[serde(deny_unknown_fields)]
pub(super) struct LineRights {
    #[serde(default)]
    pub(super) read: Vec<String>,
    #[serde(default)]
    pub(super) write: Vec<String>,
}

/// Rights by collection, each named once; without a name they are for every other named collection.
#[derive(Default, Debug)]
pub(super) struct LineCollections(pub(super) Vec<(Option<CollectionName>, LineRights)>);

impl LineCollections {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for LineCollections {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, rights) in &self.0 {
            map.serialize_entry(name.as_ref().map_or(OTHERS, CollectionName::as_str), rights)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for LineCollections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(CollectionsVisitor)
    }
}

struct CollectionsVisitor;

impl<'de> Visitor<'de> for CollectionsVisitor {
    type Value = LineCollections;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of collections, such as {\"pods\": {\"read\": [\"\"], \"write\": []}}")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<LineCollections, M::Error> {
        let mut all: Vec<(Option<CollectionName>, LineRights)> = Vec::new();
        let mut names = HashSet::new();
        while let Some(text) = map.next_key::<String>()? {
            let CollectionPattern(name) = text.parse().map_err(M::Error::custom)?;
            if !names.insert(name.clone()) {
                return Err(M::Error::custom(format!("the collection {text:?} is named twice")));
            }
            all.push((name, map.next_value()?));
        }
        Ok(LineCollections(all))
    }
}

pub(super) fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut hash = Hash::default();
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    #[test]
    fn a_line_names_the_token_by_its_hash_only() {
        let made = NewToken::make(NewRights { read: vec!["a/".to_owned()], ..NewRights::default() }).unwrap();
        let line: Line = serde_json::from_str(&made.line).unwrap();
        assert_eq!(unhex(&line.sha256), Some(hash(made.token.as_bytes())));
        assert!(!made.line.contains(&made.token[TOKEN_PREFIX.len()..]));
        let other = NewToken::make(NewRights { admin: true, ..NewRights::default() }).unwrap();
        assert!(other.line.contains("\"admin\":true") && !made.line.contains("admin"));
        assert_ne!(made.token, other.token);
        // `printf %s abc | sha256sum`
        assert_eq!(hex(&hash(b"abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_hash_is_64_hex_digits() {
        for bad in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32), &"+0".repeat(32)] {
            assert_eq!(unhex(bad), None, "{bad:?}");
        }
        assert_eq!(unhex(&"Ff".repeat(32)), Some([0xff; 32]));
    }
}
