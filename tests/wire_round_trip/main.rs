//! Records to bytes and back: every key, value and number survives. Any other bytes are an error that helps.

mod cases;
mod generator;

use std::io::Read;

use crumbd::model::{Cursor, Digest, Encoding, Entry, History};
use crumbd::wire::{
    BodyWriter, Coding, End, Header, MediaType, Mode, PutKind, Record, RecordReader, WireError, compact_json,
    parse_record, parse_records, write_record,
};
use generator::{body, json, record};
use proptest::prelude::*;
use serde_json::value::RawValue;

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
        (Record::Reset { reason: a }, Record::Reset { reason: b }) => a == b,
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

const STREAMED: [MediaType; 3] = [MediaType::Ndjson, MediaType::NdjsonStrings, MediaType::Bincode];
const OBJECTS: [MediaType; 2] = [MediaType::Json, MediaType::JsonStrings];

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
    fn a_json_body_is_one_object_of_the_same_records(
        (snapshot, header, updates, end) in body(),
        media in prop::sample::select(&OBJECTS[..]),
    ) {
        let bytes = written(media, snapshot, &header, &updates, &end);
        let text = std::str::from_utf8(&bytes).expect("JSON is UTF-8");
        prop_assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "a strict parser reads it: {}", text);
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
    fn a_parser_that_forgets_how_json_was_spelt_reads_each_value_from_strings((snapshot, header, updates, end) in body()) {
        let bytes = written(MediaType::JsonStrings, snapshot, &header, &updates, &end);
        let body: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let items = body[if snapshot { "entries" } else { "updates" }].as_array().expect("a list");
        prop_assert_eq!(items.len(), updates.len());
        for (item, update) in items.iter().zip(&updates) {
            let Record::Put { entry, .. } = update else {
                prop_assert_eq!(item.get("value").or(item.get("encoding")), None);
                continue;
            };
            let value = item["value"].as_str().expect("every value is a string");
            match std::str::from_utf8(entry.value()) {
                Ok(text) => prop_assert_eq!((value, item["encoding"].as_str()), (text, Some("utf8"))),
                Err(_) => prop_assert_eq!(item["encoding"].as_str(), Some("base64")),
            }
        }
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
        for media in OBJECTS {
            let bytes = written(media, snapshot, &header, &updates, &end);
            // Its last byte is a line break that nobody needs.
            let cut = &bytes[..cut % (bytes.len() - 1)];
            prop_assert!(serde_json::from_slice::<&RawValue>(cut).is_err());
        }
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
