//! `RangedValue` and its watcher.

use super::*;

type Watched = super::super::RangedWatcher<super::super::RangedValueSource<&'static str, String>>;

/// The changes that `get` returns without waiting.
fn all(watcher: &mut Watched) -> Vec<String> {
    std::iter::from_fn(|| now(watcher)).map(|change| shown(change.expect("open"))).collect()
}

fn backlog(watcher: &mut Watched) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match watcher.get_backlog().now_or_never().expect("in memory nothing is waited for") {
            Ok(change) => seen.push(shown(change)),
            Err(end) => {
                assert_eq!(end, GetError::BacklogDone);
                return seen;
            }
        }
    }
}

fn value_of(entries: &[(&'static str, &str)]) -> RangedValue<&'static str, String> {
    let value = RangedValue::new();
    for (key, entry) in entries {
        value.set(*key, (*entry).to_owned());
    }
    value
}

#[test]
fn each_key_once_and_then_each_change() {
    let value = value_of(&[("a", "one"), ("b", "two"), ("c", "three"), ("b", "four")]);
    let mut watcher = value.watch();
    assert_eq!(all(&mut watcher), ["a=one", "b=four", "c=three"]);
    value.set("a", "five".to_owned());
    value.set("e", "six".to_owned());
    assert_eq!(all(&mut watcher), ["a=five", "e=six"]);
    value.set("e", "six".to_owned());
    assert_eq!(all(&mut watcher), ["e=six"], "also when it is equal");
}

#[test]
fn many_changes_of_two_keys_become_two() {
    let value = value_of(&[]);
    let mut watcher = value.watch();
    assert_eq!(all(&mut watcher), [""; 0]);
    for i in 0..100 {
        value.set(if i % 2 == 0 { "even" } else { "odd" }, format!("val-{i}"));
    }
    assert_eq!(all(&mut watcher), ["even=val-98", "odd=val-99"]);
}

#[test]
fn a_thousand_unread_changes_become_the_last_one_even_beyond_the_queue() {
    let value = value_of(&[("k", "first")]);
    let mut watcher = value.watch();
    assert_eq!(all(&mut watcher), ["k=first"]);
    for i in 0..1000 {
        value.set("k", format!("val-{i}"));
    }
    assert_eq!(all(&mut watcher), ["k=val-999"]);
}

#[test]
fn a_deletion_is_yielded_once_and_only_for_known_keys() {
    let value = value_of(&[("a", "1"), ("b", "2")]);
    value.remove(&"a");
    let mut watcher = value.watch();
    assert_eq!(all(&mut watcher), ["b=2"], "what was deleted before the watch is just not there");
    value.remove(&"b");
    value.remove(&"b");
    assert_eq!(all(&mut watcher), ["b"]);
    value.set("c", "3".to_owned());
    value.remove(&"c");
    assert_eq!(all(&mut watcher), [""; 0], "it came and went unseen");
    value.set("b", "4".to_owned());
    value.remove(&"b");
    value.set("b", "5".to_owned());
    assert_eq!(all(&mut watcher), ["b=5"]);
}

#[test]
fn empty_is_not_absent() {
    let value = value_of(&[("a", "")]);
    let mut watcher = value.watch();
    let first = now(&mut watcher).expect("at once").expect("open");
    assert_eq!(first, KeyChange { key: "a", value: Some(String::new()) });
    value.set("a", "1".to_owned());
    value.set("a", String::new());
    assert_eq!(all(&mut watcher), ["a="]);
    value.remove(&"a");
    assert_eq!(all(&mut watcher), ["a"]);
}

#[test]
fn the_backlog_is_the_state_at_the_first_read() {
    let value = value_of(&[("a", "1")]);
    let mut watcher = value.watch();
    value.set("b", "2".to_owned());
    let first = watcher.get_backlog().now_or_never().expect("at once").expect("open");
    assert_eq!(shown(first), "a=1");
    // The first look was the barrier.
    value.set("a", "3".to_owned());
    value.set("c", "4".to_owned());
    assert_eq!(backlog(&mut watcher), ["b=2"]);
    assert_eq!(backlog(&mut watcher), [""; 0]);
    assert_eq!(all(&mut watcher), ["a=3", "c=4"]);
    value.set("d", "5".to_owned());
    assert_eq!(backlog(&mut watcher), [""; 0]);
    assert_eq!(all(&mut watcher), ["d=5"]);
}

#[test]
fn nodes_are_listed_and_then_their_changes_and_their_end_arrive() {
    let nodes = value_of(&[("node-1", "joining")]);
    let mut watcher = nodes.watch();
    assert_eq!(backlog(&mut watcher), ["node-1=joining"]);
    nodes.set("node-1", "up".to_owned());
    assert_eq!(all(&mut watcher), ["node-1=up"]);
    nodes.remove(&"node-1");
    assert_eq!(all(&mut watcher), ["node-1"]);
}

#[test]
fn only_the_range_is_watched() {
    let value = value_of(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let mut watcher = value.watch_range("b".."c");
    assert_eq!(all(&mut watcher), ["b=2"]);
    for key in ["a", "b", "c"] {
        value.remove(&key);
    }
    assert_eq!(all(&mut watcher), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_can_be_awaited_before_it_exists() {
    let value = value_of(&[]);
    let mut watcher = value.watch();
    assert!(timeout(Duration::from_secs(1), watcher.get()).await.is_err());
    let waiting = tokio::spawn(async move { watcher.get().await.map(shown) });
    tokio::time::sleep(Duration::from_secs(1)).await;
    value.set("a", "1".to_owned());
    assert_eq!(in_time(waiting).await.expect("the watcher"), Ok("a=1".to_owned()));
}

#[test]
fn a_key_that_keeps_changing_does_not_starve_others() {
    let value = value_of(&[("a", "1"), ("z", "1")]);
    let mut watcher = value.watch();
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(shown(now(&mut watcher).expect("at once").expect("open")));
        value.set("a", "again".to_owned());
    }
    assert_eq!(seen, ["a=1", "z=1", "a=again", "a=again"]);
}

#[test]
fn dropping_the_map_closes_its_watchers_after_the_last_changes() {
    let value = value_of(&[("a", "1")]);
    let mut watcher = value.watch();
    assert_eq!(shown(now(&mut watcher).expect("at once").expect("open")), "a=1");
    value.set("b", "2".to_owned());
    let mut late = value.watch();
    drop(value);
    assert_eq!(shown(now(&mut watcher).expect("at once").expect("open")), "b=2");
    assert_eq!(now(&mut watcher), Some(Err(GetError::Closed)));
    assert_eq!(backlog(&mut late), ["a=1", "b=2"]);
    assert_eq!(now(&mut late), Some(Err(GetError::Closed)));
}

/// Sets happen at any moment of a watcher's first load, and none is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_falls_between_loading_and_watching() {
    for _ in 0..200 {
        let value = std::sync::Arc::new(value_of(&[]));
        let writer = std::sync::Arc::clone(&value);
        let writing = tokio::spawn(async move {
            for i in 1..=50 {
                writer.set("k", i.to_string());
            }
        });
        let mut watcher = value.watch();
        let last =
            async { while in_time(watcher.get()).await.expect("open").value.as_deref() != Some("50") {} };
        last.await;
        writing.await.expect("the writer");
    }
}
