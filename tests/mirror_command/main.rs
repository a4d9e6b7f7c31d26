//! `crumbd mirror`: whatever the keys are, and whatever happens to the daemon, the network and the process, the files are
//! those of a state, and the manifest says of which.
#![allow(clippy::unwrap_used)]

mod directory;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use directory::Directory;
use support::daemon::Daemon;
use support::etcd::free_port;
use support::file_keeper::FileKeeper;
use support::http::Http;
use support::mirror::entries;
use support::record::Body;
use support::state::{State, assert_same, below};
use support::tokens::TokenFile;
use support::workload::{Op, Workload, deleted, put};
use support::{A_WHILE, eventually};

/// Written as soon as possible.
const AT_ONCE: [&str; 2] = ["--debounce", "1ms"];

async fn state_at(http: &Http, cursor: &str) -> State {
    let path = format!("/v1/breadcrumbs/{cursor}");
    let got = http.get_with(&path, &[("accept", "application/x-ndjson")]).await.ok(200);
    entries(&Body::read("application/x-ndjson", &got.plain()))
}

fn state_of(pairs: &[(&str, &str)]) -> State {
    pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().into())).collect()
}

/// How many times a daemon has sent its whole current state.
async fn states_sent(http: &Http) -> u64 {
    let metrics = String::from_utf8(http.get("/metrics").await.ok(200).plain()).unwrap();
    let is_state =
        |line: &&str| line.starts_with("crumbd_answers_total") && line.contains("reason=\"current\"");
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64;
    metrics.lines().filter(is_state).map(number).sum()
}

/// Keys that no file can be named for, and some that are in each other's way.
fn odd_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> =
        ["dir", "dir/", "dir/a", "dir//", "dir/a/b", "/", "//", "...", "..x/.", "%", "%2E", "%=", "%-"]
            .map(|key| key.as_bytes().to_vec())
            .to_vec();
    // The names that the mirror itself uses.
    let own = [
        "..new",
        "..new/0",
        "..lock",
        "..manifest.json",
        "..command-done",
        "current",
        "..20260102T030405Z-7/a",
    ];
    keys.extend(own.map(|key| key.as_bytes().to_vec()));
    keys.push(vec![b'x'; 300]);
    keys.push([&[b'x'; 300][..], b"/y"].concat());
    keys.push(vec![0xff; 200]);
    keys.push("€/".repeat(700).into_bytes());
    keys.push(["€/".repeat(700).as_bytes(), b"z"].concat());
    keys.push(vec![b'k'; 5000]);
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn files_lead_back_to_the_state_whatever_the_keys_are() {
    for in_place in [false, true] {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        let directory = Directory::new(in_place);
        let (mut work, mut state) = (Workload::new(31, "", 40), State::new());
        let flags = [directory.flags(), &AT_ONCE, if in_place { &["--stream"] } else { &[] }].concat();
        let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        let odd = odd_keys();
        for round in 0..60 {
            let mut batch = work.batch(20);
            for _ in 0..3 {
                let key = odd[work.rng().usize(..odd.len())].clone();
                let op = match work.op() {
                    Op::Put { value, claim, .. } => Op::Put { key, value, claim },
                    Op::Delete { claim, .. } => Op::Delete { key, claim },
                };
                batch.push(op);
            }
            http.post(&batch.iter().map(|op| op.record()).collect::<Vec<_>>()).await;
            batch.iter().for_each(|op| op.apply(&mut state));
            if round % 10 == 9 {
                directory.reaches(&state).await;
            }
        }
        let cursor = directory.read().manifest["cursor"].as_str().unwrap().to_owned();
        assert_same("the state at the manifest's cursor", &state_at(&http, &cursor).await, &state);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_taken_off_and_modes_are_as_asked() {
    for in_place in [false, true] {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        http.post(&[put("app/a/b", "1"), put("app/c", "2"), put("other", "3")]).await;
        let directory = Directory::new(in_place);
        let modes = ["--prefix", "app/", "--file-mode", "0600", "--dir-mode", "0710"];
        let _mirror =
            FileKeeper::mirror(daemon.url(), directory.path(), &[directory.flags(), &modes].concat());
        directory.reaches(&state_of(&[("app/a/b", "1"), ("app/c", "2")])).await;
        let files = directory.files().unwrap();
        assert_eq!(fs::read_to_string(files.join("a/b")).unwrap(), "1");
        let mode = |path: &str| fs::metadata(files.join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("a/b"), mode("c"), mode("a")), (0o600, 0o600, 0o710));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_one_key_writes_one_file() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "1"), put("b/c", "1")]).await;
    let directory = Directory::new(false);
    let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &AT_ONCE);
    directory.reaches(&state_of(&[("a", "1"), ("b/c", "1")])).await;
    let inode = |name: &str| fs::metadata(directory.files().unwrap().join(name)).unwrap().ino();
    let (a, c) = (inode("a"), inode("b/c"));
    http.post(&[put("a", "2")]).await;
    directory.reaches(&state_of(&[("a", "2"), ("b/c", "1")])).await;
    assert_eq!(inode("b/c"), c, "an unchanged file is linked");
    assert_ne!(
        inode("a"),
        a,
        "a changed file is another one, so that readers of the old one are not disturbed"
    );
}

