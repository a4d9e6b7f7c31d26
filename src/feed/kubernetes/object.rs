//! An object as the server sent it: its key, its revision, and its JSON with members left out.
//!
//! Nothing is decoded as a tree. An object is scanned for its members, and what is kept is copied byte for byte, in the
//! server's order and spelling.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::KubeError;
use crate::model::Revision;

/// The annotation in which `kubectl apply` keeps a copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What of an object is kept that is left out by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keep {
    /// `metadata.managedFields`.
    pub managed_fields: bool,
    /// The annotation `kubectl.kubernetes.io/last-applied-configuration`.
    pub last_applied: bool,
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut keep = Self::default();
        for one in text.split(',') {
            match one {
                "managed-fields" => keep.managed_fields = true,
                "last-applied" => keep.last_applied = true,
                _ => {
                    return Err(format!(
                        "keep={one}: it is managed-fields, last-applied, or both with a comma"
                    ));
                }
            }
        }
        Ok(keep)
    }
}

/// The kind of the objects of a list, which does not repeat it in each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TypeMeta {
    pub(super) kind: String,
    pub(super) api_version: String,
}

/// An object, ready for the cache.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// `namespace/name`, or `name` where there is no namespace.
    pub(super) key: Vec<u8>,
    pub(super) revision: Revision,
    pub(super) value: Vec<u8>,
}

impl Object {
    /// Reads an object of a list or of a watch. A list leaves out what `of` says; a watch does not, and the value is the
    /// same from both.
    pub(super) fn read(json: &str, of: &TypeMeta, keep: Keep) -> Result<Self, KubeError> {
        let object = Members::of(json)?;
        let metadata = object.value("metadata").ok_or(KubeError::Nonsense("an object without metadata"))?;
        let metadata_text = &json[metadata.clone()];
        let members = Members::of(metadata_text)?;
        let text = |name| members.value(name).map(|range| string(&metadata_text[range])).transpose();
        let name = text("name")?.ok_or(KubeError::Nonsense("an object without a name"))?;
        let key = match text("namespace")?.filter(|namespace| !namespace.is_empty()) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        };
        let revision = revision(&text("resourceVersion")?.unwrap_or_default())?;
        let mut value = Vec::with_capacity(json.len() + 64);
        value.extend_from_slice(b"{");
        for (member, missing) in [("kind", &of.kind), ("apiVersion", &of.api_version)] {
            if object.value(member).is_none() {
                value.extend_from_slice(format!("\"{member}\":\"{missing}\",").as_bytes());
            }
        }
        value.extend_from_slice(&json.as_bytes()[object.start..metadata.start]);
        push_metadata(&mut value, metadata_text, &members, keep)?;
        value.extend_from_slice(&json.as_bytes()[metadata.end..]);
        Ok(Self { key: key.into_bytes(), revision, value })
    }
}

fn push_metadata(
    value: &mut Vec<u8>,
    text: &str,
    members: &Members<'_>,
    keep: Keep,
) -> Result<(), KubeError> {
    let annotations = members.value("annotations").filter(|_| !keep.last_applied);
    let annotations = annotations.filter(|range| text[range.clone()].contains(LAST_APPLIED));
    let rewritten = match annotations {
        Some(range) => {
            let of = Members::of(&text[range.clone()])?;
            Some((range.clone(), of.without(&text[range], LAST_APPLIED)))
        }
        None => None,
    };
    let without = |from: Range<usize>| match &rewritten {
        // Members are pushed whole, so a rewritten value lies within one of them.
        Some((range, new)) if from.start <= range.start && range.end <= from.end => {
            Cow::Owned([&text[from.start..range.start], new, &text[range.end..from.end]].concat())
        }
        _ => Cow::Borrowed(&text[from]),
    };
    let dropped = if keep.managed_fields { "" } else { "managedFields" };
    for piece in members.pieces_without(text, dropped) {
        value.extend_from_slice(without(piece).as_bytes());
    }
    Ok(())
}

/// A server's revision.
///
/// # Errors
/// By contract it is any text, but all servers count, and a cache that orders by it must know how.
pub(super) fn revision(text: &str) -> Result<Revision, KubeError> {
    let number = text.parse().map_err(|_| KubeError::OpaqueRevision(text.to_owned()))?;
    Ok(Revision(number))
}

fn string(json: &str) -> Result<String, KubeError> {
    // `null` is what Go writes for nothing.
    let text: Option<String> = serde_json::from_str(json).map_err(KubeError::Json)?;
    Ok(text.unwrap_or_default())
}

/// The places of the members of a JSON object in its text.
#[derive(Default)]
struct Members<'a> {
    /// Right after the opening brace.
    start: usize,
    /// Name, and range of the value.
    members: Vec<(Cow<'a, str>, Range<usize>)>,
}

