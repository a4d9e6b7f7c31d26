//! The store of a push feed under kills and damage. Acknowledged writes survive, and revisions are never used twice. Damaged
//! files are refused or harmless; they never become a wrong or an empty state.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use support::daemon::Daemon;
use support::http::Http;

const KEYS: [&str; 3] = ["a", "b", "c"];

fn arguments(dir: &Path) -> Vec<String> {
    // A short window, so that breadcrumbs are folded into the entries all the time.
    let fixed = ["--feed", "push:", "--keep-count", "20", "--state-dir"];
    fixed.into_iter().map(str::to_owned).chain([dir.to_str().unwrap().to_owned()]).collect()
}

fn start(dir: &Path) -> Daemon {
    let arguments = arguments(dir);
    Daemon::serve(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A write of one key, and when it was on its way. No answer: nobody knows whether it was done.
#[derive(Clone, Debug)]
struct Write {
    key: &'static str,
    value: Option<String>,
    begun: Instant,
    answered: Option<Instant>,
}

#[derive(Default)]
struct Written {
    writes: Vec<Write>,
    /// What single puts were told, each a revision.
    etags: BTreeSet<String>,
    newest_revision: u64,
}

async fn state(http: &Http) -> (BTreeMap<String, String>, u64, String) {
    let body = http.get("/v1/breadcrumbs/current").await.ok(200).json();
    let entries = body["entries"].as_array().unwrap().iter();
    let text = |entry: &serde_json::Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let state = entries.map(|entry| (text(entry, "key"), text(entry, "value"))).collect();
    (state, body["revision"].as_u64().unwrap(), text(&body, "history"))
}

/// One change of one to three keys, at random; also the same key twice in a batch.
async fn write_once(http: &Http, name: &str, written: &Mutex<Written>) -> bool {
    let key = KEYS[fastrand::usize(..3)];
    let other = KEYS[fastrand::usize(..3)];
    let (method, path, body, changes) = match fastrand::u8(..10) {
        0..=3 => ("PUT", format!("/v1/kv/{key}"), Some(name.to_owned()), vec![(key, Some(name.to_owned()))]),
        4..=6 => ("DELETE", format!("/v1/kv/{key}"), None, vec![(key, None)]),
        _ => {
            let records = format!(
                "{{\"type\":\"put\",\"key\":\"{other}\",\"value\":\"{name}\"}}\n\
                 {{\"type\":\"deleted\",\"key\":\"{other}\"}}\n\
                 {{\"type\":\"put\",\"key\":\"{key}\",\"value\":\"{name}\"}}\n"
            );
            let changes = BTreeMap::from([(other, None), (key, Some(name.to_owned()))]);
            ("POST", "/v1/updates".to_owned(), Some(records), changes.into_iter().collect())
        }
    };
    let kind = if method == "POST" { "application/x-ndjson" } else { "text/plain" };
    let begun = Instant::now();
    let got = http.try_send(method, &path, &[("content-type", kind)], body.map(String::into_bytes)).await;
    let answered = got.as_ref().ok().filter(|got| got.status == 200).map(|_| Instant::now());
    let mut written = written.lock().unwrap();
    let writes = changes.into_iter().map(|(key, value)| Write { key, value, begun, answered });
    written.writes.extend(writes);
    let Ok(got) = got else { return false };
    if answered.is_some() {
        let answer = got.json();
        written.newest_revision = written.newest_revision.max(answer["revision"].as_u64().unwrap());
        if method == "PUT" && answer["changed"] == 1 {
            assert!(written.etags.insert(got.need("etag").to_owned()), "a revision was given out twice");
        }
    }
    true
}

/// Whether a key may have this value: that of a write which no answered one has followed for certain.
fn is_possible(writes: &[Write], key: &str, value: Option<&String>) -> bool {
    let of_key = || writes.iter().filter(|write| write.key == key);
    let last_answered = of_key().filter(|write| write.answered.is_some()).map(|write| write.begun).max();
    let replaced = |write: &Write| write.answered.zip(last_answered).is_some_and(|(at, later)| at < later);
    of_key().any(|write| write.value.as_ref() == value && !replaced(write))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_on_three_keys_lose_nothing_and_see_no_revision_twice_over_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let rounds: usize = std::env::var("CRUMBD_TEST_KILLS").map_or(15, |rounds| rounds.parse().unwrap());
    let written = Arc::new(Mutex::new(Written::default()));
    let mut history = None;
    let now = Instant::now();
    let unwritten = |key| Write { key, value: None, begun: now, answered: Some(now) };
    written.lock().unwrap().writes.extend(KEYS.map(unwritten));
    for round in 0..rounds {
        let daemon = start(dir.path());
        let (found, revision, named) = state(&daemon.http()).await;
        {
            let mut written = written.lock().unwrap();
            assert_eq!(*history.get_or_insert(named.clone()), named);
            assert!(revision >= written.newest_revision, "revision {revision} in round {round}");
            for key in KEYS {
                let value = found.get(key);
                assert!(is_possible(&written.writes, key, value), "{key} = {value:?}: {:?}", written.writes);
            }
            let now = Instant::now();
            let as_found = |key: &'static str| Write {
                key,
                value: found.get(key).cloned(),
                begun: now,
                answered: Some(now),
            };
            written.writes = KEYS.map(as_found).into();
        }
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (http, written) = (daemon.http(), Arc::clone(&written));
                tokio::spawn(async move {
                    let mut n = 0;
                    while write_once(&http, &format!("{round}.{writer}.{n}"), &written).await {
                        n += 1;
                    }
                })
            })
            .collect();
        // Killed in the middle of it: after so many writes, whatever time they take.
        let enough = 3 + 10 * KEYS.len() + fastrand::usize(..200);
        support::eventually("the writes", || async {
            (written.lock().unwrap().writes.len() >= enough).then_some(())
        })
        .await;
        drop(daemon);
        for writer in writers {
            support::in_time("a writer", writer).await.unwrap();
        }
    }
}

