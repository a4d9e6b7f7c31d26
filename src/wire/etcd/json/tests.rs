//! Requests and answers of real etcds, 3.4.23 and 3.5.16.

#![allow(clippy::unwrap_used)] // a test may unwrap

use super::super::auth::{AuthRoleGetResponse, AuthStatusResponse, AuthUserAddRequest};
use super::super::cluster::{MemberAddRequest, MemberListResponse};
use super::super::kv::{
    CompactionRequest, Compare, CompareResult, CompareTarget, CompareWith, DeleteRangeRequest,
    DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, RequestOpUnion,
    ResponseOpUnion, SortOrder, SortTarget, TxnRequest, TxnResponse,
};
use super::super::lease::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseTimeToLiveResponse,
};
use super::super::maintenance::{
    AlarmAction, AlarmRequest, AlarmResponse, AlarmType, HashResponse, StatusResponse,
};
use super::super::watch::{
    FilterType, WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse,
};
use super::super::{Empty, ResponseHeader};
use super::*;

fn request<T: DeserializeOwned + Default>(body: &str) -> T {
    read(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn range(body: &str) -> RangeRequest {
    request(body)
}

fn mistake<T: DeserializeOwned + Default>(body: &str) -> String {
    read::<T>(body.as_bytes()).map(|_| panic!("{body} was read")).unwrap_or_else(|error| error.to_string())
}

/// Reads an answer, and writes it as it was.
#[track_caller]
fn answer<T: DeserializeOwned + Default + Serialize>(body: &str) -> T {
    let message = request(body);
    let written = write(&message).unwrap();
    assert_eq!(String::from_utf8(written).unwrap(), body);
    message
}

const HEADER: &str = r#""header":{"cluster_id":"14443903163313418560","member_id":"11417610130673999598","revision":"4","raft_term":"2"}"#;

fn with_header(rest: &str) -> String {
    format!("{{{HEADER}{rest}}}")
}

#[test]
fn a_body_without_fields_is_the_empty_message() {
    for body in ["", "  \n", "{}"] {
        assert_eq!(range(body), RangeRequest::default(), "{body:?}");
        assert_eq!(request::<Empty>(body), Empty {}, "{body:?}");
    }
    assert_eq!(write(&RangeRequest::default()).unwrap(), b"{}");
}

#[test]
fn what_follows_a_message_is_ignored() {
    let wanted = RangeRequest { key: "foo".into(), ..RangeRequest::default() };
    for rest in [" trailing", "{\"key\":\"bm8=\"}", "}"] {
        assert_eq!(range(&format!("{{\"key\":\"Zm9v\"}}{rest}")), wanted);
    }
}

#[test]
fn names_are_those_of_the_proto_file_or_in_camel_case() {
    let wanted = RangeRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        limit: 1,
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Mod.into(),
        keys_only: true,
        max_create_revision: 9,
        ..RangeRequest::default()
    };
    for body in [
        r#"{"key":"AA==","range_end":"AA==","limit":"1","sort_order":"DESCEND","sort_target":"MOD","keys_only":true,"max_create_revision":"9"}"#,
        r#"{"key":"AA==","rangeEnd":"AA==","limit":1,"sortOrder":2,"sortTarget":3,"keysOnly":true,"maxCreateRevision":9}"#,
    ] {
        assert_eq!(range(body), wanted);
    }
    assert_eq!(range(r#"{"KEY":"Zm9v","Key":"Zm9v"}"#), RangeRequest::default(), "unknown fields");
    let put: PutRequest = request(r#"{"key":"YQ==","prevKv":true,"ignoreLease":true,"foo":[{}]}"#);
    assert_eq!(
        put,
        PutRequest { key: "a".into(), prev_kv: true, ignore_lease: true, ..PutRequest::default() }
    );
}

#[test]
fn null_is_the_default_value() {
    let body = r#"{"key":"Zm9v","limit":null,"sort_order":null,"keys_only":null,"range_end":null}"#;
    assert_eq!(range(body), range(r#"{"key":"Zm9v"}"#));
    assert_eq!(request::<TxnRequest>(r#"{"compare":null}"#), TxnRequest::default());
    assert_eq!(request::<MemberAddRequest>(r#"{"peerURLs":null}"#), MemberAddRequest::default());
}

#[test]
fn an_integer_is_a_number_or_a_string() {
    for (body, wanted) in [
        (r#"{"limit":9223372036854775807}"#, i64::MAX),
        (r#"{"limit":"-9223372036854775808"}"#, i64::MIN),
        (r#"{"limit":-1}"#, -1),
    ] {
        assert_eq!(range(body).limit, wanted);
    }
    let alarm: AlarmRequest = request(r#"{"memberID":18446744073709551615}"#);
    assert_eq!(alarm.member_id, u64::MAX);
    for value in ["\"x\"", "1.5", "\"1.0\"", "\"\"", "\" 1\"", "\"9223372036854775808\"", "true", "{}"] {
        assert!(mistake::<RangeRequest>(&format!("{{\"limit\":{value}}}")).contains("integer"), "{value}");
    }
    mistake::<AlarmRequest>(r#"{"memberID":-1}"#);
}

#[test]
fn bytes_are_base64_of_either_alphabet() {
    for (text, wanted) in [
        ("Zm9v", &b"foo"[..]),
        ("+/8=", b"\xfb\xff"),
        ("-_8=", b"\xfb\xff"),
        ("-_8", b"\xfb\xff"),
        ("Zg", b"f"),
        ("Zh==", b"f"),
        (r"Zm\n9v\r\n", b"foo"),
        ("", b""),
    ] {
        assert_eq!(range(&format!("{{\"key\":\"{text}\"}}")).key, wanted, "{text}");
    }
    for value in ["\"Zm9v=\"", "\"Z\"", "\"foo bar\"", "\"Zm9v!\"", "1", "{}", "[102,111,111]"] {
        let error = mistake::<RangeRequest>(&format!("{{\"key\":{value}}}"));
        assert!(error.contains("base64"), "{value}: {error}");
    }
}

#[test]
fn mistakes_are_errors() {
    for body in [
        "null",
        "[]",
        r#"["Zm9v"]"#,
        "\"x\"",
        "1",
        "{",
        r#"{"key":}"#,
        r#"{"key":"Zm9v""#,
        "hello",
        r#"{"key":"Zm9v","key":"bm8="}"#,
        r#"{"range_end":"AA==","rangeEnd":"AQ=="}"#,
        r#"{"keys_only":"true"}"#,
        r#"{"keys_only":1}"#,
        r#"{"sort_order":"nope"}"#,
        r#"{"sort_order":"descend"}"#,
        r#"{"sort_order":"2"}"#,
        r#"{"sort_order":1.5}"#,
        r#"{"sort_target":true}"#,
    ] {
        assert!(!mistake::<RangeRequest>(body).is_empty());
    }
    assert_eq!(range(r#"{"sort_order":7}"#).sort_order, 7, "a value of a later etcd");
    for body in [
        r#"{"compare":{}}"#,
        r#"{"compare":[null]}"#,
        r#"{"success":[{"request_put":{"key":"YQ=="},"request_range":{"key":"YQ=="}}]}"#,
        r#"{"compare":[{"key":"Zm9v","target":"VALUE","value":"!"}]}"#,
        r#"{"compare":[{"key":"Zm9v","target":"VERSION","version":"3","value":"YQ=="}]}"#,
    ] {
        assert!(!mistake::<TxnRequest>(body).is_empty());
    }
}

#[test]
fn a_transaction_has_comparisons_and_nested_operations() {
    let body = r#"{"compare":[
        {"key":"Zm9v","target":"VERSION","result":"GREATER","version":"0"},
        {"key":"Zm9v","target":"CREATE","result":"LESS","create_revision":"99"},
        {"key":"Zm9v","target":"MOD","result":"NOT_EQUAL","modRevision":1,"unknown":[1]},
        {"key":"Zm9v","target":"VALUE","value":"YmF6"},
        {"key":"Zm9v","target":"LEASE","lease":"0"},
        {"key":"Zg==","rangeEnd":"AA==","target":3,"result":3,"value":""},
        {"key":"Zg==","target_union":{"value":"YQ=="}}],
        "success":[{"request_range":{"key":"Zm9v"}},
        {"requestPut":{"key":"YQ==","value":"MQ==","prevKv":true}},
        {"request_delete_range":{"key":"bm8=","prev_kv":true}},
        {"requestTxn":{"success":[{"requestDeleteRange":{"key":"Yg=="}}]}}],
        "failure":[{}, {"nope":{}}]}"#;
    let compare = |target: CompareTarget, result: CompareResult, with| Compare {
        key: "foo".into(),
        target: target.into(),
        result: result.into(),
        with: Some(with),
        ..Compare::default()
    };
    use RequestOpUnion::{DeleteRange, Put, Range, Txn};
    let operation = |request| RequestOp { request: Some(request) };
    let delete = |key: &'static str, prev_kv| {
        DeleteRange(DeleteRangeRequest { key: key.into(), prev_kv, ..DeleteRangeRequest::default() })
    };
    let put = PutRequest { key: "a".into(), value: "1".into(), prev_kv: true, ..PutRequest::default() };
    let nested = TxnRequest { success: vec![operation(delete("b", false))], ..TxnRequest::default() };
    let wanted = TxnRequest {
        compare: vec![
            compare(CompareTarget::Version, CompareResult::Greater, CompareWith::Version(0)),
            compare(CompareTarget::Create, CompareResult::Less, CompareWith::CreateRevision(99)),
            compare(CompareTarget::Mod, CompareResult::NotEqual, CompareWith::ModRevision(1)),
            compare(CompareTarget::Value, CompareResult::Equal, CompareWith::Value("baz".into())),
            compare(CompareTarget::Lease, CompareResult::Equal, CompareWith::Lease(0)),
            Compare {
                key: "f".into(),
                range_end: "\0".into(),
                ..compare(CompareTarget::Value, CompareResult::NotEqual, CompareWith::Value("".into()))
            },
            Compare { key: "f".into(), ..Compare::default() },
        ],
        success: vec![
            operation(Range(RangeRequest { key: "foo".into(), ..RangeRequest::default() })),
            operation(Put(put)),
            operation(delete("no", true)),
            operation(Txn(nested)),
        ],
        failure: vec![RequestOp::default(); 2],
    };
    assert_eq!(request::<TxnRequest>(body), wanted);
    let written = write(&wanted).unwrap();
    assert_eq!(read::<TxnRequest>(&written).unwrap(), wanted);
}

#[test]
fn requests_of_the_other_services() {
    let grant: LeaseGrantRequest = request(r#"{"TTL":"60","ID":77}"#);
    assert_eq!((grant.ttl, grant.id), (60, 77));
    assert_eq!(request::<LeaseGrantRequest>(r#"{"ttl":60}"#).ttl, 0, "names are exact");
    let compaction: CompactionRequest = request(r#"{"revision":"3","physical":true}"#);
    assert_eq!((compaction.revision, compaction.physical), (3, true));
    let user: AuthUserAddRequest = request(r#"{"name":"u","options":{"noPassword":true}}"#);
    assert!(user.options.unwrap().no_password);
    let alarm: AlarmRequest = request(r#"{"action":"ACTIVATE","memberID":"1","alarm":1}"#);
    assert_eq!(
        (alarm.action(), alarm.member_id, alarm.alarm()),
        (AlarmAction::Activate, 1, AlarmType::Nospace)
    );
}

#[test]
fn a_stream_of_requests_is_read_one_by_one() {
    let body =
        br#"{"createRequest":{"key":"dw==","filters":["NOPUT",1],"progress_notify":true,"watch_id":"5"}}
        {"progress_request":{}}{"cancel_request":{"watch_id":"9"}} garbage"#;
    let create = WatchCreateRequest {
        key: "w".into(),
        filters: vec![FilterType::Noput.into(), FilterType::Nodelete.into()],
        progress_notify: true,
        watch_id: 5,
        ..WatchCreateRequest::default()
    };
    let mut requests = read_all::<WatchRequest>(body).map(|request| request.map(|request| request.request));
    assert_eq!(requests.next().unwrap().unwrap(), Some(WatchRequestUnion::Create(create)));
    assert_eq!(requests.next().unwrap().unwrap(), Some(WatchRequestUnion::Progress(Empty {})));
    let cancel = WatchCancelRequest { watch_id: 9 };
    assert_eq!(requests.next().unwrap().unwrap(), Some(WatchRequestUnion::Cancel(cancel)));
    assert!(requests.next().unwrap().is_err());
    assert!(requests.next().is_none(), "nothing follows an error");
    assert_eq!(read_all::<LeaseKeepAliveRequest>(b"{\"ID\":\"77\"}{\"ID\":78}\n").count(), 2);
    assert_eq!(read_all::<LeaseKeepAliveRequest>(b"").count(), 0);
}

#[test]
fn answers_are_written_as_etcd_writes_them() {
    let found: RangeResponse = answer(&with_header(
        r#","kvs":[{"key":"+/8=","create_revision":"2","mod_revision":"4","version":"3","value":"YmF6","lease":"77"}],"more":true,"count":"2""#,
    ));
    let header = ResponseHeader {
        cluster_id: 14443903163313418560,
        member_id: 11417610130673999598,
        revision: 4,
        raft_term: 2,
    };
    assert_eq!((found.header, found.count, &found.kvs[0].value[..]), (Some(header), 2, &b"baz"[..]));
    let kv = r#"{"key":"YQ==","create_revision":"5","mod_revision":"6","version":"2"}"#;
    answer::<PutResponse>(&with_header(&format!(",\"prev_kv\":{kv}")));
    answer::<DeleteRangeResponse>(&with_header(&format!(",\"deleted\":\"1\",\"prev_kvs\":[{kv}]")));
    let operation = |name: &str, rest: &str| format!("{{\"{name}\":{}}}", with_header(rest));
    let deleted = operation("response_delete_range", "");
    let nested = format!(",\"succeeded\":true,\"responses\":[{deleted}]");
    let responses = [
        operation("response_range", &format!(",\"kvs\":[{kv}],\"count\":\"1\"")),
        operation("response_put", ""),
        deleted,
        operation("response_txn", &nested),
    ];
    let done: TxnResponse =
        answer(&with_header(&format!(",\"succeeded\":true,\"responses\":[{}]", responses.join(","))));
    assert!(matches!(&done.responses[3].response, Some(ResponseOpUnion::Txn(nested)) if nested.succeeded));
    answer::<LeaseTimeToLiveResponse>(&with_header(
        r#","ID":"77","TTL":"59","grantedTTL":"60","keys":["bGVhc2Vk"]"#,
    ));
    answer::<LeaseTimeToLiveResponse>(&with_header(r#","ID":"78","TTL":"-1""#));
    answer::<LeaseLeasesResponse>(&with_header(r#","leases":[{"ID":"7533856048250162225"},{"ID":"77"}]"#));
    answer::<MemberListResponse>(&with_header(
        r#","members":[{"ID":"11417610130673999598","name":"default","peerURLs":["http://127.0.0.1:2380"],"clientURLs":["http://127.0.0.1:2379"]}]"#,
    ));
    answer::<StatusResponse>(&with_header(
        r#","version":"3.5.16","dbSize":"20480","leader":"11417610130673999598","raftIndex":"27","raftTerm":"2","raftAppliedIndex":"27","dbSizeInUse":"16384""#,
    ));
    answer::<HashResponse>(&with_header(r#","hash":3776891842"#));
    answer::<AlarmResponse>(r#"{"alarms":[{"memberID":"1","alarm":"NOSPACE"}]}"#);
    answer::<AuthStatusResponse>(&with_header(r#","enabled":true,"authRevision":"9""#));
    answer::<AuthRoleGetResponse>(&with_header(
        r#","perm":[{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="},{"key":"eA==","range_end":"AA=="}]"#,
    ));
}

#[test]
fn answers_of_a_stream_are_lines() {
    let line = |rest: &str| format!("{{\"result\":{}}}\n", with_header(rest));
    for rest in [
        r#","watch_id":"5","created":true"#,
        r#","canceled":true,"compact_revision":"3""#,
        r#","watch_id":"-1","created":true,"canceled":true,"cancel_reason":"rpc error: code = PermissionDenied desc = etcdserver: permission denied""#,
        r#","events":[{"kv":{"key":"dw==","create_revision":"10","mod_revision":"10","version":"1","value":"MQ=="}},{"type":"DELETE","kv":{"key":"dw==","mod_revision":"11"},"prev_kv":{"key":"dw==","create_revision":"10","mod_revision":"10","version":"1","value":"MQ=="}}]"#,
    ] {
        let response: WatchResponse = answer(&with_header(rest));
        assert_eq!(write_result(&response).unwrap(), line(rest).as_bytes());
    }
    let expired: LeaseKeepAliveResponse = answer(&with_header(r#","ID":"78""#));
    assert_eq!(write_result(&expired).unwrap(), line(r#","ID":"78""#).as_bytes());
}

#[test]
fn an_error_suits_clients_of_every_etcd() {
    let sentence = "etcdserver: key is not provided";
    let text = |body: Result<Vec<u8>, JsonError>| String::from_utf8(body.unwrap()).unwrap();
    assert_eq!(
        text(write_error(3, sentence)),
        format!("{{\"error\":\"{sentence}\",\"message\":\"{sentence}\",\"code\":3}}"),
    );
    assert_eq!(
        text(write_stream_error(2, "auth: permission denied")),
        "{\"error\":{\"grpc_code\":2,\"code\":2,\"message\":\"auth: permission denied\"}}\n",
    );
}
