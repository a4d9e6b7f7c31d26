//! Writes over HTTP to an etcd feed with `?write=true`: each is one transaction of etcd, and can be read at its cursor.
#![allow(clippy::unwrap_used)]

mod support;

use fastrand::Rng;
use serde_json::{Value, json};
use support::daemon::Daemon;
use support::etcd::{Etcd, Op, Proxy};
use support::eventually;
use support::followed::is;
use support::http::{Got, Http, encode, lines};
use support::state::assert_same;
use support::workload::{deleted, put};

/// An etcd and two replicas that write to it.
struct Replicas {
    one: Daemon,
    two: Daemon,
    etcd: Etcd,
}

impl Replicas {
    async fn start() -> Replicas {
        let etcd = Etcd::start().await;
        let feed = etcd.feed("app/?write=true");
        let (one, two) = (writer(&feed).await, writer(&feed).await);
        Replicas { one, two, etcd }
    }
}

/// A daemon with this feed, once it is in-sync.
async fn writer(feed: &str) -> Daemon {
    let daemon = Daemon::serve(&["--feed", feed]);
    is(&daemon.http(), "in-sync").await;
    daemon
}

fn path(key: &str) -> String {
    format!("/v1/kv/{}", encode(key.as_bytes()))
}

async fn put_if(http: &Http, key: &str, value: &str, conditions: &[(&str, &str)]) -> Got {
    http.send("PUT", &path(key), conditions, Some(value.into())).await
}

async fn post(http: &Http, records: &[String]) -> Got {
    http.send("POST", "/v1/updates", &[], Some(lines(records))).await
}

/// Reads a key at the cursor of a write; waits where the daemon is behind it.
async fn value_at(http: &Http, key: &str, cursor: &str) -> Option<Vec<u8>> {
    let got = http.get(&format!("{}?at={cursor}", path(key))).await;
    match got.status {
        404 => None,
        _ => Some(got.ok(200).body),
    }
}

fn changed(got: &Got) -> Value {
    got.json()["changed"].clone()
}

#[tokio::test]
async fn a_write_at_either_replica_can_be_read_at_its_cursor_at_both() {
    let replicas = Replicas::start().await;
    let (one, two) = (replicas.one.http(), replicas.two.http());
    for (at, other) in [(&one, &two), (&two, &one)] {
        let got = put_if(at, "app/greeting", "hello", &[]).await.ok(200);
        assert_eq!(changed(&got), 1);
        let stored = replicas.etcd.keys().range(b"app/").await;
        assert_eq!(&*stored.state[&b"app/greeting"[..]], b"hello");
        assert_eq!(got.json()["revision"], stored.revision);
        assert_eq!(got.cursor().split('.').nth(1).unwrap(), stored.revision.to_string());
        for http in [at, other] {
            assert_eq!(value_at(http, "app/greeting", got.cursor()).await.unwrap(), b"hello");
        }
        assert_eq!(at.get(&path("app/greeting")).await.ok(200).need("etag"), got.need("etag"));

        // The same again changes nothing, in etcd too.
        let again = put_if(other, "app/greeting", "hello", &[]).await.ok(200);
        assert_eq!((changed(&again), again.cursor()), (0.into(), got.cursor()));
        assert_eq!(again.need("etag"), got.need("etag"));
        assert_eq!(replicas.etcd.keys().revision().await, stored.revision);

        let records = [put("app/greeting", "2"), put("app/other", "1"), deleted("app/none")];
        let got = post(at, &records).await.ok(200);
        assert_eq!(changed(&got), 2);
        assert_eq!(replicas.etcd.keys().revision().await, stored.revision + 1, "one transaction");
        assert_eq!(value_at(other, "app/greeting", got.cursor()).await.unwrap(), b"2");
        assert_eq!(changed(&post(other, &records).await.ok(200)), 0);

        let got = at.send("DELETE", &path("app/greeting"), &[], None).await.ok(200);
        assert_eq!(changed(&got), 1);
        assert_eq!(value_at(other, "app/greeting", got.cursor()).await, None);
        let again = other.send("DELETE", &path("app/greeting"), &[], None).await.ok(200);
        assert_eq!(changed(&again), 0);
        assert_eq!(value_at(other, "app/greeting", again.cursor()).await, None);
        post(other, &[deleted("app/other")]).await.ok(200);
    }
    assert_eq!(changed(&post(&one, &[]).await.ok(200)), 0, "a body without a record changes nothing");
}

