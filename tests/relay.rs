//! A crumbd that follows another one: same history, same cursors, honest age, no circles.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::daemon::{Daemon, Ended};
use support::etcd::{Net, Proxy};
use support::followed::{is, status};
use support::http::Http;
use support::mirror::{Coding, Media, Mirror, Step};
use support::state::assert_same;
use support::tls::Authority;
use support::tokens::TokenFile;
use support::{DEADLINE, eventually, in_time};

/// A relay of the daemon at this address.
fn relay_of(address: &str, more: &[&str]) -> Daemon {
    Daemon::serve(&[&["--feed", &format!("crumbd://{address}/")], more].concat())
}

async fn put(http: &Http, key: &str, value: &str) -> String {
    http.put(key.as_bytes(), "text/plain", value.as_bytes()).await
}

/// Breaks the connections through a proxy and leads new ones to another daemon.
async fn lead(place: &Proxy, to: &Daemon) {
    place.set(Net::Cut);
    place.lead_to(to.address().to_owned());
    // The proxy runs in this thread: each of its connections gets its turn to see the cut.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    place.set(Net::Open);
}

/// Waits until the daemon is in-sync at this cursor.
async fn at(http: &Http, cursor: &str) -> Value {
    eventually(cursor, || async {
        let status = status(http).await;
        (status["cursor"] == cursor).then_some(status)
    })
    .await
}

/// Waits until the daemon says in a sentence why it is not in-sync.
async fn problem(http: &Http, says: &str) -> Value {
    eventually(says, || async {
        let status = status(http).await;
        status["feed_problem"].as_str().is_some_and(|problem| problem.contains(says)).then_some(status)
    })
    .await
}

#[tokio::test]
async fn a_client_goes_on_at_root_relay_and_leaf_with_one_cursor() {
    let root = Daemon::push(&[]);
    put(&root.http(), "before", "1").await;
    let relay = relay_of(root.address(), &[]);
    let leaf = relay_of(relay.address(), &[]);
    let all = [root.http(), relay.http(), leaf.http()];
    for http in &all {
        is(http, "in-sync").await;
    }
    let mut mirror = Mirror::of(all[0].clone(), Media::Bincode, Coding::Identity).await;
    for round in 0..30 {
        let key = format!("key {}", round % 7);
        let cursor = match round % 5 {
            4 => all[0].delete(key.as_bytes()).await,
            _ => put(&all[0], &key, &format!("value {round}")).await,
        };
        mirror.move_to(all[round % 3].clone());
        mirror.follow_to(&cursor).await;
        for http in &all {
            at(http, &cursor).await;
        }
    }
    assert_eq!(mirror.seen.snapshots, 1);
    let [of_root, of_relay, of_leaf] = [&all[0], &all[1], &all[2]];
    let (root, relay, leaf) = (status(of_root).await, status(of_relay).await, status(of_leaf).await);
    for member in ["digest", "count", "history", "revision"] {
        assert_eq!(root[member], relay[member], "{member}");
        assert_eq!(root[member], leaf[member], "{member}");
    }
    let refused = of_leaf.send("PUT", "/v1/kv/x", &[], Some(b"1".to_vec())).await;
    refused.problem(403);
}

#[tokio::test]
async fn a_relay_of_a_daemon_that_changes_all_the_time_stays_in_sync() {
    let root = Daemon::push(&[]);
    let relay = relay_of(root.address(), &[]);
    is(&relay.http(), "in-sync").await;
    // Longer than a relay goes without a word that its upstream is in-sync: no answer comes without changes meanwhile.
    let began = Instant::now();
    let mut last = String::new();
    for number in 0.. {
        last = put(&root.http(), "key", &number.to_string()).await;
        if began.elapsed() > Duration::from_secs(5) {
            break;
        }
    }
    at(&relay.http(), &last).await;
    let log = relay.log();
    assert!(!log.contains("resync-in-progress"), "{log}");
}

