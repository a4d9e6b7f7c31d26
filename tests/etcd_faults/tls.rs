//! TLS towards etcd: certificates of both sides.

use crate::support::daemon::Daemon;
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::followed::mirror;
use crate::support::tls::{Authority, Identity};

#[tokio::test]
async fn tls_with_certificates_on_both_sides() {
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let (ca, other) = (&good.ca, &other.ca);
    let Identity { cert, key } = &good.server();
    let etcd = Etcd::start_with(&[
        "--cert-file",
        cert,
        "--key-file",
        key,
        "--trusted-ca-file",
        ca,
        "--client-cert-auth",
    ])
    .await;
    let tls = ["--cacert", ca, "--cert", cert, "--key", key];
    let put = |key: &str| etcd.try_ctl(&[&tls[..], &["put", key, "over TLS"]].concat()).ok();
    eventually("etcd to take a key", || async { put("app/a") }).await;
    let feed = format!("etcds://{}/app/", etcd.endpoint());
    let good = ["--feed", &feed, "--etcd-ca", ca, "--etcd-cert", cert, "--etcd-key", key];
    let daemon = Daemon::serve(&good);
    let mut mirror = mirror(&daemon.http()).await;
    assert_eq!(mirror.state.len(), 1);
    put("app/b").unwrap();
    mirror.follow_until("the second key", |mirror| mirror.state.len() == 2).await;
    // Nobody is spoken to whose authority is another one, and nobody is let in without a certificate. The log says
    // what would be right.
    let plain = etcd.feed("app/");
    for (bad, complaint) in [
        (
            vec!["--feed", &feed, "--etcd-ca", other, "--etcd-cert", cert, "--etcd-key", key],
            "invalid peer certificate",
        ),
        (vec!["--feed", &feed], "--etcd-ca"),
        (vec!["--feed", &feed, "--etcd-ca", ca], "--etcd-cert and --etcd-key"),
        (vec!["--feed", &plain], "etcds://"),
    ] {
        let refused = Daemon::serve(&bad);
        refused.logged(complaint, |line| (line.contains("WARN") && line.contains(complaint)).then_some(()));
        refused.http().get("/readyz").await.problem(503);
        let log = refused.log();
        assert!(!log.contains("connected to etcd"), "nobody was let in, and yet: {log}");
    }
    daemon.logged("that it is connected", |line| line.contains("connected to etcd").then_some(()));
}
