//! Random records, values and bodies of every kind.

use crumbd::model::{Cursor, Digest, Entry, History, Key, OpaqueCursor, Revision, Sequence, SyncStatus, Ttl};
use crumbd::wire::{End, Header, Mode, PutKind, Record};
use proptest::prelude::*;
use proptest::sample::select;

/// Bytes of every kind that a value may be: JSON, almost JSON, text, and no text.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        json().prop_map(|(compact, _)| compact.into_bytes()),
        json().prop_map(|(_, spaced)| spaced.into_bytes()),
        ".{0,20}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
        select(&NASTY[..]).prop_map(|bytes| bytes.to_vec()),
    ]
}

pub const NASTY: [&[u8]; 14] = [
    b"",
    b"null",
    b"\"",
    b"\"\\",
    b"\"\\ud800\"",
    b"\xef\xbb\xbf1",
    b"\0",
    b"\n",
    b"{\"a\":1}\n",
    b"1e999999",
    b"[[1e999]]",
    b"{\"\\udc00\":0}",
    b"\xed\xa0\x80",
    "\u{2028}\u{7f}\u{0}\"\\/".as_bytes(),
];

/// A JSON text without white space between its tokens, and the same with some.
pub fn json() -> impl Strategy<Value = (String, String)> {
    let spelled = [
        "0",
        "-0",
        "-0.0",
        "1e5",
        "1E+05",
        "0.10",
        "123456789012345678901234567890",
        "1e308",
        "2.5e-07",
        "true",
        "false",
        "null",
        "\"\"",
        "\" a  b \"",
        "\"\\\" \\\\ \\/ \\u00e9 \\uD83E\\uDD80\"",
        "\"\\\\\"",
        "\"é\u{2028}🦀\"",
        "[]",
        "{}",
    ];
    let leaf = (select(spelled.to_vec()), space())
        .prop_map(|(token, space)| (token.to_owned(), format!("{space}{token}{space}")));
    let name = select(&["\"b\"", "\"a\"", "\"a\"", "\"\"", "\"\\\" : \""][..]);
    leaf.prop_recursive(4, 24, 4, move |inner| {
        let array = prop::collection::vec(inner.clone(), 1..4);
        let member = (name.clone(), space(), inner);
        let object = prop::collection::vec(member, 1..4);
        prop_oneof![
            (array, space()).prop_map(|(items, space)| {
                let (compact, spaced): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                (format!("[{}]", compact.join(",")), format!("{space}[{}]{space}", spaced.join(",")))
            }),
            (object, space()).prop_map(|(members, space)| {
                let short = |(name, _, (compact, _)): &(&str, _, (String, _))| format!("{name}:{compact}");
                let long = |(name, space, (_, spaced)): &(&str, String, (String, String))| {
                    format!("{space}{name}{space}:{spaced}")
                };
                let compact: Vec<_> = members.iter().map(short).collect();
                let spaced: Vec<_> = members.iter().map(long).collect();
                (format!("{{{}}}", compact.join(",")), format!("{space}{{{}}}{space}", spaced.join(",")))
            }),
        ]
    })
}

pub fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,2}"
}

pub fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![bytes(), "[a-z/]{1,12}".prop_map(String::into_bytes)]
}

pub fn revision() -> impl Strategy<Value = Option<Revision>> {
    let numbers = [1, 250, 251, 65_535, 65_536, 1 << 32, (1 << 53) + 1, u64::MAX];
    prop::option::of(prop_oneof![select(numbers.to_vec()), 1..u64::MAX].prop_map(Revision))
}

pub fn entry() -> impl Strategy<Value = Entry> {
    let ttl = prop::option::of(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()].prop_map(Ttl));
    (key(), bytes(), ttl, revision()).prop_map(|(key, value, ttl, revision)| {
        let entry = Entry::new(&key, &value, ttl);
        match revision {
            Some(revision) => entry.at(revision),
            None => entry,
        }
    })
}

pub fn put_kind() -> impl Strategy<Value = PutKind> {
    select(&[PutKind::Put, PutKind::New, PutKind::Updated][..])
}

pub fn update() -> impl Strategy<Value = Record> {
    prop_oneof![
        3 => (put_kind(), entry()).prop_map(|(kind, entry)| Record::Put { kind, entry }),
        1 => (key(), revision())
            .prop_map(|(key, revision)| Record::Deleted { key: Key::new(key), revision }),
    ]
}

pub fn status() -> impl Strategy<Value = SyncStatus> {
    select(&SyncStatus::ALL[..])
}

pub fn history() -> impl Strategy<Value = History> {
    any::<[u8; 4]>().prop_map(|identity| History::derive(&identity))
}

pub fn cursor() -> impl Strategy<Value = Cursor> {
    (history(), any::<u64>().prop_map(Revision), status(), digest()).prop_map(
        |(history, revision, status, digest)| Cursor { history, revision, status, check: digest.into() },
    )
}

pub fn digest() -> impl Strategy<Value = Digest> {
    "[0-9a-f]{32}".prop_map(|text| text.parse().expect("a digest"))
}

pub fn header() -> impl Strategy<Value = Header> {
    let modes = [Mode::None, Mode::Delta, Mode::Squash, Mode::Snapshot];
    let maybe = prop::option::of::<BoxedStrategy<u64>>;
    let number = || maybe(any::<u64>().boxed());
    let one = (
        prop::option::of(select(modes.to_vec())),
        prop::option::of(".{0,12}"),
        prop::option::of(cursor()),
        prop::option::of(cursor()),
        prop::option::of(history()),
        number(),
    );
    let other = (
        number(),
        prop::option::of("2026-10-1[0-9]T0[0-9]:00:00Z"),
        prop::option::of(status()),
        number(),
        prop::option::of(digest()),
        any::<Option<bool>>(),
    );
    (one, other).prop_map(|(one, other)| {
        let (mode, reason, cursor, from, history, revision) = one;
        let (sequence, timestamp, status, count, digest, more) = other;
        let (revision, sequence) = (revision.map(Revision), sequence.map(Sequence));
        Header {
            mode,
            reason,
            cursor: cursor.map(OpaqueCursor::from),
            from: from.map(OpaqueCursor::from),
            history,
            revision,
            sequence,
            timestamp,
            status,
            count,
            digest,
            more,
        }
    })
}

pub fn end() -> impl Strategy<Value = End> {
    (prop::option::of(cursor()), any::<Option<u64>>(), prop::option::of(digest()))
        .prop_map(|(cursor, count, digest)| End { cursor: cursor.map(OpaqueCursor::from), count, digest })
}

pub fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        6 => update(),
        1 => status().prop_map(Record::Status),
        1 => header().prop_map(Record::Snapshot),
        1 => header().prop_map(Record::Breadcrumb),
        1 => end().prop_map(Record::End),
    ]
}

/// A body: a snapshot or a breadcrumb, its updates, its end.
pub fn body() -> impl Strategy<Value = (bool, Header, Vec<Record>, End)> {
    (any::<bool>(), header(), prop::collection::vec(update(), 0..8), end())
}