#[tokio::test]
async fn a_relay_keeps_every_cursor_that_its_upstream_keeps_though_it_stood_still_or_came_late() {
    let root = Daemon::push(&[]);
    let relay = relay_of(root.address(), &[]);
    is(&relay.http(), "in-sync").await;
    relay.pause();
    let mut mirrors = Vec::new();
    for round in 0..40 {
        // One key, so that a squash of two breadcrumbs forgets what the first one was.
        put(&root.http(), "key", &format!("value {round}")).await;
        mirrors.push(Mirror::of(root.http(), Media::Ndjson, Coding::Identity).await);
    }
    relay.go_on();
    let late = relay_of(relay.address(), &[]);
    is(&late.http(), "in-sync").await;
    let last = put(&root.http(), "key", "last").await;
    for (number, mirror) in mirrors.iter_mut().enumerate() {
        // The oldest ones may be on their way out.
        let http = if number % 2 == 0 || number < 4 { relay.http() } else { late.http() };
        mirror.move_to(http);
        mirror.follow_to(&last).await;
        assert_eq!(mirror.seen.snapshots, 1);
    }
}

#[tokio::test]
async fn a_relay_that_is_cut_off_is_stale_and_serves_on_and_its_age_grows_down_the_path() {
    let root = Daemon::push(&[]);
    let cursor = put(&root.http(), "a", "1").await;
    let net = Proxy::before(root.address().to_owned()).await;
    let relay = relay_of(&net.endpoint(), &[]);
    let leaf = relay_of(relay.address(), &[]);
    let (of_relay, of_leaf) = (relay.http(), leaf.http());
    for http in [&of_relay, &of_leaf] {
        let status = at(http, &cursor).await;
        assert!(status["age_seconds"].as_f64().unwrap() < 5.0, "{status}");
    }
    for silence in [Net::Silent, Net::Cut] {
        let cut = Instant::now();
        net.set(silence);
        for http in [&of_relay, &of_leaf] {
            is(http, "resync-in-progress").await;
        }
        for http in [&of_relay, &of_leaf] {
            let status = eventually("an age", || async {
                let status = status(http).await;
                (status["age_seconds"].as_f64().unwrap() > 4.0).then_some(status)
            })
            .await;
            assert_eq!(status["status"], "resync-in-progress", "{status}");
            assert!(status["feed_problem"].is_string(), "{status}");
            // The long poll in flight when it was cut may have been answered a moment before.
            let age = status["age_seconds"].as_f64().unwrap();
            assert!(age < cut.elapsed().as_secs_f64() + 3.0, "{age} {status}");
            http.get("/v1/kv/a").await.ok(200);
        }
        net.set(Net::Open);
        let cursor = put(&root.http(), "a", &format!("{silence:?}")).await;
        for http in [&of_relay, &of_leaf] {
            let status = at(http, &cursor).await;
            assert!(status["age_seconds"].as_f64().unwrap() < 4.0, "{status}");
        }
    }
    assert_eq!(status(&of_relay).await["ingest"]["resyncs"], 1, "its cursor was kept");
}

#[tokio::test]
async fn a_circle_is_refused_when_it_appears_and_left_when_it_is_gone() {
    let root = Daemon::push(&[]);
    let cursor = put(&root.http(), "a", "1").await;
    // Where `one` listens, as everybody knows it.
    let place = Proxy::before(root.address().to_owned()).await;
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let state = |which: usize| ["--state-dir", dirs[which].path().to_str().unwrap()];
    let one = relay_of(root.address(), &state(0));
    place.lead_to(one.address().to_owned());
    let two = relay_of(&place.endpoint(), &state(1));
    at(&two.http(), &cursor).await;
    // The data are there; `one` begins to follow `two`, which follows `one`.
    one.terminate();
    let mut one = one;
    one.wait_exit();
    let one = relay_of(two.address(), &state(0));
    lead(&place, &one).await;
    let found = eventually("a circle to be found", || async {
        let all = [status(&one.http()).await, status(&two.http()).await];
        all.into_iter().find(|status| {
            status["feed_problem"]
                .as_str()
                .is_some_and(|problem| problem.contains("a circle of 2 has no source"))
        })
    })
    .await;
    assert_eq!(found["count"], 1, "{found}");
    for daemon in [&one, &two] {
        let status = eventually("nobody to be in-sync", || async {
            let status = status(&daemon.http()).await;
            (status["status"] != "in-sync").then_some(status)
        })
        .await;
        assert_eq!(status["count"], 1, "and nothing is lost: {status}");
    }
    // The circle is opened.
    lead(&place, &root).await;
    let cursor = put(&root.http(), "a", "2").await;
    at(&two.http(), &cursor).await;
    at(&one.http(), &cursor).await;
    assert_eq!(status(&two.http()).await["feed_problem"], Value::Null);
}

