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

/// The two replicas as the network knows them.
#[derive(Default)]
pub struct Links(Mutex<Vec<Arc<watch::Sender<Side>>>>);

/// The network before one replica, or of one client. Every change of it ends the connections that there are.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// Connections are refused.
    pub closed: bool,
    /// Where the replica listens.
    pub address: String,
    /// Connections are reset, rather than closed.
    pub hard: bool,
}

impl Links {
    /// The network before one more replica.
    pub fn replica(&self) -> Arc<watch::Sender<Side>> {
        let side = Arc::new(watch::Sender::new(Side { closed: true, ..Side::default() }));
        self.0.lock().unwrap().push(side.clone());
        side
    }

    /// The addresses of all replicas for one more client, and what leads to them.
    pub fn client(&self, journal: &Journal) -> (Vec<String>, watch::Sender<Side>) {
        let client = watch::Sender::new(Side::default());
        let way = |replica: &Arc<watch::Sender<Side>>| {
            let port = free_port();
            tokio::spawn(listen(port, replica.subscribe(), client.subscribe(), journal.clone()));
            format!("http://127.0.0.1:{port}")
        };
        (self.0.lock().unwrap().iter().map(way).collect(), client)
    }
}

/// Listens while both sides are open, until one of them is there no more.
async fn listen(
    port: u16,
    mut replica: watch::Receiver<Side>,
    mut client: watch::Receiver<Side>,
    journal: Journal,
) {
    let port = SocketAddr::from(([127, 0, 0, 1], port));
    loop {
        let to = replica.borrow_and_update().clone();
        if to.closed || client.borrow_and_update().closed {
            if changed(&mut replica, &mut client).await.is_err() {
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
                changed = changed(&mut replica, &mut client) => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            };
            let Ok((near, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            tokio::spawn(carry(near, to.address.clone(), replica.clone(), client.clone(), journal.clone()));
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
    replica: &mut watch::Receiver<Side>,
    client: &mut watch::Receiver<Side>,
) -> Result<(), watch::error::RecvError> {
    tokio::select! {
        changed = replica.changed() => changed,
        changed = client.changed() => changed,
    }
}

/// Carries one connection until it ends, or until the network changes.
async fn carry(
    mut near: TcpStream,
    address: String,
    mut replica: watch::Receiver<Side>,
    mut client: watch::Receiver<Side>,
    journal: Journal,
) {
    tokio::select! {
        () = exchange(&mut near, address, journal) => {}
        _ = changed(&mut replica, &mut client) => {
            if replica.borrow().hard {
                _ = near.set_zero_linger();
            }
        }
    }
}

async fn exchange(near: &mut TcpStream, address: String, journal: Journal) {
    let Ok(mut far) = TcpStream::connect(address).await else { return };
    _ = near.set_nodelay(true).and(far.set_nodelay(true));
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
            reader.answers(&answering[..read]);
            near_out.write_all(&answering[..read]).await
        };
        if sent.is_err() {
            return;
        }
    }
}