/// What becomes of a daemon that starts on these files.
async fn outcome(files: &[(&str, &[u8])], right: &BTreeMap<String, String>, what: &str) -> &'static str {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let arguments = arguments(dir.path());
    match Daemon::try_serve(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(daemon) => {
            let (found, ..) = state(&daemon.http()).await;
            assert_eq!(&found, right, "{what}: another state is served");
            "right"
        }
        Err(ended) => {
            let path = dir.path().to_str().unwrap();
            assert!(ended.stderr.contains(path), "{what}: says which file: {}", ended.stderr);
            assert!(ended.stderr.contains("in its place"), "{what}: says what to do: {}", ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
            for (name, bytes) in files {
                assert!(fs::read(dir.path().join(name)).unwrap() == *bytes, "{what}: {name} was touched");
            }
            "refused"
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_refused_and_left_alone_or_the_damage_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    for n in 0..100 {
        daemon
            .http()
            .put(format!("k{}", n % 60).as_bytes(), "text/plain", format!("value {n}").as_bytes())
            .await;
    }
    let (right, ..) = state(&daemon.http()).await;
    drop(daemon);
    let database = fs::read(dir.path().join("state.crumbd")).unwrap();
    let acknowledged = fs::read(dir.path().join("acknowledged")).unwrap();
    let mut outcomes: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut count = |kind, outcome| *outcomes.entry((kind, outcome)).or_default() += 1;
    let head = (0..320).step_by(13);
    for at in head.chain((0..25).map(|_| fastrand::usize(..database.len()))) {
        let mut flipped = database.clone();
        flipped[at] ^= 1 << fastrand::u8(..8);
        let files = [("state.crumbd", &*flipped), ("acknowledged", &*acknowledged)];
        count("flipped", outcome(&files, &right, &format!("bit of byte {at} flipped")).await);
    }
    let pages = database.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    for (number, page) in pages {
        let mut zeroed = database.clone();
        zeroed[number * 4096..][..page.len()].fill(0);
        let files = [("state.crumbd", &*zeroed), ("acknowledged", &*acknowledged)];
        count("zeroed", outcome(&files, &right, &format!("page {number} zeroed")).await);
    }
    for length in [0, 1, 4, 64, 320, 4096, database.len() / 2, database.len() - 1] {
        let files = [("state.crumbd", &database[..length]), ("acknowledged", &*acknowledged)];
        count("cut", outcome(&files, &right, &format!("cut to {length} bytes")).await);
    }
    for at in (0..128).step_by(9) {
        let mut flipped = acknowledged.clone();
        flipped[at] ^= 1 << fastrand::u8(..8);
        let files = [("state.crumbd", &*database), ("acknowledged", &*flipped)];
        count("other file", outcome(&files, &right, &format!("acknowledged: byte {at}")).await);
    }
    let alone = outcome(&[("acknowledged", &*acknowledged)], &right, "without the database").await;
    assert_eq!(alone, "refused");
    assert_eq!(outcome(&[("state.crumbd", &*database)], &right, "without the other file").await, "right");
    assert!(outcomes.contains_key(&("flipped", "refused")), "{outcomes:?}");
    assert!(outcomes.contains_key(&("cut", "refused")), "{outcomes:?}");
}

#[tokio::test]
async fn a_database_that_has_gone_back_behind_what_was_acknowledged_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    daemon.http().put(b"a", "text/plain", b"1").await;
    drop(daemon);
    let database = dir.path().join("state.crumbd");
    let before = fs::read(&database).unwrap();
    let daemon = start(dir.path());
    daemon.http().put(b"a", "text/plain", b"2").await;
    let cursor = daemon.http().cursor().await;
    drop(daemon);
    // Right in itself, but older than what a writer was told of.
    fs::write(&database, &before).unwrap();
    let arguments = arguments(dir.path());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let refused = Daemon::serve_and_end(&arguments);
    assert!(refused.stderr.contains("was acknowledged"), "{}", refused.stderr);
    // Without the proof the older state is taken, for another history: nobody's cursor goes on in it.
    fs::remove_file(dir.path().join("acknowledged")).unwrap();
    let daemon = start(dir.path());
    assert_eq!(daemon.http().get("/v1/kv/a").await.ok(200).body, b"1");
    daemon.http().get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await.problem(410);
}

#[tokio::test]
async fn a_directory_that_is_removed_refuses_writes_and_one_that_comes_back_takes_them() {
    let dir = tempfile::tempdir().unwrap();
    let (store, away) = (dir.path().join("store"), dir.path().join("away"));
    let daemon = start(&store);
    let http = daemon.http();
    http.put(b"a", "text/plain", b"one").await;
    fs::rename(&store, &away).unwrap();
    let put = || http.send("PUT", "/v1/kv/b", &[("content-type", "text/plain")], Some(b"one".to_vec()));
    put().await.problem(503);
    http.get("/v1/kv/b").await.problem(404);
    fs::rename(&away, &store).unwrap();
    support::eventually("a write", || async { (put().await.status == 200).then_some(()) }).await;
    drop(daemon);
    let (found, ..) = state(&start(&store).http()).await;
    assert_eq!(found.into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn cursors_and_states_of_the_kept_window_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    let mut cursors = Vec::new();
    for n in 0..10 {
        daemon.http().put(b"a", "text/plain", format!("value {n}").as_bytes()).await;
        cursors.push(daemon.http().cursor().await);
    }
    drop(daemon);
    let daemon = start(dir.path());
    for (n, cursor) in cursors.iter().enumerate() {
        let then = daemon.http().get(&format!("/v1/breadcrumbs/{cursor}")).await.ok(200).json();
        assert_eq!(then["entries"][0]["value"], format!("value {n}"));
    }
    let next = daemon.http().get(&format!("/v1/breadcrumbs/{}/next?wait=0", cursors[3])).await.ok(200);
    assert_eq!(next.json()["updates"][0]["value"], "value 9");
}

fn refused(dir: &Path) -> String {
    let arguments = arguments(dir);
    let ended = Daemon::serve_and_end(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!ended.status.success(), "{}", ended.stderr);
    ended.stderr
}

#[tokio::test]
async fn what_is_no_file_or_another_daemons_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["state.crumbd", "acknowledged"] {
        let store = dir.path().join(format!("pipe {name}"));
        fs::create_dir(&store).unwrap();
        let made = std::process::Command::new("mkfifo").arg(store.join(name)).status().unwrap();
        assert!(made.success());
        assert!(refused(&store).contains("no regular file"));
    }
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refused(&file).contains("is not a directory"));
    // One file under two names, in two directories: two daemons would write over each other.
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let daemon = start(&one);
    daemon.http().put(b"a", "text/plain", b"1").await;
    fs::create_dir(&two).unwrap();
    for name in ["state.crumbd", "acknowledged"] {
        fs::hard_link(one.join(name), two.join(name)).unwrap();
    }
    assert!(refused(&two).contains("another daemon uses it"));
    daemon.http().put(b"a", "text/plain", b"2").await;
}

