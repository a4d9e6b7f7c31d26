//! The examples, as a reader runs them.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use support::browser::Browser;
use support::daemon::Daemon;
use support::etcd::free_port;
use support::eventually;
use support::following::Following;
use support::http::Http;
use support::state::State;
use support::tokens::TokenFile;
use support::workload::{deleted, put};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// The programs that print each change, with what runs them.
const FOLLOWERS: [(&str, &str); 3] = [("sh", "follow.sh"), ("python3", "follow.py"), ("node", "follow.mjs")];

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn follow(program: &str, file: &str, url: &str) -> Following {
    let mut command = Command::new(program);
    command.arg(example(file)).arg(url);
    Following::run(command)
}

fn set(state: &mut State, key: &str, value: &str) -> String {
    state.insert(key.into(), value.as_bytes().into());
    put(key, value)
}

/// Simple values: most JSON tools print others in a spelling of their own.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_followers_print_adds_up_to_the_state_over_restarts() {
    for (program, file) in FOLLOWERS {
        let dir = tempfile::tempdir().unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let state_dir = dir.path().join("state");
        let serve = || {
            let state_dir = state_dir.to_str().unwrap();
            Daemon::serve(&["--feed", "push:", "--listen", &listen, "--state-dir", state_dir])
        };
        let (mut daemon, mut state) = (serve(), State::new());
        let ops =
            [("a", "1"), ("b", "\"two\""), ("c/d", "true")].map(|(key, value)| set(&mut state, key, value));
        daemon.http().post(&ops).await;
        let following = follow(program, file, daemon.url());
        following.reaches(&state).await;
        for round in 0..3 {
            let ops =
                [set(&mut state, "a", &format!("1{round}")), set(&mut state, &format!("new-{round}"), "1")];
            daemon.http().post(&ops).await;
            following.reaches(&state).await;
            state.remove(b"b".as_slice());
            daemon.http().post(&[deleted("b")]).await;
            following.reaches(&state).await;
            daemon.http().post(&[set(&mut state, "b", "null")]).await;
            daemon.signal("KILL");
            _ = daemon.wait_exit();
            daemon = serve();
        }
        // Its cursor was continued each time: nothing was printed twice.
        following.reaches(&state).await;
        let lines = following.printed(|_| true);
        assert_eq!(lines, 3 + 3 * 4, "{program}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_ends_with_a_sentence_where_it_may_not_read() {
    let mut tokens = TokenFile::new();
    tokens.add(&[""], &[]);
    tokens.save();
    let daemon = tokens.daemon(&[]);
    for (program, file) in FOLLOWERS {
        follow(program, file, daemon.url()).says("Authorization: Bearer").await;
    }
}

/// Serves one file to any number of requests, as `python3 -m http.server` does.
async fn serve_file(file: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                _ = stream.read(&mut [0; 4096]).await;
                let page = std::fs::read_to_string(example(file)).unwrap();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    page.len()
                );
                _ = stream.write_all((head + &page).as_bytes()).await;
            });
        }
    });
    origin
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_shows_the_state_as_it_changes() {
    let origin = serve_file("browser.html").await;
    let daemon = Daemon::push(&["--allow-origin", &origin]);
    daemon.http().post(&[put("a", "1"), put("b", "{\"n\": 2}")]).await;
    let browser = Browser::start().await;
    browser.open(&format!("{origin}/browser.html?daemon={}", daemon.url())).await;
    let shows = async |wanted: &[&str]| {
        eventually("its rows", || async { (browser.column("table", 1).await == wanted).then_some(()) }).await;
    };
    shows(&["a", "b"]).await;
    browser.sees("#status", "in-sync").await;
    daemon.http().post(&[deleted("a"), put("c", "\"<b>three</b>\"")]).await;
    shows(&["b", "c"]).await;
    browser.sees("table", "<b>three</b>").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_switches_its_features_as_keys_say() {
    let origin = serve_file("feature-flags/index.html").await;
    let daemon = Daemon::push(&["--allow-origin", &origin]);
    daemon.http().post(&[put("flags/dark", "false"), put("other", "1")]).await;
    let browser = Browser::start().await;
    browser.open(&format!("{origin}/?daemon={}", daemon.url())).await;
    browser.sees("#flags", "dark").await;
    let is = async |script: &str| {
        eventually(script, || async { (browser.run(script).await == true).then_some(()) }).await;
    };
    is("return document.getElementById('banner').hidden").await;
    let banner = put("flags/banner", r#"{"on": true, "text": "<i>noon</i>"}"#);
    daemon.http().post(&[banner, put("flags/dark", "true")]).await;
    browser.sees("#banner", "<i>noon</i>").await;
    is("return document.body.classList.contains('dark')").await;
    daemon.http().post(&[deleted("flags/banner"), deleted("flags/dark")]).await;
    browser.sees("#flags", "none").await;
    is("return document.getElementById('banner').hidden && !document.body.classList.contains('dark')").await;
}

/// Answers every request with its name.
async fn backend(name: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            _ = stream.read(&mut [0; 4096]).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}",
                name.len()
            );
            _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_gets_its_upstreams_from_keys() {
    let (daemon, dir, port) = (Daemon::push(&[]), tempfile::tempdir().unwrap(), free_port());
    let mut command = Command::new(example("mirror-nginx/run.sh"));
    command.env("CRUMBD", env!("CARGO_BIN_EXE_crumbd")).env("CRUMBD_URL", daemon.url());
    command.env("PORT", port.to_string()).env("DIR", dir.path());
    // Ended by its id, with a signal that it can clean up after.
    let mut script = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let nginx = Http::new(&format!("http://127.0.0.1:{port}"));
    let (one, two) = (backend("one").await, backend("two").await);
    let is_answered_by = async |name: &str| {
        let what = format!("{name} to answer");
        let look = || async {
            let got = nginx.try_send("GET", "/web/", &[], None).await.ok()?;
            (got.status == 200 && got.body == name.as_bytes()).then_some(())
        };
        eventually(&what, look).await;
    };
    daemon.http().post(&[put("upstreams/web/one", &format!("\"{one}\"")), put("other", "1")]).await;
    // A value that is text: JSON's quotes would be part of it.
    daemon.http().put(b"upstreams/web/one", "text/plain", one.as_bytes()).await;
    is_answered_by("one").await;
    daemon.http().put(b"upstreams/web/one", "text/plain", two.as_bytes()).await;
    is_answered_by("two").await;
    // What nginx would refuse changes nothing.
    daemon.http().put(b"upstreams/web/bad", "text/plain", b"no } server").await;
    daemon.http().put(b"upstreams/web/one", "text/plain", one.as_bytes()).await;
    is_answered_by("two").await;
    daemon.http().delete(b"upstreams/web/bad").await;
    is_answered_by("one").await;
    Command::new("kill").arg(script.id().to_string()).status().unwrap();
    assert!(script.wait().unwrap().success());
    assert_eq!(processes_about(dir.path()), Vec::<String>::new());
}

/// The command lines of the processes that name this directory.
fn processes_about(dir: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    lines.map(|line| line.replace('\0', " ")).filter(|line| line.contains(dir.to_str().unwrap())).collect()
}
