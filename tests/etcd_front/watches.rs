//! Watches: what etcd tells, the daemon tells.

use crate::client::{Client, Watches};
use crate::etcd::kv::{Event, EventType};
use crate::etcd::watch::{FilterType, WatchCreateRequest, WatchRequestUnion, WatchResponse};
use crate::history::{self, Random};
use crate::servers::{Front, all_keys, client_of};
use crate::support::etcd::Etcd;

const WATCHES: usize = 500;

/// Every event from a revision on up to another.
pub async fn recorded(client: &Client, from: i64, to: i64) -> Vec<Event> {
    let zero = bytes::Bytes::from_static(&[0]);
    let (key, range_end) = (zero.clone(), zero);
    let create = WatchCreateRequest {
        key,
        range_end,
        start_revision: from,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let mut watches = client.watch(create).await.unwrap();
    let mut events: Vec<Event> = Vec::new();
    while events.last().is_none_or(|event| event.kv.as_ref().unwrap().mod_revision < to) {
        events.extend(watches.next().await.unwrap().events);
    }
    events
}

pub fn create(random: &mut Random, oldest: i64, newest: i64) -> WatchCreateRequest {
    let (key, range_end) = loop {
        let (key, range_end) = random.range();
        if range_end.is_empty() || range_end[..] == [0] || key < range_end {
            break (key, range_end);
        }
    };
    let mut filters = Vec::new();
    if random.one_in(5) {
        filters.push(FilterType::Noput as i32);
    }
    if random.one_in(5) {
        filters.push(FilterType::Nodelete as i32);
    }
    WatchCreateRequest {
        key,
        range_end,
        start_revision: oldest + random.below((newest - oldest) as usize) as i64,
        prev_kv: random.one_in(2),
        fragment: random.one_in(2),
        filters,
        ..WatchCreateRequest::default()
    }
}

/// The events of a recorded history that a watch is told of.
pub fn expected(create: &WatchCreateRequest, history: &[Event]) -> Vec<Event> {
    let wanted = |event: &&Event| {
        let kv = event.kv.as_ref().unwrap();
        let in_range = match &create.range_end[..] {
            [] => kv.key == create.key,
            [0] => kv.key >= create.key,
            end => kv.key >= create.key && kv.key[..] < *end,
        };
        let filter =
            if event.kind == EventType::Put as i32 { FilterType::Noput } else { FilterType::Nodelete };
        in_range && kv.mod_revision >= create.start_revision && !create.filters.contains(&(filter as i32))
    };
    let event = |event: &Event| match create.prev_kv {
        true => event.clone(),
        false => Event { prev_kv: None, ..event.clone() },
    };
    history.iter().filter(wanted).map(event).collect()
}

/// Reads this many events of a watch. One revision never comes in two messages.
async fn told(watches: &mut Watches, id: i64, count: usize) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while events.len() < count {
        let response = watches.next().await.unwrap();
        assert_eq!((response.watch_id, response.canceled), (id, false), "{response:?}");
        let revision = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
        if let (Some(last), Some(first)) = (events.last(), response.events.first()) {
            assert!(revision(last) < revision(first), "in order, and no revision is split: {response:?}");
        }
        let header = response.header.unwrap().revision;
        assert!(response.events.iter().all(|event| revision(event) <= header), "{response:?}");
        events.extend(response.events);
    }
    events
}

async fn created(watches: &mut Watches) -> WatchResponse {
    let response = watches.next().await.unwrap();
    assert!(response.created && !response.canceled && response.events.is_empty(), "{response:?}");
    response
}

async fn compare_random(seed: u64, more: &[&str]) {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let mut random = Random::new(seed);
    history::write(&theirs, &mut random, 50).await;
    let front = Front::start(&format!("etcd://{}/", etcd.endpoint()), more);
    let ours = front.ready().await;
    let oldest = ours.range(all_keys()).await.unwrap().header.unwrap().revision + 1;
    history::write(&theirs, &mut random, 500).await;
    let newest = theirs.range(all_keys()).await.unwrap().header.unwrap().revision;
    let history = recorded(&theirs, oldest, newest).await;
    assert_eq!(ours.range(all_keys()).await.unwrap().header.unwrap().revision, newest);
    for _ in 0..WATCHES {
        let create = create(&mut random, oldest, newest);
        let expected = expected(&create, &history);
        let mut of_etcd = theirs.watch(create.clone()).await.unwrap();
        let mut of_front = ours.watch(create.clone()).await.unwrap();
        let (theirs, ours) = (created(&mut of_etcd).await, created(&mut of_front).await);
        assert_eq!(ours.watch_id, theirs.watch_id);
        assert_eq!(ours.header.unwrap().revision, theirs.header.unwrap().revision);
        assert_eq!(told(&mut of_etcd, theirs.watch_id, expected.len()).await, expected, "etcd: {create:?}");
        assert_eq!(told(&mut of_front, ours.watch_id, expected.len()).await, expected, "crumbd: {create:?}");
        // Nothing more comes before the answer to this.
        of_front.send(WatchRequestUnion::Progress(Default::default()));
        let progress = of_front.next().await.unwrap();
        assert!(progress.events.is_empty() && progress.watch_id == -1, "{progress:?}");
        assert_eq!(progress.header.unwrap().revision, newest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_told_what_etcd_tells() {
    compare_random(3, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_is_told_every_revision_of_breadcrumbs_with_many() {
    compare_random(4, &["--min-interval", "300ms"]).await;
}
