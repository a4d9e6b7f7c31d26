//! Certificates are replaced while the daemon runs.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::serving::waiters;
use super::support::daemon::Daemon;
use super::support::http::{Got, Http};
use super::support::tls::{Authority, client_config};
use super::support::{eventually, in_time};

/// A client without a connection so far.
fn fresh(daemon: &Daemon, authority: &Authority) -> Http {
    Http::over_tls(daemon.url(), client_config(&[&authority.ca], None))
}

async fn served(daemon: &Daemon, authority: &Authority) -> Option<Got> {
    fresh(daemon, authority).try_send("GET", "/v1/kv", &[], None).await.ok()
}

#[tokio::test]
async fn new_certificates_apply_to_new_connections_and_open_ones_go_on() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (_dir, files) = old.server().copied();
    let daemon = Daemon::push(&files.served()).vouched_for_by(&old);
    let http = daemon.http();
    let cursor = http.put(b"a", "application/json", b"1").await;
    assert!(
        served(&daemon, &new).await.is_none(),
        "who trusts the new authority only does not trust the old one"
    );
    // One waits, another is between two requests.
    let mut waiting = daemon.connect().await;
    let next = format!("GET /v1/breadcrumbs/{cursor}/next?wait=1m HTTP/1.1\r\nHost: a\r\n\r\n");
    waiting.write_all(next.as_bytes()).await.unwrap();
    waiters(&http, 1).await;

    new.server().replace(&files);
    eventually("the new certificate", || served(&daemon, &new)).await.ok(200);
    assert!(served(&daemon, &old).await.is_none(), "nobody gets the old certificate any more");
    http.put(b"a", "application/json", b"2").await;
    let mut head = [0; 12];
    in_time("the answer", waiting.read_exact(&mut head)).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    daemon.logged("that they were read", |line| line.contains("certificates read from").then_some(()));
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing_and_are_said_to_once() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (_dir, files) = old.server().copied();
    let daemon = Daemon::push(&files.served());
    let good = new.server();
    let whole = std::fs::read_to_string(&good.cert).unwrap();
    for (text, complaint) in [
        (&whole[..whole.len() / 2], "damaged or only half there"),
        ("", "there is no certificate in it"),
        (&whole, "does not belong to the certificate"),
    ] {
        // All at once: each fault is to be seen, and no other.
        let aside = format!("{}.new", files.cert);
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, &files.cert).unwrap();
        daemon.logged(complaint, |line| (line.contains("ERROR") && line.contains(complaint)).then_some(()));
        served(&daemon, &old).await.expect("the old one is kept").ok(200);
    }
    std::fs::remove_file(&files.key).unwrap();
    daemon.logged("the missing key", |line| {
        (line.contains("ERROR") && line.contains("os error")).then_some(())
    });
    served(&daemon, &old).await.expect("the old one is kept").ok(200);
    // Asked for it, it says so again.
    let faults = || daemon.log().lines().filter(|line| line.contains("ERROR")).count();
    assert_eq!(faults(), 4, "each is said once: {}", daemon.log());
    daemon.signal("HUP");
    eventually("the answer to SIGHUP", || async { (faults() == 5).then_some(()) }).await;

    good.replace(&files);
    eventually("the new certificate", || served(&daemon, &new)).await.ok(200);
    daemon.logged("that they are good again", |line| line.contains("good again").then_some(()));
}

#[tokio::test]
async fn a_client_authority_is_exchanged_too() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (_dir, files) = old.server().copied();
    let clients = tempfile::NamedTempFile::new().unwrap();
    std::fs::copy(&old.ca, clients.path()).unwrap();
    let path = clients.path().to_str().unwrap();
    let daemon = Daemon::push(&[&files.served()[..], &["--tls-client-ca", path]].concat());
    let client = |authority: &Authority| {
        let identity = authority.client(None, None);
        Http::over_tls(daemon.url(), client_config(&[&old.ca], Some(&identity)))
    };
    let (before, after) = (client(&old), client(&new));
    before.get("/v1/kv").await.ok(200);
    after.try_send("GET", "/v1/kv", &[], None).await.expect_err("it is not known yet");
    std::fs::copy(&new.ca, path).unwrap();
    let let_in = || async { after.try_send("GET", "/v1/kv", &[], None).await.ok() };
    eventually("the new authority", let_in).await.ok(200);
    client(&old).try_send("GET", "/v1/kv", &[], None).await.expect_err("it is known no more");
    before.get("/v1/kv").await.ok(200);
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_warned_of() {
    let authority = Authority::new("authority");
    let serve = |days: &str| Daemon::push(&authority.server_for(days).served());
    let near = serve("2");
    near.logged("a warning", |line| (line.contains("WARN") && line.contains("expires at 20")).then_some(()));
    let far = serve("30");
    far.logged("it listens", |line| line.contains("listening").then_some(()));
    assert!(!far.log().contains("expires"), "{}", far.log());
}
