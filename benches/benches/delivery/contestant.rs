//! The servers that are measured, each as a child process, and how to speak to them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crumbd_bench::load::{
    Answer, Board, Crowd, CrumbdPoll, CrumbdStream, EventStream, Heard, LongPoll, Process, Publisher, Status,
    Target, Writer, numbers_in,
};
use tempfile::TempDir;

/// Every body, or the value in it.
pub const BODY_BYTES: usize = 256;

/// nginx's module, where it is not installed as Debian does it.
const NCHAN: &str = "CRUMBD_BENCH_NCHAN";
const INSTALLED_NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// The server of durable-streams, where it is not on the path.
const DURABLE_STREAMS: &str = "CRUMBD_BENCH_DURABLE_STREAMS";

/// Another daemon than the one that was built with this bench.
const CRUMBD: &str = "CRUMBD_BIN";

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Contestant {
    Crumbd,
    Tokio,
    Axum,
    Nchan,
    CrumbdHttp2,
    CrumbdStream,
    TokioStream,
    DurableStreams,
}

pub const ALL: [Contestant; 8] = [
    Contestant::Crumbd,
    Contestant::Tokio,
    Contestant::Axum,
    Contestant::Nchan,
    Contestant::CrumbdHttp2,
    Contestant::CrumbdStream,
    Contestant::TokioStream,
    Contestant::DurableStreams,
];

impl Contestant {
    pub fn name(self) -> &'static str {
        match self {
            Self::Crumbd => "crumbd",
            Self::Axum => "bare axum",
            Self::Tokio => "bare tokio loop",
            Self::Nchan => "nginx + nchan",
            Self::CrumbdHttp2 => "crumbd HTTP/2",
            Self::CrumbdStream => "crumbd stream",
            Self::TokioStream => "bare tokio stream",
            Self::DurableStreams => "durable-streams",
        }
    }

    /// Whether its clients read one long answer, rather than to ask again and again.
    pub fn streams(self) -> bool {
        matches!(self, Self::CrumbdStream | Self::TokioStream | Self::DurableStreams)
    }

    /// Why it cannot take part on this machine.
    pub fn missing(self) -> Option<&'static str> {
        let nginx = || Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok();
        match self {
            Self::Nchan if !nginx() || !nchan_module().exists() => Some(
                "not here: apt-get install libnginx-mod-nchan, or CRUMBD_BENCH_NCHAN=path/to/the/module.so",
            ),
            Self::DurableStreams if durable_streams().is_none() => Some(
                "not here: cargo install durable-streams --version 0.1.5 --locked, or \
                 CRUMBD_BENCH_DURABLE_STREAMS=path/to/durable-streams-server",
            ),
            _ => None,
        }
    }

    pub fn start(self) -> Server {
        match self {
            Self::Crumbd | Self::CrumbdHttp2 | Self::CrumbdStream => Server::crumbd(&[]),
            Self::Axum => Server::floor("axum", BODY_BYTES),
            Self::Tokio => Server::floor("tokio", BODY_BYTES),
            Self::Nchan => Server::nchan(),
            Self::TokioStream => Server::floor("stream", BODY_BYTES),
            Self::DurableStreams => Server::durable_streams(),
        }
    }
}

fn nchan_module() -> PathBuf {
    std::env::var_os(NCHAN).map_or_else(|| INSTALLED_NCHAN.into(), PathBuf::from)
}

