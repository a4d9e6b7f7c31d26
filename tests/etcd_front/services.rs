//! The services beside keys and watches, tokens, and what a daemon without writes says.

use tonic::{Code, Status};

use crate::etcd::auth::{AuthenticateRequest, AuthenticateResponse};
use crate::etcd::cluster::{MemberListRequest, MemberListResponse};
use crate::etcd::kv::{
    Compare, CompareTarget, CompareWith, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    RequestOpUnion, ResponseOpUnion, TxnRequest,
};
use crate::etcd::lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest,
    LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use crate::etcd::maintenance::{
    HashKvRequest, HashKvResponse, HashRequest, HashResponse, StatusRequest, StatusResponse,
};
use crate::etcd::watch::WatchCreateRequest;
use crate::servers::{Front, all_keys, client_of};
use crate::support::daemon::{self, Daemon};
use crate::support::etcd::Etcd;
use crate::support::tokens::TokenFile;

#[tokio::test(flavor = "multi_thread")]
async fn clients_learn_what_they_need_to_connect() {
    let front = Front::start("push:", &[]);
    let ours = front.ready().await;
    let members: MemberListResponse =
        ours.call("/etcdserverpb.Cluster/MemberList", MemberListRequest::default()).await.unwrap();
    let member = &members.members[0];
    assert_eq!(members.header.unwrap().member_id, member.id);
    assert_eq!(member.client_urls, [format!("http://{}", front.address)]);
    let status: StatusResponse =
        ours.call("/etcdserverpb.Maintenance/Status", StatusRequest::default()).await.unwrap();
    assert_eq!((status.leader, status.errors.len()), (member.id, 0));
    let hash = async || -> HashResponse {
        ours.call("/etcdserverpb.Maintenance/Hash", HashRequest::default()).await.unwrap()
    };
    let empty = hash().await;
    front.daemon.http().put(b"a", "application/octet-stream", b"1").await;
    assert_ne!(hash().await.hash, empty.hash);
    let unknown: Result<StatusResponse, _> =
        ours.call("/etcdserverpb.KV/Nothing", StatusRequest::default()).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_only_read_are_answered_and_others_are_refused_whole() {
    let front = Front::start("stdin:", &[]);
    let ours = front.client();
    let read = |key: &str| RequestOp {
        request: Some(RequestOpUnion::Range(RangeRequest {
            key: key.to_owned().into(),
            serializable: true,
            ..RangeRequest::default()
        })),
    };
    let absent = Compare {
        target: CompareTarget::Version as i32,
        key: "a".into(),
        with: Some(CompareWith::Version(0)),
        ..Compare::default()
    };
    let put = PutRequest { key: "a".into(), value: "1".into(), ..PutRequest::default() };
    let refused = ours.put(put.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("only reads"), "{refused:?}");
    let write = RequestOp { request: Some(RequestOpUnion::Put(put)) };
    let txn = TxnRequest { compare: vec![absent.clone()], success: vec![read("b")], failure: vec![write] };
    assert_eq!(ours.txn(txn).await.unwrap_err().code(), Code::PermissionDenied, "also of what is not done");

    let push = Front::start("push:", &[]);
    push.daemon.http().put(b"a", "application/octet-stream", b"1").await;
    let ours = push.ready().await;
    let txn =
        TxnRequest { compare: vec![absent], success: vec![read("b")], failure: vec![read("a"), read("b")] };
    let answer = ours.txn(txn).await.unwrap();
    assert!(!answer.succeeded);
    let counts = answer.responses.iter().map(|response| match &response.response {
        Some(ResponseOpUnion::Range(range)) => range.count,
        other => panic!("{other:?}"),
    });
    assert_eq!(counts.collect::<Vec<_>>(), [1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_a_token_and_sees_its_prefixes_only() {
    let mut tokens = TokenFile::new();
    let app = tokens.add(&["app/"], &[]).text;
    tokens.save();
    let front = Front::start("push:", &["--tokens", tokens.path()]);
    let client = front.client();
    let without = client.range(all_keys()).await.unwrap_err();
    assert_eq!(
        (without.code(), without.message()),
        (Code::InvalidArgument, "etcdserver: user name is empty")
    );
    let login =
        |password: &str| AuthenticateRequest { name: "app".to_owned(), password: password.to_owned() };
    let path = "/etcdserverpb.Auth/Authenticate";
    let wrong: Result<AuthenticateResponse, _> = client.call(path, login("wrong")).await;
    assert_eq!(wrong.unwrap_err().code(), Code::InvalidArgument);
    let right: AuthenticateResponse = client.call(path, login(&app)).await.unwrap();
    let client = client.with_token(&right.token);
    let denied = client.range(all_keys()).await.unwrap_err();
    assert_eq!(denied.message(), "etcdserver: permission denied");
    let prefix = || RangeRequest { key: "app/".into(), range_end: "app0".into(), ..RangeRequest::default() };
    assert_eq!(client.range(prefix()).await.unwrap().count, 0);
    let everything =
        WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), ..WatchCreateRequest::default() };
    let mut watches = client.watch(everything).await.unwrap();
    let refused = watches.next().await.unwrap();
    assert!(refused.canceled && refused.cancel_reason.contains("permission denied"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_feed_does_not_follow_is_not_said_to_be_absent() {
    let etcd = Etcd::start().await;
    let put = PutRequest { key: "b/1".into(), value: "1".into(), ..PutRequest::default() };
    client_of(&etcd).put(put).await.unwrap();
    let front = Front::start(&format!("etcd://{}/a/", etcd.endpoint()), &[]);
    let client = front.client();
    let within = || RangeRequest { key: "a/".into(), range_end: "a0".into(), ..RangeRequest::default() };
    crate::support::eventually("a state", || async { client.range(within()).await.ok() }).await;
    let outside = RangeRequest { key: "b/1".into(), ..RangeRequest::default() };
    for range in [outside.clone(), all_keys()] {
        assert_eq!(client.range(range).await.unwrap_err().code(), Code::PermissionDenied);
    }
    let success = vec![RequestOp { request: Some(RequestOpUnion::Range(outside)) }];
    let txn = TxnRequest { success, ..TxnRequest::default() };
    assert_eq!(client.txn(txn).await.unwrap_err().code(), Code::PermissionDenied);
    let watch = WatchCreateRequest { key: "b/1".into(), ..WatchCreateRequest::default() };
    let refused = client.watch(watch).await.unwrap().next().await.unwrap();
    assert!(refused.canceled && refused.cancel_reason.contains("permission denied"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_a_lease_are_listed_for_who_may_read_them() {
    let etcd = Etcd::start().await;
    let mut tokens = TokenFile::new();
    let app = tokens.add(&["app/"], &["app/"]).text;
    tokens.save();
    let feed = format!("etcd://{}/?write=true", etcd.endpoint());
    let front = Front::start(&feed, &["--tokens", tokens.path()]);
    let client = front.client().with_token(&app);
    let direct = client_of(&etcd);
    let grant = LeaseGrantRequest { id: 77, ttl: 600 };
    let _: LeaseGrantResponse = direct.call("/etcdserverpb.Lease/LeaseGrant", grant).await.unwrap();
    let list = LeaseTimeToLiveRequest { id: 77, keys: true };
    for (key, may) in [("app/1", true), ("other/1", false)] {
        let put = PutRequest { key: key.into(), lease: 77, ..PutRequest::default() };
        direct.put(put).await.unwrap();
        let listed: Result<LeaseTimeToLiveResponse, _> =
            client.call("/etcdserverpb.Lease/LeaseTimeToLive", list.clone()).await;
        match listed {
            Ok(listed) => assert_eq!((may, listed.keys.len()), (true, 1)),
            Err(refused) => assert_eq!((may, refused.code()), (false, Code::PermissionDenied)),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_says_what_this_daemon_is() {
    let push = Front::start("push:", &[]);
    let ours = push.ready().await;
    let grant = LeaseGrantRequest { id: 0, ttl: 5 };
    let leases: Result<LeaseGrantResponse, _> = ours.call("/etcdserverpb.Lease/LeaseGrant", grant).await;
    let refused = leases.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("store of its own (push:), which has no leases"), "{refused:?}");

    let upstream = Daemon::push(&[]);
    upstream.http().put(b"a", "application/octet-stream", b"1").await;
    let relay = Front::start(&format!("crumbd://{}/?write=true", upstream.address()), &[]);
    let put = PutRequest { key: "a".into(), ..PutRequest::default() };
    let refused = relay.client().put(put).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("a relay, which passes on no writes"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_names_the_same_cluster_and_member_also_what_etcd_has_answered() {
    let etcd = Etcd::start().await;
    let front = Front::start(&format!("etcd://{}/?write=true", etcd.endpoint()), &[]);
    let ours = front.ready().await;
    let (theirs, own) = (client_of(&etcd), ours.range(all_keys()).await.unwrap().header.unwrap());
    assert_ne!(theirs.range(all_keys()).await.unwrap().header.unwrap().cluster_id, own.cluster_id);
    let put = || PutRequest { key: "a".into(), ..PutRequest::default() };
    let write = RequestOp { request: Some(RequestOpUnion::Put(put())) };
    let granted: LeaseGrantResponse =
        ours.call("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { id: 7, ttl: 600 }).await.unwrap();
    let list = LeaseTimeToLiveRequest { id: 7, keys: true };
    let time: LeaseTimeToLiveResponse = ours.call("/etcdserverpb.Lease/LeaseTimeToLive", list).await.unwrap();
    let leases: LeaseLeasesResponse =
        ours.call("/etcdserverpb.Lease/LeaseLeases", LeaseLeasesRequest::default()).await.unwrap();
    let kept = ours.keep_alive(7).await.unwrap().next().await.unwrap();
    assert_eq!((granted.ttl, time.granted_ttl, leases.leases.len(), kept.ttl), (600, 600, 1, 600));
    let revoked: LeaseRevokeResponse =
        ours.call("/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequest { id: 7 }).await.unwrap();
    let before = theirs.range(all_keys()).await.unwrap().header.unwrap().revision;
    let written = [
        ours.put(put()).await.unwrap().header,
        ours.txn(TxnRequest { success: vec![write], ..TxnRequest::default() }).await.unwrap().header,
        ours.delete_range(DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() })
            .await
            .unwrap()
            .header,
    ];
    let revisions = written.map(|header| header.unwrap().revision);
    assert_eq!(revisions, [before + 1, before + 2, before + 3]);
    let leases = [granted.header, time.header, leases.header, kept.header, revoked.header];
    for header in written.into_iter().chain(leases).map(Option::unwrap) {
        let ids = (header.cluster_id, header.member_id, header.raft_term);
        assert_eq!(ids, (own.cluster_id, own.member_id, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hash_is_that_of_the_newest_revision() {
    let front = Front::start("push:", &[]);
    let ours = front.ready().await;
    ours.put(PutRequest { key: "a".into(), ..PutRequest::default() }).await.unwrap();
    let put = ours.put(PutRequest { key: "a".into(), ..PutRequest::default() }).await.unwrap();
    let newest = put.header.unwrap().revision;
    let hash = async |revision| -> Result<HashKvResponse, Status> {
        ours.call("/etcdserverpb.Maintenance/HashKV", HashKvRequest { revision }).await
    };
    assert_eq!(hash(0).await.unwrap().hash, hash(newest).await.unwrap().hash);
    let future = hash(99).await.unwrap_err();
    assert_eq!(future.message(), "etcdserver: mvcc: required revision is a future revision");
    let older = hash(newest - 1).await.unwrap_err();
    assert_eq!(older.code(), Code::PermissionDenied);
    assert!(older.message().contains("its newest state"), "{older:?}");
}

#[test]
fn two_listeners_with_one_address_are_an_error_before_the_start() {
    for args in [
        &["--listen", "127.0.0.1:24993", "--etcd-listen", "127.0.0.1:24993"][..],
        &["--listen", "0.0.0.0:24993", "--etcd-listen", "127.0.0.1:24993"],
        &["--listen", "127.0.0.1:0", "--etcd-listen", "[::1]:24993", "--etcd-listen", "[::1]:24993"],
    ] {
        for check in [&["--check"][..], &[]] {
            let output = daemon::run(&[&["serve", "--feed", "push:"], args, check].concat());
            assert!(!output.status.success(), "{args:?}");
            let says = String::from_utf8(output.stderr).unwrap();
            let second = args[args.len() - 4];
            assert!(says.contains("--etcd-listen"), "{says}");
            assert!(says.contains(&format!("is the address of {second} ")), "{args:?}: {says}");
        }
    }
    for args in [
        &["--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0"][..],
        &["--listen", "127.0.0.1:24993", "--etcd-listen", "127.0.0.2:24993"],
    ] {
        let output = daemon::run(&[&["serve", "--feed", "push:", "--check"], args].concat());
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
}