#[tokio::test]
async fn two_relays_that_follow_each_other_and_a_root_are_no_circle() {
    let root = Daemon::push(&[]);
    let place = Proxy::before(root.address().to_owned()).await;
    let one = relay_of(&format!("{},{}", root.address(), place.endpoint()), &[]);
    let two = relay_of(&format!("{},{}", root.address(), one.address()), &[]);
    place.lead_to(two.address().to_owned());
    for round in 0..5 {
        let cursor = put(&root.http(), "a", &round.to_string()).await;
        at(&one.http(), &cursor).await;
        at(&two.http(), &cursor).await;
    }
}

#[tokio::test]
async fn a_relay_leaves_an_upstream_that_is_frozen_or_stale_for_a_fresher_one() {
    let root = Daemon::push(&[]);
    let net = Proxy::before(root.address().to_owned()).await;
    let middle = relay_of(&net.endpoint(), &[]);
    is(&middle.http(), "in-sync").await;
    let place = Proxy::before(middle.address().to_owned()).await;
    // Both lead to the one in the middle at first, so that it is followed.
    let root_place = Proxy::before(middle.address().to_owned()).await;
    let leaf = relay_of(&format!("{},{}", place.endpoint(), root_place.endpoint()), &[]);
    is(&leaf.http(), "in-sync").await;
    // Stale: it answers, but it is cut off itself. New connections of one place lead to the root.
    net.set(Net::Cut);
    lead(&root_place, &root).await;
    let cursor = put(&root.http(), "a", "1").await;
    let status = at(&leaf.http(), &cursor).await;
    assert_eq!(status["status"], "in-sync");
    // Frozen: it does not even answer. The leaf is at the root now; both lead to the one in the middle again.
    net.set(Net::Open);
    at(&middle.http(), &cursor).await;
    middle.pause();
    let cursor = put(&root.http(), "a", "2").await;
    at(&leaf.http(), &cursor).await;
    middle.go_on();
    assert_eq!(self::status(&leaf.http()).await["ingest"]["resyncs"], 1, "its cursor was good everywhere");
}

#[tokio::test]
async fn a_prefix_is_a_history_of_its_own_that_relays_of_it_share() {
    let root = Daemon::push(&[]);
    let http = root.http();
    put(&http, "app/a", "1").await;
    put(&http, "other/a", "1").await;
    let narrow = ["prefix=app/", "prefix=app%2F"]
        .map(|query| Daemon::serve(&["--feed", &format!("crumbd://{}/?{query}", root.address())]));
    let other = Daemon::serve(&["--feed", &format!("crumbd://{}/?prefix=other/", root.address())]);
    let leaf = relay_of(narrow[0].address(), &[]);
    let all = [narrow[0].http(), narrow[1].http(), leaf.http()];
    for http in &all {
        is(http, "in-sync").await;
    }
    let mut mirror = Mirror::of(all[0].clone(), Media::Ndjson, Coding::Identity).await;
    assert_eq!(mirror.state.len(), 1);
    for round in 0..12 {
        put(&http, "other/a", &format!("{round}")).await;
        put(&http, "app/a", &format!("value {round}")).await;
        put(&http, &format!("app/{round}"), "new").await;
        mirror.move_to(all[round % 3].clone());
        mirror
            .follow_until("the last key", |mirror| {
                mirror.state.contains_key(format!("app/{round}").as_bytes())
            })
            .await;
    }
    assert_eq!(mirror.seen.snapshots, 1);
    let mut found = Vec::new();
    for http in [&http, &all[0], &all[1], &all[2], &other.http()] {
        found.push(status(http).await["history"].clone());
    }
    assert_eq!((&found[1], &found[1]), (&found[2], &found[3]));
    assert!(found[0] != found[1] && found[0] != found[4] && found[1] != found[4], "{found:?}");
    let keys = Mirror::of(other.http(), Media::Ndjson, Coding::Identity).await.state;
    assert_eq!(keys.keys().collect::<Vec<_>>(), [b"other/a"]);
}

