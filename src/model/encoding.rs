//! The encoding of a value in a JSON record.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The deepest nesting that every parser accepts. `serde_json` stops at 128, and a body around the value needs some.
const MAX_DEPTH: usize = 100;

/// The most consecutive digits that always fit a 64-bit floating point number.
const SAFE_DIGITS: usize = 300;

/// The encoding of a value's bytes in a JSON record: the first of these that is lossless.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// The bytes are JSON without insignificant whitespace that every parser accepts. They are written as they are.
    Json,
    /// The bytes are UTF-8, written as a string.
    ///
    /// This includes JSON that strict parsers refuse although the grammar allows it: half of a surrogate pair
    /// (`"\ud800"`), a number beyond 64-bit floating point (`1e999`), more than a hundred levels. Written as it is, such a
    /// value would make those parsers refuse the whole body.
    Utf8,
    /// Any other bytes, written as padded RFC 4648 base64.
    Base64,
}

impl Encoding {
    /// The encoding for these bytes. Takes two passes for text that looks like JSON, one for other text.
    pub fn of(value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) if is_compact_json(text) => Self::Json,
            Ok(_) => Self::Utf8,
            Err(_) => Self::Base64,
        }
    }

    /// As [`Encoding::of`], for text that is known to be JSON without insignificant whitespace. Takes one pass.
    pub(crate) fn of_compact_json(value: &[u8]) -> Self {
        let scan = Scan::of(value);
        let refused =
            scan.too_deep || scan.needs_strict_parse && serde_json::from_slice::<Strict>(value).is_err();
        if refused { Self::Utf8 } else { Self::Json }
    }
}

fn is_compact_json(text: &str) -> bool {
    let may_be =
        matches!(text.as_bytes().first(), Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'));
    if !may_be {
        return false;
    }
    match Scan::of(text.as_bytes()) {
        Scan { whitespace: true, .. } | Scan { too_deep: true, .. } => false,
        Scan { needs_strict_parse: true, .. } => serde_json::from_str::<Strict>(text).is_ok(),
        _ => serde_json::from_str::<IgnoredAny>(text).is_ok(),
    }
}

/// The result of a quick scan of text that may be JSON.
#[derive(Default)]
struct Scan {
    /// Whitespace outside of string literals. The scan stops there.
    whitespace: bool,
    too_deep: bool,
    /// A `\u`, an exponent or a very long number, which a strict parser may refuse.
    needs_strict_parse: bool,
}

impl Scan {
    fn of(text: &[u8]) -> Self {
        let mut scan = Self::default();
        let (mut at, mut depth) = (0, 0_usize);
        while let Some(byte) = text.get(at) {
            at += 1;
            match byte {
                b'0'..=b'9' => {
                    let first = at;
                    while text.get(at).is_some_and(u8::is_ascii_digit) {
                        at += 1;
                    }
                    scan.needs_strict_parse |=
                        at - first >= SAFE_DIGITS || matches!(text.get(at), Some(b'e' | b'E'));
                }
                b' ' | b'\t' | b'\n' | b'\r' => return Self { whitespace: true, ..scan },
                b'[' | b'{' => {
                    depth += 1;
                    scan.too_deep |= depth > MAX_DEPTH;
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                // Skips to the end of the string.
                b'"' => {
                    while let Some(rest) = text.get(at..)
                        && let Some(found) = memchr::memchr2(b'"', b'\\', rest)
                    {
                        at += found + 1;
                        if rest[found] == b'"' {
                            break;
                        }
                        scan.needs_strict_parse |= text.get(at) == Some(&b'u');
                        at += 1;
                    }
                }
                _ => {}
            }
        }
        scan
    }
}

/// A deserializer that decodes every value and discards it. `serde_json` does not decode the values of [`IgnoredAny`].
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lossless_encoding_is_chosen() {
        for json in ["1", "-0.10e+05", "null", r#"{"b":1,"a":[" ",{}]}"#, r#""a b\" c""#] {
            assert_eq!(Encoding::of(json.as_bytes()), Encoding::Json, "{json}");
        }
        for text in
            ["", " 1", "1 ", "{ }", "[1, 2]", "nul", "01", "hello", "\"open", "\"open\\", "1\n", "{}{}"]
        {
            assert_eq!(Encoding::of(text.as_bytes()), Encoding::Utf8, "{text:?}");
        }
        assert_eq!(Encoding::of(b"\"\xff\""), Encoding::Base64);
    }

    #[test]
    fn json_is_written_as_it_is_only_if_a_strict_parser_accepts_it() {
        let nines = "9".repeat(309);
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let (deep, too_deep) = (nested(MAX_DEPTH), nested(MAX_DEPTH + 1));
        let read = [
            r#""\u00e9 \uD83E\uDD80 \\ud800""#,
            "1e308",
            "-2E-400",
            "0e999",
            r#"{"1e999":"1e999"}"#,
            r#"[1,"e",true,false,1.5e5]"#,
            &nines[..300],
            &deep,
        ];
        let refused = [
            r#""\ud800""#,
            r#""\uDC00\uD800""#,
            r#"{"a":["\ud83e!"]}"#,
            r#"{"\ud800":1}"#,
            "1e999",
            "-1E+999",
            r#"[1,{"a":[0.1e400]}]"#,
            &nines,
            &too_deep,
        ];
        for (texts, encoding) in [(&read[..], Encoding::Json), (&refused[..], Encoding::Utf8)] {
            for json in texts {
                assert!(serde_json::from_str::<IgnoredAny>(json).is_ok(), "{json} is JSON");
                assert_eq!(Encoding::of(json.as_bytes()), encoding, "{json}");
                assert_eq!(Encoding::of_compact_json(json.as_bytes()), encoding, "{json}");
            }
        }
    }
}
