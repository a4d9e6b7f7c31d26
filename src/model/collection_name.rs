//! The name of a collection.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name, in bytes.
const MAX_BYTES: usize = 63;

/// The name of a collection: 1 to 63 of `a-z`, `0-9`, `-`, `.`, `_`, beginning with a letter or digit. It needs no escaping in
/// a URL, a file name or a label of a metric. Clones share the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionName(Arc<str>);

/// A text that is not the name of a collection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a collection; a name is 1 to {MAX_BYTES} of a-z, 0-9, \"-\", \".\" and \"_\", \
     and begins with a letter or digit"
)]
pub struct CollectionNameError(String);

impl CollectionName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CollectionName {
    type Err = CollectionNameError;

    fn from_str(text: &str) -> Result<Self, CollectionNameError> {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let begins_well = text.bytes().next().is_some_and(alphanumeric);
        let is_allowed = |byte: u8| alphanumeric(byte) || b"-._".contains(&byte);
        if begins_well && text.len() <= MAX_BYTES && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(CollectionNameError(text.chars().take(2 * MAX_BYTES).collect()))
        }
    }
}

/// A map of names can be queried by text.
impl Borrow<str> for CollectionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CollectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectionName({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    #[test]
    fn a_name_is_plain_in_urls_files_and_labels() {
        for good in ["a", "0", "pods", "kube-system.pods_v1", "a.", &"a".repeat(63)] {
            assert_eq!(good.parse::<CollectionName>().unwrap().as_str(), good);
        }
        let bad =
            ["", ".", "..", ".a", "-a", "_a", "A", "a/b", "a b", "a%", "a\n", "é", "*", &"a".repeat(64)];
        for bad in bad {
            let error = bad.parse::<CollectionName>().unwrap_err().to_string();
            assert!(error.contains("is not the name of a collection"), "{error}");
        }
        let long = "x".repeat(1 << 20).parse::<CollectionName>().unwrap_err();
        assert!(long.to_string().len() < 400);
    }
}
