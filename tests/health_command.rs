//! `crumbd health`: what it prints, and its exit codes.

#![allow(clippy::unwrap_used)] // a test may unwrap

mod support;

use support::daemon::{self, Daemon};

/// The exit code, and what is printed on both outputs.
fn health(args: &[&str]) -> (i32, String) {
    let output = daemon::run(&[&["health"], args].concat());
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[test]
fn a_daemon_is_ready_or_says_why_not() {
    let ready = Daemon::push(&[]);
    assert_eq!(health(&["--url", ready.url(), "--wait", "30s"]), (0, "ready\n".to_owned()));
    assert_eq!(health(&["--url", ready.url()]), (0, "ready\n".to_owned()));
    assert_eq!(health(&["--url", ready.url(), "--live"]), (0, "alive\n".to_owned()));

    // Nothing listens at port 1.
    let waiting = Daemon::serve(&["--feed", "etcd://127.0.0.1:1/"]);
    for more in [&[][..], &["--wait", "50ms"]] {
        let (code, text) = health(&[&["--url", waiting.url()], more].concat());
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("has not been in-sync yet"), "{text}");
    }
    assert_eq!(health(&["--url", waiting.url(), "--live"]), (0, "alive\n".to_owned()));
}

#[test]
fn one_collection_may_be_ready_and_another_not() {
    let daemon = Daemon::serve(&["--feed", "a=push:", "--feed", "b=etcd://127.0.0.1:1/"]);
    let url = daemon.url();
    assert_eq!(health(&["--url", url, "--collection", "a", "--wait", "30s"]), (0, "ready\n".to_owned()));
    for args in [&["--url", url][..], &["--url", url, "--collection", "b"]] {
        let (code, text) = health(args);
        assert!(code == 1 && text.contains("\"b\""), "{text}");
    }
    let (code, text) = health(&["--url", url, "--collection", "c"]);
    assert!(code == 1 && text.contains("\"c\""), "{text}");
}

#[test]
fn a_daemon_that_does_not_answer_has_an_exit_code_of_its_own() {
    let (code, text) = health(&["--url", "http://127.0.0.1:1"]);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("http://127.0.0.1:1"), "{text}");
    assert_eq!(health(&["--url", "http://127.0.0.1:1", "--live", "--wait", "1s"]).0, 2);
}
