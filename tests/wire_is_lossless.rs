//! Records to bytes and back: whatever a key, a value or a number is, it comes out as it went in;
//! and whatever else the bytes are, the answer is an error that helps.

use std::io::Read;

use crumbd::model::{
    Check, Cursor, Digest, Encoding, Entry, History, Key, Revision, Sequence, SyncStatus, Ttl,
};
use crumbd::wire::{
    BodyWriter, Coding, End, Header, MediaType, Mode, PutKind, Record, RecordReader, WireError, compact_json,
    parse_record, parse_records, write_record,
};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;

// ---- what may be said ----------------------------------------------------------------------

/// Bytes of every kind that a value may be: JSON, almost JSON, text, and no text.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        json().prop_map(|(compact, _)| compact.into_bytes()),
        json().prop_map(|(_, spaced)| spaced.into_bytes()),
        ".{0,20}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
        select(&NASTY[..]).prop_map(|bytes| bytes.to_vec()),
    ]
}

const NASTY: [&[u8]; 12] = [
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
    b"\xed\xa0\x80",
    "\u{2028}\u{7f}\u{0}\"\\/".as_bytes(),
];

/// A JSON text without white space between its tokens, and the same with some.
fn json() -> impl Strategy<Value = (String, String)> {
    let spelled = [
        "0",
        "-0",
        "-0.0",
        "1e5",
        "1E+05",
        "0.10",
        "123456789012345678901234567890",
        "1e999",
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

fn space() -> impl Strategy<Value = String> {
    "[ \t\r\n]{0,2}"
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![bytes(), "[a-z/]{1,12}".prop_map(String::into_bytes)]
}

fn revision() -> impl Strategy<Value = Option<Revision>> {
    let numbers = [1, 250, 251, 65_535, 65_536, 1 << 32, (1 << 53) + 1, u64::MAX];
    prop::option::of(prop_oneof![select(numbers.to_vec()), 1..u64::MAX].prop_map(Revision))
}

fn entry() -> impl Strategy<Value = Entry> {
    let ttl = prop::option::of(prop_oneof![Just(0), Just(u32::MAX), any::<u32>()].prop_map(Ttl));
    (key(), bytes(), ttl, revision()).prop_map(|(key, value, ttl, revision)| {
        let entry = Entry::new(&key, &value, ttl);
        match revision {
            Some(revision) => entry.at(revision),
            None => entry,
        }
    })
}

fn put_kind() -> impl Strategy<Value = PutKind> {
    select(&[PutKind::Put, PutKind::New, PutKind::Updated][..])
}

fn update() -> impl Strategy<Value = Record> {
    prop_oneof![
        3 => (put_kind(), entry()).prop_map(|(kind, entry)| Record::Put { kind, entry }),
        1 => (key(), revision())
            .prop_map(|(key, revision)| Record::Deleted { key: Key::new(key), revision }),
    ]
}

fn status() -> impl Strategy<Value = SyncStatus> {
    select(&SyncStatus::ALL[..])
}

fn history() -> impl Strategy<Value = History> {
    any::<[u8; 4]>().prop_map(|identity| History::derive(&identity))
}

fn cursor() -> impl Strategy<Value = Cursor> {
    (history(), any::<u64>().prop_map(Revision), status(), digest()).prop_map(
        |(history, revision, status, digest)| Cursor { history, revision, status, check: digest.into() },
    )
}

fn digest() -> impl Strategy<Value = Digest> {
    "[0-9a-f]{32}".prop_map(|text| text.parse().expect("a digest"))
}

fn header() -> impl Strategy<Value = Header> {
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
            cursor,
            from,
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

fn end() -> impl Strategy<Value = End> {
    (prop::option::of(cursor()), any::<Option<u64>>(), prop::option::of(digest()))
        .prop_map(|(cursor, count, digest)| End { cursor, count, digest })
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        6 => update(),
        1 => status().prop_map(Record::Status),
        1 => header().prop_map(Record::Snapshot),
        1 => header().prop_map(Record::Breadcrumb),
        1 => end().prop_map(Record::End),
    ]
}

/// A body: a snapshot or a breadcrumb, its updates, its end.
fn body() -> impl Strategy<Value = (bool, Header, Vec<Record>, End)> {
    (any::<bool>(), header(), prop::collection::vec(update(), 0..8), end())
}

// ---- what is asserted ----------------------------------------------------------------------

#[track_caller]
fn assert_same(read: &Record, written: &Record) {
    let same = match (read, written) {
        (Record::Put { kind: a, entry: x }, Record::Put { kind: b, entry: y }) => {
            a == b
                && (x.key(), x.value(), x.ttl(), x.revision()) == (y.key(), y.value(), y.ttl(), y.revision())
                && x.encoding() == Encoding::of(x.value())
        }
        (Record::Deleted { key: k, revision: a }, Record::Deleted { key: l, revision: b }) => {
            (k, a) == (l, b)
        }
        (Record::Status(a), Record::Status(b)) => a == b,
        (Record::Snapshot(a), Record::Snapshot(b)) | (Record::Breadcrumb(a), Record::Breadcrumb(b)) => a == b,
        (Record::End(a), Record::End(b)) => a == b,
        _ => false,
    };
    assert!(same, "read {read:?}, written {written:?}");
}

fn json_line(record: &Record) -> String {
    let mut out = Vec::new();
    write_record(&mut out, record);
    String::from_utf8(out).expect("JSON is UTF-8")
}

fn written(media: MediaType, snapshot: bool, header: &Header, updates: &[Record], end: &End) -> Vec<u8> {
    let mut body = if snapshot {
        BodyWriter::snapshot(media, header, 0)
    } else {
        BodyWriter::breadcrumb(media, header, 0)
    };
    for update in updates {
        match update {
            Record::Put { kind, entry } => body.put(*kind, entry),
            Record::Deleted { key, revision } => body.deleted(key.as_bytes(), *revision),
            other => panic!("{other:?} is no update"),
        }
    }
    body.finish(end)
}

fn opening(snapshot: bool, header: Header) -> Record {
    if snapshot { Record::Snapshot(header) } else { Record::Breadcrumb(header) }
}

/// Reads a body in chunks that end at these places.
fn read(media: MediaType, bytes: &[u8], cuts: &[usize]) -> Result<Vec<Record>, WireError> {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let (mut reader, mut records, mut from) = (RecordReader::new(media), Vec::new(), 0);
    for cut in cuts {
        reader.push(&bytes[from..cut]);
        from = cut;
        while let Some(record) = reader.next_record()? {
            records.push(record);
        }
    }
    reader.finish()?;
    Ok(records)
}

const STREAMED: [MediaType; 2] = [MediaType::Ndjson, MediaType::Bincode];

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_record_survives_json(record in record()) {
        let text = json_line(&record);
        prop_assert!(!text.contains(['\n', '\r']), "a record is one line");
        prop_assert!(members(&text).iter().any(|(name, _)| name == "type"), "it is a JSON object");
        assert_same(&parse_record(&text).expect("it is a record"), &record);
    }

    #[test]
    fn records_survive_ndjson_and_a_json_array(records in prop::collection::vec(record(), 0..6)) {
        let lines: Vec<_> = records.iter().map(json_line).collect();
        for text in [lines.join("\n"), lines.join("\r\n\n "), format!(" [{}]\n", lines.join(" , "))] {
            let read = parse_records(&text).expect("they are records");
            prop_assert_eq!(read.records.len(), records.len());
            read.records.iter().zip(&records).for_each(|((_, read), written)| assert_same(read, written));
        }
    }

    #[test]
    fn a_body_survives_however_it_is_cut_into_chunks(
        (snapshot, header, updates, end) in body(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        for media in STREAMED {
            let bytes = written(media, snapshot, &header, &updates, &end);
            let read = read(media, &bytes, &cuts).expect("it is a body");
            let expected = std::iter::once(opening(snapshot, header.clone()))
                .chain(updates.iter().cloned())
                .chain([Record::End(end.clone())]);
            prop_assert_eq!(read.len(), updates.len() + 2);
            read.iter().zip(expected).for_each(|(read, written)| assert_same(read, &written));
        }
    }

    #[test]
    fn a_json_body_is_one_object_of_the_same_records((snapshot, header, updates, end) in body()) {
        let bytes = written(MediaType::Json, snapshot, &header, &updates, &end);
        let text = std::str::from_utf8(&bytes).expect("JSON is UTF-8");
        let members: Vec<(String, Box<RawValue>)> = members(text);
        let (items, fields): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|(name, _)| name == "entries" || name == "updates");
        prop_assert_eq!(&items[0].0, if snapshot { "entries" } else { "updates" });
        prop_assert_eq!(items.len(), 1);
        let read = parse_records(items[0].1.get()).expect("records");
        prop_assert_eq!(read.records.len(), updates.len());
        read.records.iter().zip(&updates).for_each(|((_, read), written)| assert_same(read, written));
        let fields: Vec<_> = fields.iter().map(|(name, raw)| format!(",\"{name}\":{raw}")).collect();
        let line = format!("{{\"type\":\"snapshot\"{}}}", fields.concat());
        assert_same(&parse_record(&line).expect("a header"), &Record::Snapshot(header));
    }

    #[test]
    fn a_body_that_was_cut_off_is_never_taken_for_whole(
        (snapshot, header, updates, end) in body(),
        cut in any::<usize>(),
    ) {
        for media in STREAMED {
            let bytes = written(media, snapshot, &header, &updates, &end);
            let cut = &bytes[..cut % bytes.len()];
            let whole = match read(media, cut, &[]) {
                Ok(records) => matches!(records.last(), Some(Record::End(_))),
                Err(error) => {
                    prop_assert!(matches!(error, WireError::CutOff), "{}", error);
                    false
                }
            };
            prop_assert!(!whole, "{} of {} bytes", cut.len(), bytes.len());
        }
        let bytes = written(MediaType::Json, snapshot, &header, &updates, &end);
        // Its last byte is a line break that nobody needs.
        let cut = &bytes[..cut % (bytes.len() - 1)];
        prop_assert!(serde_json::from_slice::<&RawValue>(cut).is_err());
    }

    #[test]
    fn compaction_drops_white_space_and_nothing_else((compact, spaced) in json()) {
        prop_assert_eq!(compact_json(&spaced).expect("it is JSON"), compact.as_bytes());
        prop_assert_eq!(compact_json(&compact).expect("it is JSON"), compact.as_bytes());
        prop_assert_eq!(Encoding::of(compact.as_bytes()), Encoding::Json);
        if compact != spaced {
            prop_assert_eq!(Encoding::of(spaced.as_bytes()), Encoding::Utf8);
        }
        let line = format!("{{\"type\":\"put\",\"key\":\"k\",\"value\":{spaced}}}");
        let read = parse_record(&line).expect("a record");
        let entry = Entry::new(b"k", compact.as_bytes(), None);
        assert_same(&read, &Record::Put { kind: PutKind::Put, entry });
    }

    #[test]
    fn every_coding_gives_back_the_body(body in prop::collection::vec(any::<u8>(), 0..3000), repeat in 1..4usize) {
        let body = body.repeat(repeat);
        for coding in [Coding::Identity, Coding::Gzip, Coding::Zstd] {
            let coded = coding.encode(&body).expect("there is memory");
            let mut back = Vec::new();
            match coding {
                Coding::Identity => back = coded,
                Coding::Gzip => _ = flate2::read::GzDecoder::new(&coded[..]).read_to_end(&mut back).expect("gzip"),
                Coding::Zstd => back = zstd::stream::decode_all(&coded[..]).expect("zstd"),
            }
            prop_assert!(back == body, "{}", coding.as_str());
        }
    }

    #[test]
    fn random_bytes_are_an_error_and_no_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..4),
    ) {
        for media in MediaType::ALL {
            _ = read(media, &bytes, &cuts);
        }
        let text = String::from_utf8_lossy(&bytes);
        _ = (parse_record(&text), parse_records(&text), compact_json(&text));
        _ = (text.parse::<Cursor>(), text.parse::<Digest>(), text.parse::<History>(), text.parse::<Mode>());
    }

    /// Bytes that are almost right go deeper than random ones.
    #[test]
    fn damaged_bodies_are_an_error_or_other_records_and_no_panic(
        (snapshot, header, updates, end) in body(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>(), 0..3u8), 1..4),
        cuts in prop::collection::vec(any::<usize>(), 0..4),
    ) {
        for media in MediaType::ALL {
            let mut bytes = written(media, snapshot, &header, &updates, &end);
            for (at, byte, kind) in &damage {
                let at = at % bytes.len();
                match kind {
                    0 => bytes[at] = *byte,
                    1 => bytes.insert(at, *byte),
                    _ => _ = bytes.remove(at),
                }
            }
            let whole = read(media, &bytes, &[]).map(|records| records.len()).ok();
            let chunked = read(media, &bytes, &cuts).map(|records| records.len()).ok();
            prop_assert_eq!(whole, chunked, "chunks make no difference");
            let text = String::from_utf8_lossy(&bytes);
            _ = (parse_record(&text), parse_records(&text));
        }
    }
}

