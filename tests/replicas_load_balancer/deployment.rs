//! The script of the deployment, and the processes that it has started.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::etcd::{Keys, free_port};
use crate::support::eventually;
use crate::support::http::Http;

/// The daemon's binary in the directory of the deployment.
const BINARY: &str = "crumbd";

/// `deploy/replicas.sh`, running. Dropping it ends the script, which ends what it started.
pub struct Deployment {
    script: Child,
    dir: TempDir,
    balancer: u16,
    replicas: [u16; 2],
    etcd: u16,
    etcd_balancer: u16,
}

impl Deployment {
    /// Waits until the script says that everything is ready.
    pub fn start() -> Deployment {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join(BINARY);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_crumbd"), &binary).unwrap();
        let [balancer, one, other, etcd, peer, etcd_balancer, etcd_one, etcd_other] =
            std::array::from_fn(|_| free_port());
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CRUMBD_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        let mut script = command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/replicas.sh"))
            .env("CRUMBD", &binary)
            .env("CRUMBD_STATE_INTERVAL", "200ms")
            .env("PREFIX", "app/")
            .env("DIR", dir.path())
            .env("LB_PORT", balancer.to_string())
            .env("REPLICA_1_PORT", one.to_string())
            .env("REPLICA_2_PORT", other.to_string())
            .env("ETCD_PORT", etcd.to_string())
            .env("ETCD_PEER_PORT", peer.to_string())
            .env("ETCD_LB_PORT", etcd_balancer.to_string())
            .env("REPLICA_1_ETCD_PORT", etcd_one.to_string())
            .env("REPLICA_2_ETCD_PORT", etcd_other.to_string())
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
        Deployment { script, dir, balancer, replicas: [one, other], etcd, etcd_balancer }
    }

    /// A client that knows the load balancer only.
    pub fn balancer(&self) -> Http {
        Http::new(&format!("http://127.0.0.1:{}", self.balancer))
    }

    /// The load balancer for etcd's clients.
    pub fn etcd_balancer(&self) -> String {
        format!("127.0.0.1:{}", self.etcd_balancer)
    }

    pub fn keys(&self) -> Keys {
        Keys::at(&format!("http://127.0.0.1:{}", self.etcd))
    }

    pub fn replica_address(&self, one: usize) -> String {
        format!("127.0.0.1:{}", self.replicas[one - 1])
    }

    fn pid(&self, name: &str) -> Option<String> {
        Some(std::fs::read_to_string(self.dir.path().join(format!("{name}.pid"))).ok()?.trim().to_owned())
    }

    /// Puts another file in place of the daemon's binary, as an upgrade does. The next restart takes it.
    pub fn replace_binary(&self) {
        let (new, binary) = (self.dir.path().join("crumbd.new"), self.dir.path().join(BINARY));
        std::fs::copy(env!("CARGO_BIN_EXE_crumbd"), &new).unwrap();
        std::fs::rename(new, binary).unwrap();
    }

    /// Ends a replica and waits until the script has started it again and it is in-sync.
    pub async fn restart(&self, one: usize, signal: &str) {
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
        for name in ["replica-1", "replica-2", "nginx", "haproxy", "etcd"] {
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
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        kill("TERM", &self.script.id().to_string());
        let end = Instant::now() + Duration::from_secs(15);
        while let Ok(None) = self.script.try_wait() {
            if Instant::now() > end {
                let _ = self.script.kill();
                let _ = self.script.wait();
                for name in ["nginx", "haproxy", "replica-1", "replica-2", "etcd"] {
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
