//! A daemon's stream, recorded byte by byte, and played to every client that connects.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memchr::memmem;

use crate::support::daemon::Daemon;

/// A stream that is silent for so long, while nobody writes, has told all.
const SILENCE: Duration = Duration::from_millis(500);

pub struct Recorder {
    written: Arc<AtomicBool>,
    reading: JoinHandle<io::Result<Vec<u8>>>,
}

pub struct Recording {
    bytes: Arc<Vec<u8>>,
    address: SocketAddr,
}

impl Recording {
    /// Begins to read the stream of a daemon. The state has come when this returns.
    pub fn begin(daemon: &Daemon) -> Recorder {
        let mut stream = ask(daemon.address().parse().unwrap(), "/v1/stream", "keep-alive").unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let mut bytes = Vec::new();
        read_until_silent(&mut stream, &mut bytes).unwrap();
        let written = Arc::new(AtomicBool::new(false));
        let all = written.clone();
        let reading = thread::spawn(move || {
            loop {
                let is_last = all.load(Ordering::Acquire);
                read_until_silent(&mut stream, &mut bytes)?;
                if is_last {
                    return Ok(bytes);
                }
            }
        });
        Recorder { written, reading }
    }

    /// The number of bodies of updates.
    pub fn bodies(&self) -> usize {
        memmem::find_iter(&self.bytes, br#""type":"breadcrumb""#).count()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The seconds in which the bytes of the updates are read and thrown away, at the median.
    pub fn read(&self, rounds: usize) -> f64 {
        let begin = memmem::find(&self.bytes, br#""type":"breadcrumb""#).unwrap();
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

impl Recorder {
    /// The recording, when all has been written and the state has this digest.
    pub fn end(self, digest: &str) -> Recording {
        self.written.store(true, Ordering::Release);
        let bytes = self.reading.join().unwrap().unwrap();
        assert!(memmem::find(&bytes, digest.as_bytes()).is_some(), "the stream has not told the last state");
        Recording::play(bytes)
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

fn read_until_silent(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_to_end(bytes) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon ended the stream")),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
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
