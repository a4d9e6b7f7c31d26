//! A token learns nothing of the keys that it may not read: not from cursors, nor from anything else that it gets.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;

use support::daemon::Daemon;
use support::http::{Http, encode};
use support::record::Body;
use support::tokens::TokenFile;
use xxhash_rust::xxh3::xxh3_128;

/// Files with cursor keys.
struct Keys(tempfile::TempDir);

impl Keys {
    fn new() -> Keys {
        Keys(tempfile::tempdir().unwrap())
    }

    /// A file with the secrets that consist of these digits.
    fn file(&self, digits: &str) -> String {
        let path: PathBuf = self.0.path().join(digits);
        let lines: Vec<String> = digits.chars().map(|digit| digit.to_string().repeat(64)).collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// The 32 bits of the check in a cursor.
fn check(cursor: &str) -> u32 {
    u32::from_str_radix(&cursor[cursor.len() - 8..], 16).unwrap()
}

/// The low bits of an entry's share of the digest.
fn share(key: &[u8], value: &[u8]) -> u32 {
    let input = [&u32::try_from(key.len()).unwrap().to_le_bytes()[..], key, value].concat();
    xxh3_128(&input) as u32
}

/// The text without history, times, and the checks of cursors.
fn masked(text: &str, history: &str) -> String {
    let mut parts = text.split(history);
    let mut out = parts.next().unwrap_or("").to_owned();
    for part in parts {
        out += "HISTORY";
        // `.7.s01234567`: after the revision a letter and the check.
        let check = part.strip_prefix('.').and_then(|rest| rest.find('.')).map(|dot| dot + 3);
        match check.filter(|at| {
            part.as_bytes().get(*at..at + 8).is_some_and(|c| c.iter().all(u8::is_ascii_hexdigit))
        }) {
            Some(at) => out += &format!("{}CHECK{}", &part[..at], &part[at + 8..]),
            None => out += part,
        }
    }
    let mut lines: Vec<String> = Vec::new();
    for line in out.split_inclusive([',', '\n', '}']) {
        let varies = ["timestamp", "since", "_seconds", "retry_after", "delivery_latency", "uptime"];
        if !varies.iter().any(|word| line.contains(word)) {
            lines.push(line.to_owned());
        }
    }
    lines.concat()
}

/// All that a client with this token can read, as text.
async fn readable(http: &Http, secret_keys: &[&str], first: &str, history: &str) -> Vec<String> {
    let now = http.get("/v1/breadcrumbs/current").await.cursor().to_owned();
    let mut paths = vec![
        "/v1/breadcrumbs/current".to_owned(),
        "/v1/breadcrumbs/current?prefix=public/".to_owned(),
        "/v1/breadcrumbs/current?prefix=secret/".to_owned(),
        format!("/v1/breadcrumbs/{first}/next?wait=0"),
        format!("/v1/breadcrumbs/{now}/next?wait=0"),
        format!("/v1/breadcrumbs/{first}"),
        format!("/v1/breadcrumbs/{first}/diff/{now}"),
        "/v1/kv".to_owned(),
        format!("/v1/kv?limit=1&at={first}"),
        "/v1/kv/public%2Fa".to_owned(),
        format!("/v1/kv/public%2Fa?after={first}&wait=0"),
        "/v1/status".to_owned(),
        "/metrics".to_owned(),
    ];
    for key in secret_keys {
        paths.push(format!("/v1/kv/{}", encode(key.as_bytes())));
        paths.push(format!("/v1/kv?prefix={}", encode(key.as_bytes())));
    }
    let mut all = Vec::new();
    for path in paths {
        for accept in ["application/json", "application/x-ndjson"] {
            let got = http.get_with(&path, &[("accept", accept)]).await;
            let mut headers: Vec<String> = got
                .headers
                .iter()
                .filter(|(name, _)| !["date", "crumbd-age", "retry-after"].contains(&name.as_str()))
                // Times are told in as many digits as they need.
                .filter(|(name, _)| {
                    *name != "content-length" || !["/v1/status", "/metrics"].contains(&&*path)
                })
                .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
                .collect();
            headers.sort();
            let text =
                format!("{}\n{}\n{}", got.status, headers.join("\n"), String::from_utf8_lossy(&got.plain()));
            all.push(format!("{}: {}", masked(&path, history), masked(&text, history)));
        }
    }
    all
}

/// A daemon whose hidden values come from this seed, and all that the narrow token can read from it.
async fn seen_with_hidden_values(
    seed: u64,
    tokens: &TokenFile,
    key: &str,
    narrow: &str,
    admin: &str,
) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let daemon = Daemon::push(&["--tokens", tokens.path(), "--cursor-key", key]);
    let (narrow, admin) = (daemon.http().with_token(narrow), daemon.http().with_token(admin));
    let hidden = |random: &mut fastrand::Rng| vec![b'a' + random.u8(..26); random.usize(1..2000)];
    let first = admin.put(b"public/a", "text/plain", b"1").await;
    for number in 0..5 {
        let name = format!("secret/{number}");
        admin.put(name.as_bytes(), "text/plain", &hidden(&mut random)).await;
    }
    admin.delete(b"secret/0").await;
    admin.put(b"public/a", "text/plain", b"2").await;
    let status = narrow.get("/v1/status").await.json();
    let history = status["history"].as_str().unwrap().to_owned();
    readable(&narrow, &["secret/0", "secret/1", "secret/none"], &first, &history).await
}

#[tokio::test]
async fn what_a_narrow_token_reads_does_not_depend_on_hidden_values() {
    let (keys, mut tokens) = (Keys::new(), TokenFile::new());
    let (narrow, admin) = (tokens.add(&["public/"], &[]), tokens.add(&[""], &[""]));
    tokens.save();
    let key = keys.file("1");
    let expected = seen_with_hidden_values(0, &tokens, &key, &narrow.text, &admin.text).await;
    assert!(expected.iter().any(|seen| seen.contains("public/a")), "{expected:#?}");
    for seed in 1..4 {
        let seen = seen_with_hidden_values(seed, &tokens, &key, &narrow.text, &admin.text).await;
        for (expected, seen) in expected.iter().zip(&seen) {
            assert_eq!(expected, seen);
        }
    }
}

#[tokio::test]
async fn a_cursor_does_not_confirm_a_guess_of_a_hidden_value() {
    let (keys, mut tokens) = (Keys::new(), TokenFile::new());
    let (narrow, admin) = (tokens.add(&["public/"], &[]), tokens.add(&[""], &[""]));
    tokens.save();
    // Without a key of the operator's the daemon makes its own.
    for args in [vec![], vec!["--cursor-key".to_owned(), keys.file("1")]] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let daemon = tokens.daemon(&args);
        let (narrow, admin) = (narrow.http(&daemon), admin.http(&daemon));
        let cursor = async || narrow.get("/v1/breadcrumbs/current").await.cursor().to_owned();
        admin.put(b"secret/pin", "text/plain", b"0000").await;
        let before = cursor().await;
        admin.put(b"secret/pin", "text/plain", b"4711").await;
        let after = cursor().await;
        let plain = share(b"secret/pin", b"4711").wrapping_sub(share(b"secret/pin", b"0000"));
        assert_ne!(check(&after).wrapping_sub(check(&before)), plain, "{before} {after}");
        admin.put(b"secret/pin", "text/plain", b"0000").await;
        let back = cursor().await;
        assert_ne!(check(&before), check(&back), "the state of before is not recognised: {before} {back}");
        // The cursors are as good as any.
        narrow.get(&format!("/v1/breadcrumbs/{before}/next?wait=0")).await.ok(204);
        admin.get(&format!("/v1/breadcrumbs/{before}")).await.ok(200);
    }
}

