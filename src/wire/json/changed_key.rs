//! The key of a record that cannot be read otherwise.

use super::parse::from_base64;
use crate::model::Key;

/// Finds the key that a malformed record would set or delete. The text must have a `type` that changes a key, and one
/// key; everything else may be malformed. Text that is cut off is read as far as it goes.
pub(crate) fn changed_key(text: &str) -> Option<Key> {
    let mut candidates = Candidates::default();
    let mut members = Members { text, at: text.find('{')? + 1, depth: 1 };
    while let Some((name, value)) = members.next_string() {
        candidates.add(&name, value);
    }
    candidates.key()
}

/// The members that name the key. Contradicting members name none.
#[derive(Default)]
struct Candidates {
    kinds: Vec<Option<String>>,
    keys: Vec<Option<Vec<u8>>>,
}

impl Candidates {
    /// Adds a member; the value is None if it is not a string.
    fn add(&mut self, name: &str, value: Option<String>) {
        match name {
            "type" => self.kinds.push(value),
            "key" => self.keys.push(value.filter(|text| is_exact(text)).map(String::into_bytes)),
            "key_base64" => {
                self.keys.push(value.and_then(|text| from_base64("key_base64", &text).ok()));
            }
            _ => {}
        }
    }

    fn key(mut self) -> Option<Key> {
        const CHANGES: [&str; 5] = ["put", "new", "updated", "deleted", "delete"];
        self.kinds.dedup();
        self.keys.dedup();
        let Ok([Some(kind)]) = <[Option<String>; 1]>::try_from(self.kinds) else { return None };
        let Ok([Some(key)]) = <[Option<Vec<u8>>; 1]>::try_from(self.keys) else { return None };
        CHANGES.contains(&kind.as_str()).then(|| Key::new(key))
    }
}

/// The members of an object that need not be valid JSON. Only strings must be closed.
struct Members<'a> {
    text: &'a str,
    at: usize,
    /// The number of open objects and arrays. Only the members of the outermost object count.
    depth: usize,
}

impl<'a> Members<'a> {
    /// The next member: its name, and its value if that is a complete string.
    fn next_string(&mut self) -> Option<(String, Option<String>)> {
        loop {
            match self.next_token()? {
                Token::Open => self.depth += 1,
                Token::Close if self.depth == 1 => return None,
                Token::Close => self.depth -= 1,
                Token::String(name) if self.depth == 1 && self.skip(':') => {
                    let value = if self.comes('"') { self.next_token() } else { None };
                    let value = match value {
                        Some(Token::String(text)) => serde_json::from_str(text).ok(),
                        _ => None,
                    };
                    return Some((serde_json::from_str(name).unwrap_or_default(), value));
                }
                Token::String(_) => {}
            }
        }
    }

    /// The next bracket or string; everything else is skipped. None if a string is not closed.
    fn next_token(&mut self) -> Option<Token<'a>> {
        let rest = self.text.get(self.at..)?;
        let found = rest.find(['{', '}', '[', ']', '"'])?;
        self.at += found + 1;
        match rest.as_bytes()[found] {
            b'{' | b'[' => Some(Token::Open),
            b'}' | b']' => Some(Token::Close),
            _ => {
                let length = string_end(&rest[found + 1..])?;
                self.at += length;
                Some(Token::String(&rest[found..found + 1 + length]))
            }
        }
    }

    fn comes(&mut self, wanted: char) -> bool {
        let rest = self.text[self.at..].trim_start();
        self.at = self.text.len() - rest.len();
        rest.starts_with(wanted)
    }

    fn skip(&mut self, wanted: char) -> bool {
        let comes = self.comes(wanted);
        self.at += if comes { wanted.len_utf8() } else { 0 };
        comes
    }
}

enum Token<'a> {
    Open,
    Close,
    /// With its quotes.
    String(&'a str),
}

/// The length of the rest of a string, with its closing quote.
fn string_end(rest: &str) -> Option<usize> {
    let mut escaped = false;
    let end = rest.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some(end + 1)
}

/// Whether the text has no replacement character, which may stand for bytes that were not UTF-8.
fn is_exact(text: &str) -> bool {
    !text.contains(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<String> {
        changed_key(text).map(|key| key.to_string())
    }

    #[test]
    fn a_malformed_record_names_its_key_if_the_key_is_unambiguous() {
        for text in [
            r#"{"type":"put","key":"a"}"#,
            r#"{"type":"put","key":"a","value":1,"frobs":2}"#,
            r#"{"key_base64":"YQ==","ttl":-1,"value":1,"type":"updated"}"#,
            r#"{"type":"put","key":"a","value":nul}"#,
            r#"{"type":"deleted","key":"a","revision":"x"}"#,
            r#"{"type":"deleted","key":"a""#,
            r#"{"type":"put","key":"a","value":"begun"#,
            r#"{"type":"put","key":"a","value":{"key":"b","type":"frob""#,
            r#"{"value":tru,"type":"put","key":"a"}"#,
            r#"{"value":{"type":"frob","key":["b"]},"type" : "put" , "key" : "a"}"#,
            r#"{"type":"put","type":"put","key":"\u0061"}"#,
            r#"{"value":"\"key\":\"b\\","type":"put","key":"a"}x"#,
            "\u{feff} {\"type\":\"delete\",\"key\":\"a\"}",
        ] {
            assert_eq!(named(text).as_deref(), Some("a"), "{text}");
        }
        for text in [
            r#"{"type":"frob","key":"a"}"#,
            r#"{"type":"end","key":"a"}"#,
            r#"{"key":"a","value":1}"#,
            r#"{"type":"put","key":"a"#,
            r#"{"type":"put","key":"a","key":"b","value":1}"#,
            r#"{"type":"put","type":"deleted","key":"a"}"#,
            r#"{"type":"put","key":"a","key_base64":"Yg==","value":1}"#,
            r#"{"type":"put","key":5,"value":1}"#,
            r#"{"type":"put","value":{"key":"a"}}"#,
            r#"{"type":"put"},{"key":"a"}"#,
            "{\"type\":\"put\",\"key\":\"a\u{fffd}\"}",
            r#"["put","a"]"#,
            "{",
            "5",
            "",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
    }
}