impl<'a> Members<'a> {
    fn of(json: &'a str) -> Result<Self, KubeError> {
        let raw: Raw<'a> = serde_json::from_str(json).map_err(KubeError::Json)?;
        let place = |value: &RawValue| {
            let start = value.get().as_ptr().addr() - json.as_ptr().addr();
            start..start + value.get().len()
        };
        let members = raw.0.into_iter().map(|(name, value)| (name, place(value))).collect();
        let start = json.find('{').map_or(0, |at| at + 1);
        Ok(Self { start, members })
    }

    fn value(&self, name: &str) -> Option<Range<usize>> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, range)| range.clone())
    }

    /// The pieces of the object's text without one member, in order.
    fn pieces_without(&self, json: &str, name: &str) -> Vec<Range<usize>> {
        let mut pieces = Vec::with_capacity(self.members.len() + 2);
        pieces.push(0..self.start);
        let mut from = self.start;
        let mut is_first = true;
        for (member, range) in &self.members {
            if member != name {
                // The first member that is kept has no comma before it.
                let comma = json[from..range.start].find(',').filter(|_| is_first && from > self.start);
                pieces.push(comma.map_or(from, |at| from + at + 1)..range.end);
                is_first = false;
            }
            from = range.end;
        }
        pieces.push(from..json.len());
        pieces
    }

    fn without(&self, json: &str, name: &str) -> String {
        self.pieces_without(json, name).into_iter().map(|piece| &json[piece]).collect()
    }
}

/// The members of a JSON object, with values that are not decoded.
struct Raw<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Raw<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw<'de>, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Raw(members))
            }
            fn visit_unit<E>(self) -> Result<Raw<'de>, E> {
                Ok(Raw(Vec::new()))
            }
        }
        deserializer.deserialize_any(Collect)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    fn pod() -> TypeMeta {
        TypeMeta { kind: "Pod".into(), api_version: "v1".into() }
    }

    fn value(json: &str, keep: Keep) -> String {
        String::from_utf8(Object::read(json, &pod(), keep).unwrap().value).unwrap()
    }

    #[test]
    fn an_object_is_kept_byte_for_byte_without_managed_fields_and_the_last_applied_annotation() {
        let sent = concat!(
            r#"{"metadata":{"managedFields":[{"a":"}"}],"name":"a\u003cb","namespace":"n","#,
            r#""resourceVersion":"7","annotations":{"z":"\u0026, é","#,
            r#""kubectl.kubernetes.io/last-applied-configuration":"{\"a\":1}\n"}},"spec":{"x":1.50}}"#
        );
        let object = Object::read(sent, &pod(), Keep::default()).unwrap();
        assert_eq!((object.key, object.revision), (b"n/a<b".to_vec(), Revision(7)));
        let kept = concat!(
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a\u003cb","namespace":"n","#,
            r#""resourceVersion":"7","annotations":{"z":"\u0026, é"}},"spec":{"x":1.50}}"#
        );
        assert_eq!(String::from_utf8(object.value).unwrap(), kept);
        let all = Keep { managed_fields: true, last_applied: true };
        assert_eq!(value(sent, all), sent.replacen('{', r#"{"kind":"Pod","apiVersion":"v1","#, 1));
    }

    #[test]
    fn a_member_is_left_out_wherever_it_is() {
        let of = |metadata: &str| {
            value(&format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{metadata}}}"#), Keep::default())
        };
        let around = |metadata: &str| format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{metadata}}}"#);
        let cases = [
            (
                r#"{"name":"a","resourceVersion":"1","managedFields":[]}"#,
                r#"{"name":"a","resourceVersion":"1"}"#,
            ),
            (
                r#"{"managedFields":[] , "name":"a","resourceVersion":"1"}"#,
                r#"{ "name":"a","resourceVersion":"1"}"#,
            ),
            (
                r#"{ "name":"a", "managedFields":[1,2], "resourceVersion":"1" }"#,
                r#"{ "name":"a", "resourceVersion":"1" }"#,
            ),
            (
                r#"{"name":"a","resourceVersion":"1","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"x"}}"#,
                r#"{"name":"a","resourceVersion":"1","annotations":{}}"#,
            ),
        ];
        for (sent, kept) in cases {
            assert_eq!(of(sent), around(kept));
        }
    }

    #[test]
    fn what_is_no_object_with_a_name_and_a_numeric_revision_is_an_error() {
        for bad in [
            "{}",
            "[]",
            r#"{"metadata":{}}"#,
            r#"{"metadata":{"name":"a"}}"#,
            r#"{"metadata":{"name":"a","resourceVersion":"x1"}}"#,
            r#"{"metadata":{"name":"a","resourceVersion":"1"}"#,
        ] {
            assert!(Object::read(bad, &pod(), Keep::default()).is_err(), "{bad}");
        }
    }
}
