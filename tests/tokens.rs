//! With `--tokens` a client sees exactly the part of the state that its token may read. This holds for every kind of request
//! and every part of the daemon that answers.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use fastrand::Rng;
use support::daemon::Daemon;
use support::http::{Got, Http, encode};
use support::mirror::{Media, apply, entries};
use support::record::Body;
use support::state::{State, assert_same};
use support::tokens::{Token, TokenFile};
use support::workload::{Workload, put};
use tokio::sync::watch;

const KEEP: [&str; 4] = ["--keep-count", "100000", "--keep-bytes", "1GiB"];

/// Both ways of waiting.
const FRONTS: [[&str; 2]; 2] = [["--lean-front", "on"], ["--lean-front", "off"]];

/// What a token may read.
type Rights = Vec<Vec<u8>>;

fn may_read(rights: &Rights, key: &[u8]) -> bool {
    rights.iter().any(|prefix| key.starts_with(prefix))
}

/// The part of a state that is asked for and may be read.
fn visible(state: &State, rights: &Rights, prefix: &[u8]) -> State {
    let seen = |key: &&Vec<u8>| key.starts_with(prefix) && may_read(rights, key);
    state.iter().filter(|(key, _)| seen(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Whether there may be a key that is asked for and may be read.
fn reaches(rights: &Rights, prefix: &[u8]) -> bool {
    rights.iter().any(|right| right.starts_with(prefix) || prefix.starts_with(right))
}

/// Whether all that is asked for may be read.
fn is_whole(rights: &Rights, prefix: &[u8]) -> bool {
    rights.iter().any(|right| prefix.starts_with(right))
}

/// The state at each cursor.
#[derive(Default)]
struct Model {
    state: State,
    at: BTreeMap<String, State>,
    cursors: Vec<String>,
}

impl Model {
    async fn write(&mut self, http: &Http, workload: &mut Workload) {
        let batch = workload.batch(30);
        let records: Vec<String> = batch.iter().map(|op| op.record()).collect();
        let cursor = http.post(&records).await;
        batch.iter().for_each(|op| op.apply(&mut self.state));
        self.at.insert(cursor.clone(), self.state.clone());
        self.cursors.push(cursor);
    }

    fn some_cursor(&self, rng: &mut Rng) -> &str {
        &self.cursors[rng.usize(..self.cursors.len())]
    }
}

/// A prefix that cuts a key somewhere, or another one.
fn some_prefix(workload: &mut Workload) -> Vec<u8> {
    let key = workload.key();
    let cut = workload.rng().usize(..=key.len().min(6));
    key[..cut].to_vec()
}

fn body(got: &Got) -> Body {
    Body::read(got.need("content-type"), &got.plain())
}

/// One client with random rights that asks random questions.
struct Curious {
    http: Http,
    rights: Rights,
    rng: Rng,
}

impl Curious {
    async fn ask(&mut self, model: &Model, workload: &mut Workload) {
        let prefix = if self.rng.bool() { Vec::new() } else { some_prefix(workload) };
        let (from, to) = (model.some_cursor(&mut self.rng), model.some_cursor(&mut self.rng));
        let newest = model.cursors.last().unwrap();
        let query = format!("prefix={}", encode(&prefix));
        match self.rng.u8(..7) {
            0 => self.snapshot("/v1/breadcrumbs/current", newest, &prefix, model).await,
            1 => self.snapshot(&format!("/v1/breadcrumbs/{to}"), to, &prefix, model).await,
            2 => {
                self.changes(&format!("/v1/breadcrumbs/{from}/diff/{to}?{query}"), from, &prefix, model).await
            }
            3 => {
                let path = format!("/v1/breadcrumbs/{from}/next?wait=0&{query}");
                self.changes(&path, from, &prefix, model).await;
            }
            4 => self.pages(to, &prefix, model).await,
            5 => self.key(&workload.key(), from, to, model).await,
            _ => self.status().await,
        }
    }

    async fn get(&mut self, path: &str) -> Got {
        let media = [Media::Json, Media::Ndjson, Media::Bincode][self.rng.usize(..3)];
        let coding = ["identity", "gzip", "zstd"][self.rng.usize(..3)];
        self.http.get_with(path, &[("accept", media.accept()), ("accept-encoding", coding)]).await
    }

    /// Refused exactly where nothing can be seen; and what is told of the whole goes to those only who may read the whole.
    fn allowed(&self, got: &Got, prefix: &[u8]) -> bool {
        if !reaches(&self.rights, prefix) {
            got.problem(403);
            return false;
        }
        true
    }

    fn tells_nothing_of_the_whole(&self, body: &Body, prefix: &[u8]) {
        let whole = prefix.is_empty() && is_whole(&self.rights, prefix);
        assert_eq!(body.header.count.is_some(), whole, "count, of {:?}", self.rights);
        assert_eq!(body.header.digest.is_some(), whole, "digest, of {:?}", self.rights);
        if let Some(end) = &body.end {
            assert_eq!((end.count.is_some(), end.digest.is_some()), (whole, whole));
        }
    }

    async fn snapshot(&mut self, path: &str, at: &str, prefix: &[u8], model: &Model) {
        let got = self.get(&format!("{path}?prefix={}", encode(prefix))).await;
        if self.allowed(&got, prefix) {
            let body = body(&got.ok(200).standing());
            assert_eq!(body.header.cursor, at);
            self.tells_nothing_of_the_whole(&body, prefix);
            assert_same(path, &entries(&body), &visible(&model.at[at], &self.rights, prefix));
        }
    }

    /// Updates that lead from what is visible at one cursor to what is visible at another.
    async fn changes(&mut self, path: &str, from: &str, prefix: &[u8], model: &Model) {
        let got = self.get(path).await;
        if !self.allowed(&got, prefix) {
            return;
        }
        let mut state = visible(&model.at[from], &self.rights, prefix);
        let to = got.cursor().to_owned();
        if got.status == 200 {
            let body = body(&got.standing());
            self.tells_nothing_of_the_whole(&body, prefix);
            assert!(body.records.iter().all(|record| may_read(&self.rights, &record.key)), "{path}");
            apply(&mut state, 0, &body.records);
        } else {
            got.ok(204);
        }
        assert_same(path, &state, &visible(&model.at[&to], &self.rights, prefix));
    }

    async fn pages(&mut self, at: &str, prefix: &[u8], model: &Model) {
        let limit = self.rng.usize(1..40);
        let (mut listed, mut after) = (State::new(), String::new());
        loop {
            let path = format!("/v1/kv?at={at}&prefix={}&limit={limit}{after}", encode(prefix));
            let got = self.http.get(&path).await;
            if !self.allowed(&got, prefix) {
                return;
            }
            let page = body(&got.ok(200));
            listed.extend(entries(&page));
            match page.records.last() {
                Some(last) if page.records.len() == limit => {
                    after = format!("&start_after={}", encode(&last.key));
                }
                _ => break,
            }
        }
        assert_same("pages", &listed, &visible(&model.at[at], &self.rights, prefix));
    }

    async fn key(&mut self, key: &[u8], from: &str, at: &str, model: &Model) {
        // A client library would take these apart.
        if matches!(key, b"." | b"..") {
            return;
        }
        let path = format!("/v1/kv/{}", encode(key));
        let path = match self.rng.u8(..3) {
            0 => format!("{path}?at={at}"),
            1 => format!("{path}?after={from}&wait=0"),
            _ => path,
        };
        let got = self.get(&path).await;
        if !may_read(&self.rights, key) {
            let problem = got.problem(403);
            for member in ["current", "oldest"] {
                assert!(problem[member].is_null(), "{problem}");
            }
            assert!(got.header("etag").is_none() && got.header("crumbd-cursor").is_none());
            return;
        }
        let state = &model.at[got.cursor()];
        match got.status {
            200 => assert_eq!(&got.plain()[..], &*state[key], "{path}"),
            404 => assert!(!state.contains_key(key), "{path}"),
            204 => assert_eq!(model.at[from].get(key), state.get(key), "{path}"),
            _ => panic!("{path}: {got:?}"),
        }
    }

    async fn status(&mut self) {
        let status = self.http.get("/v1/status").await.ok(200).json();
        for member in ["count", "payload_bytes", "digest"] {
            assert_eq!(status.get(member).is_some(), is_whole(&self.rights, b""), "{status}");
        }
    }
}

/// Random rights: prefixes that cut keys, and some that no key has. A command line takes no NUL, and the file text only.
fn some_rights(workload: &mut Workload) -> Vec<String> {
    let text = |prefix: Vec<u8>| String::from_utf8(prefix).ok().filter(|prefix| !prefix.contains('\0'));
    let count = workload.rng().usize(0..6);
    (0..count).map(|_| text(some_prefix(workload)).unwrap_or("nowhere/".to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_rights_show_exactly_the_keys_within_them_whatever_is_asked() {
    const CLIENTS: usize = 24;
    const QUESTIONS: usize = 1200;
    for (seed, front) in FRONTS.into_iter().enumerate() {
        let seed = seed as u64 + 11;
        let mut workload = Workload::new(seed, "", 80);
        let mut file = TokenFile::new();
        let admin = file.add(&[""], &[""]);
        let mut asked: Vec<(Token, Rights)> = vec![(admin.clone(), vec![Vec::new()])];
        for _ in 0..CLIENTS {
            let rights = some_rights(&mut workload);
            let texts: Vec<&str> = rights.iter().map(String::as_str).collect();
            // Without any right `crumbd token` makes none.
            let token = file.add(&texts, if texts.is_empty() { &["only/to/write"] } else { &[] });
            asked.push((token, rights.into_iter().map(String::into_bytes).collect()));
        }
        let daemon = file.daemon(&[&KEEP[..], &front].concat());
        let admin = admin.http(&daemon);
        let client = |(place, (token, rights)): (usize, (Token, Rights))| Curious {
            http: token.http(&daemon),
            rights,
            rng: Rng::with_seed(place as u64),
        };
        let mut clients: Vec<Curious> = asked.into_iter().enumerate().map(client).collect();
        let mut model = Model::default();
        for question in 0..QUESTIONS {
            if question % 10 == 0 {
                model.write(&admin, &mut workload).await;
            }
            let client = question % clients.len();
            clients[client].ask(&model, &mut workload).await;
        }
    }
}

/// Follows the link from answer to answer until the last cursor, and says what it held at each.
async fn follow(http: Http, rights: Rights, last: watch::Receiver<Option<String>>) -> Vec<(String, State)> {
    let got = http.get("/v1/breadcrumbs/current").await.ok(200).standing();
    let mut state = entries(&body(&got));
    let (mut cursor, mut link) = (got.cursor().to_owned(), got.next_link().to_owned());
    let mut held = Vec::new();
    loop {
        held.push((cursor.clone(), state.clone()));
        if last.borrow().as_ref() == Some(&cursor) {
            return held;
        }
        let separator = if link.contains('?') { '&' } else { '?' };
        let got = http.get(&format!("{link}{separator}wait=500ms")).await.standing();
        (cursor, link) = (got.cursor().to_owned(), got.next_link().to_owned());
        if got.status == 200 {
            let body = body(&got);
            assert!(body.records.iter().all(|record| may_read(&rights, &record.key)));
            apply(&mut state, 0, &body.records);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_with_a_token_holds_what_it_may_read_at_every_step() {
    for front in FRONTS {
        let mut file = TokenFile::new();
        let admin = file.add(&[""], &[""]);
        let readers = [&["app/"][..], &["app", "db/"], &["zone/00", "db/001", "ключ"], &["nowhere/"], &[""]];
        let readers = readers.map(|read| (file.add(read, &[]), read));
        let daemon = file.daemon(&[&KEEP[..], &front].concat());
        let admin = admin.http(&daemon);
        let mut workload = Workload::new(5, "", 80);
        let mut model = Model::default();
        model.write(&admin, &mut workload).await;
        let (say_last, last) = watch::channel(None);
        let mut followers = Vec::new();
        for (token, read) in readers {
            let rights: Rights = read.iter().map(|prefix| prefix.as_bytes().to_vec()).collect();
            let following = follow(token.http(&daemon), rights.clone(), last.clone());
            followers.push((rights, tokio::spawn(following)));
        }
        for _ in 0..400 {
            model.write(&admin, &mut workload).await;
        }
        say_last.send_replace(Some(model.cursors.last().unwrap().clone()));
        for (rights, follower) in followers {
            for (cursor, held) in support::in_time("the follower arrives", follower).await.unwrap() {
                assert_same(&format!("{rights:?}"), &held, &visible(&model.at[&cursor], &rights, b""));
            }
        }
    }
}

/// A daemon, a token for everything, one for `a/` and `b/`, and a cursor; there are keys under `a/`, `b/` and `c/`.
async fn guarded(more: &[&str]) -> (Daemon, TokenFile, [Token; 2], String) {
    let mut file = TokenFile::new();
    let all = file.add(&[""], &[""]);
    let some = file.add(&["a/", "b/"], &["a/", "w/"]);
    let daemon = file.daemon(more);
    let keys = ["a/1", "a/2", "b/1", "c/1"].map(|key| put(key, "1"));
    let cursor = all.http(&daemon).post(&keys).await;
    (daemon, file, [all, some], cursor)
}

#[tokio::test]
async fn without_a_known_token_nothing_is_answered_on_either_front() {
    for front in FRONTS {
        let (daemon, _file, [all, _], cursor) = guarded(&front).await;
        let http = daemon.http();
        let paths = [
            "/v1/breadcrumbs/current".to_owned(),
            format!("/v1/breadcrumbs/{cursor}"),
            format!("/v1/breadcrumbs/{cursor}/next?wait=0"),
            format!("/v1/breadcrumbs/{cursor}/next?wait=0&prefix=a%2F&rights=0"),
            format!("/v1/breadcrumbs/{cursor}/diff/{cursor}"),
            "/v1/kv".to_owned(),
            "/v1/kv/a%2F1".to_owned(),
            "/v1/stream".to_owned(),
            "/v1/status".to_owned(),
            "/metrics".to_owned(),
            "/nothing/here".to_owned(),
        ];
        let basic = format!("Basic {}", all.text);
        let almost = format!("Bearer {}", &all.text[..all.text.len() - 1]);
        for path in &paths {
            // A request that is let in leaves its header lines behind, which must not let in another.
            all.http(&daemon).get(&format!("/v1/breadcrumbs/{cursor}/next?wait=0")).await.ok(204);
            for wrong in [None, Some(""), Some("Bearer"), Some("Bearer x"), Some(&*basic), Some(&*almost)] {
                let headers: Vec<_> = wrong.iter().map(|value| ("authorization", *value)).collect();
                let got = http.get_with(path, &headers).await;
                got.problem(401);
                assert!(got.need("www-authenticate").starts_with("Bearer"), "{path}");
                assert!(got.header("crumbd-cursor").is_none(), "{path}");
            }
        }
        for (method, path) in [("PUT", "/v1/kv/x"), ("DELETE", "/v1/kv/a%2F1"), ("POST", "/v1/updates")] {
            http.send(method, path, &[], Some(b"1".to_vec())).await.problem(401);
        }
        let twice = [("authorization", "Bearer x"), ("authorization", &*format!("Bearer {}", all.text))];
        http.get_with(&format!("/v1/breadcrumbs/{cursor}/next?wait=0"), &twice).await.problem(400);
        for open in ["/livez", "/readyz", "/", "/page.css", "/page.js"] {
            http.get(open).await.ok(200);
        }
        let lower = format!("bearer {}", all.text);
        http.get_with("/v1/kv", &[("authorization", &lower)]).await.ok(200);
        assert_eq!(all.http(&daemon).cursor().await, cursor, "nothing was written");
    }
}

/// A long poll on its way.
fn wait(http: Http, path: String) -> tokio::task::JoinHandle<Got> {
    tokio::spawn(async move { http.get(&path).await })
}

async fn waiters(http: &Http, wanted: u64) {
    let what = format!("{wanted} waiters");
    support::eventually(&what, || async {
        (http.get("/v1/status").await.ok(200).json()["waiters"] == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_change_of_rights_answers_at_once_those_who_wait_and_only_them() {
    for front in FRONTS {
        let (daemon, mut file, [all, some], cursor) = guarded(&front).await;
        let (gone, kept) = (file.add(&["a/"], &[]), file.add(&["a/"], &[]));
        file.save();
        daemon.signal("HUP");
        let admin = all.http(&daemon);
        support::eventually("the new tokens count", || async {
            (kept.http(&daemon).get("/v1/kv").await.status == 200).then_some(())
        })
        .await;
        let next = format!("/v1/breadcrumbs/{cursor}/next?wait=30s");
        let link = some.http(&daemon).get("/v1/breadcrumbs/current").await.ok(200).next_link().to_owned();
        let waiting = [
            wait(some.http(&daemon), next.clone()),
            wait(some.http(&daemon), format!("{next}&prefix=a%2F")),
            wait(some.http(&daemon), format!("/v1/kv/a%2F1?after={cursor}&wait=30s")),
            wait(gone.http(&daemon), next.clone()),
        ];
        let unchanged = wait(kept.http(&daemon), next.clone());
        waiters(&admin, 5).await;

        // A file that makes no sense changes nothing.
        file.save_as("nonsense\n");
        daemon.logged("the fault", |line| line.contains("keep the rights").then_some(()));
        waiters(&admin, 5).await;

        file.change(&some, Some(&["a/"]));
        file.change(&gone, None);
        file.save();
        let [first, second, third, removed] = waiting;
        for waiter in [first, second, third] {
            let problem = support::in_time("the waiter is told", waiter).await.unwrap().problem(403);
            assert_eq!(problem["type"], "urn:crumbd:problem:permission-changed");
        }
        let problem = support::in_time("the waiter is told", removed).await.unwrap().problem(401);
        assert_eq!(problem["type"], "urn:crumbd:problem:token-removed");
        waiters(&admin, 1).await;

        // What it holds was made under other rights: going on from there would leave keys behind.
        let problem = some.http(&daemon).get(&format!("{link}&wait=0")).await.problem(410);
        assert_eq!(problem["type"], "urn:crumbd:problem:rights-changed");
        some.http(&daemon).get("/v1/kv/b%2F1").await.problem(403);
        let now = some.http(&daemon).get("/v1/breadcrumbs/current").await.ok(200);
        assert_eq!(entries(&body(&now)).len(), 2);
        some.http(&daemon).get(&format!("{}&wait=0", now.next_link())).await.ok(204);
        gone.http(&daemon).get(&next).await.problem(401);

        // Who kept its rights waits on, and hears what comes.
        admin.put(b"a/3", "application/json", b"3").await;
        let got = support::in_time("the other waiter", unchanged).await.unwrap().ok(200);
        assert_eq!(body(&got).records.len(), 1);
    }
}

#[tokio::test]
async fn a_tokens_file_that_is_empty_or_absent_for_a_while_takes_nobodys_rights_away() {
    let (daemon, mut file, [all, _], cursor) = guarded(&[]).await;
    let waiter = wait(all.http(&daemon), format!("/v1/breadcrumbs/{cursor}/next?wait=30s"));
    waiters(&all.http(&daemon), 1).await;
    // Written in place: the same file, with fewer bytes for a while.
    std::fs::write(file.path(), "").unwrap();
    daemon.logged("the fault", |line| line.contains("has no token").then_some(()));
    let aside = format!("{}.aside", file.path());
    std::fs::rename(file.path(), &aside).unwrap();
    daemon.logged("the fault", |line| line.contains("No such file").then_some(()));
    std::fs::rename(aside, file.path()).unwrap();
    waiters(&all.http(&daemon), 1).await;

    // A good file counts again, also one from an editor that begins it with a byte order mark.
    let new = file.add(&["a/"], &[]);
    file.save();
    let text = std::fs::read_to_string(file.path()).unwrap();
    file.save_as(&format!("\u{feff}{text}"));
    support::eventually("the new token", || async {
        (new.http(&daemon).get("/v1/kv").await.status == 200).then_some(())
    })
    .await;
    waiters(&all.http(&daemon), 1).await;

    file.save_as("# no tokens\n");
    let problem = support::in_time("the waiter is told", waiter).await.unwrap().problem(401);
    assert_eq!(problem["type"], "urn:crumbd:problem:token-removed");
}

#[tokio::test]
async fn a_token_writes_only_what_it_may_and_learns_nothing_by_it() {
    let (daemon, mut file, [all, some], cursor) = guarded(&[]).await;
    let (admin, http) = (all.http(&daemon), some.http(&daemon));
    let send = |method: &'static str, key: &'static str, headers: Vec<(&'static str, &'static str)>| {
        let (http, body) = (http.clone(), (method == "PUT").then(|| b"1".to_vec()));
        async move { http.send(method, &format!("/v1/kv/{key}"), &headers, body).await }
    };
    for key in ["b%2F1", "c%2F1", "c%2Fabsent", "", "w", "a"] {
        send("PUT", key, vec![]).await.problem(403);
        send("DELETE", key, vec![]).await.problem(403);
    }
    let line = |key: &str| put(key, "2");
    let post = |lines: Vec<String>| {
        let http = http.clone();
        async move { http.send("POST", "/v1/updates", &[], Some(support::http::lines(&lines))).await }
    };
    post(vec![line("a/1"), line("b/1")]).await.problem(403);
    let replacing = ["{\"type\":\"snapshot\"}".to_owned(), line("a/1"), "{\"type\":\"end\"}".to_owned()];
    post(replacing.to_vec()).await.problem(403);
    assert_eq!(admin.cursor().await, cursor, "nothing was written, not even in part");

    assert_eq!(send("PUT", "a%2F1", vec![]).await.ok(200).json()["changed"], 0);
    assert_eq!(post(vec![line("a/1"), line("a/9")]).await.ok(200).json()["changed"], 2);
    send("PUT", "a%2F1", vec![("if-none-match", "*")]).await.problem(412);

    // What may be written and not read: neither the answer nor a condition tells how it stands.
    admin.put(b"w/1", "application/json", b"1").await;
    for key in ["w%2F1", "w%2Fabsent"] {
        for header in ["if-match", "if-none-match"] {
            send("PUT", key, vec![(header, "*")]).await.problem(403);
            send("DELETE", key, vec![(header, "\"1\"")]).await.problem(403);
        }
        for method in ["PUT", "DELETE"] {
            let got = send(method, key, vec![]).await.ok(200);
            assert!(got.json().get("changed").is_none() && got.header("etag").is_none(), "{got:?}");
        }
    }
    let writer = file.add(&[], &["w/"]);
    file.save();
    support::eventually("the token that only writes", || async {
        (writer.http(&daemon).get("/v1/breadcrumbs/current").await.status == 403).then_some(())
    })
    .await;
    writer.http(&daemon).put(b"w/2", "application/json", b"1").await;
    assert!(admin.get("/v1/kv/w%2F2").await.status == 200);
}

#[tokio::test]
async fn what_a_token_gets_is_not_for_shared_caches_and_has_a_tag_of_its_own() {
    for front in FRONTS {
        let (daemon, mut file, [all, some], cursor) = guarded(&front).await;
        let (admin, http) = (all.http(&daemon), some.http(&daemon));
        let second = admin.put(b"a/1", "application/json", b"2").await;
        let paths = [
            "/v1/breadcrumbs/current".to_owned(),
            format!("/v1/breadcrumbs/{cursor}"),
            format!("/v1/breadcrumbs/{cursor}/next?wait=0"),
            format!("/v1/breadcrumbs/{cursor}/diff/{second}"),
            "/v1/kv".to_owned(),
            "/v1/kv/a%2F1".to_owned(),
        ];
        for path in &paths {
            for http in [&admin, &http] {
                let got = http.get(path).await.ok(200);
                assert!(got.need("cache-control").starts_with("private"), "{path}: {:?}", got.headers);
                assert!(got.need("vary").to_ascii_lowercase().contains("authorization"), "{path}");
            }
        }
        let etag = |got: Got| got.need("etag").to_owned();
        let (whole, part) = (etag(admin.get(&paths[0]).await), etag(http.get(&paths[0]).await));
        assert_ne!(whole, part, "the same address, but not the same representation");
        http.get_with(&paths[0], &[("if-none-match", &part)]).await.ok(304);
        http.get_with(&paths[0], &[("if-none-match", &whole)]).await.ok(200);
        // The same state after a change of rights is another representation.
        file.change(&some, Some(&["a/"]));
        file.save();
        support::eventually("the new rights", || async {
            (http.get("/v1/kv/b%2F1").await.status == 403).then_some(())
        })
        .await;
        http.get_with(&paths[0], &[("if-none-match", &part)]).await.ok(200);
    }
}

#[tokio::test]
async fn a_prefix_within_the_rights_is_answered_as_everybody_is() {
    let (daemon, _file, [all, some], cursor) = guarded(&[]).await;
    let second = all.http(&daemon).put(b"a/1", "application/json", b"2").await;
    for path in [
        "/v1/breadcrumbs/current?prefix=a%2F".to_owned(),
        format!("/v1/breadcrumbs/{cursor}?prefix=a%2F"),
        format!("/v1/breadcrumbs/{cursor}/next?prefix=a%2F"),
        format!("/v1/breadcrumbs/{cursor}/diff/{second}?prefix=a%2F"),
    ] {
        let [whole, part] = [all.http(&daemon).get(&path).await, some.http(&daemon).get(&path).await];
        assert_eq!(whole.ok(200).body, part.ok(200).body, "{path}");
    }
}

#[test]
fn a_daemon_does_not_start_with_a_file_of_tokens_that_makes_no_sense() {
    let file = TokenFile::new();
    file.save_as("{\"sha256\":\"too short\"}\n");
    let ended = Daemon::serve_and_end(&["--tokens", file.path()]);
    assert!(!ended.status.success() && ended.stderr.contains("line 1"), "{}", ended.stderr);
    let ended = Daemon::serve_and_end(&["--tokens", "/nowhere/tokens.jsonl"]);
    assert!(!ended.status.success() && ended.stderr.contains("/nowhere/tokens.jsonl"), "{}", ended.stderr);

    // What is no JSON at all, and prefixes that are no list, are told what a line looks like.
    let hash = "0".repeat(64);
    for (text, place) in [
        ("root:x:0:0:root:/root:/bin/bash\n", "line 1: "),
        (&*format!("# a comment\n{{\"sha256\":\"{hash}\",\"read\":\"\"}}\n"), "line 2: "),
        (&*format!("[\"x\",\"{hash}\",[\"\"],[\"\"],{{}},true]\n"), "line 1: "),
    ] {
        file.save_as(text);
        for check in [&["--check"][..], &[]] {
            let ended = Daemon::serve_and_end(&[&["--tokens", file.path()], check].concat());
            let form = "a line is {\"name\":\"edge\",\"sha256\":\"64 HEX DIGITS\",\"read\":[\"edge/\"],\"write\":[]}";
            for said in [file.path(), place, "a JSON object", form, "[\"\"] is every key"] {
                assert!(ended.stderr.contains(said), "{said} in {}", ended.stderr);
            }
            assert!(!ended.status.success() && !ended.stderr.contains("line 1 column"), "{}", ended.stderr);
        }
    }
}

#[tokio::test]
async fn a_collection_that_tokens_name_and_no_feed_has_is_warned_of() {
    let file = TokenFile::new();
    let hash = "0".repeat(64);
    let rights = |name| format!("\"{name}\":{{\"read\":[\"\"]}}");
    let (pods, nodes, others) = (rights("pods"), rights("nodes"), rights("*"));
    file.save_as(&format!("{{\"sha256\":\"{hash}\",\"collections\":{{{pods},{nodes},{others}}}}}\n"));
    let warning = "no feed has the collection \"nodes\";";
    let args = ["--tokens", file.path(), "--feed", "pods=push:"];
    let checked =
        support::daemon::run(&[&["serve", "--check", "--listen", "127.0.0.1:0"], &args[..]].concat());
    let said = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
    assert!(checked.status.success() && said.contains(warning), "{said}");
    let daemon = Daemon::serve(&args);
    daemon.logged("the warning", |log| log.contains("no feed has the collection").then_some(()));
    let known = ["--tokens", file.path(), "--feed", "pods=push:", "--feed", "nodes=push:"];
    let checked =
        support::daemon::run(&[&["serve", "--check", "--listen", "127.0.0.1:0"], &known[..]].concat());
    let said = String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap();
    assert!(checked.status.success() && !said.contains("no feed has"), "{said}");
}

#[tokio::test]
async fn the_command_line_sends_its_token() {
    let (daemon, file, [all, _], _) = guarded(&[]).await;
    let path = format!("{}.token", file.path());
    std::fs::write(&path, format!("{}\n", all.text)).unwrap();
    let run = |more: &[&str]| support::daemon::run(&[&["get", "a/1", "--url", daemon.url()], more].concat());
    let refused = run(&[]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("401"));
    assert_eq!(run(&["--token-file", &path]).stdout, b"1");
}

#[tokio::test]
async fn a_tokens_file_that_blocks_or_never_ends_is_an_error_and_is_read_again() {
    let (daemon, mut file, [all, some], _) = guarded(&[]).await;
    let replace = |with: &dyn Fn(&std::path::Path)| {
        let aside = std::path::PathBuf::from(format!("{}.odd", file.path()));
        with(&aside);
        std::fs::rename(aside, file.path()).unwrap();
    };
    replace(&|path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()));
    daemon.logged("the fault", |line| line.contains("not a regular file").then_some(()));
    replace(&|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap());
    replace(&|path| std::fs::File::create(path).unwrap().set_len(300 << 20).unwrap());
    daemon.logged("the fault", |line| line.contains("more than").then_some(()));
    all.http(&daemon).get("/v1/kv").await.ok(200);
    file.change(&some, None);
    file.save();
    support::eventually("the removed token to be refused", || async {
        (some.http(&daemon).get("/v1/kv").await.status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_change_that_keeps_size_and_time_is_noticed() {
    let (daemon, file, [_, some], _) = guarded(&[]).await;
    some.http(&daemon).get("/v1/kv/a%2F1").await.ok(200);
    let text = std::fs::read_to_string(file.path()).unwrap();
    let modified = std::fs::metadata(file.path()).unwrap().modified().unwrap();
    let other = text.replace("\"a/\"", "\"b/\"");
    assert!(other.len() == text.len() && other != text, "{text}");
    // The same file, written in place.
    std::fs::write(file.path(), other).unwrap();
    std::fs::File::options().write(true).open(file.path()).unwrap().set_modified(modified).unwrap();
    support::eventually("the other rights", || async {
        (some.http(&daemon).get("/v1/kv/a%2F1").await.status == 403).then_some(())
    })
    .await;
}
