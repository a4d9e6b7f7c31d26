//! The crate etcd-client.
//!
//! - `crumbd-etcd-clients calls ENDPOINTS PREFIX` makes every kind of call, and fails where an answer is not etcd's.
//! - `crumbd-etcd-clients watch ENDPOINTS PREFIX REVISION` prints a line an event, up to that of the key PREFIXend.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, Event, EventType, GetOptions, GetResponse,
    LeaseTimeToLiveOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchFilterType,
    WatchOptions, WatchStream,
};

type Outcome<T> = Result<T, etcd_client::Error>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (endpoints, prefix) = (arguments[1].split(',').collect::<Vec<_>>(), arguments[2]);
    let mut client = Client::connect(endpoints, None).await?;
    match arguments[0] {
        "watch" => {
            watch(&mut client, prefix, arguments[3].parse().expect("a revision")).await;
        }
        _ => {
            keys(&mut client, &format!("{prefix}keys/")).await?;
            transactions(&mut client, &format!("{prefix}transactions/")).await?;
            leases(&mut client, &format!("{prefix}lease")).await?;
            watches(&mut client, &format!("{prefix}watches/")).await?;
            others(&mut client).await?;
        }
    }
    Ok(())
}

fn values(answer: &GetResponse) -> Vec<&str> {
    answer.kvs().iter().map(|kv| kv.value_str().unwrap()).collect()
}

async fn keys(client: &mut Client, prefix: &str) -> Outcome<()> {
    let (a, all) = (format!("{prefix}a"), || GetOptions::new().with_prefix());
    client.delete(prefix, Some(DeleteOptions::new().with_prefix())).await?;
    let first = client.put(a.as_str(), "1", None).await?.header().unwrap().revision();
    client.put(format!("{prefix}c"), "2", None).await?;
    client.put(format!("{prefix}b"), "3", None).await?;
    let written = client.put(a.as_str(), "4", Some(PutOptions::new().with_prev_key())).await?;
    assert_eq!(written.prev_key().unwrap().value_str()?, "1");

    let answer = client.get(a.as_str(), None).await?;
    let kv = &answer.kvs()[0];
    assert_eq!(
        (kv.value_str()?, kv.version(), kv.create_revision(), kv.mod_revision()),
        ("4", 2, first, first + 3)
    );
    assert_eq!(values(&client.get(prefix, Some(all())).await?), ["4", "3", "2"]);
    assert_eq!(values(&client.get(prefix, Some(all().with_revision(first + 1))).await?), ["1", "2"]);
    assert_eq!(values(&client.get(prefix, Some(all().with_keys_only())).await?), ["", "", ""]);
    let newest = all().with_sort(SortTarget::Create, SortOrder::Descend).with_limit(2);
    let answer = client.get(prefix, Some(newest)).await?;
    assert_eq!((values(&answer), answer.more(), answer.count()), (vec!["3", "2"], true, 3));
    let answer = client.get(prefix, Some(all().with_count_only())).await?;
    assert_eq!((answer.count(), answer.kvs().len()), (3, 0));
    let ahead = client.get(prefix, Some(all().with_revision(first + 1000))).await.unwrap_err();
    assert!(ahead.to_string().contains("future revision"), "{ahead}");

    let deleted = client.delete(prefix, Some(DeleteOptions::new().with_prefix().with_prev_key())).await?;
    let before: Vec<&str> = deleted.prev_kvs().iter().map(|kv| kv.value_str().unwrap()).collect();
    assert_eq!((deleted.deleted(), before), (3, vec!["4", "3", "2"]));
    Ok(())
}

