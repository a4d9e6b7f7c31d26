//! etcd is killed and compacted while clients watch through the daemon: no event is lost, told twice, or out of
//! order.

use std::collections::HashMap;

use tonic::Code;

use crate::client::Client;
use crate::etcd::kv::{CompactionRequest, PutRequest};
use crate::etcd::watch::WatchCreateRequest;
use crate::servers::{Front, all_keys, client_of};
use crate::support::etcd::Etcd;
use crate::support::eventually;

const KEYS: usize = 5;

/// Sets the keys in turn, each to the number of its write, and gives the revision of each write.
async fn write(client: &Client, numbers: &mut HashMap<String, u64>, writes: usize) -> i64 {
    let mut last = 0;
    for n in 0..writes {
        let key = format!("k/{}", n % KEYS);
        let number = numbers.entry(key.clone()).or_default();
        *number += 1;
        let put = PutRequest { key: key.into(), value: number.to_string().into(), ..PutRequest::default() };
        let put = eventually("etcd takes a write", || async { client.put(put.clone()).await.ok() }).await;
        last = put.header.unwrap().revision;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_through_restarts_and_compactions_of_etcd() {
    let mut etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let front = Front::start(&format!("etcd://{}/", etcd.endpoint()), &[]);
    let ours = front.ready().await;
    let everything =
        WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), ..WatchCreateRequest::default() };
    let mut watches = ours.watch(everything).await.unwrap();
    assert!(watches.next().await.unwrap().created);
    let mut numbers = HashMap::new();
    let mut last = 0;
    for round in 0..4 {
        last = write(&theirs, &mut numbers, 40).await;
        if round % 2 == 0 {
            // The daemon has everything, so nothing is lost by this.
            eventually("the daemon has read it", || async { ours.range(all_keys()).await.ok() }).await;
            theirs.compact(CompactionRequest { revision: last, physical: true }).await.unwrap();
        }
        etcd.kill();
        etcd.run();
        etcd.answers().await;
    }
    let (mut seen, mut at) = (HashMap::<String, u64>::new(), 0);
    while at < last {
        let response = watches.next().await.unwrap();
        assert!(!response.canceled, "{response:?}");
        for event in response.events {
            let kv = event.kv.unwrap();
            assert!(kv.mod_revision > at, "in order: {} after {at}", kv.mod_revision);
            at = kv.mod_revision;
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            let number: u64 = std::str::from_utf8(&kv.value).unwrap().parse().unwrap();
            let before = seen.insert(key.clone(), number).unwrap_or(0);
            // A write that etcd did and did not answer was made again with the same number.
            assert!([before, before + 1].contains(&number), "{key}: {number} after {before}");
        }
    }
    assert_eq!(seen, numbers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_etcd_does_not_answer_says_what_is_known_of_it_and_why() {
    let etcd = Etcd::start().await;
    let front = Front::start(&format!("etcd://{}/?write=true", etcd.endpoint()), &[]);
    let ours = front.ready().await;
    let put = || PutRequest { key: "a".into(), ..PutRequest::default() };
    ours.put(put()).await.unwrap();
    etcd.pause();
    let unknown = ours.put(put()).await.unwrap_err();
    let text = unknown.message();
    assert!([Code::Unknown, Code::DeadlineExceeded].contains(&unknown.code()), "{unknown:?}");
    let why =
        text.strip_prefix("crumbd: etcd may or may not have done it: ").unwrap_or_else(|| panic!("{text}"));
    assert!(!["http2 error", "transport error"].contains(&why), "{text}");
    drop(etcd);
    let not_done = eventually("a refusal", || async {
        let refused = ours.put(put()).await.unwrap_err();
        refused.message().starts_with("crumbd: etcd has not done it: ").then_some(refused)
    });
    let not_done = not_done.await;
    assert_eq!(not_done.code(), Code::Unavailable);
    assert!(!not_done.message().ends_with("transport error"), "{not_done:?}");
}
