//! The PROXY protocol: the address of a client behind a proxy, as the proxy says it.

use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::addresses::refused;
use crate::support::daemon::Daemon;
use crate::support::etcd::free_port;
use crate::support::http::Http;
use crate::support::tls::{Authority, client_config};
use crate::support::{eventually, in_time};
use crate::{ask, body};

const FROM_PROXIES: [&str; 2] = ["--proxy-protocol-from", "127.0.0.2,127.0.0.3/32"];
const PROXY: [u8; 4] = [127, 0, 0, 2];

/// A header of version 2, with a field at its end that nobody knows.
fn header(command: u8, source: &str) -> Vec<u8> {
    let source: SocketAddr = source.parse().unwrap();
    let (family, ips) = match source.ip() {
        IpAddr::V4(ip) => (0x11, [&ip.octets()[..], &[127, 0, 0, 1]].concat()),
        IpAddr::V6(ip) => (0x21, [&ip.octets()[..], &[0; 16]].concat()),
    };
    let rest = [&ips[..], &source.port().to_be_bytes(), &[30, 131], &[0xe0, 0, 2, 1, 2]].concat();
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, &rest].concat()
}

async fn connect(address: &str, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(address.parse().unwrap()).await.unwrap()
}

/// A connection of the proxy that begins with these bytes.
async fn proxied(address: &str, first: &[u8]) -> TcpStream {
    let mut stream = connect(address, PROXY).await;
    stream.write_all(first).await.unwrap();
    stream
}

/// The addresses in the table of clients, the newest first.
async fn addresses(daemon: &Daemon) -> Vec<String> {
    let clients = daemon.http().get("/v1/clients").await.ok(200).json();
    let rows = clients["clients"].as_array().unwrap().iter();
    rows.map(|row| row["address"].as_str().unwrap().to_owned()).collect()
}

/// Waits for a log line with this text.
fn logged(daemon: &Daemon, text: &str) {
    daemon.logged(text, |line| line.contains(text).then_some(()));
}

#[tokio::test]
async fn the_client_of_a_proxy_is_the_one_in_the_header() {
    for front in ["on", "off"] {
        let daemon =
            Daemon::push(&[&FROM_PROXIES[..], &["--client-table", "9", "--lean-front", front]].concat());
        let current = "/v1/breadcrumbs/current";
        for first in [
            header(1, "192.0.2.7:1234"),
            header(1, "[2001:db8::7]:1234"),
            header(1, "[::ffff:192.0.2.8]:1234"),
            header(0, "192.0.2.9:1234"),
        ] {
            body(&ask(proxied(daemon.address(), &first).await, current).await.unwrap());
        }
        let wanted = ["127.0.0.2", "192.0.2.8", "2001:db8::7", "192.0.2.7"];
        assert_eq!(addresses(&daemon).await, wanted, "the last one is the proxy's own");
        // Who is no proxy is not believed, and needs no header.
        body(&ask(connect(daemon.address(), [127, 0, 0, 9]).await, current).await.unwrap());
        assert_eq!(addresses(&daemon).await[0], "127.0.0.9");
    }
}

