//! Writes through the daemon: what etcd would have answered, and readable at once.

use crate::etcd::kv::{KeyValue, RangeRequest};
use crate::history::{self, Random};
use crate::servers::{Front, all_keys, client_of};
use crate::support::etcd::Etcd;

/// The keys without their leases, whose numbers etcd chooses.
async fn keys_of(client: &crate::client::Client) -> (i64, Vec<KeyValue>) {
    let answer = client.range(all_keys()).await.unwrap();
    let keys = answer.kvs.into_iter().map(|kv| KeyValue { lease: 0, ..kv });
    (answer.header.unwrap().revision, keys.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_writes_lead_to_the_same_store() {
    let (direct, behind) = (Etcd::start().await, Etcd::start().await);
    let front = Front::start(&format!("etcd://{}/?write=true", behind.endpoint()), &[]);
    let ours = front.ready().await;
    let theirs = client_of(&direct);
    for seed in 0..3 {
        history::write(&theirs, &mut Random::new(seed), 100).await;
        history::write(&ours, &mut Random::new(seed), 100).await;
        assert_eq!(keys_of(&ours).await, keys_of(&theirs).await);
        assert_eq!(keys_of(&ours).await, keys_of(&client_of(&behind)).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_answered_once_it_can_be_read_here() {
    let etcd = Etcd::start().await;
    let front = Front::start(&format!("etcd://{}/a/?write=true", etcd.endpoint()), &[]);
    let ours = front.ready().await;
    let put = |key: &str, value: String| crate::etcd::kv::PutRequest {
        key: key.to_owned().into(),
        value: value.into(),
        ..Default::default()
    };
    for n in 0..50 {
        // Keys outside of the prefix move the store on.
        client_of(&etcd).put(put("other", n.to_string())).await.unwrap();
        ours.put(put("a/k", n.to_string())).await.unwrap();
        let read = RangeRequest { key: "a/k".into(), serializable: true, ..RangeRequest::default() };
        assert_eq!(ours.range(read).await.unwrap().kvs[0].value, n.to_string());
    }
    let outside = ours.put(put("b/k", String::new())).await.unwrap_err();
    assert_eq!(outside.code(), tonic::Code::PermissionDenied);
    // A linearizable read of a prefix that does not change waits for the store's revision.
    let store = client_of(&etcd).put(put("other", "last".to_owned())).await.unwrap().header.unwrap().revision;
    let read = RangeRequest { key: "a/k".into(), ..RangeRequest::default() };
    assert!(ours.range(read).await.unwrap().header.unwrap().revision >= store);
}
