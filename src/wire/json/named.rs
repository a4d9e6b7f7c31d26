//! Which key a record is about that cannot be read otherwise.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::parse::from_base64;
use crate::model::Key;

/// The key that a record puts or deletes, where the text is no record as a whole but says so much. `is_cut`: only the
/// beginning of the text is there. A text that ends too early otherwise names nothing: it may be one that is still being
/// written.
pub fn changed_key(text: &str, is_cut: bool) -> Option<Key> {
    let mut named = Named::default();
    let mut input = serde_json::Deserializer::from_str(text);
    match input.deserialize_map(&mut named) {
        Err(error) if error.is_eof() && !is_cut => None,
        _ => named.key(),
    }
}

/// The members that say which key it is. What is there twice says nothing.
#[derive(Default)]
struct Named {
    kinds: Vec<String>,
    keys: Vec<Option<Vec<u8>>>,
}

impl Named {
    fn key(self) -> Option<Key> {
        const CHANGES: [&str; 5] = ["put", "new", "updated", "deleted", "delete"];
        let Ok([kind]) = <[String; 1]>::try_from(self.kinds) else { return None };
        let Ok([key]) = <[Option<Vec<u8>>; 1]>::try_from(self.keys) else { return None };
        key.filter(|_| CHANGES.contains(&kind.as_str())).map(Key::new)
    }
}

impl<'de> Visitor<'de> for &mut Named {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<Cow<'de, str>>()? {
            let raw: &RawValue = members.next_value()?;
            let text = || serde_json::from_str::<String>(raw.get()).ok();
            match &*name {
                "type" => self.kinds.push(text().unwrap_or_default()),
                "key" => self.keys.push(text().filter(|text| is_exact(text)).map(String::into_bytes)),
                "key_base64" => {
                    self.keys.push(text().and_then(|text| from_base64("key_base64", &text).ok()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether no byte of it stands for others that were no text.
fn is_exact(text: &str) -> bool {
    !text.contains(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<String> {
        changed_key(text, false).map(|key| key.to_string())
    }

    #[test]
    fn a_record_that_cannot_be_read_names_its_key_where_that_is_beyond_doubt() {
        for text in [
            r#"{"type":"put","key":"a"}"#,
            r#"{"type":"put","key":"a","value":1,"frobs":2}"#,
            r#"{"key_base64":"YQ==","ttl":-1,"value":1,"type":"updated"}"#,
            r#"{"type":"put","key":"a","value":nul}"#,
            r#"{"type":"deleted","key":"a","revision":"x"}"#,
        ] {
            assert_eq!(named(text).as_deref(), Some("a"), "{text}");
        }
        for text in [
            r#"{"type":"frob","key":"a"}"#,
            r#"{"type":"end","key":"a"}"#,
            r#"{"key":"a","value":1}"#,
            r#"{"type":"put","key":"a","key":"b","value":1}"#,
            r#"{"type":"put","key":"a","key_base64":"YQ==","value":1}"#,
            r#"{"type":"put","key":5,"value":1}"#,
            "{\"type\":\"put\",\"key\":\"a\u{fffd}\"}",
            r#"["put","a"]"#,
            "5",
            "",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
    }

    #[test]
    fn a_text_that_ends_too_early_names_its_key_only_where_it_was_cut_by_us() {
        let text = r#"{"type":"put","key":"a","value":"begun"#;
        assert_eq!(changed_key(text, false), None);
        assert_eq!(changed_key(text, true), Some(Key::from("a")));
        assert_eq!(changed_key(r#"{"type":"put","key":"a"#, true), None);
    }
}
