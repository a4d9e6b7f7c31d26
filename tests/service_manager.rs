//! What `crumbd serve` tells a service manager such as systemd.

#![allow(clippy::unwrap_used)] // a test may unwrap

mod support;

use std::collections::HashMap;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use support::DEADLINE;
use support::daemon::{self, Daemon};

/// A service manager that reads what its service says.
struct ServiceManager {
    socket: UnixDatagram,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl ServiceManager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Self { socket, path, _dir: dir }
    }

    /// The next message: its variables.
    fn message(&self) -> HashMap<String, String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message within the deadline");
        let text = std::str::from_utf8(&bytes[..length]).unwrap();
        text.lines()
            .map(|line| line.split_once('=').unwrap())
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    /// Waits for a message with this variable. Returns its value.
    fn hears(&self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        loop {
            if let Some(value) = self.message().remove(name)
                && wanted(&value)
            {
                return value;
            }
        }
    }

    fn serve(&self, watchdog_us: Option<&str>, args: &[&str]) -> Daemon {
        let mut variables = vec![("NOTIFY_SOCKET", self.path.to_str().unwrap())];
        variables.extend(watchdog_us.map(|us| ("WATCHDOG_USEC", us)));
        Daemon::serve_with(&variables, args)
    }
}

fn put(daemon: &Daemon) {
    assert!(daemon::run(&["put", "--url", daemon.url(), "greeting", "hello"]).status.success());
}

#[test]
fn a_service_manager_hears_that_the_daemon_is_ready_alive_and_stopping() {
    let manager = ServiceManager::new();
    let daemon = manager.serve(Some("300000"), &["--feed", "push:"]);
    let first = manager.message();
    assert_eq!(first["READY"], "1", "{first:?}");
    assert_eq!(first["STATUS"], "in-sync, 0 keys; 0 waiting");
    for _ in 0..5 {
        manager.hears("WATCHDOG", |value| value == "1");
    }
    put(&daemon);
    manager.hears("STATUS", |status| status == "in-sync, 1 key; 0 waiting");
    daemon.terminate();
    manager.hears("STOPPING", |value| value == "1");
}

#[test]
fn without_a_watchdog_the_status_is_told_and_no_watchdog_is_fed() {
    let manager = ServiceManager::new();
    // Nothing listens at port 1: the daemon is ready for its service manager, because it serves, and says what.
    let daemon = manager.serve(None, &["--feed", "agents=etcd://127.0.0.1:1/", "--feed", "push:"]);
    let first = manager.message();
    assert_eq!(first["READY"], "1", "{first:?}");
    assert!(first["STATUS"].contains("in-sync, 0 keys; agents: "), "{first:?}");
    daemon.terminate();
    loop {
        let message = manager.message();
        assert!(!message.contains_key("WATCHDOG"), "{message:?}");
        if message.contains_key("STOPPING") {
            break;
        }
    }
}

#[test]
fn a_service_manager_that_does_not_listen_is_no_reason_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("notify");
    let mut daemon =
        Daemon::serve_with(&[("NOTIFY_SOCKET", nowhere.to_str().unwrap())], &["--feed", "push:"]);
    put(&daemon);
    daemon.terminate();
    assert!(daemon.wait_exit().success());
}