#[tokio::test]
async fn a_proof_that_is_removed_or_replaced_under_the_daemon_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let proof = dir.path().join("acknowledged");
    let daemon = start(dir.path());
    daemon.http().put(b"a", "text/plain", b"one").await;
    let before = fs::read(&proof).unwrap();
    fs::remove_file(&proof).unwrap();
    daemon.http().put(b"a", "text/plain", b"two").await;
    fs::remove_file(&proof).unwrap();
    fs::write(&proof, before).unwrap();
    daemon.http().put(b"a", "text/plain", b"three").await;
    let written = state(&daemon.http()).await;
    drop(daemon);
    assert_eq!(state(&start(dir.path()).http()).await, written);
}

#[tokio::test]
async fn a_start_that_ended_before_anything_was_kept_does_not_keep_the_next_one_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    // What a crash leaves that comes before the files have their names.
    for name in ["state.tmp", "acknowledged.tmp"] {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    let daemon = start(dir.path());
    daemon.http().put(b"a", "text/plain", b"one").await;
    drop(daemon);
    // The same for a store that was put back without its proof.
    fs::remove_file(dir.path().join("acknowledged")).unwrap();
    fs::write(dir.path().join("acknowledged.tmp"), "half").unwrap();
    let (found, ..) = state(&start(dir.path()).http()).await;
    assert_eq!(found.into_values().collect::<Vec<_>>(), ["one"]);
}

