//! The page tree against a `BTreeMap`, and assembled bodies against bodies that are encoded as a whole.

#![allow(clippy::unwrap_used)] // a test may unwrap

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use proptest::prelude::*;

use super::assemble::assemble;
use super::idle_bytes::IdleBytes;
use super::page::{MAX_WEIGHT, MIN_WEIGHT, weight_of};
use super::page_tree::{Change, PageTree};
use super::rebalance::{MAX_PAGES, MIN_PAGES};
use crate::model::{Digest, Entry, Revision};
use crate::view::{Body, Format};
use crate::wire::{BodyWriter, Coding, End, Header, MediaType, PutKind, Record, RecordReader};

type Model = BTreeMap<Vec<u8>, Entry>;

/// Keys with shared prefixes, and keys that are not UTF-8.
fn key(number: u32) -> Vec<u8> {
    match number % 5 {
        0 => format!("a/{number:05}").into_bytes(),
        1 => format!("a/b/{number:05}").into_bytes(),
        2 => [&[0xff, 0xfe][..], &number.to_be_bytes()].concat(),
        3 => number.to_le_bytes()[..2].to_vec(),
        _ => format!("ключ {}", number % 3000).into_bytes()[..4 + (number % 7) as usize].to_vec(),
    }
}

fn entry(number: u32, size: usize, revision: u64) -> Entry {
    let value = match number % 4 {
        0 => format!(r#"{{"n":{number},"text":"{}"}}"#, "x".repeat(size)).into_bytes(),
        1 => format!("text {number} {}", "y".repeat(size)).into_bytes(),
        2 => vec![0xf0; size],
        _ => Vec::new(),
    };
    Entry::new(&key(number), &value, None).at(Revision(revision))
}

#[derive(Clone, Debug)]
enum Batch {
    /// Sets and deletes: a number, and the size of the value or none.
    Some(Vec<(u32, Option<usize>)>),
    /// Sets a long run of numbers.
    Grow(u32, u32),
    /// Deletes every key but those whose number has this remainder.
    Shrink(u32, u32),
    Empty,
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let size = prop_oneof![8 => 0..300usize, 1 => 20_000..90_000usize];
    let some =
        prop::collection::vec((0..6000u32, prop::option::weighted(0.7, size)), 0..150).prop_map(Batch::Some);
    let grow = (0..6000u32, 0..4000u32).prop_map(|(first, count)| Batch::Grow(first, count));
    let shrink = (1..9u32, 0..9u32).prop_map(|(modulus, rest)| Batch::Shrink(modulus, rest));
    prop::collection::vec(prop_oneof![6 => some, 3 => grow, 2 => shrink, 1 => Just(Batch::Empty)], 0..12)
}

/// Applies a batch to the model, and returns its changes.
fn apply(batch: &Batch, revision: u64, model: &mut Model) -> Vec<Change> {
    let mut touched: BTreeMap<Vec<u8>, Option<Entry>> = BTreeMap::new();
    match batch {
        Batch::Some(changes) => {
            for (number, size) in changes {
                touched.insert(key(*number), size.map(|size| entry(*number, size, revision)));
            }
        }
        Batch::Grow(first, count) => {
            let numbers = *first..first + count;
            touched.extend(numbers.map(|number| (key(number), Some(entry(number, 40, revision)))));
        }
        Batch::Shrink(modulus, rest) => {
            let numbered = model.keys().enumerate().filter(|(i, _)| *i as u32 % modulus != *rest);
            touched.extend(numbered.map(|(_, key)| (key.clone(), None)));
        }
        Batch::Empty => touched.extend(model.keys().map(|key| (key.clone(), None))),
    }
    let mut changes = Vec::new();
    for (key, now) in touched {
        changes.push(Change { key: Entry::new(&key, b"", None), now: now.clone() });
        match now {
            Some(entry) => _ = model.insert(key, entry),
            None => _ = model.remove(&key),
        }
    }
    changes
}

/// Checks order, content, and the limits of pages and groups.
fn check(pages: &PageTree, model: &Model) {
    assert_eq!(pages.len(), model.len());
    assert!(pages.list(b"", None).eq_by_content(model.values()), "the entries in order");
    let groups = pages.groups();
    let all: Vec<_> = groups.iter().flat_map(|group| group.pages()).collect();
    for page in &all {
        let weight: usize = page.entries().iter().map(weight_of).sum();
        let heaviest = page.entries().iter().map(weight_of).max().unwrap_or(0);
        assert_eq!(weight, page.weight());
        assert!(!page.entries().is_empty());
        assert!(weight >= MIN_WEIGHT || all.len() == 1, "a page of {weight}");
        assert!(weight <= MAX_WEIGHT + heaviest, "a page of {weight}, its heaviest entry being {heaviest}");
    }
    for group in groups {
        let count = group.pages().len();
        assert!(count <= MAX_PAGES && (count >= MIN_PAGES || groups.len() == 1), "a group of {count}");
    }
}

trait EqByContent<'a>: Iterator<Item = &'a Entry> + Sized {
    fn eq_by_content<'b>(self, others: impl Iterator<Item = &'b Entry>) -> bool {
        let parts = |entry: &Entry| (entry.key().to_vec(), entry.value().to_vec(), entry.revision());
        self.map(parts).eq(others.map(parts))
    }
}

