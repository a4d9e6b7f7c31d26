//! What a request may cost: the bytes of answers, the operations of transactions, and messages that do not end.

use bytes::Bytes;
use tonic::Code;

use crate::client::Client;
use crate::etcd::kv::{
    Compare, CompareResult, CompareTarget, CompareWith, DeleteRangeRequest, PutRequest, RangeRequest,
    RequestOp, RequestOpUnion, TxnRequest, TxnResponse,
};
use crate::etcd::watch::WatchCreateRequest;
use crate::gateway::http;
use crate::servers::{Front, all_keys, client_of};
use crate::support::etcd::Etcd;
use crate::support::{eventually, in_time};

fn put(key: &str, value: Vec<u8>) -> RequestOp {
    let put = PutRequest { key: key.to_owned().into(), value: value.into(), ..PutRequest::default() };
    RequestOp { request: Some(RequestOpUnion::Put(put)) }
}

fn range() -> RequestOp {
    RequestOp { request: Some(RequestOpUnion::Range(all_keys())) }
}

fn txn(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { success, ..TxnRequest::default() }
}

/// Fills the store with 2 MiB.
async fn fill(client: &Client) {
    for key in 0..32 {
        client.txn(txn(vec![put(&format!("key/{key}"), vec![7; 64 << 10])])).await.unwrap();
    }
}

async fn count(client: &Client) -> i64 {
    client.range(RangeRequest { count_only: true, ..all_keys() }).await.unwrap().count
}