#[tokio::test]
async fn replicas_with_one_cursor_key_continue_each_others_cursors_and_a_key_is_rotated_without_a_gap() {
    let (keys, mut tokens) = (Keys::new(), TokenFile::new());
    let admin = tokens.add(&[""], &[]);
    tokens.save();
    let feed = keys.0.path().join("feed.ndjson");
    std::fs::write(&feed, "{\"type\":\"put\",\"key\":\"a\",\"value\":1}\n").unwrap();
    let feed = format!("file:{}?follow=true", feed.to_str().unwrap());
    let daemon = |key: &str| {
        Daemon::serve(&["--feed", &feed, "--tokens", tokens.path(), "--cursor-key", &keys.file(key)])
    };
    let ready = async |daemon: &Daemon| {
        daemon.http().get("/readyz?wait=30s").await.ok(200);
        admin.http(daemon)
    };
    // The old key; the new one accepted; the new one in use; the old one taken away; another one altogether.
    let [old, accepting, rotated, ended, other] = ["1", "12", "21", "2", "3"].map(daemon);
    let old_cursor = ready(&old).await.cursor().await;
    let new_cursor = ready(&rotated).await.cursor().await;
    assert_ne!(old_cursor, new_cursor);
    for (daemon, cursor, status) in [
        (&old, &old_cursor, 204),
        (&old, &new_cursor, 410),
        (&accepting, &old_cursor, 204),
        (&accepting, &new_cursor, 200),
        (&rotated, &new_cursor, 204),
        (&rotated, &old_cursor, 200),
        (&ended, &new_cursor, 204),
        (&ended, &old_cursor, 410),
        (&other, &new_cursor, 410),
    ] {
        let http = ready(daemon).await;
        let got = http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await.ok(status);
        if status == 200 {
            // Another secret's cursor is exchanged for one of today's, and nothing else changes.
            assert!(Body::read(got.need("content-type"), &got.plain()).records.is_empty());
            http.get(&format!("/v1/breadcrumbs/{}/next?wait=0", got.cursor())).await.ok(204);
        }
    }
}

