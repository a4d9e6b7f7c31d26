//! A client of etcd, through haproxy: `etcdctl watch` as it is.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::deployment::Deployment;
use crate::support::eventually;

/// How often a replica is ended, each time another one.
const RESTARTS: usize = 8;

/// Writes before, while and after a replica is away, each.
const WRITES: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_etcdctl_does_not_notice_that_the_replicas_behind_a_load_balancer_restart() {
    let deployment = Deployment::start();
    let keys = deployment.keys();
    let first = keys.put(b"app/first", b"0").await;
    let watch = Watch::start(&deployment.etcd_balancer(), first);
    let mut written = vec![first];
    let write = async |written: &mut Vec<i64>| {
        for number in 0..WRITES {
            let value = written.len().to_string();
            written.push(keys.put(format!("app/{number}").as_bytes(), value.as_bytes()).await);
        }
    };
    for restart in 0..RESTARTS {
        write(&mut written).await;
        // It is at work when a replica ends, and has not only begun.
        watch.has_seen(&written).await;
        let restarting = deployment.restart(1 + restart % 2, ["TERM", "TERM", "KILL", "KILL"][restart % 4]);
        tokio::join!(restarting, write(&mut written));
        // The replica that went away may have been the other one; both have after two.
        write(&mut written).await;
    }
    watch.has_seen(&written).await;
}

/// An `etcdctl watch` that runs. Dropping it kills the process, by its id.
struct Watch {
    etcdctl: Child,
    seen: Arc<Mutex<Vec<i64>>>,
}

impl Watch {
    fn start(endpoint: &str, revision: i64) -> Watch {
        let mut etcdctl = Command::new("etcdctl")
            .args(["--endpoints", endpoint, "watch", "--prefix", "app/", "--rev", &revision.to_string()])
            .args(["-w", "json"])
            .env("ETCDCTL_API", "3")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("etcdctl ({error}) is not installed: apt-get install etcd-client")
            });
        let lines = BufReader::new(etcdctl.stdout.take().unwrap()).lines().map_while(Result::ok);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sees = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in lines {
                let response: Value = serde_json::from_str(&line).unwrap();
                let events = response["Events"].as_array().into_iter().flatten();
                sees.lock()
                    .unwrap()
                    .extend(events.map(|event| event["kv"]["mod_revision"].as_i64().unwrap()));
            }
        });
        Watch { etcdctl, seen }
    }

    /// Waits until it has printed the last of these revisions: it has printed all of them by then, in order.
    async fn has_seen(&self, written: &[i64]) {
        let last = written.last().unwrap();
        eventually("the last write in the watch", || async {
            self.seen.lock().unwrap().contains(last).then_some(())
        })
        .await;
        assert_eq!(*self.seen.lock().unwrap(), written, "every write once, in order");
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.etcdctl.kill();
        let _ = self.etcdctl.wait();
    }
}
