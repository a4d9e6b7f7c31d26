//! A client that stops in the middle of a handshake is disconnected, and delays no other client.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::serving::{daemon, sample};
use super::support::tls::Authority;
use super::support::{eventually, in_time};

#[tokio::test]
async fn a_half_open_handshake_is_cut_while_others_are_served() {
    let authority = Authority::new("authority");
    let daemon = daemon(&authority, &["--header-timeout", "1s"]);
    let http = daemon.http();
    // Nothing at all; the beginning of a record; a record that promises more than comes.
    let begun: [&[u8]; 3] = [b"", &[0x16, 0x03, 0x01], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01]];
    let mut half_open = Vec::new();
    for bytes in begun {
        let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        half_open.push(stream);
    }
    // They count as connections, and do not keep this one waiting.
    assert_eq!(sample(&http, "crumbd_connections").await, 4.0);
    assert_eq!(sample(&http, "crumbd_tls_handshakes_failed_total").await, 0.0);
    http.put(b"a", "application/json", b"1").await;
    for mut stream in half_open {
        let mut heard = Vec::new();
        in_time("the end", stream.read_to_end(&mut heard)).await.unwrap();
        assert!(heard.is_empty(), "{heard:?}");
    }
    eventually("their connections to be over", || async {
        (sample(&http, "crumbd_connections").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(sample(&http, "crumbd_tls_handshakes_failed_total").await, 3.0);
}

#[tokio::test]
async fn who_sends_a_handshake_byte_by_byte_has_no_more_time_than_others() {
    let authority = Authority::new("authority");
    let daemon = daemon(&authority, &["--header-timeout", "700ms"]);
    let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
    let dripping = async {
        // Of a record of 16 KiB, which would take minutes.
        let mut bytes = [0x16, 0x03, 0x01, 0x3f, 0xff].into_iter().chain(std::iter::repeat(0x01));
        while stream.write_all(&[bytes.next().unwrap()]).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    in_time("the daemon to hang up", dripping).await;
}

#[tokio::test]
async fn a_daemon_that_stops_does_not_wait_for_handshakes() {
    let authority = Authority::new("authority");
    let mut daemon = daemon(&authority, &["--header-timeout", "5m", "--drain", "5m"]);
    let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
    stream.write_all(&[0x16, 0x03, 0x01]).await.unwrap();
    eventually("it is counted", || async {
        (sample(&daemon.http(), "crumbd_connections").await == 2.0).then_some(())
    })
    .await;
    daemon.terminate();
    assert!(daemon.wait_exit().success(), "well before the drain window is over");
}
