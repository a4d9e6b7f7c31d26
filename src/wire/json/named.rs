//! Which key a record is about that cannot be read otherwise.

use super::parse::from_base64;
use crate::model::Key;

/// The key that a record puts or deletes, where the text is no record as a whole but says so much: it has a `type` that
/// changes a key, and one key, whatever is wrong beside them. Text that begins or ends in the middle of something is
/// read as far as it goes.
pub fn changed_key(text: &str) -> Option<Key> {
    let mut named = Named::default();
    let mut members = Members { text, at: text.find('{')? + 1, depth: 1 };
    while let Some((name, value)) = members.next_string() {
        named.member(&name, value);
    }
    named.key()
}

/// The members that say which key it is. What is said in two ways says nothing.
#[derive(Default)]
struct Named {
    kinds: Vec<Option<String>>,
    keys: Vec<Option<Vec<u8>>>,
}

impl Named {
    /// A member whose value is a string, or something else.
    fn member(&mut self, name: &str, value: Option<String>) {
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

/// Finds the members of an object without asking for more than that strings end.
struct Members<'a> {
    text: &'a str,
    at: usize,
    /// How many objects and arrays are open; the members of the first one count.
    depth: usize,
}

impl<'a> Members<'a> {
    /// The next member: its name, and its value where that is a whole string.
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

    /// The next token that matters; numbers, words and what is no JSON at all do not. None where a string has no end.
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

/// How long the rest of a string is, its closing quote included.
fn string_end(rest: &str) -> Option<usize> {
    let mut escaped = false;
    let end = rest.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some(end + 1)
}

/// Whether no byte of it stands for others that were no text.
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
    fn a_record_that_cannot_be_read_names_its_key_where_that_is_beyond_doubt() {
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