#[tokio::test]
async fn a_relay_starts_with_its_last_state_and_goes_on_from_there() {
    let root = Daemon::push(&[]);
    let dir = tempfile::tempdir().unwrap();
    let state = ["--state-dir", dir.path().to_str().unwrap()];
    let mut mirrors = Vec::new();
    for round in 0..20 {
        // Two keys that are changed again and again, one that comes and goes, and one that stays.
        match round % 4 {
            0 => put(&root.http(), "one", &format!("value {round}")).await,
            1 => put(&root.http(), "two", &format!("value {round}")).await,
            2 => put(&root.http(), &format!("stays {round}"), "1").await,
            _ if round % 8 == 3 => root.http().delete(b"two").await,
            _ => put(&root.http(), "one", "the same").await,
        };
        mirrors.push(Mirror::of(root.http(), Media::Ndjson, Coding::Identity).await);
    }
    let mut relay = relay_of(root.address(), &state);
    is(&relay.http(), "in-sync").await;
    mirrors.push(Mirror::of(relay.http(), Media::Json, Coding::Identity).await);
    // It has stored its last state, and no breadcrumb before it.
    relay.terminate();
    relay.wait_exit();
    let last = put(&root.http(), "one", "meanwhile").await;
    let relay = relay_of(root.address(), &state);
    let status = at(&relay.http(), &last).await;
    assert_eq!(status["ingest"]["resyncs"], 0, "nothing was read again: {status}");
    for mirror in mirrors.iter_mut().skip(2) {
        mirror.move_to(relay.http());
        mirror.follow_to(&last).await;
        assert_eq!(mirror.seen.snapshots, 1);
    }
}

#[tokio::test]
async fn another_history_of_the_upstream_is_followed_and_old_cursors_are_gone() {
    let first = Daemon::push(&[]);
    put(&first.http(), "first", "1").await;
    let place = Proxy::before(first.address().to_owned()).await;
    let relay = relay_of(&place.endpoint(), &[]);
    is(&relay.http(), "in-sync").await;
    let mut mirror = Mirror::of(relay.http(), Media::Ndjson, Coding::Identity).await;
    let second = Daemon::push(&[]);
    let cursor = put(&second.http(), "second", "1").await;
    lead(&place, &second).await;
    at(&relay.http(), &cursor).await;
    let gone = in_time("the cursor to be gone", async {
        loop {
            match mirror.next("1s").await {
                Step::Gone => return true,
                Step::Changes { .. } | Step::Nothing => {}
                Step::Snapshot => return false,
            }
        }
    })
    .await;
    assert!(gone);
    let (relay, root) = (relay.http(), second.http());
    let relayed = Mirror::of(relay, Media::Ndjson, Coding::Identity).await.state;
    assert_same("of the second", &relayed, &Mirror::of(root, Media::Ndjson, Coding::Identity).await.state);
}

