//! A seeded writer's choices: batches of changes over a small set of keys, most of them ordinary and some as nasty as
//! the contract allows.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use serde_json::json;

use super::record::compact;
use super::state::State;

/// A value in one of the three spellings that a record may have.
#[derive(Debug, Clone)]
pub enum Spelled {
    /// JSON as the writer typed it, whitespace included.
    Json(String),
    Utf8(String),
    Base64(Vec<u8>),
}

/// One record of a batch.
#[derive(Debug, Clone)]
pub enum Op {
    /// `claim` is the record's type: `put`, or a `new` or `updated` that may be wrong.
    Put { key: Vec<u8>, value: Spelled, claim: &'static str },
    /// `claim` is `deleted` or `delete`; the key may be absent.
    Delete { key: Vec<u8>, claim: &'static str },
}

/// Keys that break careless clients.
pub const NASTY_KEYS: [&[u8]; 19] = [
    b"",
    b" ",
    b"a/b/c",
    b"/leading and trailing/",
    b"100%",
    b"%2F",
    b"a+b",
    b"?q=1&x#fragment",
    b".",
    b"..",
    b"quote\"back\\slash",
    b"line\nend\ttab",
    b"nul\0inside",
    "ключ/ü/日本/🦀".as_bytes(),
    "e\u{301} is not \u{e9}".as_bytes(),
    b"\xff",
    b"not utf-8 \xff\xfe",
    b"\xc3\x28",
    b"\xed\xa0\x80 a surrogate",
];

/// JSON whose spelling must survive.
pub const NASTY_JSON: [&str; 26] = [
    "1.0e+05",
    "1E400",
    "-0",
    "-0.0",
    "0.10",
    "123456789012345678901234567890",
    "0.1000000000000000055511151231257827",
    "null",
    "true",
    "false",
    r#""""#,
    "[]",
    "{}",
    "[ ]",
    "{ }",
    r#"{ "b" : 1 , "a" : [ 1 , 2.50 , "x  y" ] }"#,
    "[\n\t1,\r\n\t2\n]",
    r#"{"z":{"y":{"x":null}},"a":1}"#,
    r#"{"twice":1,"twice":2}"#,
    r#"{ "half a pair" : "\ud800" }"#,
    r#""\uDC00\uD800""#,
    r#""escapes \" \\ \/ \b \f \n \r \t \u0000 \u00e9 \uD83E\uDD80""#,
    r#""  spaces \" inside  ""#,
    r#"  "spaces around"  "#,
    r#"{"a key with \" and \\":"  v  "}"#,
    "\"é 日本 🦀 \u{2028}\"",
];

/// Text that is not JSON, and text that only looks like it.
pub const NASTY_TEXT: [&str; 12] = [
    "",
    " ",
    "plain text",
    "{\"a\": 1}",
    "{\"a\":1}",
    " 1",
    "1 ",
    "01",
    "NaN",
    "\"unterminated",
    "\u{feff}1",
    "ünïcödé\n\0\u{7f}",
];

/// Bytes that are not text, and some that are.
pub const NASTY_BYTES: [&[u8]; 7] =
    [b"", b"\0", b"\xff\xfe", b"\xc3\x28", b"plain", b"{\"a\":1}", b"\x1f\x8b\x08\x00 not gzip"];

/// The choices of one writer.
pub struct Workload {
    rng: Rng,
    keys: Vec<Vec<u8>>,
}

impl Workload {
    /// A workload over `keys` ordinary keys and all the nasty ones, each behind `namespace`.
    pub fn new(seed: u64, namespace: &str, keys: usize) -> Workload {
        let ordinary = (0..keys).map(|i| {
            let group = ["app/", "app", "db/", "zone/"][i % 4];
            format!("{group}{i:04}").into_bytes()
        });
        let keys = NASTY_KEYS.iter().map(|key| key.to_vec()).chain(ordinary);
        let keys = keys.map(|key| [namespace.as_bytes(), &key].concat()).collect();
        Workload { rng: Rng::with_seed(seed), keys }
    }

    /// A batch of 1 to `most` records; most batches are small.
    pub fn batch(&mut self, most: usize) -> Vec<Op> {
        let len = if self.rng.u8(..4) > 0 { self.rng.usize(1..=3) } else { self.rng.usize(1..=most) };
        (0..len).map(|_| self.op()).collect()
    }

    /// One change of one key.
    pub fn op(&mut self) -> Op {
        let key = self.key();
        if self.rng.u8(..4) == 0 {
            let claim = if self.rng.bool() { "deleted" } else { "delete" };
            return Op::Delete { key, claim };
        }
        let claim = ["put", "put", "new", "updated"][self.rng.usize(..4)];
        Op::Put { key, value: self.value(), claim }
    }

    pub fn key(&mut self) -> Vec<u8> {
        self.keys[self.rng.usize(..self.keys.len())].clone()
    }

    pub fn value(&mut self) -> Spelled {
        match self.rng.u8(..12) {
            0..3 => Spelled::Json(NASTY_JSON[self.rng.usize(..NASTY_JSON.len())].to_owned()),
            3 => Spelled::Utf8(NASTY_TEXT[self.rng.usize(..NASTY_TEXT.len())].to_owned()),
            4 => Spelled::Base64(NASTY_BYTES[self.rng.usize(..NASTY_BYTES.len())].to_vec()),
            5 => {
                let len = self.rng.usize(..40);
                Spelled::Base64((0..len).map(|_| self.rng.u8(..)).collect())
            }
            // Long enough that a body of one goes beyond 1 KiB and is worth compressing.
            6 => Spelled::Utf8("a long value, ".repeat(self.rng.usize(80..120))),
            7 => Spelled::Utf8(format!("text {}", self.rng.u16(..))),
            // From few values, so that many writes change nothing.
            8 => Spelled::Json(self.rng.u8(..2).to_string()),
            _ => Spelled::Json(format!(
                "{{ \"image\": \"v{}\", \"replicas\": {} }}",
                self.rng.u16(..500),
                self.rng.u8(..9)
            )),
        }
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }
}

impl Spelled {
    /// The bytes that this spelling stands for.
    pub fn bytes(&self) -> Arc<[u8]> {
        match self {
            Spelled::Json(json) => compact(json).into_bytes().into(),
            Spelled::Utf8(text) => text.as_bytes().into(),
            Spelled::Base64(bytes) => bytes.as_slice().into(),
        }
    }

    /// The `Content-Type` of a PUT, and its body.
    pub fn put(&self) -> (&'static str, Vec<u8>) {
        match self {
            Spelled::Json(json) => ("application/json", json.clone().into_bytes()),
            Spelled::Utf8(text) => ("text/plain; charset=utf-8", text.clone().into_bytes()),
            Spelled::Base64(bytes) => ("application/octet-stream", bytes.clone()),
        }
    }
}

impl Op {
    pub fn key(&self) -> &[u8] {
        match self {
            Op::Put { key, .. } | Op::Delete { key, .. } => key,
        }
    }

    /// What the change does to a plain map.
    pub fn apply(&self, state: &mut State) {
        match self {
            Op::Put { key, value, .. } => state.insert(key.clone(), value.bytes()),
            Op::Delete { key, .. } => state.remove(key),
        };
    }

    /// The change as one line of NDJSON. JSON values are spliced in as text: nothing may re-spell them.
    pub fn record(&self) -> String {
        match self {
            Op::Put { key, value, claim } => {
                let key = spell_key(key);
                match value {
                    // A line end inside would end the record; a tab stays.
                    Spelled::Json(json) => {
                        format!(
                            "{{\"type\":\"{claim}\",{key},\"value\":{}}}",
                            json.replace(['\n', '\r'], " ")
                        )
                    }
                    Spelled::Utf8(text) => {
                        format!(
                            "{{\"type\":\"{claim}\",{key},\"encoding\":\"utf8\",\"value\":{}}}",
                            json!(text)
                        )
                    }
                    Spelled::Base64(bytes) => {
                        let text = STANDARD.encode(bytes);
                        format!("{{\"type\":\"{claim}\",{key},\"value\":\"{text}\",\"encoding\":\"base64\"}}")
                    }
                }
            }
            Op::Delete { key, claim } => format!("{{\"type\":\"{claim}\",{}}}", spell_key(key)),
        }
    }
}

/// A key as a member of a record.
pub fn spell_key(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(key) => format!("\"key\":{}", json!(key)),
        Err(_) => format!("\"key_base64\":\"{}\"", STANDARD.encode(key)),
    }
}

/// A put of a JSON value, as a line: what most small tests write.
pub fn put(key: &str, value: &str) -> String {
    format!("{{\"type\":\"put\",\"key\":{},\"value\":{value}}}", json!(key))
}

/// A deletion, as a line.
pub fn deleted(key: &str) -> String {
    format!("{{\"type\":\"deleted\",\"key\":{}}}", json!(key))
}
