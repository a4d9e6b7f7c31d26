//! Single cases: the binary layout, error messages, limits.

use crumbd::model::{
    Check, Cursor, Digest, Encoding, Entry, History, Key, KeyStep, Revision, SyncStatus, Ttl,
};
use crumbd::wire::{
    BodyWriter, End, Header, MediaType, Mode, PutKind, Record, RecordReader, WireError, compact_json,
    parse_record, parse_records,
};

use super::{assert_same, read};

/// The layout is a promise: clients of other versions and other languages read it.
#[test]
fn the_bincode_layout_is_this_byte_for_byte() {
    let history = History::derive(b"golden");
    let cursor =
        Cursor { history, revision: Revision(300), status: SyncStatus::InSync, check: Check::default() };
    let header = Header {
        mode: Some(Mode::Delta),
        cursor: Some(cursor.into()),
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
        body.finish(&End { cursor: Some(cursor.into()), count: Some(2), digest: Some(Digest::default()) });

    let cursor = cursor.to_string();
    assert_eq!(cursor.len(), 30);
    #[rustfmt::skip]
    let expected: Vec<&[u8]> = vec![
        &[6],                              // a breadcrumb:
        &[1, 5], b"delta",                 //   mode
        &[0],                              //   no reason
        &[1, 30], cursor.as_bytes(),       //   cursor
        &[0], &[0],                        //   no from, no history
        &[1, 251, 0x2c, 0x01],             //   revision 300: above 250 a mark and two bytes
        &[0], &[0], &[0],                  //   no sequence, no timestamp, no status
        &[1, 2],                           //   count
        &[0],                              //   no digest
        &[1, 1],                           //   more
        &[0],                              // a put:
        &[1], b"k", &[0],                  //   key, empty value
        &[0], &[0],                        //   no revision, no ttl
        &[1],                              // a new:
        &[4], b"\xffkey", &[7], b"{\"a\":1}",
        &[1, 250], &[1, 60],               //   revision 250: the last in one byte; ttl
        &[2],                              // an updated:
        &[0], &[251, 251, 0], &[b'x'; 251],
        &[1, 253, 255, 255, 255, 255, 255, 255, 255, 255],
        &[1, 252, 0x70, 0x11, 0x01, 0x00], //   ttl 70,000
        &[3], &[4], b"gone", &[1, 251, 0x2c, 0x01],
        &[3], &[4], b"gone", &[0],         // deleted at 300, and at a revision not known
        &[7],                              // the end:
        &[1, 30], cursor.as_bytes(),
        &[1, 2],                           //   count
        &[1, 32], b"00000000000000000000000000000000",
    ];
    assert_eq!(bytes.escape_ascii().to_string(), expected.concat().escape_ascii().to_string());

    let status = b"\x04\x07in-sync";
    bytes.extend_from_slice(status);
    bytes.extend_from_slice(b"\x05\0\0\0\0\0\0\0\0\0\0\0\0");
    bytes.extend_from_slice(b"\x08\x01\x03why");
    // A step: key, revision 7, existed, check 0.
    bytes.extend_from_slice(b"\x09\x01k\x07\x01\x01\x00");
    let records = read(MediaType::Bincode, &bytes, &[]).expect("records");
    let reset = parse_record(r#"{"type":"reset","reason":"why"}"#).expect("a record");
    assert_same(&records[9], &reset);
    let step = KeyStep {
        revision: Revision(7),
        key: Key::copy_from(b"k"),
        existed: true,
        check: Some(Check::default()),
    };
    assert!(matches!(&records[10], Record::Step(read) if *read == step), "{:?}", records[10]);
    assert_eq!(records.len(), 11);
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
        (r#"{"type":"snapshot","cursor":"a b"}"#.to_owned(), &["`cursor`", "Crumbd-Cursor"]),
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
    let error = read(MediaType::Bincode, b"\x03\x01k\x00\x03\x01k\x00\x0a", &[]).expect_err("a bad record");
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
    // Many a client would refuse the body that it stands in.
    assert_eq!((entry.value(), entry.encoding()), (deep.as_bytes(), Encoding::Utf8));
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

/// In a stream they are heartbeats.
#[test]
fn blank_lines_between_records_are_passed_over() {
    let put = "{\"type\":\"put\",\"key\":\"k\",\"value\":1}\n";
    let lines = format!("\n\n{put}\n\r\n{put}\n");
    for cut in 0..lines.len() {
        let records = read(MediaType::Ndjson, lines.as_bytes(), &[cut]).expect("records");
        assert_eq!(records.len(), 2, "cut at {cut}");
    }
}

/// Searching it anew with every chunk would take as long as the square of its length.
#[test]
fn a_long_line_in_small_chunks_is_searched_once() {
    let line = format!("{{\"type\":\"put\",\"key\":\"k\",\"value\":\"{}\"}}\n", "x".repeat(4 << 20));
    let mut reader = RecordReader::new(MediaType::Ndjson);
    for chunk in line.as_bytes().chunks(256) {
        assert!(reader.next_record().expect("no fault").is_none());
        reader.push(chunk);
    }
    let Some(Record::Put { entry, .. }) = reader.next_record().expect("a record") else { panic!("a put") };
    assert_eq!(entry.value().len(), (4 << 20) + 2);
    reader.finish().expect("nothing is left");
}

/// The grammar allows these, and strict parsers refuse the whole body for them.
#[test]
fn json_that_a_strict_parser_refuses_goes_out_as_text_and_comes_in_as_it_was() {
    for json in [r#""\ud800""#, r#"{"a":"\udc00\ud800"}"#, r#"{"\ud800":1}"#, "1e999", "[-1E+400]"] {
        let line = format!(r#"{{"type":"put","key":"k","value":{json}}}"#);
        let Record::Put { entry, .. } = parse_record(&line).expect(&line) else { panic!("a put") };
        assert_eq!(entry.value(), json.as_bytes());
        let mut body = BodyWriter::snapshot(MediaType::Json, &Header::default(), 0);
        body.put(PutKind::New, &entry);
        let body = body.finish(&End::default());
        let read: serde_json::Value = serde_json::from_slice(&body).expect("a strict parser reads it");
        assert_eq!(read["entries"][0]["value"], json);
        assert_eq!(read["entries"][0]["encoding"], "utf8");
        let again = parse_record(&read["entries"][0].to_string()).expect("a record");
        assert_same(&again, &Record::Put { kind: PutKind::New, entry });
    }
}
