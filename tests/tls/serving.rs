//! The service over TLS is the same as without.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::daemon::Daemon;
use super::support::http::Http;
use super::support::mirror::{Coding, Media, Mirror};
use super::support::tls::{Authority, connect};
use super::support::workload::put;
use super::support::{eventually, in_time};

pub const FRONTS: [[&str; 2]; 2] = [["--lean-front", "on"], ["--lean-front", "off"]];

/// A daemon with a certificate of this authority.
pub fn daemon(authority: &Authority, more: &[&str]) -> Daemon {
    let server = authority.server();
    Daemon::push(&[&server.served()[..], more].concat()).vouched_for_by(authority)
}

pub async fn waiters(http: &Http, wanted: u64) {
    let what = format!("{wanted} waiters");
    eventually(&what, || async {
        (http.get("/v1/status").await.ok(200).json()["waiters"] == wanted).then_some(())
    })
    .await;
}

/// A number of `/metrics`.
pub async fn sample(http: &Http, name: &str) -> f64 {
    let text = String::from_utf8(http.get("/metrics").await.ok(200).body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
}

#[tokio::test]
async fn the_state_and_every_change_come_over_tls() {
    let authority = Authority::new("authority");
    for front in FRONTS {
        let daemon = daemon(&authority, &front);
        assert!(daemon.url().starts_with("https://"), "{}", daemon.url());
        let http = daemon.http();
        // More than fits into a record, and into the buffers between.
        let long = "x".repeat(3 << 20);
        http.post(&[put("a", "1"), put("long", &format!("{long:?}"))]).await;
        let mut mirror = Mirror::of(daemon.http(), Media::Json, Coding::Identity).await;
        assert_eq!(mirror.state.len(), 2);
        for n in 0..20 {
            let waiting = async { mirror.next("20s").await };
            let writing = async {
                waiters(&http, 1).await;
                http.post(&[put("a", &n.to_string())]).await
            };
            let (_, cursor) = in_time("a change", async { tokio::join!(waiting, writing) }).await;
            assert_eq!(mirror.cursor, cursor);
        }
        mirror.speak(Media::Bincode, Coding::Zstd);
        let cursor = http.post(&[put("long", &format!("\"{long}{long}\""))]).await;
        mirror.follow_to(&cursor).await;
        assert_eq!(http.get("/v1/kv/long").await.ok(200).body.len(), 2 * long.len() + 2);
    }
}

#[tokio::test]
async fn a_stream_is_told_over_tls() {
    let authority = Authority::new("authority");
    let daemon = daemon(&authority, &[]);
    let http = daemon.http();
    http.post(&[put("a", "\"before\"")]).await;
    let mut stream = daemon.connect().await;
    stream.write_all(b"GET /v1/stream HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    for wanted in ["\"before\"", "\"later\"", "\"last\""] {
        let more = async {
            while !heard.contains(wanted) {
                let mut chunk = vec![0; 4096];
                let length = stream.read(&mut chunk).await.unwrap();
                assert!(length > 0, "{heard}");
                heard.push_str(std::str::from_utf8(&chunk[..length]).unwrap());
            }
        };
        in_time(wanted, more).await;
        let next = if wanted == "\"before\"" { "\"later\"" } else { "\"last\"" };
        http.post(&[put("a", next)]).await;
    }
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
}

#[tokio::test]
async fn tls_1_2_and_1_3_are_spoken_with_http_1_1_or_2_inside() {
    let authority = Authority::new("authority");
    let daemon = daemon(&authority, &[]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (offered, chosen) in [
            (vec![], Some(None)),
            (vec!["http/1.1", "h2"], Some(Some("h2"))),
            (vec!["h2"], Some(Some("h2"))),
            (vec!["http/1.1"], Some(Some("http/1.1"))),
            // A client that speaks nothing else is told so, and not left to wonder about an answer.
            (vec!["spdy/3"], None),
        ] {
            let provider = rustls::crypto::ring::default_provider().into();
            let builder = rustls::ClientConfig::builder_with_provider(provider);
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.certificate()).unwrap();
            let mut config = builder
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
            let connected = in_time("a handshake", connect(&daemon, config)).await;
            let agreed = connected.as_ref().ok().map(|stream| {
                let session = stream.get_ref().1;
                assert_eq!(session.protocol_version(), Some(version.version));
                session.alpn_protocol().map(|name| std::str::from_utf8(name).unwrap())
            });
            assert_eq!(agreed, chosen, "{offered:?}: {:?}", connected.as_ref().err());
        }
    }
}