#[tokio::test]
async fn another_feeds_directory_keeps_every_byte_and_a_check_says_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    drop(start(&store));
    let (database, feed) = (store.join("state.crumbd"), dir.path().join("feed.ndjson"));
    let before = fs::read(&database).unwrap();
    fs::write(&feed, "{\"type\":\"put\",\"key\":\"a\",\"value\":1}\n").unwrap();
    let arguments = ["--feed", &format!("file:{}", feed.display()), "--state-dir", store.to_str().unwrap()];
    let mut daemon = Daemon::serve(&arguments);
    daemon.logged("the warning", |line| line.contains("no state is kept").then_some(()));
    daemon.terminate();
    daemon.wait_exit();
    assert!(fs::read(&database).unwrap() == before);
    let check = |feed: &str| {
        let arguments = ["serve", "--check", "--listen", "127.0.0.1:0", "--feed", feed, "--state-dir"];
        let done = support::daemon::run(&[&arguments[..], &[store.to_str().unwrap()]].concat());
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).unwrap())
    };
    let (good, said) = check(&format!("file:{}", feed.display()));
    assert!(good && said.contains("holds the state of the feed push:"), "{said}");
    assert!(check("push:").0);
    fs::write(&database, &before[..before.len() / 2]).unwrap();
    let (good, said) = check("push:");
    assert!(!good && said.contains("state.crumbd is damaged"), "{said}");
    assert!(fs::read(&database).unwrap() == before[..before.len() / 2]);
}