async fn transactions(client: &mut Client, prefix: &str) -> Outcome<()> {
    client.delete(prefix, Some(DeleteOptions::new().with_prefix())).await?;
    let (a, b) = (format!("{prefix}a"), format!("{prefix}b"));
    let create = |value: &str| {
        Txn::new()
            .when([Compare::create_revision(a.as_str(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(a.as_str(), value, None), TxnOp::put(b.as_str(), value, None)])
            .or_else([TxnOp::get(a.as_str(), None)])
    };
    assert!(client.txn(create("1")).await?.succeeded());
    let again = client.txn(create("2")).await?;
    assert!(!again.succeeded());
    match &again.op_responses()[0] {
        TxnOpResponse::Get(answer) => assert_eq!(values(answer), ["1"]),
        other => panic!("{other:?}"),
    }
    let delete = Txn::new()
        .when([
            Compare::value(a.as_str(), CompareOp::Equal, "1"),
            Compare::version(b.as_str(), CompareOp::Greater, 0),
        ])
        .and_then([TxnOp::delete(prefix, Some(DeleteOptions::new().with_prefix()))]);
    match &client.txn(delete).await?.op_responses()[0] {
        TxnOpResponse::Delete(answer) => assert_eq!(answer.deleted(), 2),
        other => panic!("{other:?}"),
    }
    Ok(())
}

async fn leases(client: &mut Client, key: &str) -> Outcome<()> {
    let lease = client.lease_grant(30, None).await?.id();
    client.put(key, "1", Some(PutOptions::new().with_lease(lease))).await?;
    assert_eq!(client.get(key, None).await?.kvs()[0].lease(), lease);
    let (mut keeper, mut alive) = client.lease_keep_alive(lease).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        assert_eq!(alive.message().await?.expect("an answer").ttl(), 30);
    }
    let left = client.lease_time_to_live(lease, Some(LeaseTimeToLiveOptions::new().with_keys())).await?;
    assert_eq!((left.granted_ttl(), left.keys()), (30, &[key.as_bytes().to_vec()][..]));
    assert!(client.leases().await?.leases().iter().any(|one| one.id() == lease));
    client.lease_revoke(lease).await?;
    assert_eq!(client.get(key, None).await?.count(), 0);

    // One that nobody keeps alive.
    let lease = client.lease_grant(1, None).await?.id();
    let written = client.put(key, "2", Some(PutOptions::new().with_lease(lease))).await?;
    let from = written.header().unwrap().revision() + 1;
    let mut ended = client.watch(key, Some(WatchOptions::new().with_start_revision(from))).await?;
    assert_eq!(next(&mut ended, 1).await?, [format!("{from}\tDELETE\t{key}\t\t-")]);
    Ok(())
}

fn line(event: &Event) -> String {
    let kv = event.kv().expect("a key");
    let kind = match event.event_type() {
        EventType::Put => "PUT",
        EventType::Delete => "DELETE",
    };
    let previous = event.prev_kv().map_or("-", |kv| kv.value_str().unwrap());
    let (key, value) = (kv.key_str().unwrap(), kv.value_str().unwrap());
    format!("{}\t{kind}\t{key}\t{value}\t{previous}", kv.mod_revision())
}

/// This many events of a stream.
async fn next(stream: &mut WatchStream, count: usize) -> Outcome<Vec<String>> {
    let mut told = Vec::new();
    while told.len() < count {
        let message = stream.message().await?.expect("the watch goes on");
        assert!(!message.canceled(), "{message:?}");
        told.extend(message.events().iter().map(line));
    }
    Ok(told)
}

async fn watches(client: &mut Client, prefix: &str) -> Outcome<()> {
    client.delete(prefix, Some(DeleteOptions::new().with_prefix())).await?;
    let (a, b) = (format!("{prefix}a"), format!("{prefix}b"));
    let first = client.put(a.as_str(), "1", None).await?.header().unwrap().revision();
    client.put(a.as_str(), "2", None).await?;
    client.delete(a.as_str(), None).await?;
    let from = || WatchOptions::new().with_start_revision(first);
    let mut stream =
        client.watch(prefix, Some(from().with_prefix().with_prev_key().with_watch_id(7))).await?;
    let (second, third) = (first + 1, first + 2);
    let wanted = [
        format!("{first}\tPUT\t{a}\t1\t-"),
        format!("{second}\tPUT\t{a}\t2\t1"),
        format!("{third}\tDELETE\t{a}\t\t2"),
    ];
    assert_eq!(next(&mut stream, 3).await?, wanted);
    client.put(b.as_str(), "3", None).await?;
    assert_eq!(next(&mut stream, 1).await?, [format!("{}\tPUT\t{b}\t3\t-", third + 1)]);
    // A second one on the same stream.
    stream.watch(a.as_str(), Some(from().with_filters([WatchFilterType::NoPut]))).await?;
    assert_eq!(next(&mut stream, 1).await?, [format!("{third}\tDELETE\t{a}\t\t-")]);
    stream.request_progress().await?;
    let progress = stream.message().await?.expect("progress");
    assert!(progress.events().is_empty() && progress.header().unwrap().revision() > third);
    stream.cancel(7).await?;
    let canceled = stream.message().await?.expect("the end of a watch");
    assert_eq!((canceled.watch_id(), canceled.canceled()), (7, true));
    Ok(())
}

async fn others(client: &mut Client) -> Outcome<()> {
    assert_eq!(client.member_list().await?.members().len(), 1);
    let status = client.status().await?;
    assert_eq!(status.leader(), status.header().unwrap().member_id());
    Ok(())
}

/// The client finds another endpoint when one ends; to watch there is for the program to do.
async fn watch(client: &mut Client, prefix: &str, mut from: i64) {
    loop {
        let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(from);
        if let Ok(mut stream) = client.watch(prefix, Some(options)).await {
            while let Ok(Some(message)) = stream.message().await {
                assert!(!message.canceled(), "{message:?}");
                for event in message.events() {
                    println!("{}", line(event));
                    let kv = event.kv().expect("a key");
                    if kv.key() == format!("{prefix}end").as_bytes() {
                        return;
                    }
                    from = kv.mod_revision() + 1;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