#[tokio::test]
async fn over_tls_with_a_token_and_a_client_certificate() {
    let authority = Authority::new("relays");
    let (server, client) = (authority.server(), authority.client(Some("relay"), None));
    let mut tokens = TokenFile::new();
    let (all, some) = (tokens.add(&[""], &[""]), tokens.add(&["app/"], &[]));
    let tls = [&server.served()[..], &["--tls-client-ca", &authority.ca]].concat();
    let root = tokens.daemon(&tls);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (all_file, some_file) = (file("all", &all.text), file("some", &format!("{}\n", some.text)));
    let wrong_file = file("wrong", "wrong");
    let feed = |token: &str, more: &str| {
        let (ca, cert, key) = (&authority.ca, &client.cert, &client.key);
        format!("crumbds://{}/?token_file={token}&ca={ca}&cert={cert}&key={key}{more}", root.address())
    };
    let http = Http::over_tls(root.url(), support::tls::client_config(&[&authority.ca], Some(&client)));
    put(&http.with_token(&all.text), "app/a", "1").await;
    put(&http.with_token(&all.text), "other/a", "1").await;
    // Everything, and what the token may read.
    let whole = Daemon::serve(&["--feed", &feed(&all_file, "")]);
    assert_eq!(is(&whole.http(), "in-sync").await["count"], 2);
    let some = Daemon::serve(&["--feed", &feed(&some_file, "")]);
    let of_some = is(&some.http(), "in-sync").await;
    assert_eq!(of_some["count"], 1, "{of_some}");
    assert_ne!(of_some["history"], status(&whole.http()).await["history"], "another state, another history");
    let narrow = Daemon::serve(&["--feed", &feed(&some_file, "&prefix=app/")]);
    assert_eq!(is(&narrow.http(), "in-sync").await["count"], 1);
    put(&http.with_token(&all.text), "app/b", "1").await;
    for (daemon, count) in [(&whole, 3), (&some, 2), (&narrow, 2)] {
        eventually("the next key", || async {
            (status(&daemon.http()).await["count"] == count).then_some(())
        })
        .await;
    }
    // What is wrong, and what would be right.
    let place = root.address();
    let ca = &authority.ca;
    let shown = format!("cert={}&key={}", client.cert, client.key);
    let stranger = Authority::new("stranger");
    for (feed, says) in [
        (feed(&wrong_file, ""), "it does not know the token in"),
        (
            format!("crumbds://{place}/?ca={ca}&{shown}"),
            "it wants a token; name a file with one: token_file=",
        ),
        (feed(&some_file, "&prefix=other/"), "may read no keys under \"other/\""),
        (format!("crumbds://{place}/?ca={}&{shown}", stranger.ca), "(ca=)"),
        (format!("crumbds://{place}/?{shown}"), "name its authority with ca="),
        (format!("crumbds://{place}/?ca={ca}"), "cert= and key="),
        (format!("crumbd://{place}/"), "its address begins with crumbds://"),
    ] {
        let daemon = Daemon::serve(&["--feed", &feed]);
        let status = problem(&daemon.http(), says).await;
        assert_ne!(status["status"], "in-sync", "{feed}: {status}");
    }
}

#[tokio::test]
async fn with_tokens_a_client_moves_where_the_cursor_key_is_shared() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = file("cursor.key", &"0123456789abcdef".repeat(4));
    let mut tokens = TokenFile::new();
    let token = tokens.add(&[""], &[""]);
    let root = tokens.daemon(&["--cursor-key", &key]);
    let feed = format!("crumbd://{}/?token_file={}", root.address(), file("token", &token.text));
    let args = ["--feed", &feed, "--tokens", tokens.path(), "--cursor-key", &key];
    let args = [&args[..], &["--state-dir", state.path().to_str().unwrap()]].concat();
    let (first, mut relay) = (put(&token.http(&root), "a", "1").await, Daemon::serve(&args));
    is(&token.http(&relay), "in-sync").await;
    let mut mirror = Mirror::of(token.http(&root), Media::Ndjson, Coding::Identity).await;
    assert_eq!(mirror.cursor, first);
    for round in 0..6 {
        let cursor = put(&token.http(&root), "a", &format!("value {round}")).await;
        if round == 3 {
            relay.terminate();
            relay.wait_exit();
            relay = Daemon::serve(&args);
        }
        mirror.move_to(if round % 2 == 0 { token.http(&root) } else { token.http(&relay) });
        at(&token.http(&relay), &cursor).await;
        mirror.follow_to(&cursor).await;
    }
    assert_eq!(mirror.seen.snapshots, 1);
    assert_eq!(status(&token.http(&relay)).await["ingest"]["resyncs"], 0, "it went on from its last state");
}

