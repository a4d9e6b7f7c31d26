//! The client's mirror and its snapshots against a plain `BTreeMap`, through the public interface.
//!
//! A run is a list of bodies, as a daemon would send them, with snapshots taken, cloned and dropped in between: whether
//! a node of the mirror's tree is shared decides whether a change copies it or is made in place.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use crumbd::client::{CheckedState, EntryChange, MirrorSnapshot, MismatchError};
use crumbd::model::{Cursor, Digest, Entry, History, Key, OpaqueCursor, Revision, SyncStatus};
use crumbd::wire::{End, Header, PutKind, Record};
use proptest::collection::vec;
use proptest::prelude::*;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A snapshot, and what it must say.
type Kept = (MirrorSnapshot, Model, Option<Cursor>);

/// More than two levels of the tree: its nodes have 16 keys.
const KEYS: u16 = 700;

/// The prefixes that are read: all, some, one that only the empty key lacks, none.
const PREFIXES: [&[u8]; 6] = [b"", b"a/", b"a/1", b"b", b"\xff", b"nothing"];

#[derive(Clone, Debug)]
enum Step {
    /// Each is a key, and its value or nothing.
    Updates(Vec<(u16, Option<u8>)>),
    /// The whole state anew.
    State(Vec<(u16, u8)>),
    /// Keeps a snapshot.
    Keep,
    /// Drops one of those that are kept.
    Drop(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let update = (0..KEYS, prop::option::weighted(0.7, any::<u8>()));
    let step = prop_oneof![
        6 => vec(update.clone(), 0..4).prop_map(Step::Updates),
        3 => vec(update, 50..400).prop_map(Step::Updates),
        1 => vec((0..KEYS, any::<u8>()), 0..600).prop_map(Step::State),
        5 => Just(Step::Keep),
        2 => any::<prop::sample::Index>().prop_map(Step::Drop),
    ];
    vec(step, 1..60)
}

/// The empty key, keys that are prefixes of others, and keys that are no text.
fn key(number: u16) -> Vec<u8> {
    match number % 3 {
        0 if number == 0 => Vec::new(),
        0 => format!("a/{number}").into_bytes(),
        1 => format!("b{}", number / 7).repeat(1 + usize::from(number % 7)).into_bytes(),
        _ => [&[0xff, 0xff][..], &number.to_be_bytes()].concat(),
    }
}

fn entry((key, value): (&Vec<u8>, &Vec<u8>)) -> Entry {
    Entry::new(key, value, None)
}

fn digest(model: &Model) -> Digest {
    model.iter().map(entry).collect::<Vec<_>>().iter().collect()
}

fn cursor(model: &Model, revision: u64) -> Cursor {
    let (history, status) = (History::derive(b"a history"), SyncStatus::InSync);
    Cursor { history, revision: Revision(revision), status, check: digest(model).into() }
}

fn end(model: &Model, revision: u64) -> Record {
    let count = Some(model.len() as u64);
    Record::End(End { cursor: Some(cursor(model, revision).into()), count, digest: Some(digest(model)) })
}

/// Changes the model; the body that says so.
fn updates(model: &mut Model, revision: u64, updates: &[(u16, Option<u8>)]) -> Vec<Record> {
    let mut body = vec![Record::Breadcrumb(Header::default())];
    for (number, value) in updates {
        let key = key(*number);
        body.extend(match value {
            Some(value) => {
                let value = vec![*value; usize::from(*value) % 20];
                let entry = Entry::new(&key, &value, None);
                let kind = if model.contains_key(&key) { PutKind::Updated } else { PutKind::New };
                model.insert(key, value);
                Some(Record::Put { kind, entry })
            }
            None => model.remove(&key).map(|_| Record::Deleted { key: Key::new(key), revision: None }),
        });
    }
    body.push(end(model, revision));
    body
}

/// Replaces the model; the body that says so.
fn state(model: &mut Model, revision: u64, entries: &[(u16, u8)]) -> Vec<Record> {
    *model = entries.iter().map(|(number, value)| (key(*number), vec![*value])).collect();
    let puts = model.iter().map(entry).map(|entry| Record::Put { kind: PutKind::New, entry });
    let body = std::iter::once(Record::Snapshot(Header::default())).chain(puts);
    body.chain([end(model, revision)]).collect()
}

fn pairs<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<(Vec<u8>, Vec<u8>)> {
    entries.map(|entry| (entry.key().to_vec(), entry.value().to_vec())).collect()
}

/// Everything that a snapshot says is what the model says.
fn assert_equal(snapshot: &MirrorSnapshot, model: &Model, at: Option<Cursor>) {
    assert_eq!(pairs(snapshot.iter()), model.clone().into_iter().collect::<Vec<_>>());
    assert_eq!((snapshot.len(), snapshot.is_empty()), (model.len(), model.is_empty()));
    assert_eq!(snapshot.digest(), digest(model));
    assert_eq!(snapshot.cursor(), at.map(OpaqueCursor::from));
    for number in (0..KEYS).step_by(5) {
        let key = key(number);
        assert_eq!(snapshot.get(&key).map(Entry::value), model.get(&key).map(Vec::as_slice));
    }
    for prefix in PREFIXES {
        let expected: Vec<_> = model.clone().into_iter().filter(|(key, _)| key.starts_with(prefix)).collect();
        assert_eq!(pairs(snapshot.iter_prefix(prefix)), expected, "below {}", prefix.escape_ascii());
    }
}

/// What is said of the way from one snapshot to another is what the models say.
fn assert_differs_by_its_changes(from: &Kept, to: &Kept) {
    let mut expected = BTreeMap::new();
    for (key, value) in &from.1 {
        if to.1.get(key) != Some(value) {
            expected.insert(key.clone(), (Some(value.clone()), to.1.get(key).cloned()));
        }
    }
    for (key, value) in to.1.iter().filter(|(key, _)| !from.1.contains_key(*key)) {
        expected.insert(key.clone(), (None, Some(value.clone())));
    }
    let value = |entry: Option<&Entry>| entry.map(|entry| entry.value().to_vec());
    let told: Vec<EntryChange> = from.0.changes_to(&to.0).collect();
    let pairs: Vec<_> =
        told.iter().map(|one| (one.key().to_vec(), (value(one.before()), value(one.after())))).collect();
    assert_eq!(pairs, expected.into_iter().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_equals_the_map_of_its_moment_and_never_changes(steps in steps()) {
        let (mut mirror, mut model, mut revision, mut at) = (CheckedState::default(), Model::new(), 0, None);
        let mut kept: Vec<Kept> = Vec::new();
        for step in &steps {
            revision += 1;
            let body = match step {
                Step::Updates(some) => updates(&mut model, revision, some),
                Step::State(entries) => state(&mut model, revision, entries),
                Step::Keep => {
                    kept.push((mirror.snapshot(), model.clone(), at));
                    continue;
                }
                Step::Drop(which) => {
                    if !kept.is_empty() {
                        kept.swap_remove(which.index(kept.len()));
                    }
                    continue;
                }
            };
            body.iter().for_each(|record| _ = mirror.apply(record).unwrap());
            at = Some(cursor(&model, revision));
        }
        kept.push((mirror.snapshot(), model, at));
        for pair in kept.windows(2) {
            assert_differs_by_its_changes(&pair[0], &pair[1]);
            assert_differs_by_its_changes(&pair[1], &pair[0]);
        }
        // On another thread, as applications do.
        std::thread::spawn(move || kept.iter().for_each(|(snapshot, model, at)| assert_equal(snapshot, model, *at)))
            .join()
            .unwrap();
    }
}

#[test]
fn a_body_that_does_not_fit_is_said_and_changes_no_snapshot() {
    let (mut mirror, mut model) = (CheckedState::default(), Model::new());
    state(&mut model, 1, &[(1, 1), (2, 2), (3, 3)])
        .iter()
        .for_each(|record| _ = mirror.apply(record).unwrap());
    let (before, was) = (mirror.snapshot(), model.clone());

    let put = |kind, number| Record::Put { kind, entry: Entry::new(&key(number), b"", None) };
    let deleted = |number| Record::Deleted { key: Key::new(key(number)), revision: None };
    for wrong in [put(PutKind::New, 1), put(PutKind::Updated, 4), deleted(4)] {
        assert!(matches!(mirror.clone().apply(&wrong), Err(MismatchError::Unexpected(_))), "{wrong:?}");
    }
    let mut body = updates(&mut model, 2, &[(1, None), (2, Some(9)), (4, Some(4))]);
    let lost = body.remove(1);
    let outcome = body.iter().try_for_each(|record| mirror.apply(record).map(|_| ()));
    assert_eq!(outcome, Err(MismatchError::Count { expected: 3, found: 4 }));
    mirror.apply(&lost).unwrap();
    mirror.apply(&end(&model, 2)).unwrap();
    model.insert(key(2), b"other".to_vec());
    assert!(matches!(mirror.apply(&end(&model, 3)), Err(MismatchError::Digest { .. })));

    assert_equal(&before, &was, Some(cursor(&was, 1)));
}