/// Writes batches of changes until it is told to stop.
async fn keep_writing(http: Http, seed: u64, stop: Arc<AtomicBool>) -> State {
    let (mut work, mut state) = (Workload::new(seed, "w/", 60), State::new());
    while !stop.load(Ordering::Relaxed) {
        let batch = work.batch(8);
        http.post(&batch.iter().map(|op| op.record()).collect::<Vec<_>>()).await;
        batch.iter().for_each(|op| op.apply(&mut state));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_killed_again_and_again_loses_and_invents_nothing() {
    for in_place in [false, true] {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        http.post(&[put("first", "1")]).await;
        let directory = Directory::new(in_place);
        let flags = [directory.flags(), &AT_ONCE].concat();
        let start = || FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(keep_writing(daemon.http(), 5, stop.clone()));
        let mut rng = fastrand::Rng::with_seed(7);
        let mirror = start();
        eventually("the first files", || async { directory.try_read().map(|_| ()) }).await;
        mirror.kill();
        let before = states_sent(&http).await;
        let (mut mended, mut cursors) = (0, std::collections::BTreeSet::new());
        let end = Instant::now() + Duration::from_secs(9);
        while Instant::now() < end {
            let mirror = start();
            tokio::time::sleep(Duration::from_millis(rng.u64(1..400))).await;
            mended += usize::from(mirror.said().contains("mended"));
            mirror.kill();
            if !in_place {
                // A whole revision is there at every moment.
                let found = directory.read();
                let cursor = found.manifest["cursor"].as_str().unwrap();
                assert_same("after a kill", &found.state, &state_at(&http, cursor).await);
                cursors.insert(cursor.to_owned());
            }
        }
        let mirror = start();
        stop.store(true, Ordering::Relaxed);
        let mut state = writer.await.unwrap();
        state.insert(b"first".to_vec(), b"1"[..].into());
        directory.reaches(&state).await;
        let found = directory.read();
        let cursor = found.manifest["cursor"].as_str().unwrap();
        assert_same("the state at the manifest's cursor", &found.state, &state_at(&http, cursor).await);
        assert!(mirror.terminate().success());
        if !in_place {
            assert!(cursors.len() > 3, "it got on between the kills");
            assert_eq!((mended, states_sent(&http).await), (0, before), "its cursor was good all the time");
            // A start removes what the last moment before a kill has left.
            let mirror = start();
            let left = || fs::read_dir(directory.path()).unwrap().count();
            eventually("link, lock, and two generations", || async { (left() <= 4).then_some(()) }).await;
            mirror.kill();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_through_the_link_never_sees_two_revisions() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "0"), put("z/z", "0")]).await;
    let directory = Directory::new(false);
    let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &AT_ONCE);
    directory.reaches(&state_of(&[("a", "0"), ("z/z", "0")])).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (until, link) = (stop.clone(), directory.path().join("current"));
    let reader = std::thread::spawn(move || {
        let mut seen = std::collections::BTreeSet::new();
        while !until.load(Ordering::Relaxed) {
            let opened = fs::File::open(&link).unwrap();
            let read =
                |name: &str| fs::read_to_string(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()));
            // A reader that is slower than two generations finds no file.
            if let (Ok(a), Ok(z)) = (read("a"), read("z/z")) {
                assert_eq!(a, z, "one revision");
                seen.insert(a);
            }
        }
        seen.len()
    });
    for i in 1..=150 {
        let value = i.to_string();
        http.post(&[put("a", &value), put("z/z", &value)]).await;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    directory.reaches(&state_of(&[("a", "150"), ("z/z", "150")])).await;
    stop.store(true, Ordering::Relaxed);
    let seen = reader.join().unwrap();
    assert!(seen > 5, "only {seen} revisions were seen");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_edited_is_mended() {
    for in_place in [false, true] {
        let daemon = Daemon::push(&[]);
        daemon.http().post(&[put("a", "1"), put("b", "1"), put("c/d", "1")]).await;
        let state = state_of(&[("a", "1"), ("b", "1"), ("c/d", "1")]);
        let directory = Directory::new(in_place);
        let start = || FileKeeper::mirror(daemon.url(), directory.path(), directory.flags());
        let mirror = start();
        directory.reaches(&state).await;
        assert!(mirror.terminate().success());
        let files = directory.files().unwrap();
        fs::write(files.join("a"), "edited").unwrap();
        fs::remove_file(files.join("b")).unwrap();
        fs::write(files.join("c/new"), "new").unwrap();
        fs::set_permissions(files.join("c/d"), fs::Permissions::from_mode(0o666)).unwrap();
        let mirror = start();
        mirror.says("mended").await;
        directory.reaches(&state).await;
        let mode = fs::metadata(directory.files().unwrap().join("c/d")).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o644);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_a_kill_has_left_are_in_nobody_s_way() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("b", "1")]).await;
    let directory = Directory::new(true);
    let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &["--in-place"]);
    directory.reaches(&state_of(&[("b", "1")])).await;
    fs::create_dir_all(directory.path().join("a/x/y")).unwrap();
    http.post(&[put("a", "1")]).await;
    directory.reaches(&state_of(&[("a", "1"), ("b", "1")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_takes_the_place_of_those_below_it_and_gives_it_back() {
    for in_place in [true, false] {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        let directory = Directory::new(in_place);
        let mirror = FileKeeper::mirror(daemon.url(), directory.path(), directory.flags());
        for round in 0..4 {
            http.post(&[put("a/b/c", &round.to_string()), put("a/b/d", "1"), deleted("a")]).await;
            let below = [("a/b/c", &*round.to_string()), ("a/b/d", "1")];
            directory.reaches(&state_of(&below)).await;
            http.post(&[put("a", "1"), deleted("a/b/c"), deleted("a/b/d")]).await;
            directory.reaches(&state_of(&[("a", "1")])).await;
        }
        assert!(!mirror.said().contains("cannot"), "{}", mirror.said());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn once_writes_runs_the_command_and_ends() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let directory = Directory::new(false);
    let ran = directory.path().join("ran");
    let exec = format!(
        "echo $CRUMBD_STATUS $CRUMBD_CHANGED_COUNT $(cat $CRUMBD_DIR/current/a) >> '{}'",
        ran.display()
    );
    for (changed, run) in [(1, 1), (0, 2)] {
        let mut mirror = FileKeeper::mirror(daemon.url(), directory.path(), &["--once", "--exec", &exec]);
        assert!(mirror.wait_exit().success(), "{}", mirror.said());
        let lines = fs::read_to_string(&ran).unwrap();
        assert_eq!(lines.lines().count(), run);
        assert_eq!(lines.lines().last().unwrap(), format!("in-sync {changed} 1"));
    }
    let mut mirror = FileKeeper::mirror(daemon.url(), directory.path(), &["--once", "--exec", "exit 9"]);
    assert_eq!(mirror.wait_exit().code(), Some(1));
    mirror.says("exit code 9").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn once_says_why_it_is_not_done() {
    let directory = Directory::new(false);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut mirror = FileKeeper::mirror(&nobody, directory.path(), &["--once", "--timeout", "500ms"]);
    assert_eq!(mirror.wait_exit().code(), Some(1));
    mirror.says("not done within 500ms: no answer from").await;

    // It is never in-sync, so its state may be half of one.
    let mut daemon = Daemon::serve_stdin(&["--feed", "stdin:"]);
    daemon.feed(format!("{}\n", put("a", "1")).as_bytes());
    let mut mirror = FileKeeper::mirror(daemon.url(), directory.path(), &["--once", "--timeout", "500ms"]);
    assert_eq!(mirror.wait_exit().code(), Some(1));
    mirror.says("not in-sync").await;
    assert!(!directory.path().join("current").exists());
    let mut mirror = FileKeeper::mirror(daemon.url(), directory.path(), &["--once"]);
    daemon.end_of_feed();
    assert!(mirror.wait_exit().success());
    assert_same("the files", &directory.read().state, &state_of(&[("a", "1")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_hears_of_the_last_change_and_never_runs_twice_at_once() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "0")]).await;
    let directory = Directory::new(false);
    let (log, lock) = (directory.path().join("log"), directory.path().join("running"));
    let exec = format!(
        "mkdir '{lock}' || echo twice >> '{log}'; cat $CRUMBD_DIR/current/a >> '{log}'; echo >> '{log}'; sleep 0.05; rmdir '{lock}'",
        lock = lock.display(),
        log = log.display()
    );
    let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &["--debounce", "5ms", "--exec", &exec]);
    for i in 1..=60 {
        http.post(&[put("a", &i.to_string())]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let lines = || fs::read_to_string(&log).unwrap_or_default();
    eventually("the last change", || async { (lines().lines().last() == Some("60")).then_some(()) }).await;
    let runs = lines();
    assert!(!runs.contains("twice"), "{runs}");
    assert!(runs.lines().count() < 60, "changes that come close together are one: {runs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_did_not_succeed_before_the_end_runs_after_the_next_start() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let directory = Directory::new(false);
    let ran = directory.path().join("ran");
    let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &["--exec", "exit 3"]);
    mirror.says("\"exit 3\" failed: exit code 3; trying again in 1s").await;
    mirror.kill();
    let exec = format!("echo ran >> '{}'", ran.display());
    let runs = || fs::read_to_string(&ran).unwrap_or_default().lines().count();
    let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &["--exec", &exec]);
    eventually("the run", || async { (runs() == 1).then_some(()) }).await;
    assert!(mirror.terminate().success());
    // It has succeeded: without a change there is no reason to run it again.
    let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &["--exec", &exec]);
    tokio::time::sleep(A_WHILE).await;
    assert!(mirror.terminate().success());
    assert_eq!(runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_sent_a_signal() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let directory = Directory::new(false);
    let (pid_file, got) = (directory.path().join("pid"), directory.path().join("got"));
    // Not HUP: a shell cannot catch it where it is ignored, as under nohup.
    let script = format!("trap 'echo got > \"{}\"; exit' USR1; while :; do sleep 0.01; done", got.display());
    let mut target = std::process::Command::new("sh").arg("-c").arg(script).spawn().unwrap();
    let flags = ["--signal", pid_file.to_str().unwrap(), "USR1"];
    // Those would be groups of processes.
    for group in ["0", "-1"] {
        fs::write(&pid_file, group).unwrap();
        let flags = [&flags[..], &["--once"]].concat();
        let mut mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        assert_eq!(mirror.wait_exit().code(), Some(1));
        mirror.says(&format!("{group} is no process")).await;
    }
    fs::remove_file(&pid_file).unwrap();
    let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
    mirror.says("the process id cannot be read").await;
    fs::write(&pid_file, format!("{}\n", target.id())).unwrap();
    eventually("the signal", || async { got.exists().then_some(()) }).await;
    target.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_daemon_leaves_the_files_as_they_are_and_is_told_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let (state_dir, listen) = (dir.path().to_str().unwrap(), format!("127.0.0.1:{}", free_port()));
    let serve = || Daemon::push(&["--listen", &listen, "--state-dir", state_dir]);
    let mut daemon = serve();
    daemon.http().post(&[put("a", "1")]).await;
    let directory = Directory::new(false);
    let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &AT_ONCE);
    directory.reaches(&state_of(&[("a", "1")])).await;
    daemon.terminate();
    assert!(daemon.wait_exit().success());
    mirror.says("the files stay as they are").await;
    assert_same("the files", &directory.read().state, &state_of(&[("a", "1")]));
    let daemon = serve();
    // There is no change that would show it.
    mirror.says("the daemon is back").await;
    assert!(mirror.said().matches("the files stay as they are").count() <= 3, "{}", mirror.said());
    daemon.http().post(&[put("a", "2")]).await;
    directory.reaches(&state_of(&[("a", "2")])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_has_lost_its_state_does_not_empty_the_directory() {
    for in_place in [false, true] {
        let listen = format!("127.0.0.1:{}", free_port());
        let serve = || Daemon::push(&["--listen", &listen]);
        let daemon = serve();
        daemon.http().post(&[put("a", "1"), put("b", "1")]).await;
        let state = state_of(&[("a", "1"), ("b", "1")]);
        let directory = Directory::new(in_place);
        let flags = [directory.flags(), &AT_ONCE].concat();
        let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        directory.reaches(&state).await;
        drop(daemon);
        let daemon = serve();
        mirror.says("the daemon has no keys").await;
        assert_same("the files", &directory.read().state, &state);
        // One that does not know what it wrote holds them too.
        mirror.kill();
        fs::write(directory.files().unwrap().join("a"), "edited").unwrap();
        let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        mirror.says("the daemon has no keys").await;
        assert_eq!(directory.read().state.len(), 2);
        mirror.kill();
        let agreed = [&flags[..], &["--allow-empty"]].concat();
        let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &agreed);
        directory.reaches(&State::new()).await;
        mirror.kill();
        // By deletions a state may become empty.
        daemon.http().post(&[put("c", "1")]).await;
        let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        directory.reaches(&state_of(&[("c", "1")])).await;
        daemon.http().post(&[deleted("c")]).await;
        directory.reaches(&State::new()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_has_one_mirror_and_what_is_not_its_own_is_left_alone() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let directory = Directory::new(false);
    let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &[]);
    directory.reaches(&state_of(&[("a", "1")])).await;
    let mut second = FileKeeper::mirror(daemon.url(), directory.path(), &[]);
    assert_eq!(second.wait_exit().code(), Some(1));
    second.says("another `crumbd mirror` keeps").await;
    mirror.kill();

    let foreign = Directory::new(true);
    fs::write(foreign.path().join("somebody's"), "").unwrap();
    let mut refused = FileKeeper::mirror(daemon.url(), foreign.path(), &["--in-place"]);
    assert_eq!(refused.wait_exit().code(), Some(1));
    refused.says("give an empty directory").await;
    assert!(!foreign.path().join("..new").exists(), "nothing was made in it");
    fs::create_dir(foreign.path().join("current")).unwrap();
    let mut refused = FileKeeper::mirror(daemon.url(), foreign.path(), &[]);
    assert_eq!(refused.wait_exit().code(), Some(1));
    refused.says("is no link of `crumbd mirror`").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_was_written_the_other_way_is_refused_with_the_flag_that_helps() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    for (in_place, advice) in
        [(false, "without --in-place: leave that flag out"), (true, "with --in-place: give that flag")]
    {
        let directory = Directory::new(in_place);
        let mirror = FileKeeper::mirror(daemon.url(), directory.path(), directory.flags());
        directory.reaches(&state_of(&[("a", "1")])).await;
        assert!(mirror.terminate().success());
        let before = fs::read_dir(directory.path()).unwrap().count();
        let other: &[&str] = if in_place { &[] } else { &["--in-place"] };
        let mut refused = FileKeeper::mirror(daemon.url(), directory.path(), other);
        assert_eq!(refused.wait_exit().code(), Some(1));
        refused.says(advice).await;
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), before, "nothing was made in it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_somebody_removes_is_made_again_with_the_next_change() {
    for in_place in [false, true] {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        http.post(&[put("a", "1"), put("b", "1")]).await;
        let directory = Directory::new(in_place);
        let flags = [directory.flags(), &AT_ONCE].concat();
        let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        directory.reaches(&state_of(&[("a", "1"), ("b", "1")])).await;
        fs::remove_dir_all(directory.path()).unwrap();
        http.post(&[put("a", "2")]).await;
        directory.reaches(&state_of(&[("a", "2"), ("b", "1")])).await;
        let mut second = FileKeeper::mirror(daemon.url(), directory.path(), directory.flags());
        assert_eq!(second.wait_exit().code(), Some(1), "it is locked again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_another_prefix_are_replaced_only_when_that_is_asked_for() {
    for in_place in [false, true] {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        http.post(&[put("one/a", "1"), put("one/b", "1"), put("two/a", "2")]).await;
        let directory = Directory::new(in_place);
        let flags = |more: &[&'static str]| [directory.flags(), &AT_ONCE, more].concat();
        let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags(&["--prefix", "one/"]));
        directory.reaches(&state_of(&[("one/a", "1"), ("one/b", "1")])).await;
        assert!(mirror.terminate().success());
        let mut refused = FileKeeper::mirror(daemon.url(), directory.path(), &flags(&["--prefix", "two/"]));
        assert_eq!(refused.wait_exit().code(), Some(1));
        refused.says("are those of the prefix \"one/\", not of the prefix \"two/\": give --take-over").await;
        for (prefix, state) in [("two/", &[("two/a", "2")][..]), ("none/", &[])] {
            let flags = flags(&["--take-over", "--prefix", prefix]);
            let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
            directory.reaches(&state_of(state)).await;
            eventually("the manifest", || async {
                (directory.try_read()?.manifest["prefix"] == prefix).then_some(())
            })
            .await;
            assert!(mirror.terminate().success());
        }
        // No files of the other prefix are left that would have to be taken over.
        let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags(&["--prefix", "one/"]));
        directory.reaches(&state_of(&[("one/a", "1"), ("one/b", "1")])).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_prefix_go_on_from_their_cursor() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    let keys = [put("app/a", "1"), put("app/a/b", "1"), put("other", "1")];
    http.post(&keys).await;
    let mut state = state_of(&[("app/a", "1"), ("app/a/b", "1"), ("other", "1")]);
    let directory = Directory::new(true);
    let flags = ["--in-place", "--prefix", "app/", "--debounce", "1ms"];
    for (key, value) in [("app/a/b", None), ("app/c", Some("2")), ("app/a/b", Some("3"))] {
        let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        directory.reaches(&below(&state, b"app/")).await;
        assert!(!mirror.said().contains("mended"), "{}", mirror.said());
        assert!(mirror.terminate().success());
        match value {
            Some(value) => {
                state.insert(key.as_bytes().to_vec(), value.as_bytes().into());
                http.post(&[put(key, value)]).await;
            }
            None => {
                state.remove(key.as_bytes());
                http.post(&[deleted(key)]).await;
            }
        }
    }
    let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
    directory.reaches(&below(&state, b"app/")).await;
    assert_eq!(states_sent(&http).await, 1, "the first one only");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_rights_are_another_state_also_after_a_restart() {
    for in_place in [false, true] {
        let mut file = TokenFile::new();
        let (all, some) = (file.add(&[""], &[""]), file.add(&["a/"], &[]));
        let daemon = file.daemon(&[]);
        let http = all.http(&daemon);
        http.post(&[put("a/1", "1"), put("b/1", "1"), put("c/1", "1")]).await;
        let directory = Directory::new(in_place);
        let token = tempfile::NamedTempFile::new().unwrap();
        fs::write(token.path(), &some.text).unwrap();
        let flags = [directory.flags(), &AT_ONCE, &["--token-file", token.path().to_str().unwrap()]].concat();
        let mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        directory.reaches(&state_of(&[("a/1", "1")])).await;
        file.change(&some, Some(&["a/", "b/"]));
        file.save();
        directory.reaches(&state_of(&[("a/1", "1"), ("b/1", "1")])).await;
        assert!(mirror.terminate().success());
        file.change(&some, Some(&["b/", "c/"]));
        file.save();
        http.post(&[put("b/1", "2")]).await;
        let _mirror = FileKeeper::mirror(daemon.url(), directory.path(), &flags);
        directory.reaches(&state_of(&[("b/1", "2"), ("c/1", "1")])).await;
    }
}
