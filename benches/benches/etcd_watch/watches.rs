//! The clients: connections with one stream of watches each, that count what they hear.
//!
//! They speak HTTP/2 and gRPC's frames themselves, because a whole gRPC client takes more CPU than the servers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use http::Request;
use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::messages::watch::{WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};

/// Nothing that is measured here takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes in front of each message of gRPC: whether it is compressed, and its length.
const FRAME: usize = 5;

/// Watches that are open.
pub struct Watches {
    count: usize,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// One for each message that was heard.
    woken: mpsc::UnboundedReceiver<()>,
    _tasks: JoinSet<()>,
}

/// One event at one watch.
pub struct Heard {
    pub revision: i64,
    pub at: Instant,
}

impl Watches {
    /// Opens these watches at the server, each list of them on a connection of its own, and waits until all are there.
    pub async fn open(address: &str, streams: Vec<Vec<WatchCreateRequest>>) -> Watches {
        let count = streams.iter().map(Vec::len).sum();
        let (wake, woken) = mpsc::unbounded_channel();
        let heard = Arc::new(Mutex::new(Vec::with_capacity(count)));
        let mut tasks = JoinSet::new();
        for creates in streams {
            let (address, heard, wake) = (address.to_owned(), Arc::clone(&heard), wake.clone());
            tasks.spawn(async move { stream(&address, creates, &heard, &wake).await });
        }
        let mut watches = Watches { count, heard, woken, _tasks: tasks };
        watches.wait(count, "watches to be open").await;
        watches
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// What so many watches hear of one revision, once all of them have.
    pub async fn hear(&mut self, watches: usize, revision: i64) -> Vec<Heard> {
        self.wait(watches, "an event at every watch").await;
        let heard = std::mem::take(&mut *self.heard.lock());
        assert_eq!(heard.len(), watches, "each watch hears once");
        assert!(heard.iter().all(|heard| heard.revision == revision), "of that revision");
        heard
    }

    async fn wait(&mut self, messages: usize, what: &str) {
        let all = async {
            for _ in 0..messages {
                self.woken.recv().await.expect("a stream goes on");
            }
        };
        assert!(tokio::time::timeout(PATIENCE, all).await.is_ok(), "not within {PATIENCE:?}: {what}");
    }
}

/// One connection and its stream. It ends with the task.
async fn stream(
    address: &str,
    creates: Vec<WatchCreateRequest>,
    heard: &Mutex<Vec<Heard>>,
    wake: &mpsc::UnboundedSender<()>,
) {
    let tcp = TcpStream::connect(address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut client = h2::client::Builder::new();
    client.initial_window_size(4 << 20).initial_connection_window_size(4 << 20);
    let (requests, connection) = client.handshake::<_, Bytes>(tcp).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let request = Request::post(format!("http://{address}/etcdserverpb.Watch/Watch"));
    let request =
        request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap();
    let (answer, mut body) = requests.ready().await.unwrap().send_request(request, false).unwrap();
    for create in creates {
        body.send_data(framed(create), false).unwrap();
    }
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut data = answer.into_body();
    let mut read = BytesMut::new();
    while let Some(bytes) = data.data().await {
        let bytes = bytes.unwrap();
        let at = Instant::now();
        data.flow_control().release_capacity(bytes.len()).unwrap();
        read.extend_from_slice(&bytes);
        while let Some(message) = next_message(&mut read) {
            let response = WatchResponse::decode(message).unwrap();
            assert!(!response.canceled, "{}", response.cancel_reason);
            if !response.created {
                let [event] = &response.events[..] else { panic!("one event: {response:?}") };
                let revision = event.kv.as_ref().unwrap().mod_revision;
                heard.lock().push(Heard { revision, at });
            }
            _ = wake.send(());
        }
    }
}

fn framed(create: WatchCreateRequest) -> Bytes {
    let message = WatchRequest { request: Some(WatchRequestUnion::Create(create)) }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), &message].concat().into()
}

/// The next whole message, if it is there.
fn next_message(read: &mut BytesMut) -> Option<Bytes> {
    let length = u32::from_be_bytes(read.get(1..FRAME)?.try_into().ok()?) as usize;
    if read.len() < FRAME + length {
        return None;
    }
    read.advance(FRAME);
    Some(read.split_to(length).freeze())
}
