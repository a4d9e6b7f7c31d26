//! Contents of a store: leases, any bytes, any number of keys.

use std::collections::BTreeMap;

use crate::support::etcd::{Etcd, Net, Op, Proxy};
use crate::support::eventually;
use crate::support::followed::{APP, agrees_with, catch_up, fill, follow, is, mirror, told};
use crate::support::http::{Got, encode};
use crate::support::record::Body;
use crate::support::state::{State, assert_same, below};

#[tokio::test]
async fn a_lease_is_a_ttl_and_its_end_is_a_deletion() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let (long, other) = (keys.lease(600).await, keys.lease(1200).await);
    keys.put_with_lease(b"app/leased", b"1", &long).await;
    keys.put(b"app/stays", b"1").await;
    let daemon = follow(&etcd.feed("app/"));
    let http = daemon.http();
    is(&http, "in-sync").await;
    let ttls = |got: &Got| -> BTreeMap<String, Option<u64>> {
        let body = Body::read(got.need("content-type"), &got.plain());
        body.records.iter().map(|r| (String::from_utf8(r.key.clone()).unwrap(), r.ttl)).collect()
    };
    let got = http.get("/v1/breadcrumbs/current").await.ok(200);
    let expected = [("app/leased".to_owned(), Some(600)), ("app/stays".to_owned(), None)];
    assert_eq!(ttls(&got), expected.into(), "in the first load");
    keys.put_with_lease(b"app/later", b"1", &other).await;
    let next = format!("/v1/breadcrumbs/{}/next?wait=10s", got.cursor());
    let got = http.get(&next).await.ok(200);
    assert_eq!(ttls(&got), [("app/later".to_owned(), Some(1200))].into(), "by the watch");
    // Another lease for the same value, and then none.
    keys.put_with_lease(b"app/leased", b"1", &other).await;
    let next = format!("/v1/breadcrumbs/{}/next?wait=10s", got.cursor());
    let got = http.get(&next).await.ok(200);
    assert_eq!(ttls(&got), [("app/leased".to_owned(), Some(1200))].into(), "of another lease");
    keys.put(b"app/leased", b"1").await;
    let next = format!("/v1/breadcrumbs/{}/next?wait=10s", got.cursor());
    let got = http.get(&next).await.ok(200);
    assert_eq!(ttls(&got), [("app/leased".to_owned(), None)].into(), "of no lease any more");
    keys.revoke(&other).await;
    eventually("the leased key to go", || async {
        (http.get("/v1/kv/app%2Flater").await.status == 404).then_some(())
    })
    .await;
    agrees_with(&http, &keys).await;
}

#[tokio::test]
async fn keys_and_values_arrive_byte_for_byte_and_neighbours_of_the_prefix_do_not() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    let names: [&[u8]; 8] = [
        b"app/",
        b"app/plain",
        b"app//double/",
        b"app/\xff\xfe",
        b"app/nul\0inside",
        "app/ключ 🦀".as_bytes(),
        b"app/\xff",
        b"app/%2F?a=b#c",
    ];
    let values: [&[u8]; 5] = [b"", b"\xff\xfe\0", b"{\"a\": 1}", b"{\"a\":1}", b"text\n"];
    let neighbours: [&[u8]; 5] = [b"app", b"app0", b"ap", b"app.", b"apq/x"];
    let mut expected = State::new();
    let half = |n: usize| n.is_multiple_of(2);
    let daemon = follow(&etcd.feed("app/"));
    for name in neighbours {
        keys.put(name, b"not below app/").await;
    }
    // Half of them are there at the first load, half come by the watch.
    for (n, name) in names.iter().enumerate().filter(|(n, _)| half(*n)) {
        keys.put(name, values[n % values.len()]).await;
    }
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    for (n, name) in names.iter().enumerate().filter(|(n, _)| !half(*n)) {
        keys.put(name, values[n % values.len()]).await;
    }
    for (n, name) in names.iter().enumerate() {
        expected.insert(name.to_vec(), values[n % values.len()].into());
    }
    for name in neighbours {
        keys.put(name, b"still not").await;
    }
    catch_up(&mut mirror, &keys).await;
    assert_same("in full names", &mirror.state, &expected);
    for (key, value) in &expected {
        let got = http.get(&format!("/v1/kv/{}", encode(key))).await.ok(200);
        assert_eq!(&got.body[..], &value[..], "{:?}", String::from_utf8_lossy(key));
    }
    // An empty value is a value.
    keys.put(b"app/plain", b"").await;
    let left = catch_up(&mut mirror, &keys).await;
    assert!(mirror.state.contains_key(&b"app/plain"[..]), "{left:?}");
    for name in neighbours {
        http.get(&format!("/v1/kv/{}", encode(name))).await.problem(404);
    }
}

#[tokio::test]
async fn an_empty_prefix_is_the_whole_store() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    keys.put(b"a", b"1").await;
    keys.put(b"\xff\xff", b"2").await;
    let daemon = follow(&etcd.feed(""));
    let mut mirror = mirror(&daemon.http()).await;
    let at = keys.txn(&[Op::Put(b"\0".to_vec(), b"3".to_vec()), Op::Delete(b"a".to_vec())]).await;
    mirror.follow_until("the change", |mirror| mirror.revision >= at as u64).await;
    let expected: State = [(b"\xff\xff".to_vec(), b"2"[..].into()), (b"\0".to_vec(), b"3"[..].into())].into();
    assert_same("everything", &mirror.state, &expected);
}

#[tokio::test]
async fn twenty_thousand_keys_are_read_in_pages_at_one_revision() {
    let etcd = Etcd::start().await;
    let keys = etcd.keys();
    fill(&keys, 0, 20_000, "value").await;
    let net = Proxy::before(etcd.endpoint()).await;
    let daemon = follow(&net.feed("app/"));
    let http = daemon.http();
    // Written on while it is read: whatever comes first, the state is never half of one and half of the other.
    for round in 0..20 {
        keys.txn(&[
            Op::Put(b"app/00000".to_vec(), format!("{round}").into_bytes()),
            Op::Put(b"app/19999".to_vec(), format!("{round}").into_bytes()),
        ])
        .await;
    }
    let mut mirror = mirror(&http).await;
    let both = |state: &State| (state[&b"app/00000"[..]].clone(), state[&b"app/19999"[..]].clone());
    let (first, last) = both(&mirror.state);
    assert!(first == last || (&*first == b"value 0" && &*last == b"value 19999"), "{first:?} {last:?}");
    assert_eq!(mirror.state.len(), 20_000);
    catch_up(&mut mirror, &keys).await;
    // Read again as a whole, when all but a few keys are the same: clients hear of the few.
    net.set(Net::Cut);
    told(&mut mirror, "resync-in-progress").await;
    fill(&keys, 5_000, 5_010, "changed").await;
    keys.delete(b"app/10000").await;
    keys.compact(keys.revision().await).await;
    net.set(Net::Open);
    let before = mirror.cursor.clone();
    catch_up(&mut mirror, &keys).await;
    let got = http.get(&format!("/v1/breadcrumbs/{before}/next?wait=0")).await.ok(200);
    let body = Body::read(got.need("content-type"), &got.plain());
    assert_eq!(body.records.iter().filter(|r| r.kind != "status").count(), 11);
    assert_same("below", &below(&mirror.state, APP), &mirror.state);
}
