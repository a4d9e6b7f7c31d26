//! Ranges: what etcd answers, the daemon answers.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tonic::Status;

use crate::client::Client;
use crate::etcd::kv::{KeyValue, RangeRequest, RangeResponse, SortOrder, SortTarget};
use crate::history::{self, Random};
use crate::servers::{Front, all_keys, client_of};
use crate::support::etcd::Etcd;

/// Random requests that are compared. CI compares with two versions of etcd, in two tests each: 100,000 altogether.
const REQUESTS: usize = 25_000;

/// Requests at a time.
const AT_A_TIME: usize = 64;

fn request(random: &mut Random, oldest: i64, newest: i64) -> RangeRequest {
    let (key, range_end) = if random.one_in(200) { (Bytes::new(), Bytes::new()) } else { random.range() };
    let some_revision = |random: &mut Random| oldest + random.below((newest - oldest + 3) as usize) as i64;
    let mut filter = || if random.one_in(8) { some_revision(random) } else { 0 };
    let (min_mod_revision, max_mod_revision) = (filter(), filter());
    let (min_create_revision, max_create_revision) = (filter(), filter());
    RangeRequest {
        key,
        range_end,
        limit: if random.one_in(2) { 0 } else { random.below(6) as i64 },
        revision: if random.one_in(2) { 0 } else { some_revision(random) },
        sort_order: if random.one_in(2) { 0 } else { random.below(3) as i32 },
        sort_target: if random.one_in(2) { 0 } else { random.below(5) as i32 },
        serializable: random.one_in(2),
        keys_only: random.one_in(4),
        count_only: random.one_in(8),
        min_mod_revision,
        max_mod_revision,
        min_create_revision,
        max_create_revision,
    }
}

/// What an answer is sorted by. Keys that are alike in it come in any order.
fn sorted_by(request: &RangeRequest, kv: &KeyValue) -> Vec<u8> {
    let number = |number: i64| number.to_be_bytes().to_vec();
    match SortTarget::try_from(request.sort_target).unwrap() {
        SortTarget::Key => kv.key.to_vec(),
        SortTarget::Version => number(kv.version),
        SortTarget::Create => number(kv.create_revision),
        SortTarget::Mod => number(kv.mod_revision),
        SortTarget::Value => kv.value.to_vec(),
    }
}

/// An answer without what may differ: who answered, and the order of what is alike.
fn comparable(
    request: &RangeRequest,
    answer: Result<RangeResponse, Status>,
) -> Result<(i64, Vec<KeyValue>, bool, i64), (tonic::Code, String)> {
    let answer = answer.map_err(|status| (status.code(), status.message().to_owned()))?;
    let mut kvs = answer.kvs;
    let is_cut = answer.more;
    if request.sort_order != SortOrder::None as i32 || request.sort_target != 0 {
        if is_cut || request.keys_only && request.sort_target == SortTarget::Value as i32 {
            // Which of those that are alike are left out is open, and with values left out the order is not to be seen.
            let of_order = |kv: &KeyValue| sorted_by(request, kv);
            let order: Vec<Vec<u8>> = kvs.iter().map(of_order).collect();
            kvs = order.into_iter().map(|key| KeyValue { key: key.into(), ..KeyValue::default() }).collect();
            if !is_cut {
                kvs.sort_by(|one, other| one.key.cmp(&other.key));
            }
        } else {
            let order: Vec<Vec<u8>> = kvs.iter().map(|kv| sorted_by(request, kv)).collect();
            let descends = request.sort_order == SortOrder::Descend as i32;
            assert!(
                order.is_sorted_by(|one, other| if descends { one >= other } else { one <= other }),
                "{request:?}"
            );
            kvs.sort_by(|one, other| one.key.cmp(&other.key));
        }
    }
    Ok((answer.header.unwrap().revision, kvs, answer.more, answer.count))
}

async fn compare(etcd: &Client, front: &Client, request: RangeRequest) {
    let (theirs, ours) = tokio::join!(etcd.range(request.clone()), front.range(request.clone()));
    let (theirs, ours) = (comparable(&request, theirs), comparable(&request, ours));
    assert_eq!(ours, theirs, "crumbd, then etcd, of {request:?}");
}

async fn compare_random(seed: u64, coalescing: &[&str]) {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let mut random = Random::new(seed);
    history::write(&theirs, &mut random, 50).await;
    let oldest = theirs.range(all_keys()).await.unwrap().header.unwrap().revision;
    let front = Front::start(&format!("etcd://{}/", etcd.endpoint()), coalescing);
    let ours = front.ready().await;
    ours.range(all_keys()).await.unwrap();
    history::write(&theirs, &mut random, 600).await;
    let newest = theirs.range(all_keys()).await.unwrap().header.unwrap().revision;
    assert_eq!(ours.range(all_keys()).await.unwrap().header.unwrap().revision, newest, "linearizable");
    let random = Arc::new(std::sync::Mutex::new(random));
    let one = |_| {
        let request = request(&mut random.lock().unwrap(), oldest, newest);
        compare(&theirs, &ours, request)
    };
    futures_util::stream::iter(0..REQUESTS).map(one).buffer_unordered(AT_A_TIME).collect::<Vec<()>>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_answered_as_etcd_answers_them() {
    compare_random(1, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_inside_breadcrumbs_of_many_revisions_are_answered_as_etcd_answers_them() {
    compare_random(2, &["--min-interval", "300ms"]).await;
}
