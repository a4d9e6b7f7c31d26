//! `crumbd template`: a file is what its template makes of the newest state, or what it was.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use support::daemon::Daemon;
use support::eventually;
use support::file_keeper::FileKeeper;
use support::workload::{deleted, put};

/// A template and its file, in a directory of their own.
struct Files {
    root: tempfile::TempDir,
}

impl Files {
    fn with(template: &str) -> Files {
        let files = Files { root: tempfile::tempdir().unwrap() };
        files.template(template);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn template(&self, text: &str) {
        fs::write(self.path("t.j2"), text).unwrap();
    }

    fn pair(&self) -> String {
        format!("{}:{}", self.path("t.j2").display(), self.path("out").display())
    }

    fn out(&self) -> String {
        fs::read_to_string(self.path("out")).unwrap_or_default()
    }

    async fn is(&self, text: &str) {
        eventually(text, || async { (self.out() == text).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_follows_the_keys_of_its_template() {
    for way in [&[][..], &["--stream"]] {
        let daemon = Daemon::push(&[]);
        let http = daemon.http();
        http.post(&[put("app/b/1", "10"), put("app/b/2", "{\"port\":20}"), put("other/b/3", "30")]).await;
        let files = Files::with(
            "{% for b in pairs('b') %}\n{{ b.key }} {{ b.value }}\n{% endfor %}\nend {{ get('end', '-') }}\n",
        );
        let flags = [&["--prefix", "app/", "--debounce", "1ms"], way].concat();
        let rendering = FileKeeper::template(daemon.url(), &files.pair(), &flags);
        files.is("1 10\n2 {\"port\":20}\nend -\n").await;
        http.post(&[put("app/end", "7"), deleted("app/b/1")]).await;
        files.is("2 {\"port\":20}\nend 7\n").await;
        assert!(rendering.terminate().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_content_is_left_alone_and_mode_and_link_stay() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "1")]).await;
    let files = Files::with("{{ get('a') }}");
    fs::write(files.path("real"), "0").unwrap();
    fs::set_permissions(files.path("real"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real", files.path("out")).unwrap();
    let ran = files.path("ran");
    let exec = format!("echo $CRUMBD_CHANGED_COUNT >> '{}'", ran.display());
    let runs = || fs::read_to_string(&ran).unwrap_or_default().lines().count();
    let _rendering =
        FileKeeper::template(daemon.url(), &files.pair(), &["--debounce", "1ms", "--exec", &exec]);
    files.is("1").await;
    eventually("the command", || async { (runs() == 1).then_some(()) }).await;
    let before = fs::metadata(files.path("real")).unwrap();
    assert_eq!(before.mode() & 0o777, 0o640);
    assert!(fs::symlink_metadata(files.path("out")).unwrap().is_symlink());
    // Another key, another render, the same text.
    http.post(&[put("b", "1")]).await;
    http.post(&[put("a", "2")]).await;
    files.is("2").await;
    eventually("the command", || async { (runs() == 2).then_some(()) }).await;
    assert_ne!(fs::metadata(files.path("real")).unwrap().ino(), before.ino(), "a new file");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_keeps_the_file_and_is_gone_with_the_next_change() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "1")]).await;
    let files = Files::with("line\n{{ get('a') }}");
    let rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--debounce", "1ms"]);
    files.is("line\n1").await;
    http.post(&[deleted("a")]).await;
    rendering.says("t.j2:2: there is no key \"a\"").await;
    assert_eq!(files.out(), "line\n1");
    http.post(&[put("a", "2")]).await;
    files.is("line\n2").await;

    // A template that was mended needs no change of a key.
    files.template("{% if %}");
    http.post(&[put("a", "3")]).await;
    rendering.says("t.j2:1: ").await;
    files.template("{{ get('a') }}");
    files.is("3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_fails_keeps_the_file() {
    let daemon = Daemon::push(&[]);
    let http = daemon.http();
    http.post(&[put("a", "1")]).await;
    let files = Files::with("{{ get('a') }}");
    let flags = ["--debounce", "1ms", "--check", "! grep -q bad \"$1\""];
    let rendering = FileKeeper::template(daemon.url(), &files.pair(), &flags);
    files.is("1").await;
    http.post(&[put("a", "\"bad\"")]).await;
    rendering.says("out stays as it is, because its check has failed").await;
    assert_eq!(files.out(), "1");
    http.post(&[put("a", "2")]).await;
    files.is("2").await;
    assert_eq!(fs::read_dir(files.root.path()).unwrap().count(), 2, "nothing is left beside them");
}

#[tokio::test(flavor = "multi_thread")]
async fn once_ends_when_all_is_rendered_or_says_why_not() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let files = Files::with("{{ get('a') }}");
    let mut rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--once"]);
    assert!(rendering.wait_exit().success());
    assert_eq!(files.out(), "1");
    files.template("{{ get('b') }}");
    let mut rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--once"]);
    assert_eq!(rendering.wait_exit().code(), Some(1));
    rendering.says("there is no key \"b\"").await;
    assert_eq!(files.out(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_the_place_of_a_file_is_an_error_and_is_not_waited_for() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    for name in ["out", "t.j2"] {
        let files = Files::with("{{ get('a') }}");
        _ = fs::remove_file(files.path(name));
        assert!(std::process::Command::new("mkfifo").arg(files.path(name)).status().unwrap().success());
        let mut rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--once"]);
        assert_eq!(rendering.wait_exit().code(), Some(1), "{name}");
        rendering.says("not a regular file").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_does_not_end_is_given_up() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let endless = "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
    let files = Files::with(endless);
    let mut rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--once", "--timeout", "500ms"]);
    assert_eq!(rendering.wait_exit().code(), Some(1));
    rendering.says("not done within 500ms").await;
    assert_eq!(files.out(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_state_at_the_start_is_held() {
    let daemon = Daemon::push(&[]);
    let files = Files::with("{{ ls() | join(',') }}");
    fs::write(files.path("out"), "before").unwrap();
    let rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--debounce", "1ms"]);
    rendering.says("the daemon has no keys").await;
    assert_eq!(files.out(), "before");
    daemon.http().post(&[put("a", "1")]).await;
    files.is("a").await;
    daemon.http().post(&[deleted("a")]).await;
    files.is("").await;
    drop(rendering);
    fs::write(files.path("out"), "before").unwrap();
    let _rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--allow-empty"]);
    files.is("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_stays_one_also_where_nothing_is_at_its_end_yet() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let files = Files::with("{{ get('a') }}");
    fs::create_dir(files.path("there")).unwrap();
    std::os::unix::fs::symlink("second", files.path("out")).unwrap();
    std::os::unix::fs::symlink("there/real", files.path("second")).unwrap();
    let mut rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--once"]);
    assert!(rendering.wait_exit().success());
    assert_eq!(fs::read_to_string(files.path("there/real")).unwrap(), "1");
    assert!(fs::symlink_metadata(files.path("out")).unwrap().is_symlink());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_there_is_named_and_waited_for() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let files = Files::with("{{ get('a') }}");
    std::os::unix::fs::symlink("absent/real", files.path("out")).unwrap();
    let rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--debounce", "1ms"]);
    let absent = files.path("absent");
    rendering
        .says(&format!("out cannot be written, because there is no directory {}", absent.display()))
        .await;
    assert!(fs::symlink_metadata(files.path("out")).unwrap().is_symlink());
    fs::create_dir(&absent).unwrap();
    files.is("1").await;
    // It may go at any time.
    fs::remove_dir_all(&absent).unwrap();
    daemon.http().post(&[put("a", "2")]).await;
    let told = || rendering.said().matches("because there is no directory").count();
    eventually("that it is gone", || async { (told() >= 2).then_some(()) }).await;
    fs::create_dir(&absent).unwrap();
    files.is("2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_one_template_and_is_none_however_it_is_spelled() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let files = Files::with("{{ get('a') }}");
    fs::write(files.path("u.j2"), "").unwrap();
    fs::create_dir(files.path("d")).unwrap();
    std::os::unix::fs::symlink("out", files.path("link")).unwrap();
    let other =
        |destination: &str| format!("{}:{}", files.path("u.j2").display(), files.path(destination).display());
    for (destination, said) in [
        ("out", "are the same file"),
        ("./d/../out", "are the same file"),
        ("link", "are the same file"),
        ("t.j2", "is a template"),
        ("u.j2", "is a template"),
    ] {
        let mut refused = FileKeeper::template(daemon.url(), &files.pair(), &[&other(destination)]);
        assert_eq!(refused.wait_exit().code(), Some(1), "{destination}");
        refused.says(said).await;
    }
    assert!(!files.path("out").exists());
    let mut rendering = FileKeeper::template(daemon.url(), &files.pair(), &[&other("other"), "--once"]);
    assert!(rendering.wait_exit().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_has_left_is_removed() {
    let daemon = Daemon::push(&[]);
    daemon.http().post(&[put("a", "1")]).await;
    let files = Files::with("{{ get('a') }}");
    let flags = ["--debounce", "1ms", "--check", "sleep 100"];
    let rendering = FileKeeper::template(daemon.url(), &files.pair(), &flags);
    let count = || fs::read_dir(files.root.path()).unwrap().count();
    eventually("a new file that is checked", || async { (count() == 2).then_some(()) }).await;
    rendering.kill();
    let mut rendering = FileKeeper::template(daemon.url(), &files.pair(), &["--once"]);
    assert!(rendering.wait_exit().success());
    assert_eq!((count(), files.out().as_str()), (2, "1"));
}
