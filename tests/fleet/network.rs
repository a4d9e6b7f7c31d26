//! The network between the clients and the replicas. Each client has an address of its own for each replica, so that it is
//! known who asks what.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

use super::journal::{Journal, Reader};
use super::support::etcd::free_port;

/// Where the clients reach each replica.
#[derive(Default)]
pub struct Network(Mutex<Vec<Arc<watch::Sender<Gate>>>>);

/// The network before one replica. Every change of it ends the connections that there are.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Connections are refused.
    pub closed: bool,
    /// Where the replica listens.
    pub address: String,
    /// Connections end with a reset, and what is still on its way is lost.
    pub hard: bool,
    /// Each connection ends after some of the bytes that are answered, wherever that is.
    pub torn: bool,
}

/// The most bytes of a connection that is torn: a few answers.
const TORN_AFTER: usize = 3000;

impl Network {
    /// The gate of one more replica, closed.
    pub fn replica(&self) -> Arc<watch::Sender<Gate>> {
        let gate = Gate { closed: true, address: String::new(), hard: false, torn: false };
        let gate = Arc::new(watch::Sender::new(gate));
        self.0.lock().unwrap().push(gate.clone());
        gate
    }

    /// The addresses of all replicas for one more client, and whether it is connected.
    pub fn client(&self, journal: &Journal) -> (Vec<String>, watch::Sender<bool>) {
        let connected = watch::Sender::new(true);
        let address = |gate: &Arc<watch::Sender<Gate>>| {
            let port = free_port();
            tokio::spawn(listen(port, gate.subscribe(), connected.subscribe(), journal.clone()));
            format!("http://127.0.0.1:{port}")
        };
        (self.0.lock().unwrap().iter().map(address).collect(), connected)
    }
}

/// Listens while the gate is open and the client is connected, until the replica or the client is dropped.
async fn listen(
    port: u16,
    mut gate: watch::Receiver<Gate>,
    mut connected: watch::Receiver<bool>,
    journal: Journal,
) {
    let port = SocketAddr::from(([127, 0, 0, 1], port));
    loop {
        let (to, is_connected) = (gate.borrow_and_update().clone(), *connected.borrow_and_update());
        if to.closed || !is_connected {
            if changed(&mut gate, &mut connected).await.is_err() {
                return;
            }
            continue;
        }
        let Ok(listener) = bind(port) else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                changed = changed(&mut gate, &mut connected) => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            };
            let Ok((near, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            tokio::spawn(carry(near, to.clone(), gate.clone(), connected.clone(), journal.clone()));
        }
    }
}

fn bind(port: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // The port is the same again after connections to it were closed here.
    socket.set_reuseaddr(true)?;
    socket.bind(port)?;
    socket.listen(64)
}

async fn changed(
    gate: &mut watch::Receiver<Gate>,
    connected: &mut watch::Receiver<bool>,
) -> Result<(), watch::error::RecvError> {
    tokio::select! {
        changed = gate.changed() => changed,
        changed = connected.changed() => changed,
    }
}

/// Carries one connection until it ends, or until the network changes.
async fn carry(
    mut near: TcpStream,
    to: Gate,
    mut gate: watch::Receiver<Gate>,
    mut connected: watch::Receiver<bool>,
    journal: Journal,
) {
    tokio::select! {
        () = exchange(&mut near, to, journal) => {}
        _ = changed(&mut gate, &mut connected) => {
            if gate.borrow().hard {
                _ = near.set_zero_linger();
            }
        }
    }
}

async fn exchange(near: &mut TcpStream, to: Gate, journal: Journal) {
    let Ok(mut far) = TcpStream::connect(to.address).await else { return };
    _ = near.set_nodelay(true).and(far.set_nodelay(true));
    let mut left = if to.torn { fastrand::usize(..TORN_AFTER) } else { usize::MAX };
    let mut reader = Reader::new(journal);
    let (mut asking, mut answering) = (vec![0; 4 << 10], vec![0; 16 << 10]);
    let (mut near_in, mut near_out) = near.split();
    let (mut far_in, mut far_out) = far.split();
    loop {
        let (asks, read) = tokio::select! {
            read = near_in.read(&mut asking) => (true, read),
            read = far_in.read(&mut answering) => (false, read),
        };
        let Ok(read @ 1..) = read else { return };
        let sent = if asks {
            reader.asks(&asking[..read]);
            far_out.write_all(&asking[..read]).await
        } else {
            let passed = read.min(left);
            left -= passed;
            reader.answers(&answering[..passed]);
            near_out.write_all(&answering[..passed]).await
        };
        if sent.is_err() || left == 0 {
            return;
        }
    }
}