#[tokio::test]
async fn conditions_compare_with_the_key_in_etcd() {
    let replicas = Replicas::start().await;
    let (one, two) = (replicas.one.http(), replicas.two.http());
    let made = put_if(&one, "app/a", "1", &[("if-none-match", "*")]).await.ok(200);
    let etag = made.need("etag").to_owned();
    put_if(&two, "app/a", "2", &[("if-none-match", "*")]).await.problem(412);
    put_if(&two, "app/none", "2", &[("if-match", "*")]).await.problem(412);
    let problem = put_if(&two, "app/none", "2", &[("if-match", &etag)]).await.problem(412);
    assert_eq!(problem["type"], "urn:crumbd:problem:condition-failed");
    assert!(problem["detail"].as_str().unwrap().contains("does not exist"), "{problem}");

    let second = put_if(&two, "app/a", "2", &[("if-match", &etag)]).await.ok(200);
    put_if(&one, "app/a", "3", &[("if-match", &etag)]).await.problem(412);
    put_if(&one, "app/a", "3", &[("if-none-match", second.need("etag"))]).await.problem(412);
    let listed = format!("{etag}, {}", second.need("etag"));
    let third = put_if(&one, "app/a", "3", &[("if-match", &listed)]).await.ok(200);
    assert_eq!(changed(&third), 1);
    one.send("DELETE", &path("app/a"), &[("if-match", &etag)], None).await.problem(412);

    // etcd counts a revision where the same value is set again. For clients nothing has changed.
    let revision = replicas.etcd.keys().put(b"app/a", b"3").await;
    let late = replicas.etcd.keys().put(b"app/late", b"1").await;
    assert_eq!(late, revision + 1);
    eventually("the replica to have read that", || async {
        (one.get(&path("app/late")).await.status == 200).then_some(())
    })
    .await;
    let same = put_if(&one, "app/a", "3", &[("if-match", third.need("etag"))]).await.ok(200);
    assert_eq!(changed(&same), 0);
    let deleted = one.send("DELETE", &path("app/a"), &[("if-match", third.need("etag"))], None).await;
    assert_eq!(changed(&deleted.ok(200)), 1);
}

