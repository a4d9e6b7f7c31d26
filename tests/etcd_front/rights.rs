//! Tokens and the prefix of a feed, where keys hang together: leases, sizes, and streams that outlive a token.

use bytes::Bytes;
use tonic::{Code, Status};

use crate::client::Client;
use crate::etcd::kv::{PutRequest, RequestOp, RequestOpUnion, TxnRequest};
use crate::etcd::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use crate::etcd::maintenance::{StatusRequest, StatusResponse};
use crate::etcd::watch::WatchCreateRequest;
use crate::servers::{Front, all_keys, client_of};
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::tokens::{Token, TokenFile};

const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");

async fn grant(client: &Client, id: i64) {
    let grant = LeaseGrantRequest { id, ttl: 600 };
    let _: LeaseGrantResponse = client.call("/etcdserverpb.Lease/LeaseGrant", grant).await.unwrap();
}

async fn keys_of(client: &Client, id: i64) -> Result<Vec<Bytes>, Status> {
    let list = LeaseTimeToLiveRequest { id, keys: true };
    let listed: LeaseTimeToLiveResponse = client.call("/etcdserverpb.Lease/LeaseTimeToLive", list).await?;
    Ok(listed.keys)
}

async fn revoke(client: &Client, id: i64) -> Result<LeaseRevokeResponse, Status> {
    client.call("/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequest { id }).await
}

fn put(key: &str, lease: i64) -> PutRequest {
    PutRequest { key: key.to_owned().into(), lease, ..PutRequest::default() }
}

fn txn(success: RequestOpUnion) -> TxnRequest {
    TxnRequest { success: vec![RequestOp { request: Some(success) }], ..TxnRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_attached_to_a_lease_by_who_may_write_all_its_keys() {
    let etcd = Etcd::start().await;
    let mut tokens = TokenFile::new();
    let app = tokens.add(&["app/"], &["app/"]).text;
    let all = tokens.add(&[""], &[""]).text;
    let writer = tokens.add(&[], &["app/"]).text;
    tokens.save();
    let feed = format!("etcd://{}/?write=true", etcd.endpoint());
    let front = Front::start(&feed, &["--tokens", tokens.path()]);
    let writer = front.client().with_token(&writer);
    let (app, all) = (front.client().with_token(&app), front.client().with_token(&all));
    let theirs = client_of(&etcd);
    grant(&theirs, 5).await;
    grant(&theirs, 6).await;
    theirs.put(put("app/1", 5)).await.unwrap();
    theirs.put(put("other/1", 6)).await.unwrap();

    app.put(put("app/2", 5)).await.unwrap();
    let inner = RequestOpUnion::Txn(txn(RequestOpUnion::Put(put("app/3", 6))));
    let unmet = TxnRequest {
        failure: txn(RequestOpUnion::Put(put("app/3", 6))).success,
        ..txn(RequestOpUnion::Put(put("app/3", 5)))
    };
    let refused = [
        app.put(put("app/3", 6)).await.map(|_| ()),
        app.txn(txn(RequestOpUnion::Put(put("app/3", 6)))).await.map(|_| ()),
        app.txn(txn(inner)).await.map(|_| ()),
        app.txn(unmet).await.map(|_| ()),
    ];
    for refused in refused {
        let refused = refused.unwrap_err();
        assert_eq!((refused.code(), refused.message()), DENIED);
    }
    let unknown = app.put(put("app/3", 99)).await.unwrap_err();
    assert_eq!(unknown.message(), "etcdserver: requested lease not found");
    all.put(put("app/4", 6)).await.unwrap();
    // Without the keys, the time is for everybody who may write.
    let time = LeaseTimeToLiveRequest { id: 6, keys: false };
    let time: Result<LeaseTimeToLiveResponse, _> =
        writer.call("/etcdserverpb.Lease/LeaseTimeToLive", time).await;
    assert_eq!(time.unwrap().granted_ttl, 600);
    assert_eq!(keys_of(&writer, 6).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(keys_of(&theirs, 5).await.unwrap().len(), 2);
    assert_eq!(keys_of(&theirs, 6).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_with_keys_outside_of_the_feeds_prefix_is_not_shown_and_not_revoked() {
    let etcd = Etcd::start().await;
    let theirs = client_of(&etcd);
    grant(&theirs, 5).await;
    grant(&theirs, 6).await;
    theirs.put(put("a/1", 5)).await.unwrap();
    theirs.put(put("b/1", 6)).await.unwrap();
    let front = Front::start(&format!("etcd://{}/a/?write=true", etcd.endpoint()), &[]);
    assert_eq!(front.daemon.http().get("/readyz?wait=20s").await.status, 200);
    let ours = front.client();
    assert_eq!(keys_of(&ours, 5).await.unwrap(), ["a/1"]);
    for refused in [keys_of(&ours, 6).await.unwrap_err(), revoke(&ours, 6).await.unwrap_err()] {
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("only those that begin with \"a/\""), "{refused:?}");
    }
    revoke(&ours, 5).await.unwrap();
    let left: Vec<_> = theirs.range(all_keys()).await.unwrap().kvs.into_iter().map(|kv| kv.key).collect();
    assert_eq!(left, ["b/1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_the_store_is_for_who_may_read_all_of_it() {
    let mut tokens = TokenFile::new();
    let app = tokens.add(&["app/"], &["app/"]).text;
    let all = tokens.add(&[""], &[""]).text;
    tokens.save();
    let front = Front::start("push:", &["--tokens", tokens.path()]);
    let size = async |token: &str| {
        let client = front.client().with_token(token);
        client.put(put("app/1", 0)).await.unwrap();
        let status: StatusResponse =
            client.call("/etcdserverpb.Maintenance/Status", StatusRequest::default()).await.unwrap();
        (status.db_size > 0, status.db_size_in_use > 0)
    };
    assert_eq!(size(&app).await, (false, false));
    assert_eq!(size(&all).await, (true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_keeps_leases_alive_ends_when_the_rights_change() {
    let etcd = Etcd::start().await;
    grant(&client_of(&etcd), 5).await;
    let mut tokens = TokenFile::new();
    let (removed, changed) = (tokens.add(&["app/"], &["app/"]), tokens.add(&["app/"], &["app/"]));
    let other = tokens.add(&["app/"], &["app/"]);
    tokens.save();
    let feed = format!("etcd://{}/?write=true", etcd.endpoint());
    let front = Front::start(&feed, &["--tokens", tokens.path()]);
    let client = |token: &Token| front.client().with_token(&token.text);
    let streams = [&removed, &changed, &other].map(|token| {
        let client = client(token);
        async move {
            let mut stream = client.keep_alive(5).await.unwrap();
            assert_eq!(stream.next().await.unwrap().ttl, 600);
            stream
        }
    });
    let [removed_stream, changed_stream, mut other_stream] =
        futures_util::future::join_all(streams).await.try_into().unwrap_or_else(|_| panic!("three"));
    tokens.change(&removed, None);
    tokens.change(&changed, Some(&["other/"]));
    tokens.save();
    front.daemon.signal("HUP");
    for (mut stream, code, text) in [
        (removed_stream, Code::Unauthenticated, "etcdserver: invalid auth token"),
        (changed_stream, Code::PermissionDenied, "etcdserver: permission denied"),
    ] {
        let ended = stream.next().await.unwrap_err();
        assert_eq!((ended.code(), ended.message()), (code, text));
    }
    other_stream.send(5);
    assert_eq!(other_stream.next().await.unwrap().ttl, 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_keeps_leases_alive_is_a_waiter() {
    let etcd = Etcd::start().await;
    grant(&client_of(&etcd), 5).await;
    let feed = format!("etcd://{}/?write=true", etcd.endpoint());
    let front = Front::start(&feed, &["--max-waiters", "2"]);
    let ours = front.ready().await;
    let open = async || {
        let mut stream = ours.keep_alive(5).await?;
        stream.next().await.map(|_| stream)
    };
    let held = (open().await.unwrap(), open().await.unwrap());
    let refused = open().await.err().unwrap();
    assert!(refused.message().contains("--max-waiters"), "{refused:?}");
    let everything =
        WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), ..WatchCreateRequest::default() };
    let watch = ours.watch(everything).await.err().unwrap();
    assert_eq!((watch.code(), watch.message()), (refused.code(), refused.message()));
    // The gateway holds one while it asks etcd.
    let body = serde_json::json!({"ID": "5"});
    let (status, answer) = crate::gateway::post(&front.address, "/v3/lease/keepalive", &body).await;
    assert_eq!((status, answer["message"].as_str()), (503, Some(refused.message())));
    drop(held);
    eventually("room for another one", || async { open().await.ok() }).await;
}
