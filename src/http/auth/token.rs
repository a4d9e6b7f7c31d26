//! A token and its line in the tokens file.
//!
//! A token is 32 random bytes as text. The file has its SHA-256 only, so a copy of the file is of no use to an attacker.
//! A slow, salted hash as for passwords would add nothing: it protects secrets that can be guessed, and nobody guesses
//! 32 random bytes. It would slow down every request.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

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
    /// A new token that may read and write the keys under these prefixes; `admin` is for operators.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn make(
        name: Option<String>,
        read: Vec<String>,
        write: Vec<String>,
        admin: bool,
    ) -> Result<Self, TokenError> {
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random()?));
        let line = Line { name, sha256: hex(&hash(token.as_bytes())), read, write, admin };
        // Strings always serialize.
        let line = serde_json::to_string(&line).unwrap_or_default();
        Ok(Self { token, line })
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
    /// Whether it is an operator's token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) admin: bool,
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
        let made = NewToken::make(None, vec!["a/".to_owned()], Vec::new(), false).unwrap();
        let line: Line = serde_json::from_str(&made.line).unwrap();
        assert_eq!(unhex(&line.sha256), Some(hash(made.token.as_bytes())));
        assert!(!made.line.contains(&made.token[TOKEN_PREFIX.len()..]));
        let other = NewToken::make(None, Vec::new(), Vec::new(), true).unwrap();
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