fn durable_streams() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(DURABLE_STREAMS) {
        return Some(path.into());
    }
    let directories = std::env::var_os("PATH")?;
    let mut paths = std::env::split_paths(&directories).map(|dir| dir.join("durable-streams-server"));
    paths.find(|path| path.is_file())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn connected(port: u16, name: &str) -> TcpStream {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            return stream;
        }
        assert!(Instant::now() < end, "{name} does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running server. Dropping it kills the process, by its id.
pub struct Server {
    child: Child,
    pub target: Target,
    pub process: Process,
    _files: Option<TempDir>,
}

impl Server {
    fn new(child: Child, port: u16, files: Option<TempDir>) -> Self {
        let process = Process::with_pid(child.id()).unwrap();
        Self { child, target: Target::local(port), process, _files: files }
    }

    /// This program again, as one of the floors.
    pub fn floor(which: &str, body_bytes: usize) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut child =
            command.arg(format!("--serve={which}:{body_bytes}")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Self::new(child, port, None)
    }

    /// The daemon that was built with this bench, or that of `CRUMBD_BIN`, with the `push:` feed and its own defaults.
    pub fn crumbd(more: &[&str]) -> Self {
        let built = || OsString::from(env!("CARGO_BIN_EXE_crumbd-under-test"));
        let mut command = Command::new(std::env::var_os(CRUMBD).unwrap_or_else(built));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CRUMBD_"))
        {
            command.env_remove(name);
        }
        command.args(["serve", "--feed", "push:", "--listen", "127.0.0.1:0", "--log-format", "json"]);
        let mut child = command.args(more).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut lines = String::new();
        let port = loop {
            let begin = lines.len();
            assert!(log.read_line(&mut lines).unwrap() > 0, "crumbd has ended: {lines}");
            let rest = lines[begin..].split("http://127.0.0.1:").nth(1);
            if let Some(rest) = rest {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break digits.parse().unwrap();
            }
        };
        // Its log must not fill the pipe.
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self::new(child, port, None)
    }

    /// nginx with one channel in memory and a worker a core.
    fn nchan() -> Self {
        let files = tempfile::tempdir().unwrap();
        let (port, module) = (free_port(), nchan_module());
        let module = module.display();
        let config = format!(
            "load_module {module};\n\
             daemon off; worker_processes 2; worker_rlimit_nofile 20000; pid nginx.pid; error_log stderr error;\n\
             events {{ worker_connections 20000; }}\n\
             http {{\n\
               access_log off; tcp_nodelay on; keepalive_timeout 1h; keepalive_requests 100000000;\n\
               client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
               uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
               nchan_shared_memory_size 512m;\n\
               server {{ listen 127.0.0.1:{port} backlog=4096;\n\
                 location = /publish {{ nchan_publisher http; nchan_channel_id all;\n\
                   nchan_message_buffer_length 16; nchan_message_timeout 1h; }}\n\
                 location = / {{ nchan_subscriber longpoll; nchan_channel_id all;\n\
                   nchan_subscriber_first_message newest; nchan_subscriber_timeout 0; }}\n\
             }} }}\n"
        );
        std::fs::write(files.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(files.path()).arg("-c").arg(files.path().join("nginx.conf"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        drop(connected(port, "nginx"));
        Self::new(child, port, Some(files))
    }

    /// The server of durable-streams with its own defaults and one stream, which as ours is not kept on a disk.
    fn durable_streams() -> Self {
        let (files, port) = (tempfile::tempdir().unwrap(), free_port());
        let mut command = Command::new(durable_streams().unwrap());
        command.args(["--port", &port.to_string(), "--durability", "memory", "--data-dir"]).arg(files.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut stream = connected(port, "durable-streams-server");
        let create =
            "PUT /all HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(create.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 201");
        Self::new(child, port, Some(files))
    }

    /// Starts the waiters.
    pub async fn crowd(&self, contestant: Contestant, waiters: usize, board: Arc<Board>) -> Crowd {
        let (target, host) = (&self.target, self.target.authority().to_owned());
        match contestant {
            Contestant::Crumbd => {
                let cursor = Status::get(target).await.unwrap().cursor.unwrap();
                Crowd::start(target, CrumbdPoll::new(target, &cursor, "application/json"), waiters, board)
            }
            Contestant::CrumbdHttp2 => {
                let cursor = Status::get(target).await.unwrap().cursor.unwrap();
                Crowd::over_http2(target, &cursor, waiters, board)
            }
            Contestant::Nchan => Crowd::start(target, NchanPoll { host }, waiters, board),
            Contestant::Axum | Contestant::Tokio => Crowd::start(target, FixedPoll { host }, waiters, board),
            Contestant::CrumbdStream => {
                let cursor = Status::get(target).await.unwrap().cursor.unwrap();
                Crowd::of_readers(target, CrumbdStream::new(target, &cursor), waiters, board)
            }
            Contestant::TokioStream => Crowd::of_readers(target, FixedStream { host }, waiters, board),
            Contestant::DurableStreams => Crowd::of_readers(target, DurableStream { host }, waiters, board),
        }
    }

    /// Who publishes.
    pub async fn publisher(&self, contestant: Contestant) -> AnyPublisher {
        let target = &self.target;
        match contestant {
            Contestant::Crumbd | Contestant::CrumbdHttp2 | Contestant::CrumbdStream => {
                AnyPublisher::Crumbd(Publisher::connect(target, BODY_BYTES, None).await.unwrap())
            }
            Contestant::Nchan => {
                AnyPublisher::Other(Writer::connect(target, "/publish", "text/plain").await.unwrap(), 0)
            }
            Contestant::Axum | Contestant::Tokio | Contestant::TokioStream => {
                AnyPublisher::Other(Writer::connect(target, "/", "text/plain").await.unwrap(), 0)
            }
            Contestant::DurableStreams => {
                AnyPublisher::Other(Writer::connect(target, "/all", "text/plain").await.unwrap(), 0)
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // nginx's workers would outlive a master that is killed at once.
        let pid = rustix::process::Pid::from_child(&self.child);
        _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let end = Instant::now() + Duration::from_secs(5);
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

pub enum AnyPublisher {
    Crumbd(Publisher),
    Other(Writer, u64),
}

impl AnyPublisher {
    pub async fn publish(&mut self, board: &Board) {
        match self {
            Self::Crumbd(publisher) => _ = publisher.publish(board).await.unwrap(),
            Self::Other(writer, number) => {
                *number += 1;
                let body = format!("{:x<BODY_BYTES$}", format!("crumbd-bench-{number:012}-"));
                board.publishes(*number);
                // The bare floors have a body of their own and take none.
                let body = if writer.path() == "/" { "" } else { &*body };
                writer.write(body.as_bytes()).await.unwrap();
            }
        }
    }
}

/// A floor's answers carry no number: each is believed to be the one publication that there was.
struct FixedPoll {
    host: String,
}

impl LongPoll for FixedPoll {
    fn first(&self, _: usize, request: &mut Vec<u8>) {
        request.extend_from_slice(b"GET / HTTP/1.1\r\nHost: ");
        request.extend_from_slice(self.host.as_bytes());
        request.extend_from_slice(b"\r\n\r\n");
    }

    fn next(&self, _: usize, before: u64, answer: &Answer<'_>, _: &mut Vec<u8>) -> Result<Heard, String> {
        match answer.body.len() {
            BODY_BYTES => Ok(Heard { last: before + 1, count: None }),
            other => Err(format!("a body of {other} bytes")),
        }
    }
}

/// nchan names a message by `Last-Modified` and `Etag`; the next request asks for what came after it.
struct NchanPoll {
    host: String,
}

impl LongPoll for NchanPoll {
    fn first(&self, waiter: usize, request: &mut Vec<u8>) {
        FixedPoll { host: self.host.clone() }.first(waiter, request);
    }

    fn next(
        &self,
        waiter: usize,
        before: u64,
        answer: &Answer<'_>,
        request: &mut Vec<u8>,
    ) -> Result<Heard, String> {
        let (modified, etag) =
            answer.field("last-modified").zip(answer.field("etag")).ok_or("no message id")?;
        request.clear();
        self.first(waiter, request);
        request.truncate(request.len() - 2);
        for (name, value) in [("If-Modified-Since: ", modified), ("If-None-Match: ", etag)] {
            request.extend_from_slice(name.as_bytes());
            request.extend_from_slice(value);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let (last, count) = numbers_in(answer.body).unwrap_or((before, 0));
        Ok(Heard { last, count: Some(count) })
    }
}

/// The events of the floor carry no number either.
struct FixedStream {
    host: String,
}

impl EventStream for FixedStream {
    fn request(&self) -> Vec<u8> {
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.host).into_bytes()
    }

    fn heard(&self, before: u64, events: &[u8]) -> Option<Heard> {
        Some(Heard { last: before + (events.len() / BODY_BYTES) as u64, count: None })
    }
}

/// A reader of durable-streams from the stream's end. Beside each message an event says where the reader is now.
struct DurableStream {
    host: String,
}

impl EventStream for DurableStream {
    fn request(&self) -> Vec<u8> {
        format!("GET /all?offset=now&live=sse HTTP/1.1\r\nHost: {}\r\n\r\n", self.host).into_bytes()
    }

    fn heard(&self, _: u64, events: &[u8]) -> Option<Heard> {
        let (last, count) = numbers_in(events)?;
        Some(Heard { last, count: Some(count) })
    }
}