#[tokio::test]
async fn clients_behind_a_proxy_have_shares_of_their_own() {
    let daemon = Daemon::push(&[&FROM_PROXIES[..], &["--max-client-waiters", "1"]].concat());
    let cursor = daemon.http().put(b"a", "text/plain", b"1").await;
    let next = format!("/v1/breadcrumbs/{cursor}/next?wait=30s");
    let request = format!("GET {next} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut waiting = Vec::new();
    for (waiters, source) in [(1, "192.0.2.7:1"), (2, "192.0.2.8:1")] {
        let mut stream = proxied(daemon.address(), &header(1, source)).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        waiting.push(stream);
        eventually("it waits", async || {
            (daemon.http().get("/v1/status").await.ok(200).json()["waiters"] == waiters).then_some(())
        })
        .await;
    }
    let third = ask(proxied(daemon.address(), &header(1, "192.0.2.7:2")).await, &next).await.unwrap();
    assert!(third.starts_with("HTTP/1.1 503 "), "{third}");
}

#[tokio::test]
async fn a_connection_of_a_proxy_without_a_proper_header_is_closed_and_logged() {
    let daemon = Daemon::push(&[&FROM_PROXIES[..], &["--header-timeout", "200ms"]].concat());
    let whole = header(1, "192.0.2.7:1234");
    let mut long = whole.clone();
    long[14..16].copy_from_slice(&4097_u16.to_be_bytes());
    let mut datagrams = whole.clone();
    datagrams[13] = 0x12;
    for (first, says) in [
        (&b"PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\nGET / HTTP/1.1\r\n"[..], "header of version 1"),
        (b"GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n", "does not begin with a PROXY protocol header"),
        (b"\r\n\r\n\0\r\nQUIX", "does not begin with a PROXY protocol header"),
        (&long, "has 4097 bytes after the first 16; 4096 are allowed"),
        (&datagrams, "malformed: no TCP"),
        (&whole[..20], "no PROXY protocol header came within --header-timeout"),
    ] {
        let mut stream = proxied(daemon.address(), first).await;
        let mut answer = Vec::new();
        // With unread bytes the system resets it.
        _ = in_time("the end", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "{says}");
        logged(&daemon, says);
    }
    let mut cut = proxied(daemon.address(), &whole[..20]).await;
    cut.shutdown().await.unwrap();
    in_time("the end", cut.read_to_end(&mut Vec::new())).await.unwrap();
    logged(&daemon, "it ended within the header");
    // Nothing of it counts as an open connection.
    eventually("they are closed", async || {
        (daemon.http().get("/v1/status").await.ok(200).json()["connections"].as_u64() < Some(3)).then_some(())
    })
    .await;
    body(&ask(proxied(daemon.address(), &whole).await, "/v1/status").await.unwrap());
}

#[tokio::test]
async fn a_slow_header_is_read_to_its_end() {
    let daemon = Daemon::push(&FROM_PROXIES);
    let mut stream = connect(daemon.address(), PROXY).await;
    stream.set_nodelay(true).unwrap();
    for byte in header(1, "192.0.2.7:1234") {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    body(&ask(stream, "/v1/status").await.unwrap());
}

#[tokio::test]
async fn a_client_over_the_budget_is_told_so_behind_a_proxy_too() {
    let daemon = Daemon::push(&[&FROM_PROXIES[..], &["--max-connections", "1"]].concat());
    let held = daemon.http();
    held.get("/readyz").await.ok(200);
    let refused = ask(proxied(daemon.address(), &header(1, "192.0.2.7:1")).await, "/readyz").await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("--max-connections"), "{refused}");
}

#[tokio::test]
async fn the_addresses_for_operators_and_for_etcds_clients_take_it_too() {
    let etcd = format!("127.0.0.1:{}", free_port());
    let admin = format!("127.0.0.1:{}", free_port());
    let flags = ["--etcd-listen", &etcd, "--admin-listen", &admin];
    let _daemon = Daemon::push(&[&FROM_PROXIES[..], &flags].concat());
    let first = header(1, "192.0.2.7:1234");
    body(&ask(proxied(&etcd, &first).await, "/health").await.unwrap());
    body(&ask(proxied(&admin, &first).await, "/metrics").await.unwrap());
    for address in [&etcd, &admin] {
        let answer = ask(connect(address, PROXY).await, "/health").await.unwrap_or_default();
        assert_eq!(answer, "");
    }
}

#[test]
fn what_is_no_list_of_networks_is_an_error() {
    for list in ["10.0.0.0/33", "proxy.example", "10.0.0.0/8,"] {
        let says = refused(&["--proxy-protocol-from", list]);
        assert!(says.contains("no list of networks such as 10.0.0.0/8,192.168.1.7"), "{says}");
    }
}

/// haproxy in front of a daemon, passing TCP on. Dropping it ends it.
struct Haproxy {
    process: Child,
    port: u16,
    _dir: TempDir,
}

impl Haproxy {
    fn start(server: &str, option: &str) -> Haproxy {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let path = dir.path().join("haproxy.cfg");
        let config = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n\
             listen crumbd\n  bind 127.0.0.1:{port}\n  source 127.0.0.2\n  server daemon {server} {option}\n"
        );
        std::fs::write(&path, config).unwrap();
        // Debian keeps it where only root's PATH leads.
        let path_variable = std::env::var("PATH").unwrap_or_default() + ":/usr/local/sbin:/usr/sbin";
        let mut command = Command::new("haproxy");
        command.env("PATH", path_variable).arg("-f").arg(&path).arg("-db");
        let process = command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let process =
            process.unwrap_or_else(|error| panic!("haproxy is missing ({error}): apt-get install haproxy"));
        Haproxy { process, port, _dir: dir }
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until haproxy serves.
async fn listening(haproxy: &Haproxy) {
    let address = ("127.0.0.1", haproxy.port);
    eventually("haproxy listens", async || TcpStream::connect(address).await.ok()).await;
}

#[tokio::test]
async fn haproxy_tells_the_addresses_of_its_clients() {
    let authority = Authority::new("ca");
    let identity = authority.server();
    for tls in [&[][..], &identity.served()] {
        let table = ["--client-table", "9"];
        let daemon = Daemon::push(&[&FROM_PROXIES[..], &table, tls].concat()).vouched_for_by(&authority);
        let haproxy = Haproxy::start(daemon.address(), "send-proxy-v2 check inter 50ms");
        listening(&haproxy).await;
        let scheme = if tls.is_empty() { "http" } else { "https" };
        let base = format!("{scheme}://127.0.0.1:{}", haproxy.port);
        let http = match tls {
            [] => Http::from_address(&base, [127, 0, 0, 7]),
            _ => Http::over_tls(&base, client_config(&[&authority.ca], None)),
        };
        http.get("/v1/breadcrumbs/current").await.ok(200);
        let wanted = if tls.is_empty() { "127.0.0.7" } else { "127.0.0.1" };
        assert_eq!(addresses(&daemon).await, [wanted]);
        let log: Vec<Value> = daemon.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(log.iter().all(|line| line["level"] == "INFO"), "its checks are no errors: {log:?}");
    }
}

#[tokio::test]
async fn version_1_of_haproxy_is_refused_with_a_line_that_says_what_to_do() {
    let daemon = Daemon::push(&FROM_PROXIES);
    let haproxy = Haproxy::start(daemon.address(), "send-proxy");
    listening(&haproxy).await;
    let http = Http::new(&format!("http://127.0.0.1:{}", haproxy.port));
    assert!(http.try_send("GET", "/readyz", &[], None).await.is_err());
    logged(&daemon, "the proxy has to send version 2 (of haproxy: send-proxy-v2)");
}