impl<'a, I: Iterator<Item = &'a Entry>> EqByContent<'a> for I {}

fn header(model: &Model) -> Header {
    let digest: Digest = model.values().collect();
    let count = Some(model.len() as u64);
    Header { count, digest: Some(digest), reason: Some("current".to_owned()), ..Header::default() }
}

fn whole(media: MediaType, header: &Header, entries: impl Iterator<Item = Entry>) -> Vec<u8> {
    let mut writer = BodyWriter::snapshot(media, header, 0);
    entries.for_each(|entry| writer.put(PutKind::New, &entry));
    writer.finish(&end(header))
}

fn end(header: &Header) -> End {
    End { cursor: header.cursor, count: header.count, digest: header.digest }
}

fn parts(body: &Body) -> Vec<&[u8]> {
    (0..).map_while(|number| body.run(number)).flatten().map(|part| &part[..]).collect()
}

fn decoded(body: &Body, media: MediaType, coding: Coding) -> Vec<u8> {
    let bytes = parts(body).concat();
    assert_eq!(bytes.len() as u64, body.len(), "the announced length");
    match coding {
        Coding::Identity => bytes,
        Coding::Zstd if media == MediaType::Bincode => zstd::decode_all(&bytes[..]).unwrap(),
        Coding::Zstd => {
            // As aiohttp and others do: one frame, and nothing may follow it.
            let mut rest = &bytes[..];
            let mut plain = Vec::new();
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut rest).unwrap();
            decoder.single_frame().read_to_end(&mut plain).unwrap();
            assert!(rest.is_empty(), "{} bytes after the only frame", rest.len());
            plain
        }
        Coding::Gzip => {
            // As curl and reqwest do: one member, and nothing may follow it.
            let mut decoder = flate2::bufread::GzDecoder::new(&bytes[..]);
            let mut plain = Vec::new();
            decoder.read_to_end(&mut plain).unwrap();
            assert!(decoder.into_inner().is_empty());
            plain
        }
    }
}

/// Checks that every body equals, byte for byte, one that is encoded as a whole.
fn check_bodies(pages: &PageTree, model: &Model, prefix: &[u8], codings: &[Coding]) {
    let header = header(model);
    let wanted = || model.values().filter(|entry| entry.key().starts_with(prefix)).cloned();
    for media in MediaType::ALL {
        let expected = whole(media, &header, wanted());
        for coding in codings {
            let format = Format { media, coding: *coding };
            let made = assemble(pages, pages.prefix_range(prefix), &header, &end(&header), format).unwrap();
            assert!(made.unshared_bytes <= made.body.len());
            assert_eq!(made.coding, if expected.len() > 1024 { *coding } else { Coding::Identity });
            let plain = decoded(&made.body, media, made.coding);
            assert!(plain == expected, "{media:?} {coding:?} under {}", prefix.escape_ascii());
        }
    }
}