#[tokio::test]
async fn who_comes_without_tls_is_told_in_plain_words() {
    let authority = Authority::new("authority");
    let daemon = daemon(&authority, &[]);
    let plain = Http::new(&format!("http://{}", daemon.address()));
    let problem = plain.get("/v1/breadcrumbs/current").await.problem(400);
    assert!(problem["detail"].as_str().unwrap().contains("https://"), "{problem}");
    // Whatever this is, it is no client of ours.
    let mut other = tokio::net::TcpStream::connect(daemon.address()).await.unwrap();
    other.write_all(b"\x00\x01\x02\x03").await.unwrap();
    let mut heard = Vec::new();
    // The end, or a reset: there are bytes that nobody reads.
    _ = in_time("the end", other.read_to_end(&mut heard)).await;
    assert!(heard.is_empty(), "{heard:?}");
    daemon.http().get("/livez").await.ok(200);
}

#[tokio::test]
async fn every_connection_that_ends_is_ended_with_a_farewell() {
    let authority = Authority::new("authority");
    for front in FRONTS {
        let mut daemon = daemon(&authority, &[&["--header-timeout", "700ms"], &front[..]].concat());
        let cursor = daemon.http().put(b"a", "application/json", b"1").await;
        let next = format!("GET /v1/breadcrumbs/{cursor}/next?wait=1m HTTP/1.1\r\nHost: a\r\n\r\n");
        let last = "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let ask = async |text: &str| {
            let mut stream = daemon.connect().await;
            stream.write_all(text.as_bytes()).await.unwrap();
            stream
        };
        let (waiting, silent, slow) = (ask(&next).await, ask("").await, ask("GET /live").await);
        waiters(&daemon.http(), 1).await;
        // rustls calls an end without a farewell an error.
        let heard = async |mut stream: Box<dyn super::support::daemon::Stream>| {
            let mut heard = String::new();
            in_time("the end", stream.read_to_string(&mut heard)).await.unwrap();
            heard
        };
        assert!(heard(ask(last).await).await.starts_with("HTTP/1.1 200 "));
        for late in [silent, slow] {
            assert!(heard(late).await.starts_with("HTTP/1.1 408 "));
        }
        // One has just had an answer and rests.
        let mut resting = ask("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let mut status = [0; 12];
        resting.read_exact(&mut status).await.unwrap();
        daemon.terminate();
        let answer = heard(waiting).await;
        assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
        heard(resting).await;
        assert!(daemon.wait_exit().success());
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_over_tls() {
    let authority = Authority::new("authority");
    let daemon = daemon(&authority, &["--max-connections", "2"]);
    let mut kept = Vec::new();
    let livez = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut head = [0; 12];
    for _ in 0..2 {
        let mut stream = daemon.connect().await;
        stream.write_all(livez).await.unwrap();
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        kept.push(stream);
    }
    let problem = daemon.http().get("/livez").await.problem(503);
    assert_eq!(problem["type"], "urn:crumbd:problem:over-budget");
    kept.clear();
    eventually("there is room again", || async {
        daemon.http().try_send("GET", "/livez", &[], None).await.ok().filter(|got| got.status == 200)
    })
    .await;
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_cut_off_over_tls_too() {
    let authority = Authority::new("authority");
    for front in FRONTS {
        let daemon = daemon(&authority, &[&["--stall-timeout", "300ms"], &front[..]].concat());
        let http = daemon.http();
        let cursor = http.put(b"a", "application/json", b"1").await;
        // More than the system takes on behalf of a client that reads nothing.
        for n in 0..8 {
            http.put(format!("large/{n}").as_bytes(), "text/plain", &vec![b'x'; 4 << 20]).await;
        }
        for path in ["/v1/breadcrumbs/current".to_owned(), format!("/v1/breadcrumbs/{cursor}/next")] {
            let mut idle = daemon.connect().await;
            idle.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
            let mut begun = [0; 12];
            in_time("the answer to begin", idle.read_exact(&mut begun)).await.unwrap();
            eventually(&path, || async { (sample(&http, "crumbd_connections").await == 1.0).then_some(()) })
                .await;
            assert_eq!(sample(&http, "crumbd_snapshot_bytes_in_flight").await, 0.0, "{path}");
        }
    }
}