/// The members of a JSON object in their order, raw.
fn members(text: &str) -> Vec<(String, Box<RawValue>)> {
    struct Members;
    impl<'de> serde::de::Visitor<'de> for Members {
        type Value = Vec<(String, Box<RawValue>)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    let mut input = serde_json::Deserializer::from_str(text);
    let members = serde::Deserializer::deserialize_map(&mut input, Members).expect("one object");
    input.end().expect("and nothing after it");
    members
}

// ---- single cases --------------------------------------------------------------------------

/// The layout is a promise: clients of other versions and other languages read it.
#[test]
fn the_bincode_layout_is_this_byte_for_byte() {
    let history = History::derive(b"golden");
    let cursor =
        Cursor { history, revision: Revision(300), status: SyncStatus::InSync, check: Check::default() };
    let header = Header {
        mode: Some(Mode::Delta),
        cursor: Some(cursor),
        revision: Some(Revision(300)),
        count: Some(2),
        more: Some(true),
        ..Header::default()
    };
    let put = |key: &[u8], value: &[u8], ttl, at: u64| Entry::new(key, value, ttl).at(Revision(at));
    let mut body = BodyWriter::breadcrumb(MediaType::Bincode, &header, 0);
    body.put(PutKind::Put, &Entry::new(b"k", b"", None));
    body.put(PutKind::New, &put(b"\xffkey", b"{\"a\":1}", Some(Ttl(60)), 250));
    body.put(PutKind::Updated, &put(b"", &[b'x'; 251], Some(Ttl(70_000)), u64::MAX));
    body.deleted(b"gone", Some(Revision(300)));
    body.deleted(b"gone", None);
    let mut bytes =
        body.finish(&End { cursor: Some(cursor), count: Some(2), digest: Some(Digest::default()) });

    let cursor = cursor.to_string();
    assert_eq!(cursor.len(), 30);
    let expected: Vec<&[u8]> = vec![
        &[6], // breadcrumb
        &[1, 5],
        b"delta", // mode
        &[0],     // reason
        &[1, 30],
        cursor.as_bytes(),
        &[0],                  // from
        &[0],                  // history
        &[1, 251, 0x2c, 0x01], // revision 300: above 250 a number has a mark and two bytes
        &[0],                  // sequence
        &[0],                  // timestamp
        &[0],                  // status
        &[1, 2],               // count
        &[0],                  // digest
        &[1, 1],               // more
        &[0, 1],
        b"k",
        &[0],    // put: key, value
        &[0, 0], // no revision, no ttl
        &[1, 4],
        b"\xffkey",
        &[7],
        b"{\"a\":1}",
        &[1, 250, 1, 60], // revision 250, ttl 60
        &[2, 0, 251, 251, 0],
        &[b'x'; 251],
        &[1, 253, 255, 255, 255, 255, 255, 255, 255, 255],
        &[1, 252, 0x70, 0x11, 0x01, 0x00], // ttl 70,000
        &[3, 4],
        b"gone",
        &[1, 251, 0x2c, 0x01],
        &[3, 4],
        b"gone",
        &[0],
        &[7, 1, 30],
        cursor.as_bytes(),
        &[1, 2], // count
        &[1, 32],
        b"00000000000000000000000000000000",
    ];
    assert_eq!(bytes.escape_ascii().to_string(), expected.concat().escape_ascii().to_string());

    let status = b"\x04\x07in-sync";
    bytes.extend_from_slice(status);
    bytes.extend_from_slice(b"\x05\0\0\0\0\0\0\0\0\0\0\0\0");
    let records = read(MediaType::Bincode, &bytes, &[]).expect("records");
    assert_eq!(records.len(), 9);
    assert_same(&records[7], &Record::Status(SyncStatus::InSync));
    assert_same(&records[8], &Record::Snapshot(Header::default()));
}

/// Every message names the field and says what would be right.
#[test]
fn an_error_says_which_field_and_what_it_may_be() {
    let value = r#""key":"k","value":1"#;
    let cases = [
        (r#"{"key":"k"}"#.to_owned(), &["`type`", "put", "deleted"][..]),
        (r#"{"type":"putt"}"#.to_owned(), &["`type`", "\"putt\"", "put"]),
        (r#"{"type":"put","value":1}"#.to_owned(), &["`put`", "`key`", "`key_base64`"]),
        (r#"{"type":"put","key":"k","key_base64":"aw==","value":1}"#.to_owned(), &["`key`", "`key_base64`"]),
        (r#"{"type":"put","key_base64":"a","value":1}"#.to_owned(), &["`key_base64`", "base64"]),
        (r#"{"type":"put","key":"k"}"#.to_owned(), &["`value`", r#""value":"""#]),
        (r#"{"type":"new","key":"k","value":"%","encoding":"base64"}"#.to_owned(), &["`value`", "base64"]),
        (r#"{"type":"new","key":"k","value":"YQ","encoding":"base64"}"#.to_owned(), &["`value`", "base64"]),
        (
            r#"{"type":"new","key":"k","value":1,"encoding":"utf8"}"#.to_owned(),
            &["`value`", "utf8", "string"],
        ),
        (
            r#"{"type":"new","key":"k","value":"","encoding":"hex"}"#.to_owned(),
            &["`encoding`", "utf8", "base64"],
        ),
        (format!(r#"{{"type":"put",{value},"ttl":4294967296}}"#), &["`ttl`", "2^32"]),
        (format!(r#"{{"type":"put",{value},"status":"in-sync"}}"#), &["`put`", "`status`"]),
        (format!(r#"{{"type":"put",{value},"vlaue":1}}"#), &["`vlaue`", "`value`"]),
        (format!(r#"{{"type":"put",{value},"value":2}}"#), &["`value`", "duplicate"]),
        (r#"{"type":"deleted","key":"k","value":1}"#.to_owned(), &["`deleted`", "`value`"]),
        (r#"{"type":"deleted","key":"k","ttl":1}"#.to_owned(), &["`deleted`", "`ttl`"]),
        (r#"{"type":"status"}"#.to_owned(), &["`status`", "in-sync"]),
        (r#"{"type":"status","status":"insync"}"#.to_owned(), &["`status`", "\"insync\"", "in-sync"]),
        (r#"{"type":"snapshot","key":"k"}"#.to_owned(), &["`snapshot`", "`key`"]),
        (r#"{"type":"breadcrumb","key":"k"}"#.to_owned(), &["`breadcrumb`", "`key`"]),
        (r#"{"type":"snapshot","mode":"all"}"#.to_owned(), &["`mode`", "squash"]),
        (r#"{"type":"snapshot","cursor":"1"}"#.to_owned(), &["`cursor`", "Crumbd-Cursor"]),
        (r#"{"type":"snapshot","history":"x"}"#.to_owned(), &["`history`", "16"]),
        (r#"{"type":"end","digest":"00"}"#.to_owned(), &["`digest`", "32"]),
        (r#"["put","k",null,1]"#.to_owned(), &["not a record", "object"]),
        (r#"{"type":"put","key":1,"value":1}"#.to_owned(), &["`key`", "1", "string"]),
        (format!(r#"{{"type":"put",{value},"revision":"7"}}"#), &["`revision`", "number"]),
        (format!(r#"{{"type":"put",{value},"revision":-1}}"#), &["`revision`", "-1", "number"]),
        (format!(r#"{{"type":"put",{value},"revision":1.5}}"#), &["`revision`", "1.5", "number"]),
        (format!(r#"{{"type":"put",{value},"ttl":"60"}}"#), &["`ttl`", "number"]),
        (r#"{"type":"end","count":"2"}"#.to_owned(), &["`count`", "number"]),
        (r#"{"type":"snapshot","more":1}"#.to_owned(), &["`more`", "true or false"]),
        ("{".to_owned(), &["not a record", "column 1"]),
        ("[]".to_owned(), &["not a record", "object"]),
        ("7".to_owned(), &["not a record", "object"]),
        (format!(r#"{{"type":"put",{value}}} {{}}"#), &["not a record", "trailing"]),
    ];
    let mut silent = Vec::new();
    for (text, words) in cases {
        let error = parse_record(&text).expect_err(&text).to_string();
        let missing: Vec<_> = words.iter().filter(|word| !error.contains(**word)).collect();
        if !missing.is_empty() {
            silent.push(format!("{text}\n   {error}\n   does not say {missing:?}"));
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn an_error_in_many_records_says_in_which_line_or_record() {
    let good = r#"{"type":"put","key":"k","value":1}"#;
    let bad = r#"{"type":"put","key":"k"}"#;
    let error = parse_records(&format!("{good}\n\n{good}\n{bad}\n")).expect_err("a bad line").to_string();
    assert!(error.contains("line 4: ") && error.contains("`value`"), "{error}");
    let error = parse_records(&format!("[{good},{bad}]")).expect_err("a bad record").to_string();
    assert!(error.contains("record 2: ") && error.contains("`value`"), "{error}");
    let error = read(MediaType::Ndjson, format!("{good}\n{bad}\n").as_bytes(), &[]).expect_err("a bad line");
    assert!(matches!(error, WireError::At { position: 2, .. }), "{error}");
    let error = read(MediaType::Bincode, b"\x03\x01k\x00\x03\x01k\x00\x09", &[]).expect_err("a bad record");
    assert!(matches!(error, WireError::At { position: 3, .. }), "{error}");
}

#[test]
fn a_message_shows_little_of_a_long_value() {
    let long = "x".repeat(1 << 20);
    for text in [
        format!(r#"{{"type":"{long}"}}"#),
        format!(r#"{{"type":"put","key":"k","value":"{long}!","encoding":"base64"}}"#),
        format!(r#"{{"type":"put","key":"k","value":1,"{long}":1}}"#),
        format!(r#"{{"type":"status","status":"{long}"}}"#),
        format!(r#"{{"type":"put","key":"k","value":1,"revision":"{long}"}}"#),
        format!(r#"{{"type":"end","cursor":"{long}"}}"#),
        format!(r#"{{"type":"end","digest":"{long}"}}"#),
        format!(r#"{{"type":"snapshot","history":"{long}"}}"#),
    ] {
        let error = parse_record(&text).expect_err("it is no record").to_string();
        assert!(error.len() < 1200, "{} bytes: {:.200}", error.len(), error);
    }
}

#[test]
fn a_key_over_the_limit_is_refused_in_every_spelling() {
    let limit = crumbd::model::MAX_KEY_BYTES;
    for (length, fits) in [(limit, true), (limit + 1, false)] {
        let key = vec![b'k'; length];
        let text = String::from_utf8(key.clone()).expect("text");
        let line = format!(r#"{{"type":"deleted","key":"{text}"}}"#);
        assert_eq!(parse_record(&line).is_ok(), fits);
        let mut body = BodyWriter::breadcrumb(MediaType::Bincode, &Header::default(), 0);
        body.deleted(&key, None);
        assert_eq!(read(MediaType::Bincode, &body.finish(&End::default()), &[]).is_ok(), fits);
    }
}

/// Deep nesting is a stack overflow in a careless parser.
#[test]
fn deep_nesting_is_no_danger() {
    let deep = "[".repeat(200_000) + &"]".repeat(200_000);
    assert_eq!(compact_json(&deep).expect("it is JSON"), deep.as_bytes());
    let read = parse_record(&format!(r#"{{"type":"put","key":"k","value":{deep}}}"#)).expect("a record");
    let Record::Put { entry, .. } = read else { panic!("a put") };
    assert_eq!((entry.value(), entry.encoding()), (deep.as_bytes(), Encoding::Json));
}

/// A few bytes that claim to be a gigabyte.
#[test]
fn a_claimed_length_is_not_believed() {
    let gigabyte_string = [&[5, 1, 252][..], &(1u32 << 30).to_le_bytes()].concat();
    let error = read(MediaType::Bincode, &gigabyte_string, &[]).expect_err("over the limit");
    assert!(!matches!(error, WireError::CutOff), "{error}");
    let exabyte_key = [&[3, 253][..], &(u64::MAX).to_le_bytes()].concat();
    assert!(read(MediaType::Bincode, &exabyte_key, &[]).is_err());
    let almost = [&[5, 1, 252][..], &((1u32 << 30) - 64).to_le_bytes(), &[0; 1000]].concat();
    assert!(matches!(read(MediaType::Bincode, &almost, &[]), Err(WireError::CutOff)));
}

#[test]
fn the_revision_zero_of_a_put_is_none() {
    let read = parse_record(r#"{"type":"put","key":"k","value":1,"revision":0}"#).expect("a record");
    assert_same(&read, &Record::Put { kind: PutKind::Put, entry: Entry::new(b"k", b"1", None) });
}
