//! Which of the three spellings a value takes in a record.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Arrays and objects inside of each other that every parser takes: `serde_json` stops at 128, of which a body needs some.
const MAX_DEPTH: usize = 100;

/// Digits in a row that fit any 64-bit floating point number, whatever they are.
const SAFE_DIGITS: usize = 300;

/// How a value's bytes are written in a JSON record: the first of these that is lossless.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// The bytes are JSON without insignificant whitespace, which every parser reads: written as they are.
    Json,
    /// The bytes are UTF-8: written as a string.
    ///
    /// Also JSON that stricter parsers refuse although the grammar allows it: half of a surrogate pair (`"\ud800"`), a
    /// number beyond 64-bit floating point (`1e999`), more than a hundred levels. As it is, such a value would make
    /// those parsers refuse the whole body.
    Utf8,
    /// Any other bytes: RFC 4648 base64, padded.
    Base64,
}

impl Encoding {
    /// Chooses for these bytes. Two passes for text that looks like JSON, one for other text.
    pub fn of(value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) if is_compact_json(text) => Self::Json,
            Ok(_) => Self::Utf8,
            Err(_) => Self::Base64,
        }
    }

    /// The same for text that is known to be JSON without insignificant whitespace: one pass.
    pub(crate) fn of_compact_json(value: &[u8]) -> Self {
        let outline = Outline::of(value);
        let refused = outline.too_deep || outline.suspect && serde_json::from_slice::<Strict>(value).is_err();
        if refused { Self::Utf8 } else { Self::Json }
    }
}

fn is_compact_json(text: &str) -> bool {
    let may_be =
        matches!(text.as_bytes().first(), Some(b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'));
    if !may_be {
        return false;
    }
    match Outline::of(text.as_bytes()) {
        Outline { whitespace: true, .. } | Outline { too_deep: true, .. } => false,
        Outline { suspect: true, .. } => serde_json::from_str::<Strict>(text).is_ok(),
        _ => serde_json::from_str::<IgnoredAny>(text).is_ok(),
    }
}

/// What a quick look at text that may be JSON shows.
#[derive(Default)]
struct Outline {
    /// White space outside of string literals. Nothing else was looked for then.
    whitespace: bool,
    too_deep: bool,
    /// It has a `\u`, an exponent or a very long number: worth a strict look, which takes every one of them apart.
    suspect: bool,
}

impl Outline {
    fn of(text: &[u8]) -> Self {
        let mut outline = Self::default();
        let (mut at, mut depth) = (0, 0_usize);
        while let Some(byte) = text.get(at) {
            at += 1;
            match byte {
                b'0'..=b'9' => {
                    let first = at;
                    while text.get(at).is_some_and(u8::is_ascii_digit) {
                        at += 1;
                    }
                    outline.suspect |= at - first >= SAFE_DIGITS || matches!(text.get(at), Some(b'e' | b'E'));
                }
                b' ' | b'\t' | b'\n' | b'\r' => return Self { whitespace: true, ..outline },
                b'[' | b'{' => {
                    depth += 1;
                    outline.too_deep |= depth > MAX_DEPTH;
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                // To the end of the string.
                b'"' => {
                    while let Some(rest) = text.get(at..)
                        && let Some(found) = memchr::memchr2(b'"', b'\\', rest)
                    {
                        at += found + 1;
                        if rest[found] == b'"' {
                            break;
                        }
                        outline.suspect |= text.get(at) == Some(&b'u');
                        at += 1;
                    }
                }
                _ => {}
            }
        }
        outline
    }
}

/// Reads JSON as a parser does that makes something of it, and throws it away: `serde_json` skips what is ignored
/// without asking what it means.
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
    fn the_first_lossless_spelling_is_chosen() {
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
    fn json_is_written_as_it_is_only_where_a_strict_parser_reads_it() {
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
