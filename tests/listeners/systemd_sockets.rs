//! Sockets that systemd passes. The test holds the socket as systemd does, and starts daemons with it.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::support::daemon::{Daemon, Ended};
use crate::support::eventually;
use crate::{addresses, ask, body};

fn activated(socket: &TcpListener, names: &[&str], args: &[&str]) -> Result<Daemon, Ended> {
    Daemon::activated(socket.try_clone().unwrap(), names, &[&["--feed", "push:"], args].concat())
}

/// Clients, each of which makes one connection after the other.
struct Clients {
    stopped: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Clients {
    fn start(address: &str, path: &'static str) -> Clients {
        let (stopped, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (stopped, answered, address) = (stopped.clone(), answered.clone(), address.to_owned());
            tasks.spawn(async move {
                while !stopped.load(Ordering::Relaxed) {
                    let stream = TcpStream::connect(&address).await.expect("none is refused");
                    let answer = ask(stream, path).await.expect("none is reset");
                    body(&answer);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Clients { stopped, answered, tasks }
    }

    /// Waits until so many more are answered.
    async fn answered(&self, more: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        let reached = async || (self.answered.load(Ordering::Relaxed) >= wanted).then_some(());
        eventually("the clients are answered", reached).await;
    }

    async fn stop(mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_refuses_nobody_and_each_connection_made_meanwhile_is_answered() {
    for (front, path) in [("on", "/v1/breadcrumbs/current"), ("off", "/v1/breadcrumbs/current")] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let start =
            || activated(&socket, &["http"], &["--listen", "systemd:http", "--lean-front", front]).unwrap();
        let mut daemon = start();
        assert_eq!(daemon.address(), address);
        let clients = Clients::start(&address, path);
        for _ in 0..4 {
            clients.answered(50).await;
            daemon.terminate();
            assert!(daemon.wait_exit().success());
            // Nobody accepts it now.
            let waiting = TcpStream::connect(&address).await.unwrap();
            let waiting = tokio::spawn(ask(waiting, path));
            daemon = start();
            body(&waiting.await.unwrap().unwrap());
        }
        clients.answered(50).await;
        clients.stop().await;
    }
}

#[tokio::test]
async fn a_connection_that_has_sent_nothing_when_the_daemon_stops_is_still_answered() {
    for front in ["on", "off"] {
        let mut daemon = Daemon::push(&["--lean-front", front]);
        let connection = TcpStream::connect(daemon.address()).await.unwrap();
        eventually("it is accepted", async || {
            let metrics = daemon.http().get("/metrics").await.ok(200);
            let metrics = String::from_utf8(metrics.body).unwrap();
            metrics.contains("crumbd_connections 2").then_some(())
        })
        .await;
        daemon.terminate();
        daemon.logged("draining", |line| line.contains("draining").then_some(()));
        body(&ask(connection, "/v1/breadcrumbs/current").await.unwrap());
        assert!(daemon.wait_exit().success());
    }
}

#[tokio::test]
async fn all_sockets_or_those_with_a_name_are_taken() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = activated(&socket, &["one", "two"], &["--listen", "systemd:"]).unwrap();
    assert_eq!(addresses::urls(&daemon, 2).await.len(), 2);
    drop(daemon);
    let daemon =
        activated(&socket, &["one", "two"], &["--listen", "systemd:two", "--listen", "127.0.0.1:0"]).unwrap();
    let urls = addresses::urls(&daemon, 2).await;
    assert_eq!(urls[0], format!("http://{}", socket.local_addr().unwrap()));
    drop(daemon);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("crumbd.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let args = ["--feed", "push:", "--listen", "systemd:"];
    let mut daemon = Daemon::activated(unix.try_clone().unwrap(), &["crumbd.socket"], &args).unwrap();
    assert_eq!(daemon.url(), format!("unix:{}", path.display()));
    assert_eq!(body(&ask(UnixStream::connect(&path).await.unwrap(), "/readyz").await.unwrap()), "ready\n");
    daemon.terminate();
    assert!(daemon.wait_exit().success());
    assert!(path.exists(), "the file is systemd's");
}

#[tokio::test]
async fn sockets_that_cannot_be_used_are_an_error_that_says_why() {
    let refused = |result: Result<Daemon, Ended>, says: &str| {
        let Err(ended) = result else { panic!("it has started: {says}") };
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    };
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    refused(Daemon::try_serve(&["--feed", "push:", "--listen", "systemd:"]), "no sockets were passed");
    let wanted = "cannot listen on systemd:admin: no socket with this name was passed; there are http, other";
    refused(activated(&socket, &["http", "other"], &["--listen", "systemd:admin"]), wanted);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let args = ["--feed", "push:", "--listen", "systemd:"];
    refused(
        Daemon::activated(datagrams, &["http"], &args),
        "the socket http is no stream socket that listens",
    );
    // As Accept=yes passes it.
    let connection = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    refused(
        Daemon::activated(connection, &["http"], &args),
        "the socket http is no stream socket that listens",
    );
    let says = addresses::refused(&["--listen", "systemd:", "--listen", "systemd:http"]);
    assert!(says.contains("systemd:http is the address of --listen systemd: already"), "{says}");
}
