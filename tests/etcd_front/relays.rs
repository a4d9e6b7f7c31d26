//! Watches behind a relay of a daemon that serves etcd's clients itself.

use crate::client::{Client, Watches};
use crate::etcd::kv::{Event, PutRequest};
use crate::etcd::watch::WatchCreateRequest;
use crate::history::{self, Random};
use crate::servers::{Front, all_keys, client_of};
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::watches::recorded;

async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let put =
        PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
    client.put(put).await.unwrap().header.unwrap().revision
}

fn everything(start_revision: i64) -> WatchCreateRequest {
    let zero = bytes::Bytes::from_static(&[0]);
    WatchCreateRequest { key: zero.clone(), range_end: zero, start_revision, ..WatchCreateRequest::default() }
}

/// What a relay knows of events, and the order in which it tells them: it counts the writes of a key, and its creation, itself,
/// and the events of one revision come in another order.
fn known(events: &[Event]) -> Vec<(i64, Vec<u8>, i32, Vec<u8>)> {
    let known = |event: &Event| {
        let kv = event.kv.as_ref().unwrap();
        (kv.mod_revision, kv.key.to_vec(), event.kind, kv.value.to_vec())
    };
    let mut known: Vec<_> = events.iter().map(known).collect();
    assert!(known.is_sorted_by_key(|event| event.0), "{known:?}");
    known.sort();
    known
}

/// Reads up to this revision, or until the watch ends, and gives the revision at which it may begin again.
async fn told(watches: &mut Watches, events: &mut Vec<Event>, to: i64) -> Option<i64> {
    while events.last().is_none_or(|event| event.kv.as_ref().unwrap().mod_revision < to) {
        let response = watches.next().await.unwrap();
        if response.canceled {
            assert!(response.compact_revision > 0, "{response:?}");
            return Some(response.compact_revision);
        }
        events.extend(response.events);
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_behind_a_relay_is_told_of_every_write_or_ends() {
    let etcd = Etcd::start().await;
    let direct = client_of(&etcd);
    let root = Front::start(&format!("etcd://{}/", etcd.endpoint()), &[]);
    root.ready().await;
    let relay = Front::start(&format!("crumbd://{}/", root.daemon.address()), &[]);
    let ours = relay.ready().await;
    let began = put(&direct, "k", "0").await;
    let read = || async {
        let newest = ours.range(all_keys()).await.ok()?.header?.revision;
        (newest >= began).then_some(())
    };
    eventually("the relay to have it", read).await;
    let mut watches = ours.watch(everything(0)).await.unwrap();
    assert!(watches.next().await.unwrap().created);
    // One after the other: each is a breadcrumb. The value that a key has is put again, too.
    let mut events = Vec::new();
    for value in ["0", "0", "1", "0", "0", "0"] {
        let revision = put(&direct, "k", value).await;
        assert_eq!(told(&mut watches, &mut events, revision).await, None);
    }
    // Many at once: what a breadcrumb of the root joins is not known here.
    history::write(&direct, &mut Random::new(5), 200).await;
    let newest = put(&direct, "last", "1").await;
    let ended = told(&mut watches, &mut events, newest).await;
    let (history, seen) = (known(&recorded(&direct, began + 1, newest).await), known(&events));
    assert_eq!(seen, history[..seen.len()], "nothing is left out before the end");
    assert_eq!(ended.is_none(), seen.len() == history.len());
    let kv = ours.range(all_keys()).await.unwrap().kvs.into_iter().find(|kv| kv.key == "k").unwrap();
    let of_etcd = direct.range(all_keys()).await.unwrap().kvs.into_iter().find(|kv| kv.key == "k").unwrap();
    assert_eq!(kv.mod_revision, of_etcd.mod_revision);
}
