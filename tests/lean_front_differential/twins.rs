//! Two daemons of one state, one with the lean front and one without.

use std::path::Path;

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::eventually;
use crate::support::http::lines;
use crate::support::tls::Authority;
use crate::support::tokens::TokenFile;
use crate::support::workload::{deleted, put};

/// Few, so that some cursors that were given are gone.
const KEEP: &str = "8";

/// How often something is appended to the feed.
const STEPS: usize = 16;

/// The twins.
pub struct Twins {
    pub lean: Daemon,
    pub framework: Daemon,
    pub places: Places,
    _dir: tempfile::TempDir,
    _tokens: TokenFile,
    _authority: Option<Authority>,
}

/// Cursors to ask with.
#[derive(Clone)]
pub struct Places {
    pub newest: String,
    /// Kept, from the oldest to the newest but one.
    pub kept: Vec<String>,
    pub gone: String,
    pub ahead: String,
    pub foreign: String,
    /// One that may read all keys, one some, one none that is there; empty when none are wanted.
    pub tokens: Vec<String>,
}

impl Twins {
    /// Both have the same push log, and then each its own.
    pub async fn of_a_log() -> Twins {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| dir.path().join(name).display().to_string());
        let mut first = Daemon::push(&["--state-dir", &one]);
        let newest = first.http().post(&[put("app/1", "1")]).await;
        first.terminate();
        assert!(first.wait_exit().success());
        std::fs::create_dir(&two).unwrap();
        for file in std::fs::read_dir(&one).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), Path::new(&two).join(file.file_name())).unwrap();
        }
        let serve = |dir: &str, front: &str| Daemon::push(&["--state-dir", dir, "--lean-front", front]);
        let (lean, framework, _) = alike(None, || (serve(&one, "on"), serve(&two, "off"))).await;
        let (ahead, foreign) = (ahead(&newest), newest.clone());
        let places = Places {
            kept: vec![newest.clone()],
            gone: newest.clone(),
            newest,
            ahead,
            foreign,
            tokens: vec![],
        };
        Twins { lean, framework, places, _dir: dir, _tokens: TokenFile::new(), _authority: None }
    }

    /// Both follow the same file, which grows no more.
    pub async fn of_a_file() -> Twins {
        Twins::with(TokenFile::new(), vec![], None).await
    }

    /// The same over TLS.
    pub async fn over_tls() -> Twins {
        Twins::with(TokenFile::new(), vec![], Some(Authority::new("authority"))).await
    }

    /// The same, and both want the tokens of one file.
    pub async fn that_want_tokens() -> Twins {
        let mut file = TokenFile::new();
        let tokens = ["", "app/", "nothing/"].map(|read| file.add(&[read], &[]).text).to_vec();
        file.save();
        Twins::with(file, tokens, None).await
    }

    async fn with(file: TokenFile, tokens: Vec<String>, authority: Option<Authority>) -> Twins {
        let token = tokens.first().map(String::as_str);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("feed.ndjson");
        std::fs::write(&path, lines(&[put("app/0", "0")])).unwrap();
        let feed = format!("file:{}?follow=true", path.display());
        let wanted = token.map_or(vec![], |_| vec!["--tokens", file.path()]);
        let secured = authority.as_ref().map(|authority| (authority, authority.server()));
        let serve = |front: &str| {
            let args = ["--feed", &feed, "--keep-count", KEEP, "--lean-front", front];
            let Some((authority, server)) = &secured else {
                return Daemon::serve(&[&args[..], &wanted].concat());
            };
            Daemon::serve(&[&args[..], &wanted, &server.served()].concat()).vouched_for_by(authority)
        };
        let (lean, framework, first) = alike(token, || (serve("on"), serve("off"))).await;
        let mut cursors = vec![first.0];
        for step in 1..STEPS {
            append(&path, step);
            let revision = 1 + step as u64;
            let (one, two) =
                (reached(&lean, token, revision).await, reached(&framework, token, revision).await);
            assert_eq!(one, two, "the twins have the same breadcrumbs");
            cursors.push(one.0);
        }
        let oldest = |status: &Value| status["kept"]["oldest"].as_str().unwrap().to_owned();
        let (one, two) = (oldest(&status(&lean, token).await), oldest(&status(&framework, token).await));
        assert_eq!(one, two, "what is kept is the same");
        let border = cursors.iter().position(|cursor| *cursor == one).expect("the oldest was given");
        let newest = cursors.pop().unwrap();
        let kept = cursors.split_off(border);
        let foreign = Daemon::push(&[]).http().post(&[put("a", "1")]).await;
        let ahead = ahead(&newest);
        let gone = cursors.pop().expect("some are gone");
        let places = Places { newest, kept, gone, ahead, foreign, tokens };
        Twins { lean, framework, places, _dir: dir, _tokens: file, _authority: authority }
    }
}

/// Starts both until they are alike: of the load itself the one may show more steps than the other.
async fn alike(token: Option<&str>, start: impl Fn() -> (Daemon, Daemon)) -> (Daemon, Daemon, (String, u64)) {
    loop {
        let (lean, framework) = start();
        let (one, two) = (reached(&lean, token, 1).await, reached(&framework, token, 1).await);
        if one == two {
            return (lean, framework, one);
        }
    }
}

/// The same place, many revisions later.
fn ahead(cursor: &str) -> String {
    let (history, rest) = cursor.split_once('.').unwrap();
    let (_, check) = rest.split_once('.').unwrap();
    format!("{history}.4000.{check}")
}

/// What the daemon says about itself.
pub async fn status(daemon: &Daemon, token: Option<&str>) -> Value {
    let http = token.map_or(daemon.http(), |token| daemon.http().with_token(token));
    http.get("/v1/status").await.ok(200).json()
}

/// Waits until the daemon is at this revision; its cursor and the number of its breadcrumb.
async fn reached(daemon: &Daemon, token: Option<&str>, revision: u64) -> (String, u64) {
    let there = || async {
        let status = status(daemon, token).await;
        let there = status["revision"] == revision && status["status"] == "in-sync";
        there.then(|| (status["cursor"].as_str().unwrap().to_owned(), status["sequence"].as_u64().unwrap()))
    };
    eventually("the next revision", there).await
}

fn append(path: &Path, step: usize) {
    use std::io::Write as _;
    let long = format!("\"{}\"", "crumb ".repeat(400));
    let record = match step % 5 {
        0 => deleted(&format!("app/{}", step - 2)),
        1 => put(&format!("db/{step}"), &long),
        _ => put(&format!("app/{step}"), &step.to_string()),
    };
    std::fs::OpenOptions::new().append(true).open(path).unwrap().write_all(&lines(&[record])).unwrap();
}