#[tokio::test]
async fn replicas_with_one_tokens_file_continue_each_others_cursors_without_a_key() {
    let (dir, mut tokens) = (tempfile::tempdir().unwrap(), TokenFile::new());
    let (admin, _narrow) = (tokens.add(&[""], &[]), tokens.add(&["a/"], &[]));
    tokens.save();
    let feed = dir.path().join("feed.ndjson");
    std::fs::write(&feed, "{\"type\":\"put\",\"key\":\"a\",\"value\":1}\n").unwrap();
    let feed = format!("file:{}?follow=true", feed.to_str().unwrap());
    let ready = async |daemon: &Daemon| {
        daemon.http().get("/readyz?wait=30s").await.ok(200);
        admin.http(daemon)
    };
    let start = || Daemon::serve(&["--feed", &feed, "--tokens", tokens.path()]);
    let (one, two) = (start(), start());
    let cursor = ready(&one).await.cursor().await;
    ready(&two).await.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await.ok(204);

    // A daemon whose only token may read a part cannot make a secret of it.
    let mut alone = TokenFile::new();
    let only = alone.add(&["a"], &[]);
    alone.save();
    let lonely = || Daemon::serve(&["--feed", &feed, "--tokens", alone.path()]);
    let (one, two) = (lonely(), lonely());
    ready(&one).await;
    let cursor = only.http(&one).cursor().await;
    ready(&two).await;
    only.http(&two).get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await.problem(410);
    assert!(two.log().contains("--cursor-key"), "{}", two.log());
}

#[tokio::test]
async fn a_state_directory_keeps_the_cursor_keys_of_earlier_runs() {
    let (dir, mut tokens) = (tempfile::tempdir().unwrap(), TokenFile::new());
    let admin = tokens.add(&[""], &[""]);
    let state = dir.path().to_str().unwrap();
    let mut cursors = Vec::new();
    for run in 0..3 {
        let mut daemon = tokens.daemon(&["--state-dir", state]);
        daemon.http().get("/readyz?wait=30s").await.ok(200);
        let http = admin.http(&daemon);
        for cursor in &cursors {
            http.get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await.ok(200);
        }
        cursors.push(http.put(b"a", "text/plain", run.to_string().as_bytes()).await);
        daemon.terminate();
        daemon.wait_exit();
        // Another key.
        tokens.add(&["a/"], &[]);
    }
}

#[test]
fn a_cursor_key_that_is_none_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "# key\nsecret\n").unwrap();
    for args in [&["--check"][..], &[]] {
        let ended = Daemon::serve_and_end(&[&["--cursor-key", path.to_str().unwrap()], args].concat());
        assert!(!ended.status.success() && ended.stderr.contains("line 2"), "{}", ended.stderr);
    }
}