#[tokio::test]
async fn of_writers_that_race_on_one_etag_exactly_one_wins() {
    let replicas = Replicas::start().await;
    let all = [replicas.one.http(), replicas.two.http()];
    let mut etag = put_if(&all[0], "app/counter", "start", &[]).await.ok(200).need("etag").to_owned();
    for round in 0..20 {
        let racers: Vec<_> = (0..6)
            .map(|racer| {
                let (http, etag) = (all[racer % 2].clone(), etag.clone());
                tokio::spawn(async move {
                    put_if(&http, "app/counter", &format!("{round} {racer}"), &[("if-match", &etag)]).await
                })
            })
            .collect();
        let mut won = Vec::new();
        for racer in racers {
            let got = racer.await.unwrap();
            match got.status {
                200 => won.push(got),
                _ => drop(got.problem(412)),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        etag = won[0].need("etag").to_owned();
    }
}

#[tokio::test]
async fn what_etcd_does_not_take_is_refused_in_words_and_changes_nothing() {
    let replicas = Replicas::start().await;
    let http = replicas.one.http();
    let many =
        |count: usize| -> Vec<String> { (0..count).map(|n| put(&format!("app/{n:04}"), "1")).collect() };
    assert_eq!(changed(&post(&http, &many(128)).await.ok(200)), 128);
    let before = replicas.etcd.keys().revision().await;
    let detail = |problem: Value| problem["detail"].as_str().unwrap().to_owned();

    let problem = detail(post(&http, &many(129)).await.problem(413));
    assert!(problem.contains("129 operations") && problem.contains("--max-txn-ops"), "{problem}");
    let big = "x".repeat(1_800_000);
    let problem = detail(put_if(&http, "app/big", &big, &[]).await.problem(413));
    assert!(problem.contains("--max-request-bytes"), "{problem}");
    let problem = detail(put_if(&http, "other/a", "1", &[]).await.problem(403));
    assert!(problem.contains("does not begin with \"app/\""), "{problem}");
    let with_ttl = json!({"type": "put", "key": "app/a", "value": "1", "ttl": 60}).to_string();
    let problem = detail(post(&http, &[with_ttl]).await.problem(400));
    assert!(problem.contains("lease"), "{problem}");
    assert_eq!(replicas.etcd.keys().revision().await, before);

    // Below the limit, also where the value would not fit into a request twice. The same value again does nothing.
    let large = "x".repeat(1_500_000);
    assert_eq!(changed(&put_if(&http, "app/large", &large, &[]).await.ok(200)), 1);
    let written = replicas.etcd.keys().revision().await;
    assert_eq!(written, before + 1);
    assert_eq!(changed(&put_if(&http, "app/large", &large, &[]).await.ok(200)), 0);
    assert_eq!(replicas.etcd.keys().revision().await, written);

    let reader = writer(&replicas.etcd.feed("app/")).await;
    let problem = put_if(&reader.http(), "app/a", "1", &[]).await.problem(403);
    assert_eq!(problem["type"], "urn:crumbd:problem:read-only");
    assert!(detail(problem).contains("write=true"));
}

#[tokio::test]
async fn a_whole_snapshot_replaces_the_keys_of_the_feed_and_no_others() {
    let replicas = Replicas::start().await;
    let keys = replicas.etcd.keys();
    keys.put(b"other/a", b"stays").await;
    for key in ["app/", "app/a", "app/b", "app/b\0", "app/z"] {
        keys.put(key.as_bytes(), b"before").await;
    }
    let snapshot = [
        json!({"type": "snapshot"}).to_string(),
        put("app/b", "2"),
        put("app/c", "2"),
        json!({"type": "end", "count": 2}).to_string(),
    ];
    let got = post(&replicas.one.http(), &snapshot).await.ok(200);
    assert_eq!(changed(&got), 6);
    let state = keys.range(b"app/").await.state;
    let left: Vec<_> = state.iter().map(|(key, value)| (&key[..], &value[..])).collect();
    assert_eq!(left, [(&b"app/b"[..], &b"2"[..]), (b"app/c", b"2")]);
    assert_eq!(keys.range(b"other/").await.state.len(), 1);
    assert_eq!(value_at(&replicas.two.http(), "app/z", got.cursor()).await, None);
}

#[tokio::test]
async fn a_user_that_may_only_read_is_refused_in_words_and_rights_granted_later_count_at_once() {
    let etcd = Etcd::start_with(&["--auth-token-ttl", "1"]).await;
    etcd.keys().put(b"app/a", b"before").await;
    for command in [
        &["user", "add", "root:admin"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "crumbd:horse"],
        &["role", "add", "app"],
        &["role", "grant-permission", "app", "--prefix=true", "read", "app/"],
        &["user", "grant-role", "crumbd", "app"],
        &["auth", "enable"],
    ] {
        etcd.ctl(command);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "horse").unwrap();
    let password = file.path().to_str().unwrap();
    let feed = etcd.feed("app/?write=true");
    let daemon = Daemon::serve(&["--feed", &feed, "--etcd-user", "crumbd", "--etcd-password-file", password]);
    let http = daemon.http();
    is(&http, "in-sync").await;
    let problem = put_if(&http, "app/a", "1", &[]).await.problem(403);
    assert_eq!(problem["type"], "urn:crumbd:problem:upstream-forbids");
    assert!(problem["detail"].as_str().unwrap().contains("right to read and write"), "{problem}");
    let root = ["--user", "root:admin"];
    let grant = ["role", "grant-permission", "app", "--prefix=true", "readwrite", "app/"];
    etcd.ctl(&[&root[..], &grant].concat());
    put_if(&http, "app/a", "1", &[]).await.ok(200);
    // etcd forgets a token that is not used; what looks at its clock is etcd.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    put_if(&http, "app/a", "2", &[]).await.ok(200);
}

#[tokio::test]
async fn an_etcd_that_is_down_does_nothing_and_one_that_does_not_answer_may_have() {
    let mut etcd = Etcd::start().await;
    let daemon = writer(&etcd.feed("app/?write=true")).await;
    let http = daemon.http();
    put_if(&http, "app/a", "1", &[]).await.ok(200);
    etcd.kill();
    // A daemon that has not noticed yet that the connection is closed may have sent it.
    eventually("a write that is not done", || async {
        let problem = put_if(&http, "app/a", "2", &[]).await.problem(503);
        (problem["type"] == "urn:crumbd:problem:not-done").then_some(())
    })
    .await;
    etcd.restart().await;
    assert_eq!(&*etcd.keys().range(b"app/").await.state[&b"app/a"[..]], b"1");
    is(&http, "in-sync").await;
    put_if(&http, "app/a", "2", &[]).await.ok(200);
    // Sent, and not answered.
    etcd.pause();
    let problem = put_if(&http, "app/a", "3", &[]).await.problem(503);
    etcd.go_on();
    assert_eq!(problem["type"], "urn:crumbd:problem:unsettled");
    eventually("the write after it", || async {
        (put_if(&http, "app/a", "4", &[]).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_endpoint_takes_writes_while_one_is_down() {
    let etcd = Etcd::start().await;
    let net = Proxy::before(etcd.endpoint()).await;
    let daemon = writer(&format!("etcd://{},{}/app/?write=true", net.endpoint(), etcd.endpoint())).await;
    let http = daemon.http();
    put_if(&http, "app/a", "1", &[]).await.ok(200);
    net.set(support::etcd::Net::Cut);
    // The write after the one that was under way.
    for value in ["2", "3"] {
        eventually("a write", || async {
            (put_if(&http, "app/a", value, &[]).await.status == 200).then_some(())
        })
        .await;
    }
    assert_eq!(&*etcd.keys().range(b"app/").await.state[&b"app/a"[..]], b"3");
}

/// Random writes at both replicas and at etcd itself. Each is read at its cursor; at the end all agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_writes_at_both_replicas_are_what_etcd_has() {
    let replicas = Replicas::start().await;
    let keys = replicas.etcd.keys();
    let foreign = {
        let keys = keys.clone();
        tokio::spawn(async move {
            for number in 0..200_u32 {
                let key = format!("app/{}", number % 7).into_bytes();
                let value = (number % 3).to_string().into_bytes();
                keys.txn(&[if number % 5 == 0 { Op::Delete(key) } else { Op::Put(key, value) }]).await;
            }
        })
    };
    let writers: Vec<_> = [replicas.one.http(), replicas.two.http()]
        .into_iter()
        .enumerate()
        .map(|(number, http)| tokio::spawn(write_randomly(http, number)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    foreign.await.unwrap();
    let last = put_if(&replicas.one.http(), "app/last", "1", &[]).await.ok(200).cursor().to_owned();
    let stored = keys.range(b"app/").await.state;
    for http in [replicas.one.http(), replicas.two.http()] {
        assert!(value_at(&http, "app/last", &last).await.is_some());
        assert_same("a replica", &support::followed::current(&http).await, &stored);
    }
}

/// Keys of its own are as this writer left them, whatever others write.
async fn write_randomly(http: Http, number: usize) {
    let mut rng = Rng::with_seed(number as u64);
    let mut own = std::collections::BTreeMap::new();
    for round in 0..150 {
        let shared = format!("app/{}", rng.u8(..7));
        let key = format!("app/{}/{number}", rng.u8(..5));
        let value = rng.u8(..3).to_string();
        let before = own.get(&key).cloned();
        let (got, changes) = match rng.u8(..4) {
            0 => {
                let got = http.send("DELETE", &path(&key), &[], None).await.ok(200);
                own.remove(&key);
                (got, before.is_some())
            }
            1 => {
                let got = post(&http, &[put(&key, &value), put(&shared, &value)]).await.ok(200);
                own.insert(key.clone(), value.clone());
                (got, before.as_ref() != Some(&value))
            }
            _ => {
                let got = put_if(&http, &key, &value, &[]).await.ok(200);
                own.insert(key.clone(), value.clone());
                (got, before.as_ref() != Some(&value))
            }
        };
        assert!(!changes || changed(&got) != 0, "round {round}: {}", got.json());
        let read = value_at(&http, &key, got.cursor()).await;
        assert_eq!(read.as_deref(), own.get(&key).map(|value| value.as_bytes()), "round {round}: {key}");
    }
}
