use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, Hasher};

use proptest::prelude::*;

use super::*;

/// A hasher that keeps only a few bits, or none, so that leaves overflow at every depth.
#[derive(Default)]
struct WeakHasher<const MASK: u64>(u64);

impl<const MASK: u64> Hasher for WeakHasher<MASK> {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
    }

    fn finish(&self) -> u64 {
        self.0 & MASK
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn check<S: BuildHasher>(table: &Table<S>, model: &Model) {
    let mut found: Vec<_> = table.iter().map(|entry| (entry.key(), entry.value())).collect();
    assert_eq!((table.len(), table.iter().len(), found.len()), (model.len(), model.len(), model.len()));
    found.sort_unstable();
    assert!(found.into_iter().eq(model.iter().map(|(key, value)| (&key[..], &value[..]))));
}

fn run<S: BuildHasher + Default + Clone>(changes: &[(u16, Option<u8>)], snapshot_every: usize) {
    let (mut table, mut model) = (Table::with_hasher(S::default()), Model::new());
    let mut held = Vec::new();
    for (i, (key, value)) in changes.iter().enumerate() {
        let key = key.to_le_bytes().to_vec();
        let (old, expected) = match value {
            Some(value) => {
                (table.insert(Entry::new(&key, &[*value], None)), model.insert(key.clone(), vec![*value]))
            }
            None => (table.remove(&key), model.remove(&key)),
        };
        assert_eq!(old.map(|entry| entry.value().to_vec()), expected);
        assert_eq!(table.get(&key).map(|entry| entry.value().to_vec()), model.get(&key).cloned());
        assert_eq!(table.len(), model.len());
        if i % snapshot_every == 0 {
            held.push((table.clone(), model.clone()));
        }
    }
    check(&table, &model);
    held.iter().for_each(|(table, model)| check(table, model));
    for key in model.keys() {
        assert!(table.remove(key).is_some());
    }
    assert!(table.len() == 0 && matches!(table.root, Node::Empty), "an empty table holds nothing");
    held.iter().for_each(|(table, model)| check(table, model));
}

/// Builds a table at once, and checks it and later changes against the model.
fn build<S: BuildHasher + Default + Clone>(changes: &[(u16, Option<u8>)], parts: usize) {
    let hasher = S::default();
    let mut model = Model::new();
    let mut all: Vec<Part> = (0..parts).map(|_| Part::default()).collect();
    for (i, (key, value)) in changes.iter().enumerate() {
        let (key, value) = (key.to_le_bytes().to_vec(), vec![value.unwrap_or_default()]);
        // The same key in several parts: the last part's stays.
        if model.contains_key(&key) && i % 3 > 0 {
            continue;
        }
        let part = model.len() * parts / (changes.len() + 1);
        all[part].add(Entry::new(&key, &value, None), &hasher);
        model.insert(key, value);
    }
    let mut table = Table::of_parts(hasher, all);
    check(&table, &model);
    for (key, value) in changes {
        let key = key.to_le_bytes().to_vec();
        match value {
            Some(value) => {
                table.insert(Entry::new(&key, &[*value], None));
                model.insert(key, vec![*value]);
            }
            None => {
                table.remove(&key);
                model.remove(&key);
            }
        }
    }
    check(&table, &model);
}

fn changes() -> impl Strategy<Value = Vec<(u16, Option<u8>)>> {
    let keys = prop_oneof![Just(20u16), Just(300), Just(u16::MAX)];
    let change = |most| (0..most, prop::option::weighted(0.7, any::<u8>()));
    keys.prop_flat_map(move |most| prop::collection::vec(change(most), 0..700))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_table_is_a_map_and_a_clone_never_changes(changes in changes(), every in 1..300usize) {
        run::<RandomState>(&changes, every);
    }

    #[test]
    fn a_table_built_at_once_is_the_same_table(changes in changes(), parts in 1..4usize) {
        build::<RandomState>(&changes, parts);
        build::<BuildHasherDefault<WeakHasher<0xff>>>(&changes, parts);
        build::<BuildHasherDefault<WeakHasher<0>>>(&changes, parts);
    }

    #[test]
    fn keys_whose_hashes_collide_are_still_different_keys(changes in changes(), every in 1..300usize) {
        run::<BuildHasherDefault<WeakHasher<0xff>>>(&changes, every);
        run::<BuildHasherDefault<WeakHasher<{ 0xf << 58 }>>>(&changes, every);
        run::<BuildHasherDefault<WeakHasher<0>>>(&changes, every);
    }
}
