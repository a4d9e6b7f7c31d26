//! A source that hangs, loses its position, and recovers.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

use super::super::{RangeSource, RangedWatcher, SourceEvent};
use super::*;

type Event = SourceEvent<&'static str, u32>;

/// A source that is controlled by a [`Script`].
struct Scripted {
    state: Arc<Mutex<Vec<(&'static str, u32)>>>,
    /// Each load takes one permit.
    loads: Arc<Semaphore>,
    events: mpsc::UnboundedReceiver<Event>,
}

struct Script {
    state: Arc<Mutex<Vec<(&'static str, u32)>>>,
    loads: Arc<Semaphore>,
    events: mpsc::UnboundedSender<Event>,
}

impl Script {
    fn changed(&self, key: &'static str, value: Option<u32>) {
        self.send(SourceEvent::Changed(vec![KeyChange { key, value }]));
    }

    fn lost_and_now(&self, state: &[(&'static str, u32)]) {
        *self.state.lock() = state.to_vec();
        self.send(SourceEvent::Lost);
    }

    fn send(&self, event: Event) {
        self.events.send(event).expect("the source is there");
    }
}

fn scripted(state: &[(&'static str, u32)]) -> (Script, RangedWatcher<Scripted>) {
    let state = Arc::new(Mutex::new(state.to_vec()));
    let loads = Arc::new(Semaphore::new(0));
    let (events, from) = mpsc::unbounded_channel();
    let source = Scripted { state: Arc::clone(&state), loads: Arc::clone(&loads), events: from };
    (Script { state, loads, events }, RangedWatcher::new(source))
}

impl RangeSource for Scripted {
    type Key = &'static str;
    type Value = u32;

    async fn load(&mut self) -> Result<Vec<(&'static str, u32)>, GetError> {
        self.loads.acquire().await.map_err(|_| GetError::Closed)?.forget();
        Ok(self.state.lock().clone())
    }

    async fn next(&mut self) -> Result<Event, GetError> {
        self.events.recv().await.ok_or(GetError::Closed)
    }

    fn next_no_block(&mut self) -> Result<Option<Event>, GetError> {
        match self.events.try_recv() {
            Ok(event) => Ok(Some(event)),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(GetError::Closed),
        }
    }
}

fn all(watcher: &mut RangedWatcher<Scripted>) -> Vec<String> {
    std::iter::from_fn(|| now(watcher)).map(|change| shown(change.expect("open"))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_get_can_be_cancelled_while_the_first_load_hangs() {
    let (script, mut watcher) = scripted(&[("a", 1)]);
    assert!(timeout(Duration::from_secs(1), watcher.get()).await.is_err());
    assert!(timeout(Duration::from_secs(1), watcher.get_backlog()).await.is_err());
    script.loads.add_permits(1);
    assert_eq!(watcher.get_backlog().await.map(shown), Ok("a=1".to_owned()));
    assert_eq!(watcher.get_backlog().await, Err(GetError::BacklogDone));
}

#[tokio::test(start_paused = true)]
async fn deletions_in_a_gap_are_yielded_after_it() {
    let (script, mut watcher) = scripted(&[("a", 1), ("b", 2), ("c", 3)]);
    script.loads.add_permits(1);
    assert_eq!(all(&mut watcher), ["a=1", "b=2", "c=3"]);
    script.changed("d", Some(4));
    script.lost_and_now(&[("b", 20), ("e", 5)]);
    assert!(all(&mut watcher).is_empty(), "the source is away");
    script.loads.add_permits(1);
    let mut seen = all(&mut watcher);
    seen.sort_unstable();
    assert_eq!(seen, ["a", "b=20", "c", "e=5"], "d was never yielded, so its deletion is not either");
    script.changed("b", None);
    assert_eq!(all(&mut watcher), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_load_is_repeated() {
    let (script, mut watcher) = scripted(&[("a", 1)]);
    script.loads.add_permits(1);
    assert_eq!(all(&mut watcher), ["a=1"]);
    script.lost_and_now(&[]);
    for _ in 0..3 {
        assert!(timeout(Duration::from_secs(1), watcher.get()).await.is_err());
    }
    script.loads.add_permits(1);
    assert_eq!(all(&mut watcher), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_disconnected_watcher_catches_up_and_others_do_not_notice() {
    let (cut_off, mut watcher) = scripted(&[("k", 1)]);
    let (connected, mut other) = scripted(&[("k", 1)]);
    for (script, watcher) in [(&cut_off, &mut watcher), (&connected, &mut other)] {
        script.loads.add_permits(1);
        assert_eq!(all(watcher), ["k=1"]);
    }
    cut_off.lost_and_now(&[("k", 2)]);
    connected.changed("k", Some(2));
    assert_eq!(all(&mut other), ["k=2"]);
    assert!(timeout(Duration::from_millis(100), watcher.get()).await.is_err());
    cut_off.loads.add_permits(1);
    assert_eq!(all(&mut watcher), ["k=2"]);
    for (script, watcher) in [(&cut_off, &mut watcher), (&connected, &mut other)] {
        script.changed("k", Some(3));
        assert_eq!(all(watcher), ["k=3"]);
    }
}

#[tokio::test(start_paused = true)]
async fn pending_changes_are_yielded_before_the_end_of_the_source() {
    let (script, mut watcher) = scripted(&[("a", 1)]);
    script.loads.add_permits(1);
    assert_eq!(now(&mut watcher).map(|change| change.map(shown)), Some(Ok("a=1".to_owned())));
    script.changed("a", Some(2));
    script.changed("b", Some(3));
    drop(script);
    assert_eq!(watcher.get().await.map(shown), Ok("a=2".to_owned()));
    assert_eq!(watcher.get().await.map(shown), Ok("b=3".to_owned()));
    for _ in 0..2 {
        assert_eq!(watcher.get().await, Err(GetError::Closed));
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_source_does_not_starve_the_consumer() {
    struct Endless;
    impl RangeSource for Endless {
        type Key = u32;
        type Value = u32;

        async fn load(&mut self) -> Result<Vec<(u32, u32)>, GetError> {
            Ok(Vec::new())
        }

        async fn next(&mut self) -> Result<SourceEvent<u32, u32>, GetError> {
            Ok(SourceEvent::Changed(vec![KeyChange { key: 1, value: Some(1) }]))
        }

        fn next_no_block(&mut self) -> Result<Option<SourceEvent<u32, u32>>, GetError> {
            Ok(Some(SourceEvent::Changed(vec![KeyChange { key: 1, value: Some(1) }])))
        }
    }
    let mut watcher = RangedWatcher::new(Endless);
    for _ in 0..10 {
        assert_eq!(now(&mut watcher), Some(Ok(KeyChange { key: 1, value: Some(1) })));
    }
}