#[tokio::test]
async fn what_is_wrong_with_an_upstream_is_said_in_a_sentence() {
    let root = Daemon::push(&[]);
    let place = root.address().to_owned();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let other = Proxy::before(page().await).await;
    for (feed, says) in [
        (format!("crumbd://{closed}/"), "a crumbd must listen there"),
        (format!("crumbd://{place}/?collection=other"), "collection= names the one to follow"),
        (format!("crumbds://{place}/"), "without TLS its address begins with crumbd://"),
        (format!("crumbd://{}/", other.endpoint()), "no crumbd that a relay can follow"),
    ] {
        let daemon = Daemon::serve(&["--feed", &feed]);
        let status = problem(&daemon.http(), says).await;
        assert_ne!(status["status"], "in-sync", "{feed}: {status}");
    }
    for (feed, says) in [
        ("crumbd:127.0.0.1:1", "looks like crumbd://"),
        ("crumbd://127.0.0.1/", "no HOST:PORT"),
        ("crumbd://a:1/keys/", "chosen with prefix="),
        ("crumbd://token@a:1/", "token_file="),
        ("crumbd://a:1/?ca=/x", "crumbds://"),
        ("crumbds://a:1/?cert=/x", "needs key"),
        ("crumbd://a:1/?prefx=a", "it has prefix"),
        ("crumbd://a:1/?collection=A%20B", "name of a collection"),
        ("crumbd://a:1/?token_file=/nowhere/at/all", "token_file="),
        ("crumbds://a:1/?ca=/nowhere/at/all", "/nowhere/at/all"),
    ] {
        let Ended { status, stderr } = Daemon::serve_and_end(&["--feed", feed]);
        assert!(!status.success() && stderr.contains(says), "{feed}: {stderr}");
    }
}

/// A server that is no crumbd.
async fn page() -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
                .await;
        }
    });
    address
}

#[tokio::test]
async fn a_relay_gets_each_breadcrumb_and_other_clients_a_squash() {
    let root = Daemon::push(&[]);
    let http = root.http();
    let mut cursors = Vec::new();
    for round in 0..5 {
        cursors.push(put(&http, "key", &format!("value {round}")).await);
    }
    let path = format!("/v1/breadcrumbs/{}/next?wait=0", cursors[0]);
    let ndjson = ("accept", "application/x-ndjson");
    let other = http.get_with(&path, &[ndjson]).await.ok(200).standing();
    assert_eq!((other.need("crumbd-mode"), other.header("crumbd-path")), ("squash", None));
    let got = http.get_with(&path, &[ndjson, ("crumbd-relay", "x")]).await.ok(200);
    assert_eq!((got.need("crumbd-mode"), got.need("crumbd-reason")), ("delta", "behind"));
    assert_eq!((got.cursor(), got.need("crumbd-newest")), (&*cursors[4], &*cursors[4]));
    assert_eq!((got.need("crumbd-age-ms"), got.need("cache-control")), ("0", "no-store"));
    let records: Vec<Value> = got
        .plain()
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let headers: Vec<&Value> = records.iter().filter(|record| record["type"] == "breadcrumb").collect();
    let ends: Vec<&Value> = records.iter().filter(|record| record["type"] == "end").collect();
    assert_eq!((headers.len(), ends.len(), records.len()), (4, 4, 12));
    for (number, (header, end)) in headers.iter().zip(ends).enumerate() {
        assert_eq!(
            (&header["from"], &end["cursor"]),
            (&(*cursors[number]).into(), &(*cursors[number + 1]).into())
        );
    }
    // JSON is one object, and an error says where it comes from too.
    let json = http.get_with(&path, &[("crumbd-relay", "x")]).await.ok(200);
    assert_eq!((json.need("crumbd-mode"), json.need("crumbd-path")), ("squash", got.need("crumbd-path")));
    let refused = http.get_with("/v1/breadcrumbs/nonsense/next", &[("crumbd-relay", "x")]).await.ok(400);
    assert_eq!(refused.need("crumbd-path"), got.need("crumbd-path"));
    let status = http.get_with("/v1/status", &[("crumbd-relay", "x")]).await.ok(200);
    let begin = http.get(&format!("/v1/breadcrumbs/{}", status.need("crumbd-begin"))).await.ok(200);
    assert_eq!(begin.need("crumbd-revision"), "0", "all is kept");
}

