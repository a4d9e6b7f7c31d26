//! `crumbd dump | crumbd load` moves the data of a daemon to another one, and to etcd.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use support::daemon::{Daemon, command, run};
use support::etcd::Etcd;
use support::followed::{current, is};
use support::http::Http;
use support::state::{State, assert_same};
use support::workload::{Op, Workload, put};

/// Fills a daemon with keys and values of every kind below `app/`; gives the state.
async fn fill(http: &Http, seed: u64) -> State {
    let mut workload = Workload::new(seed, "app/", 300);
    let mut model = State::new();
    for _ in 0..40 {
        let batch = workload.batch(40);
        batch.iter().for_each(|op| op.apply(&mut model));
        http.post(&batch.iter().map(Op::record).collect::<Vec<_>>()).await;
    }
    assert!(model.len() > 100);
    model
}

fn dump(of: &Daemon) -> Vec<u8> {
    let dump = run(&["dump", "--url", of.url()]);
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    dump.stdout
}

/// Runs `crumbd load` with this dump as its input.
async fn load(dump: &[u8], to: &Daemon, more: &[&str]) -> Output {
    let mut command: Command = command();
    command.args(["load", "--url", to.url()]).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let dump = dump.to_vec();
    let run = move || {
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // A dump that is refused is not read to its end.
        let writer = std::thread::spawn(move || drop(input.write_all(&dump)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn said(output: Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn complaint(output: Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn writer(etcd: &Etcd) -> Daemon {
    let daemon = Daemon::serve(&["--feed", &etcd.feed("app/?write=true")]);
    is(&daemon.http(), "in-sync").await;
    daemon
}

#[tokio::test]
async fn a_push_daemon_moves_to_etcd_byte_for_byte_and_a_second_load_has_nothing_to_do() {
    let old = Daemon::push(&[]);
    let model = fill(&old.http(), 3).await;
    let dump = dump(&old);
    let etcd = Etcd::start().await;
    let new = writer(&etcd).await;
    let done = said(load(&dump, &new, &[]).await);
    let keys = model.len();
    assert!(done.contains(&format!("{keys} keys: {keys} written, of which {keys} were changes")), "{done}");
    assert!(done.contains("exactly this state"), "{done}");
    assert_same("etcd", &etcd.keys().range(b"app/").await.state, &model);
    assert_same("the daemon", &current(&new.http()).await, &model);
    let revision = etcd.keys().revision().await;
    let again = said(load(&dump, &new, &[]).await);
    assert!(again.contains(&format!("{keys} keys: 0 written")), "{again}");
    assert_eq!(etcd.keys().revision().await, revision);
}

#[tokio::test]
async fn a_load_that_was_interrupted_goes_on_where_it_stopped() {
    let old = Daemon::push(&[]);
    let model = fill(&old.http(), 4).await;
    let dump = dump(&old);
    let new = Daemon::push(&[]);
    let mut line_ends = dump.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let (late, _) = line_ends.nth(model.len() - 10).unwrap();
    for cut in [late, late + 5] {
        let complaint = complaint(load(&dump[..=cut], &new, &[]).await);
        assert!(complaint.contains("cut off after record"), "{complaint}");
    }
    let had = current(&new.http()).await.len();
    let done = said(load(&dump, &new, &[]).await);
    assert!(had > 0 && done.contains(&format!("and {had} were there already")), "{had}: {done}");
    assert_same("the daemon", &current(&new.http()).await, &model);
}

#[tokio::test]
async fn keys_that_are_not_in_the_dump_stay_unless_they_are_to_be_replaced() {
    let (old, new) = (Daemon::push(&[]), Daemon::push(&[]));
    let model = fill(&old.http(), 5).await;
    let dump = dump(&old);
    new.http().post(&[put("other", "1"), put("more", "2")]).await;
    let done = said(load(&dump, &new, &[]).await);
    assert!(done.contains("the other keys that it had before"), "{done}");
    assert_eq!(current(&new.http()).await.len(), model.len() + 2);
    let some = run(&["dump", "--url", old.url(), "--prefix", "app/"]).stdout;
    let complaint = complaint(load(&some, &new, &["--replace"]).await);
    assert!(complaint.contains("of some keys only"), "{complaint}");
    said(load(&some, &new, &[]).await);
    let done = said(load(&dump, &new, &["--replace"]).await);
    assert!(done.contains("2 written") && done.contains("exactly this state"), "{done}");
    assert_same("the daemon", &current(&new.http()).await, &model);
}

#[tokio::test]
async fn what_is_no_dump_or_a_damaged_one_is_refused_with_the_place() {
    let (old, new) = (Daemon::push(&[]), Daemon::push(&[]));
    old.http().post(&[put("a", "1"), put("b", "2")]).await;
    let dump = String::from_utf8(dump(&old)).unwrap();
    let lines: Vec<&str> = dump.lines().collect();
    for (text, word) in [
        (put("a", "1"), "does not begin with a `snapshot`"),
        (String::new(), "does not begin with a `snapshot`"),
        ([lines[0], lines[1], "{\"type\":\"new\"}"].join("\n") + "\n", "record 3"),
        ([lines[0], lines[1], lines[0]].join("\n") + "\n", "record 3"),
        ([lines[0], lines[1], lines[3]].join("\n") + "\n", "it is damaged"),
    ] {
        let complaint = complaint(load(text.as_bytes(), &new, &[]).await);
        assert!(complaint.contains(word), "{text}: {complaint}");
    }
    let missing = complaint(run(&["load", "--url", new.url(), "/nowhere/dump"]));
    assert!(missing.contains("/nowhere/dump"), "{missing}");
    let reader = Daemon::serve_stdin(&["--feed", "stdin:"]);
    let refused = complaint(load(dump.as_bytes(), &reader, &[]).await);
    assert!(refused.contains("record 2 to 3") && refused.contains("write=true"), "{refused}");
}

#[tokio::test]
async fn an_etcd_that_takes_less_at_a_time_or_is_away_for_a_moment_gets_all_of_it() {
    let old = Daemon::push(&[]);
    let model = fill(&old.http(), 6).await;
    let mut etcd = Etcd::start_with(&["--max-txn-ops", "7"]).await;
    let new = writer(&etcd).await;
    etcd.kill();
    let text = dump(&old);
    let (done, ()) = tokio::join!(load(&text, &new, &[]), etcd.restart());
    assert!(said(done).contains("exactly this state"));
    assert_same("etcd", &etcd.keys().range(b"app/").await.state, &model);
}

#[tokio::test]
async fn times_to_live_are_left_out_on_request() {
    let old = Daemon::push(&[]);
    old.http().post(&[json!({"type": "put", "key": "app/a", "value": "1", "ttl": 60}).to_string()]).await;
    let etcd = Etcd::start().await;
    let new = writer(&etcd).await;
    let text = dump(&old);
    let refused = complaint(load(&text, &new, &[]).await);
    assert!(refused.contains("record 2 to 2") && refused.contains("ttl"), "{refused}");
    assert!(said(load(&text, &new, &["--drop-ttl"]).await).contains("exactly this state"));
}