/// Transactions whose answers would have the whole state many times.
async fn many_times_the_state_is_refused(client: &Client) {
    fill(client).await;
    assert_eq!(client.range(all_keys()).await.unwrap().kvs.len(), 32);
    let once: TxnResponse = client.txn(txn(vec![range()])).await.unwrap();
    assert_eq!(once.responses.len(), 1);
    let refused = client.txn(txn(vec![range(); 100])).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let with_a_write = txn([vec![range(); 100], vec![put("new", vec![1])]].concat());
    let refused = client.txn(with_a_write).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(count(client).await, 32, "what is refused is not done");
    let zero = Bytes::from_static(&[0]);
    let delete = DeleteRangeRequest { key: zero.clone(), range_end: zero, prev_kv: true };
    assert_eq!(client.delete_range(delete).await.unwrap().prev_kvs.len(), 32);
    assert_eq!(count(client).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_would_answer_many_times_the_state_is_refused() {
    let budget = ["--max-snapshot-bytes", "16MiB"];
    many_times_the_state_is_refused(&Front::start("push:", &budget).ready().await).await;
    let etcd = Etcd::start().await;
    let feed = format!("etcd://{}/?write=true", etcd.endpoint());
    many_times_the_state_is_refused(&Front::start(&feed, &budget).ready().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_goes_through_a_million_keys_at_most() {
    const KEYS: usize = 12_800;
    let front = Front::start("push:", &[]);
    let client = front.ready().await;
    for first in (0..KEYS).step_by(128) {
        let puts = (first..first + 128).map(|key| put(&format!("key/{key:05}"), vec![7])).collect();
        client.txn(txn(puts)).await.unwrap();
    }
    // Every key was written.
    let zero = Bytes::from_static(&[0]);
    let compare = Compare {
        result: CompareResult::Greater as i32,
        target: CompareTarget::Version as i32,
        key: zero.clone(),
        range_end: zero,
        with: Some(CompareWith::Version(0)),
    };
    let times =
        |times| TxnRequest { compare: vec![compare.clone(); times], ..txn(vec![put("new", vec![1])]) };
    // A million, and all keys twice more, are 80 times all keys.
    let refused = client.txn(times(81)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_eq!(count(&client).await, KEYS as i64, "what is refused is not done");
    assert!(client.txn(times(80)).await.unwrap().succeeded);
    assert_eq!(count(&client).await, KEYS as i64 + 1);
}

/// A transaction with transactions in it, so deep, and so many operations in each.
fn nested(depth: usize, operations: usize) -> TxnRequest {
    let read = RangeRequest { key: "absent".into(), ..RangeRequest::default() };
    let read = RequestOp { request: Some(RequestOpUnion::Range(read)) };
    let mut nested = txn(vec![read.clone(); operations]);
    for _ in 0..depth {
        let inside = RequestOp { request: Some(RequestOpUnion::Txn(nested)) };
        nested = txn([vec![inside], vec![read.clone(); operations - 1]].concat());
    }
    nested
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_has_as_many_operations_as_in_etcd() {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    let front = Front::start(&format!("etcd://{}/", etcd.endpoint()), &[]);
    let ours = front.ready().await;
    for (depth, operations) in [(0, 128), (0, 129), (1, 64), (1, 65), (3, 32), (3, 33), (12, 2)] {
        let code = async |client: &Client| {
            client.txn(nested(depth, operations)).await.map_or_else(|refused| refused.code(), |_| Code::Ok)
        };
        assert_eq!(code(&ours).await, code(&theirs).await, "{operations} in each of {}", depth + 1);
    }
    // etcd has no limit for all of them.
    let inside = RequestOp { request: Some(RequestOpUnion::Txn(nested(0, 60))) };
    let refused = ours.txn(txn(vec![inside; 60])).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: too many operations in txn request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_does_not_end_is_refused_after_a_while() {
    let front = Front::start("push:", &["--stall-timeout", "1s"]);
    front.ready().await;
    let tcp = tokio::net::TcpStream::connect(&front.address).await.unwrap();
    let (requests, connection) = h2::client::handshake(tcp).await.unwrap();
    let connection = tokio::spawn(connection);
    let uri = format!("http://{}/etcdserverpb.KV/Range", front.address);
    let request =
        axum::http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    let mut ready = requests.ready().await.unwrap();
    let (answer, mut body) = ready.send_request(request.body(()).unwrap(), false).unwrap();
    // A message of 100 bytes, of which 3 come.
    body.send_data(Bytes::from_static(&[0, 0, 0, 0, 100, 1, 2, 3]), false).unwrap();
    let answer = in_time("an answer", answer).await.unwrap();
    let status = match answer.headers().get("grpc-status") {
        Some(status) => status.clone(),
        None => {
            in_time("the end", answer.into_body().trailers()).await.unwrap().unwrap()["grpc-status"].clone()
        }
    };
    assert_eq!(status, "4", "DEADLINE_EXCEEDED");
    connection.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_a_share_of_streams() {
    let front = Front::start("push:", &["--max-client-streams", "2"]);
    let client = front.ready().await;
    let watch = || WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    let mut held = [client.watch(watch()).await.unwrap(), client.watch(watch()).await.unwrap()];
    for watches in &mut held {
        // Watches of one stream are one.
        watches.create(watch());
        assert!(watches.next().await.unwrap().created && watches.next().await.unwrap().created);
    }
    let refused = client.watch(watch()).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("(--max-client-streams)"), "{refused:?}");
    client.range(all_keys()).await.unwrap();
    let [one, _two] = held;
    drop(one);
    eventually("room for a stream", || async { client.watch(watch()).await.ok() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_a_rate() {
    // Nothing comes back while the test runs.
    let front = Front::start("push:", &["--max-client-rate", "20/h"]);
    let client = front.ready().await;
    let refused = eventually("the end of the burst", || async { client.range(all_keys()).await.err() }).await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("(--max-client-rate)"), "{refused:?}");
    let refused = client.watch(WatchCreateRequest::default()).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let json = http();
    let range = json.post(format!("http://{}/v3/kv/range", front.address)).body("{\"key\":\"YQ==\"}");
    let refused = in_time("an answer", range.send()).await.unwrap();
    assert_eq!(refused.status().as_u16(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    // The other port counts the same address, and health counts nowhere.
    front.daemon.http().get("/v1/kv/a").await.problem(429);
    for _ in 0..20 {
        let health = json.get(format!("http://{}/health", front.address)).send();
        assert_eq!(in_time("health", health).await.unwrap().status().as_u16(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_without_room_is_refused_as_etcd_refuses_one_and_not_done() {
    let front = Front::start("push:", &["--max-keys", "2"]);
    let client = front.ready().await;
    client.txn(txn(vec![put("a", vec![1]), put("b", vec![1])])).await.unwrap();
    let refused = client.put(PutRequest { key: "c".into(), ..PutRequest::default() }).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let message = refused.message();
    assert!(message.starts_with("etcdserver: mvcc: database space exceeded"), "{message}");
    assert!(message.contains("(--max-keys)"), "{message}");
    assert_eq!(count(&client).await, 2);
    client.put(PutRequest { key: "a".into(), value: "2".into(), ..PutRequest::default() }).await.unwrap();
    client
        .delete_range(DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() })
        .await
        .unwrap();
    client.put(PutRequest { key: "c".into(), ..PutRequest::default() }).await.unwrap();
    assert_eq!(count(&client).await, 2);
}