#[tokio::test]
async fn a_relay_of_a_prefix_starts_with_its_last_state() {
    let root = Daemon::push(&[]);
    let dir = tempfile::tempdir().unwrap();
    let feed = format!("crumbd://{}/?prefix=app/", root.address());
    let args = ["--feed", &feed, "--state-dir", dir.path().to_str().unwrap()];
    put(&root.http(), "app/a", "1").await;
    let mut relay = Daemon::serve(&args);
    let history = is(&relay.http(), "in-sync").await["history"].clone();
    let mut old = Mirror::of(relay.http(), Media::Json, Coding::Identity).await;
    relay.terminate();
    relay.wait_exit();
    for changes in [0, 2] {
        for change in 0..changes {
            put(&root.http(), &format!("app/{change}"), "meanwhile").await;
            put(&root.http(), "other", "meanwhile").await;
        }
        let mut relay = Daemon::serve(&args);
        assert_eq!(is(&relay.http(), "in-sync").await["history"], history);
        old.move_to(relay.http());
        old.follow_until("the keys", |old| old.state.len() == 1 + changes).await;
        assert_eq!(old.seen.snapshots, 1);
        relay.terminate();
        relay.wait_exit();
    }
}

#[tokio::test]
async fn a_relay_that_keeps_less_than_its_upstream_says_which_keys_are_absent() {
    let root = Daemon::push(&[]);
    put(&root.http(), "small", "1").await;
    put(&root.http(), "large", &"x".repeat(2000)).await;
    let relay = relay_of(root.address(), &["--max-value-bytes", "1000"]);
    is(&relay.http(), "in-sync").await;
    put(&root.http(), "large", &"y".repeat(2000)).await;
    let cursor = put(&root.http(), "small", "2").await;
    let revision: u64 = cursor.split('.').nth(1).unwrap().parse().unwrap();
    let status = eventually("the last change", || async {
        let status = status(&relay.http()).await;
        (status["revision"] == revision).then_some(status)
    })
    .await;
    assert_eq!((&status["status"], &status["count"]), (&"in-sync".into(), &1.into()), "{status}");
    assert_eq!(status["refused"]["keys"][0]["key"], "large");
}

#[tokio::test]
async fn a_named_collection_is_followed_by_its_name() {
    let root = Daemon::serve(&["--feed", "one=push:", "--feed", "two=stdin:"]);
    let http = root.http();
    let put = |value: &str| {
        let (http, value) = (http.clone(), value.as_bytes().to_vec());
        async move { http.send("PUT", "/v1/c/one/kv/a", &[], Some(value)).await }
    };
    put("1").await.ok(200);
    let relay = Daemon::serve(&["--feed", &format!("crumbd://{}/?collection=one", root.address())]);
    assert_eq!(is(&relay.http(), "in-sync").await["count"], 1);
    let end = Instant::now() + DEADLINE;
    put("2").await.ok(200);
    while relay.http().get("/v1/kv/a").await.ok(200).body != b"2" {
        assert!(Instant::now() < end, "the second value did not arrive");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// An upstream that never answers when it is asked for the steps before a state, and otherwise is this one.
async fn without_steps(upstream: &Daemon) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, upstream) = (listener.local_addr().unwrap().to_string(), upstream.address().to_owned());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let server = tokio::net::TcpStream::connect(&upstream).await.unwrap();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                let mut head = vec![0; 16 << 10];
                while let Ok(read @ 1..) = from_client.read(&mut head).await {
                    let asks_for_past = b"crumbd-relay-steps: past";
                    if !head[..read].windows(asks_for_past.len()).any(|part| part == asks_for_past) {
                        to_server.write_all(&head[..read]).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_relay_that_waits_for_what_was_before_is_not_in_sync_for_long_and_gives_it_up() {
    let root = Daemon::push(&[]);
    put(&root.http(), "a", "1").await;
    let relay = relay_of(&without_steps(&root).await, &[]);
    let http = relay.http();
    is(&http, "in-sync").await;
    let status = eventually("the status to change", || async {
        let status = status(&http).await;
        (status["status"] != "in-sync").then_some(status)
    })
    .await;
    // The request has not failed yet.
    assert!(status["feed_last_error"].is_null(), "{status}");
    // In the end it follows its upstream, and nothing else.
    let mut mirror = Mirror::of(http, Media::Json, Coding::Identity).await;
    let cursor = put(&root.http(), "a", "2").await;
    mirror.follow_to(&cursor).await;
}
