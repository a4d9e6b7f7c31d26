//! Which of the three spellings a value takes in a record.

use serde::de::IgnoredAny;

/// How a value's bytes are written in a JSON record: the first of these that is lossless.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// The bytes are JSON without insignificant whitespace: written as they are.
    Json,
    /// The bytes are UTF-8: written as a string.
    Utf8,
    /// Any other bytes: RFC 4648 base64, padded.
    Base64,
}

impl Encoding {
    /// Chooses for these bytes. One pass for text, one byte for most that is not JSON.
    pub fn of(value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) if is_compact_json(text) => Self::Json,
            Ok(_) => Self::Utf8,
            Err(_) => Self::Base64,
        }
    }
}

fn is_compact_json(text: &str) -> bool {
    let may_be =
        matches!(text.as_bytes().first(), Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'));
    may_be && !has_insignificant_whitespace(text) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Whether there is white space outside of string literals (for text that is JSON).
fn has_insignificant_whitespace(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => return true,
            b'"' => loop {
                match bytes.next() {
                    Some(b'\\') => _ = bytes.next(),
                    Some(b'"') | None => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lossless_spelling_is_chosen() {
        for json in ["1", "-0.10e+05", "null", r#"{"b":1,"a":[" ",{}]}"#, r#""a b\" c""#] {
            assert_eq!(Encoding::of(json.as_bytes()), Encoding::Json, "{json}");
        }
        for text in ["", " 1", "1 ", "{ }", "[1, 2]", "nul", "01", "hello", "\"open", "1\n", "{}{}"] {
            assert_eq!(Encoding::of(text.as_bytes()), Encoding::Utf8, "{text:?}");
        }
        assert_eq!(Encoding::of(b"\"\xff\""), Encoding::Base64);
    }
}
