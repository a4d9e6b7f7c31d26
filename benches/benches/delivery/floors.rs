//! The floors: the least that a server can do that parks waiters and answers them. Each is this very program
//! started again as a child, with the C library's allocator, as `cargo new` would have it.
//!
//! They answer `GET` when somebody has `POST`ed, all with the same body. They know no cursor, no state and no
//! other answer, forget who is late, and take no notice of errors: that is what makes them floors.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// The accept queue of all contestants.
const BACKLOG: u32 = 4096;

/// Serves until it is killed. Says its port on stdout.
#[tokio::main]
pub async fn serve(which: &str, body_bytes: usize) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(BACKLOG).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    match which {
        "axum" => with_axum(listener, body_bytes).await,
        "tokio" => with_tokio(listener, body_bytes).await,
        "stream" => with_streams(listener, body_bytes).await,
        "static" => static_body(listener, body_bytes).await,
        other => panic!("no floor {other:?}"),
    }
}

/// The smallest axum server that parks a waiter.
async fn with_axum(listener: TcpListener, body_bytes: usize) {
    #[derive(Clone)]
    struct App {
        published: Arc<Notify>,
        body: Bytes,
    }
    async fn wait(State(app): State<App>) -> Bytes {
        app.published.notified().await;
        app.body
    }
    async fn publish(State(app): State<App>) {
        app.published.notify_waiters();
    }
    let app = App { published: Arc::default(), body: vec![b'x'; body_bytes].into() };
    let router = Router::new().route("/", get(wait).post(publish)).with_state(app);
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.unwrap();
}

/// The smallest tokio loop: its read buffer is freed before it waits, and head and body are one write.
async fn with_tokio(listener: TcpListener, body_bytes: usize) {
    let published = Arc::new(Notify::new());
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body_bytes}\r\n\r\n");
    let answer: Bytes = [head.into_bytes(), vec![b'x'; body_bytes]].concat().into();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(answer_for_ever(stream, published.clone(), answer.clone()));
    }
}

async fn answer_for_ever(mut stream: TcpStream, published: Arc<Notify>, answer: Bytes) {
    while let Some(is_publication) = read_request(&mut stream).await {
        if is_publication {
            published.notify_waiters();
        } else {
            published.notified().await;
        }
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Reads a request and says whether it publishes; none when the client has gone.
async fn read_request(stream: &mut TcpStream) -> Option<bool> {
    let mut request = Vec::with_capacity(1024);
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(read) if read > 0 => {}
            _ => return None,
        }
    }
    Some(request.starts_with(b"POST"))
}

/// The smallest tokio loop that streams: it writes the same event into one long answer for each publication.
async fn with_streams(listener: TcpListener, event_bytes: usize) {
    let published = Arc::new(Notify::new());
    let data = "x".repeat(event_bytes - "data: \n\n".len());
    let chunk: Bytes = format!("{event_bytes:x}\r\ndata: {data}\n\n\r\n").into();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(stream_for_ever(stream, published.clone(), chunk.clone()));
    }
}

async fn stream_for_ever(mut stream: TcpStream, published: Arc<Notify>, chunk: Bytes) {
    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    while let Some(is_publication) = read_request(&mut stream).await {
        if is_publication {
            published.notify_waiters();
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.is_err() {
                return;
            }
            continue;
        }
        let mut next = HEAD;
        while stream.write_all(next).await.is_ok() {
            published.notified().await;
            next = &chunk;
        }
        return;
    }
}

/// The smallest axum server with a large body: shared, already encoded, never changed.
async fn static_body(listener: TcpListener, body_bytes: usize) {
    let body: Bytes = vec![b'x'; body_bytes].into();
    let router = Router::new().route("/", get(|State(body): State<Bytes>| async { body })).with_state(body);
    axum::serve(listener, router).await.unwrap();
}