/// The state that a client reads from a body.
fn read(media: MediaType, plain: &[u8]) -> Model {
    let mut reader = RecordReader::new(media);
    reader.push(plain);
    let (mut model, mut ended) = (Model::new(), None);
    while let Some(record) = reader.next_record().unwrap() {
        assert!(ended.is_none(), "nothing comes after the end");
        match record {
            Record::Snapshot(header) => assert!(header.digest.is_some() && model.is_empty()),
            Record::Put { kind, entry } => {
                assert_eq!(kind, PutKind::New);
                assert!(
                    model.last_key_value().is_none_or(|(last, _)| &last[..] < entry.key()),
                    "in key order"
                );
                model.insert(entry.key().to_vec(), entry);
            }
            Record::End(end) => ended = Some(end),
            other => panic!("{other:?}"),
        }
    }
    reader.finish().unwrap();
    let ended = ended.expect("an end");
    assert_eq!(ended.count, Some(model.len() as u64));
    assert_eq!(ended.digest, Some(model.values().collect()));
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_are_a_sorted_map_and_a_clone_never_changes(batches in batches()) {
        let (mut pages, mut model) = (PageTree::default(), Model::new());
        let mut held = Vec::new();
        for (revision, batch) in (1..).zip(&batches) {
            pages.apply(&apply(batch, revision, &mut model));
            check(&pages, &model);
            if revision % 3 == 0 {
                held.push((pages.clone(), model.clone()));
            }
        }
        held.iter().for_each(|(pages, model)| check(pages, model));
        check(&PageTree::of_sorted(model.values().cloned().collect(), IdleBytes::default()), &model);
    }

    #[test]
    fn an_assembled_body_equals_one_that_is_encoded_as_a_whole(batches in batches(), prefix in 0..6000u32, cut in 0..8usize) {
        let (mut pages, mut model) = (PageTree::default(), Model::new());
        let prefix = key(prefix);
        for (revision, batch) in (1..).zip(&batches) {
            pages.apply(&apply(batch, revision, &mut model));
            // Later changes meet pages that are encoded already.
            check_bodies(&pages, &model, b"", &[Coding::ALL[revision as usize % 3]]);
            check_bodies(&pages, &model, &prefix[..cut.min(prefix.len())], &[Coding::ALL[revision as usize % 2]]);
        }
        check_bodies(&pages, &model, b"", &Coding::ALL);
        check_bodies(&pages, &model, b"a/b/", &Coding::ALL);
        check_bodies(&pages, &model, &[0xff], &Coding::ALL);
        check_bodies(&pages, &model, b"nothing begins so", &Coding::ALL);
    }

    #[test]
    fn a_client_reads_the_state_from_a_body(batches in batches()) {
        let (mut pages, mut model) = (PageTree::default(), Model::new());
        for (revision, batch) in (1..).zip(&batches) {
            pages.apply(&apply(batch, revision, &mut model));
        }
        let header = header(&model);
        for media in [MediaType::Ndjson, MediaType::Bincode] {
            let format = Format { media, coding: Coding::Identity };
            let made = assemble(&pages, pages.prefix_range(b""), &header, &end(&header), format).unwrap();
            let client = read(media, &decoded(&made.body, media, made.coding));
            assert!(client.values().eq_by_content(model.values()));
        }
        let format = Format { media: MediaType::Json, coding: Coding::Identity };
        let made = assemble(&pages, pages.prefix_range(b""), &header, &end(&header), format).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&parts(&made.body).concat()).unwrap();
        assert_eq!(json["entries"].as_array().unwrap().len(), model.len());
    }

    #[test]
    fn a_listing_begins_after_any_key(batches in batches(), after in 0..6000u32, prefix in 0..6000u32, cut in 0..8usize) {
        let (mut pages, mut model) = (PageTree::default(), Model::new());
        for (revision, batch) in (1..).zip(&batches) {
            pages.apply(&apply(batch, revision, &mut model));
        }
        let (after, prefix) = (key(after), key(prefix));
        let prefix = &prefix[..cut.min(prefix.len())];
        let expected = model.values().filter(|entry| entry.key() > &after[..] && entry.key().starts_with(prefix));
        assert!(pages.list(prefix, Some(&after)).eq_by_content(expected));
    }
}

fn many(count: u32) -> Model {
    (0..count).map(|number| entry(5 * number, 100, 1)).map(|entry| (entry.key().to_vec(), entry)).collect()
}

