//! `deploy/replicas.sh` as it is: real etcd, two replicas, and nginx in front of them. A client that knows nginx's
//! address only does not notice that the replicas are restarted, by SIGTERM and by SIGKILL, one after the other.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use support::etcd::{Keys, Op, free_port};
use support::http::Http;
use support::roamer::Roamer;
use support::state::assert_same;
use support::{eventually, in_time};
use tempfile::TempDir;

const PREFIX: &[u8] = b"app/";

/// How often a replica is ended, each time another one.
const RESTARTS: usize = 8;

/// How many answers with changes the client gets between two restarts, at least.
const STEPS: u64 = 10;

/// How far the writer runs ahead of the client at most, in revisions.
const AHEAD: i64 = 20;

/// What the whole test may take.
const BOUND: Duration = Duration::from_secs(28);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_does_not_notice_that_the_replicas_behind_a_load_balancer_restart() {
    let deployment = Deployment::start();
    if tokio::time::timeout(BOUND, follow_through_restarts(&deployment)).await.is_err() {
        panic!("not within {BOUND:?}\n{}", deployment.logs());
    }
}

/// What writer, client and the one who restarts replicas know of each other.
#[derive(Default)]
struct Shared {
    /// The client's revision.
    revision: AtomicU64,
    /// How many answers with changes it got.
    steps: AtomicU64,
    no_more_restarts: AtomicBool,
    /// The revision of the last write, once there will be no other.
    last: AtomicU64,
}

async fn follow_through_restarts(deployment: &Deployment) {
    let keys = deployment.keys();
    for number in 0..20 {
        keys.put(format!("app/{number:02}").as_bytes(), b"from the beginning").await;
    }
    let shared = Arc::new(Shared::default());
    let balancer = deployment.balancer();
    // A write at whichever replica, and at its cursor a read at both.
    let written = balancer.put(b"app/written", "text/plain", b"through nginx").await;
    for one in [1, 2] {
        let replica = Http::new(&format!("http://{}", deployment.replica_address(one)));
        let read = replica.get(&format!("/v1/kv?key=app%2Fwritten&at={written}")).await.ok(200);
        assert_eq!(read.body, b"through nginx");
    }
    let mut client = Roamer::start(&balancer, 9).await;
    let writer = tokio::spawn(write(keys.clone(), shared.clone()));
    let follower = {
        let shared = shared.clone();
        tokio::spawn(async move {
            follow(&mut client, &balancer, &shared).await;
            client
        })
    };

    for restart in 0..RESTARTS {
        let steps = shared.steps.load(Ordering::SeqCst);
        eventually("the client to go on", || async {
            let on = shared.steps.load(Ordering::SeqCst) >= steps + STEPS;
            (on || writer.is_finished() || follower.is_finished()).then_some(())
        })
        .await;
        if writer.is_finished() || follower.is_finished() {
            break;
        }
        deployment.restart(1 + restart % 2, ["TERM", "TERM", "KILL", "KILL"][restart % 4]).await;
    }
    shared.no_more_restarts.store(true, Ordering::SeqCst);

    let client = match in_time("the client to see everything", follower).await {
        Ok(client) => client,
        Err(failed) => {
            eprintln!("{}", deployment.logs());
            std::panic::resume_unwind(failed.into_panic())
        }
    };
    writer.await.unwrap();
    let stored = keys.range(PREFIX).await;
    assert_same("at the end", &client.state, &stored.state);
    assert_eq!(client.revision, stored.revision as u64);
    for one in [1, 2] {
        let address = deployment.replica_address(one);
        let answers = client.answered.iter().filter(|&by| by.ends_with(&address)).count();
        assert!(answers > 10, "replica {one} gave {answers} of {} answers", client.answered.len());
    }
    assert!(
        client.retries.len() <= RESTARTS,
        "a client notices a restart at most once: {:?}",
        client.retries
    );
    let hidden = client.answered.iter().filter(|by| by.contains(',')).count();
    eprintln!(
        "{} answers, {hidden} of them after nginx asked a second replica; {} retries by the client: {:?}",
        client.answered.len(),
        client.retries.len(),
        client.retries
    );
}

/// Puts and deletes, each at a revision of its own, for as long as replicas are restarted.
async fn write(keys: Keys, shared: Arc<Shared>) {
    let mut rng = Rng::with_seed(5);
    let mut last = keys.revision().await;
    for number in 0.. {
        // The client goes along, so that restarts hit it at work.
        eventually("the client to come further", || async {
            (last - (shared.revision.load(Ordering::SeqCst) as i64) < AHEAD).then_some(())
        })
        .await;
        // The last write is one that the client must hear of.
        let end = shared.no_more_restarts.load(Ordering::SeqCst);
        let key = format!("app/{:02}", rng.u32(..40)).into_bytes();
        last = match rng.u32(..4) {
            0 if !end => keys.delete(&key).await,
            1 => {
                let value = format!("{{\"n\":{number}}}").into_bytes();
                keys.txn(&[Op::Put(key, value), Op::Put(b"app/last".to_vec(), number.to_string().into())])
                    .await
            }
            _ => keys.put(&key, format!("value {number}").as_bytes()).await,
        };
        if end {
            shared.last.store(last as u64, Ordering::SeqCst);
            return;
        }
    }
}

