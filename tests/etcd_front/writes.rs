//! Writes through the daemon: what etcd would have answered, and readable at once.

use bytes::Bytes;

use crate::etcd::ResponseHeader;
use crate::etcd::kv::{
    Compare, CompareTarget, CompareWith, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp,
    RequestOpUnion, ResponseOpUnion, TxnRequest, TxnResponse,
};
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
    assert_eq!(front.daemon.http().get("/readyz?wait=20s").await.status, 200);
    let ours = front.client();
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

/// A transaction of up to four operations, some nested, whose comparisons name no revision.
fn random_txn(random: &mut Random, depth: usize) -> TxnRequest {
    let compare = |random: &mut Random| Compare {
        result: random.below(4) as i32,
        target: if random.one_in(2) { CompareTarget::Version } else { CompareTarget::Value } as i32,
        key: random.key(),
        with: Some(CompareWith::Version(random.below(3) as i64)),
        ..Compare::default()
    };
    let compare = |random: &mut Random| {
        let compare = compare(random);
        match compare.target == CompareTarget::Value as i32 {
            true => Compare { with: Some(CompareWith::Value(random.value())), ..compare },
            false => compare,
        }
    };
    let operation = |random: &mut Random| {
        let (key, range_end) = random.range();
        RequestOp {
            request: Some(match random.below(6) {
                0 | 1 => RequestOpUnion::Put(PutRequest {
                    key: random.key(),
                    value: random.value(),
                    prev_kv: random.one_in(2),
                    ..PutRequest::default()
                }),
                // etcd does not notice that a range without an end has a key that is put, and ours refuses that.
                2 => RequestOpUnion::DeleteRange(DeleteRangeRequest {
                    range_end: if range_end > key { range_end } else { Bytes::new() },
                    key,
                    prev_kv: random.one_in(2),
                }),
                3 if depth < 2 => RequestOpUnion::Txn(random_txn(random, depth + 1)),
                _ => RequestOpUnion::Range(RangeRequest {
                    key,
                    range_end,
                    limit: random.below(4) as i64,
                    count_only: random.one_in(4),
                    ..RangeRequest::default()
                }),
            }),
        }
    };
    let branch = |random: &mut Random| (0..random.below(4)).map(|_| operation(random)).collect();
    TxnRequest {
        compare: (0..random.below(3)).map(|_| compare(random)).collect(),
        success: branch(random),
        failure: branch(random),
    }
}

/// The answer without who answered.
fn without_ids(mut answer: TxnResponse) -> TxnResponse {
    let strip = |header: &mut Option<ResponseHeader>| {
        let revision = header.map_or(0, |header| header.revision);
        *header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
    };
    strip(&mut answer.header);
    for response in &mut answer.responses {
        match response.response.as_mut().unwrap() {
            ResponseOpUnion::Range(range) => strip(&mut range.header),
            ResponseOpUnion::Put(put) => strip(&mut put.header),
            ResponseOpUnion::DeleteRange(delete) => strip(&mut delete.header),
            ResponseOpUnion::Txn(txn) => {
                let header = txn.header;
                *txn = TxnResponse { header, ..without_ids(txn.clone()) };
            }
        }
    }
    answer
}

type Outcome = Result<TxnResponse, (tonic::Code, String)>;