#[test]
fn a_changed_key_encodes_one_page_again_and_shares_all_others() {
    let mut model = many(20_000);
    let mut pages = PageTree::of_sorted(model.values().cloned().collect(), IdleBytes::default());
    let header = header(&model);
    for coding in Coding::ALL {
        let format = Format { media: MediaType::Bincode, coding };
        let body = |pages: &PageTree| {
            assemble(pages, pages.prefix_range(b""), &header, &end(&header), format).unwrap().body
        };
        let addresses =
            |body: &Body| -> BTreeSet<*const u8> { parts(body).iter().map(|part| part.as_ptr()).collect() };
        let before = body(&pages);
        assert!(parts(&before).len() > 200);
        pages.apply(&apply(&Batch::Some(vec![(50_000, Some(9))]), 2, &mut model));
        let after = body(&pages);
        let new = addresses(&after).difference(&addresses(&before)).count();
        assert!(new <= 3, "opening, closing and one page, not {new}");
        let once_more = body(&pages);
        assert_eq!(addresses(&once_more).difference(&addresses(&after)).count(), 2, "opening and closing");
    }
}

#[test]
fn a_body_of_one_frame_caches_no_uncompressed_pages() {
    let model = many(3000);
    let pages = PageTree::of_sorted(model.values().cloned().collect(), IdleBytes::default());
    check_bodies(&pages, &model, b"", &[Coding::Zstd]);
    let second = Arc::clone(&pages.groups()[0].pages()[1]);
    let has = |media| Coding::ALL.map(|coding| second.has(Format { media, coding }));
    assert_eq!(has(MediaType::Json), [false; 3]);
    assert_eq!(has(MediaType::Bincode), [false, false, true]);
    check_bodies(&pages, &model, b"", &[Coding::Identity, Coding::Zstd]);
}

#[test]
fn unused_formats_are_dropped_and_encoded_again() {
    let model = many(3000);
    let pages = PageTree::of_sorted(model.values().cloned().collect(), IdleBytes::default());
    check_bodies(&pages, &model, b"", &Coding::ALL);
    let page = Arc::clone(&pages.groups()[0].pages()[0]);
    let of = |coding| page.has(Format { media: MediaType::Bincode, coding });
    let second = Arc::clone(&pages.groups()[0].pages()[1]);
    assert!(!of(Coding::Zstd), "the first page is part of no shared bytes");
    let of = |coding| second.has(Format { media: MediaType::Bincode, coding });
    assert!(of(Coding::Zstd) && of(Coding::Gzip));
    pages.retain_formats(|format| format.coding != Coding::Zstd);
    assert!(!of(Coding::Zstd) && of(Coding::Gzip));
    check_bodies(&pages, &model, b"", &Coding::ALL);
    assert!(of(Coding::Zstd));
}

#[test]
fn a_short_body_is_uncompressed_even_if_it_has_several_pages() {
    let tiny = |number: u16| Entry::new(&number.to_be_bytes(), b"", None);
    for count in [1, 60, 100, 150, 200, 400, 1000] {
        let model: Model = (0..count).map(tiny).map(|entry| (entry.key().to_vec(), entry)).collect();
        let pages = PageTree::of_sorted(model.values().cloned().collect(), IdleBytes::default());
        check_bodies(&pages, &model, b"", &Coding::ALL);
    }
}

#[test]
fn bytes_are_idle_while_a_page_has_them_and_no_body_in_flight_does() {
    let model = many(3000);
    let idle = IdleBytes::default();
    let pages = PageTree::of_sorted(model.values().cloned().collect(), idle.clone());
    let header = header(&model);
    let mut counted = 0;
    for coding in [Coding::Identity, Coding::Gzip] {
        let format = Format { media: MediaType::Ndjson, coding };
        let body = assemble(&pages, pages.prefix_range(b""), &header, &end(&header), format).unwrap().body;
        counted = idle.get();
        let by_format = pages.idle_by_format();
        assert_eq!(by_format.values().sum::<u64>(), counted, "{by_format:?}");
        assert!(by_format[&format] > body.len() / 2 && by_format[&format] < body.len());
        drop(body);
        assert_eq!(idle.get(), counted, "pages keep what they have encoded");
    }
    pages.retain_formats(|format| format.coding == Coding::Gzip);
    assert!(idle.get() < counted / 2 && idle.get() > 0, "{} of {counted}", idle.get());
    drop(pages);
    assert_eq!(idle.get(), 0);
}