/// Follows until the writer has ended and everything was seen.
async fn follow(client: &mut Roamer, balancer: &Http, shared: &Shared) {
    loop {
        let last = shared.last.load(Ordering::SeqCst);
        if last > 0 && client.revision >= last {
            return;
        }
        let got = client.step("1s", |_| Some(("nginx".to_owned(), balancer.clone()))).await;
        shared.revision.store(client.revision, Ordering::SeqCst);
        shared.steps.fetch_add(u64::from(got.status == 200), Ordering::SeqCst);
    }
}

/// `deploy/replicas.sh`, running. Dropping it ends the script, which ends what it started.
struct Deployment {
    script: Child,
    dir: TempDir,
    balancer: u16,
    replicas: [u16; 2],
    etcd: u16,
}

impl Deployment {
    /// Waits until the script says that everything is ready.
    fn start() -> Deployment {
        let dir = tempfile::tempdir().unwrap();
        let [balancer, one, other, etcd, peer] = std::array::from_fn(|_| free_port());
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CRUMBD_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        let mut script = command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/replicas.sh"))
            .env("CRUMBD", env!("CARGO_BIN_EXE_crumbd"))
            .env("CRUMBD_STATE_INTERVAL", "200ms")
            .env("PREFIX", "app/")
            .env("DIR", dir.path())
            .env("LB_PORT", balancer.to_string())
            .env("REPLICA_1_PORT", one.to_string())
            .env("REPLICA_2_PORT", other.to_string())
            .env("ETCD_PORT", etcd.to_string())
            .env("ETCD_PEER_PORT", peer.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(script.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut stderr = script.stderr.take().unwrap();
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let ready = said.any(|line| line == "Ctrl-C ends it all.");
        // The script must never wait for a reader.
        std::thread::spawn(move || said.for_each(drop));
        if !ready {
            let status = script.wait().unwrap();
            panic!("deploy/replicas.sh ended: {status}\n{}", complaints.join().unwrap());
        }
        Deployment { script, dir, balancer, replicas: [one, other], etcd }
    }

    /// A client that knows the load balancer only.
    fn balancer(&self) -> Http {
        Http::new(&format!("http://127.0.0.1:{}", self.balancer))
    }

    fn keys(&self) -> Keys {
        Keys::at(&format!("http://127.0.0.1:{}", self.etcd))
    }

    fn replica_address(&self, one: usize) -> String {
        format!("127.0.0.1:{}", self.replicas[one - 1])
    }

    fn pid(&self, name: &str) -> Option<String> {
        Some(std::fs::read_to_string(self.dir.path().join(format!("{name}.pid"))).ok()?.trim().to_owned())
    }

    /// Ends a replica and waits until the script has started it again and it is in-sync.
    async fn restart(&self, one: usize, signal: &str) {
        let name = format!("replica-{one}");
        let before = self.pid(&name).unwrap();
        kill(signal, &before);
        eventually(&format!("another {name} after a {signal}"), || async {
            self.pid(&name).filter(|now| *now != before)
        })
        .await;
        let http = Http::new(&format!("http://{}", self.replica_address(one)));
        eventually(&format!("{name} to be in-sync again"), || async {
            let ready = http.try_send("GET", "/readyz", &[], None).await.ok()?;
            (ready.status == 200 && ready.body == b"ready\n").then_some(())
        })
        .await;
    }

    /// The last lines of every process.
    fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["replica-1", "replica-2", "nginx", "etcd"] {
            let log =
                std::fs::read_to_string(self.dir.path().join(format!("{name}.log"))).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            text += &format!("--- {name}\n{}\n", lines[lines.len().saturating_sub(12)..].join("\n"));
        }
        text
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        kill("TERM", &self.script.id().to_string());
        let end = Instant::now() + Duration::from_secs(15);
        while let Ok(None) = self.script.try_wait() {
            if Instant::now() > end {
                let _ = self.script.kill();
                let _ = self.script.wait();
                for name in ["nginx", "replica-1", "replica-2", "etcd"] {
                    self.pid(name).iter().for_each(|pid| kill("TERM", pid));
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn kill(signal: &str, pid: &str) {
    let _ = Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid} 2>/dev/null")).status();
}