async fn outcome(client: &crate::client::Client, txn: &TxnRequest) -> Outcome {
    let answer = client.txn(txn.clone()).await;
    answer.map(without_ids).map_err(|status| (status.code(), status.message().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_its_own_does_transactions_as_etcd_does() {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let front = Front::start("push:", &[]);
    let ours = front.ready().await;
    let mut random = Random::new(11);
    for _ in 0..1500 {
        let txn = random_txn(&mut random, 0);
        let (theirs, ours) = (outcome(&theirs, &txn).await, outcome(&ours, &txn).await);
        assert_eq!(ours, theirs, "crumbd, then etcd: {txn:?}");
    }
    assert_eq!(keys_of(&ours).await, keys_of(&theirs).await);
}

fn op(request: RequestOpUnion) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put(key: &'static str, value: &'static str) -> RequestOp {
    op(RequestOpUnion::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }))
}

/// etcd compares everything before it writes anything, and checks both branches.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_in_another_one_compares_what_was_before() {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let front = Front::start("push:", &[]);
    let ours = front.ready().await;
    let value = |value: &'static str| Compare {
        target: CompareTarget::Value as i32,
        key: "k".into(),
        with: Some(CompareWith::Value(value.into())),
        ..Compare::default()
    };
    let version = |version| Compare {
        target: CompareTarget::Version as i32,
        key: "k".into(),
        with: Some(CompareWith::Version(version)),
        ..Compare::default()
    };
    let inside = |compare: Compare| {
        op(RequestOpUnion::Txn(TxnRequest {
            compare: vec![compare],
            success: vec![put("succeeded", "1")],
            failure: vec![put("failed", "1")],
        }))
    };
    let delete =
        || op(RequestOpUnion::DeleteRange(DeleteRangeRequest { key: "k".into(), ..Default::default() }));
    let keep_value = |value: &'static str, lease, ignore_lease| {
        let put =
            PutRequest { key: "k".into(), value: value.into(), lease, ignore_lease, ..Default::default() };
        op(RequestOpUnion::Put(PutRequest { ignore_value: !ignore_lease, ..put }))
    };
    let txn = |success| TxnRequest { success, ..TxnRequest::default() };
    for txn in [
        txn(vec![put("k", "old")]),
        txn(vec![put("k", "new"), inside(value("old"))]),
        txn(vec![put("k", "newer"), inside(value("newer"))]),
        txn(vec![delete(), inside(version(0))]),
        txn(vec![put("k", "1"), inside(version(0))]),
        // The branch that is not taken.
        TxnRequest { failure: vec![keep_value("value", 0, false)], ..TxnRequest::default() },
        TxnRequest { failure: vec![keep_value("", 5, true)], ..TxnRequest::default() },
        TxnRequest { failure: vec![put("", "no key")], ..TxnRequest::default() },
    ] {
        assert_eq!(outcome(&ours, &txn).await, outcome(&theirs, &txn).await, "crumbd, then etcd: {txn:?}");
    }
    assert_eq!(keys_of(&ours).await, keys_of(&theirs).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_with_unknown_numbers_is_refused_and_never_reaches_etcd() {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let through = Front::start(&format!("etcd://{}/?write=true", etcd.endpoint()), &[]);
    let own = Front::start("push:", &[]);
    let put = PutRequest { key: "k".into(), ..PutRequest::default() };
    let put = || RequestOp { request: Some(RequestOpUnion::Put(put.clone())) };
    let range = |sort_order, sort_target| {
        let range = RangeRequest {
            key: "k".into(),
            range_end: "z".into(),
            sort_order,
            sort_target,
            ..RangeRequest::default()
        };
        RequestOp { request: Some(RequestOpUnion::Range(range)) }
    };
    let compare = |result, target| Compare { result, target, key: "k".into(), ..Compare::default() };
    let txn = |compare, success, failure| TxnRequest { compare, success, failure };
    let poisons = [
        txn(vec![], vec![put(), range(1, 99)], vec![]),
        txn(vec![], vec![put()], vec![range(1, 99)]),
        txn(vec![], vec![put(), range(99, 0)], vec![]),
        txn(vec![compare(99, 0)], vec![put()], vec![]),
        txn(vec![compare(0, 99)], vec![put()], vec![]),
        txn(vec![compare(0, -1)], vec![range(0, 0)], vec![]),
    ];
    let nested = |inner: TxnRequest| RequestOp { request: Some(RequestOpUnion::Txn(inner)) };
    for client in [through.ready().await, own.ready().await] {
        for poison in &poisons {
            let inner = || vec![nested(poison.clone())];
            for poison in [poison.clone(), txn(vec![], inner(), vec![]), txn(vec![], vec![put()], inner())] {
                let refused = client.txn(poison.clone()).await.unwrap_err();
                assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?} of {poison:?}");
            }
        }
    }
    assert!(keys_of(&theirs).await.1.is_empty(), "etcd is there, and was told of none");
}
