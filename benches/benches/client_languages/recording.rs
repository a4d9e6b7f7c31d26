//! A daemon's stream, recorded byte by byte, and played to every client that connects.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::support::daemon::Daemon;

/// The first bytes of a body of updates.
const BODY: &[u8] = br#""type":"breadcrumb""#;

/// The last bytes of any body.
const END: &[u8] = br#""type":"end""#;

/// How long a body may take to come.
const LIMIT: Duration = Duration::from_secs(20);

/// Reads a stream beside the writer.
pub struct Recorder {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Up to where `bytes` were searched for ends.
    searched: usize,
}

pub struct Recording {
    bytes: Arc<Vec<u8>>,
    address: SocketAddr,
}

impl Recorder {
    /// Reads the state of a daemon, as a stream begins with it.
    pub fn begin(daemon: &Daemon) -> Recorder {
        let stream = ask(daemon.address().parse().unwrap(), "/v1/stream", "keep-alive").unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut recorder = Recorder { stream, bytes: Vec::new(), searched: 0 };
        recorder.next_body();
        recorder
    }

    /// Reads the next body. A writer that waits for it gives each write a body of its own.
    pub fn next_body(&mut self) {
        let mut buffer = [0; 64 << 10];
        loop {
            if let Some(at) = memmem::find(&self.bytes[self.searched..], END) {
                // The rest of its line and chunk is whole once the next body has come, or the stream says no more.
                self.searched += at + END.len();
                return;
            }
            let read = self.stream.read(&mut buffer).unwrap();
            assert!(read > 0, "the daemon ended the stream");
            self.bytes.extend_from_slice(&buffer[..read]);
        }
    }

    /// The recording, which has led to the state of this digest.
    pub fn end(mut self, digest: &str) -> Recording {
        self.stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let end = self.stream.read_to_end(&mut self.bytes);
        assert!(
            end.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock),
            "the daemon ended the stream"
        );
        assert!(
            memmem::find(&self.bytes, digest.as_bytes()).is_some(),
            "the stream has not told the last state"
        );
        Recording::play(self.bytes)
    }
}

impl Recording {
    /// The number of bodies of updates.
    pub fn bodies(&self) -> usize {
        memmem::find_iter(&self.bytes, BODY).count()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The seconds in which the bytes of the updates are read and thrown away, at the median.
    pub fn read(&self, rounds: usize) -> f64 {
        let begin = memmem::find(&self.bytes, BODY).unwrap();
        let share = (self.bytes.len() - begin) as f64 / self.bytes.len() as f64;
        share
            * median(rounds, || {
                let mut stream = ask(self.address, "/v1/stream", "keep-alive")?;
                discard(&mut stream, self.bytes.len())
            })
    }

    fn play(bytes: Vec<u8>) -> Recording {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recording = Recording { bytes: Arc::new(bytes), address: listener.local_addr().unwrap() };
        let bytes = recording.bytes.clone();
        // It ends with the process. A client that goes away early is not its concern.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let bytes = bytes.clone();
                thread::spawn(move || serve(stream, &bytes));
            }
        });
        recording
    }
}

/// The seconds in which the bytes of a daemon's first state are read and thrown away, at the median.
pub fn read_state(daemon: &Daemon, rounds: usize) -> f64 {
    let address: SocketAddr = daemon.address().parse().unwrap();
    median(rounds, || discard(&mut ask(address, "/v1/breadcrumbs/current", "close")?, usize::MAX))
}

fn median(rounds: usize, mut work: impl FnMut() -> io::Result<()>) -> f64 {
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let begun = Instant::now();
            work().unwrap();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn ask(address: SocketAddr, path: &str, connection: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    let accept = "application/x-ndjson; values=string";
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: {connection}\r\n\r\n"
    )?;
    Ok(stream)
}

/// Reads up to the end, or so many bytes.
fn discard(stream: &mut TcpStream, most: usize) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut left = most;
    while left > 0 {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        left = left.saturating_sub(read);
    }
    Ok(())
}

/// Plays the recording after the head of a request, and keeps the connection until the client closes it.
fn serve(mut stream: TcpStream, bytes: &[u8]) -> io::Result<()> {
    let mut asked = Vec::new();
    let mut byte = [0];
    while !asked.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        asked.push(byte[0]);
    }
    stream.write_all(bytes)?;
    discard(&mut stream, usize::MAX)
}
