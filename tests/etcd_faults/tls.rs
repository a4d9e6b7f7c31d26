//! TLS towards etcd: who is spoken to, and who is let in.

use std::path::Path;
use std::process::Command;

use crate::support::daemon::Daemon;
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::followed::mirror;

/// Makes an authority `{name}-ca.pem`, and a certificate and key for 127.0.0.1 that it signed.
fn certificates(dir: &Path, name: &str) {
    let openssl = |arguments: &str| {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output();
        let done = done.unwrap_or_else(|error| panic!("openssl ({error}): apt-get install openssl"));
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let fresh = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!(
        "req -x509 {fresh} -subj /CN={name}-ca -days 3650 -keyout {name}-ca-key.pem -out {name}-ca.pem"
    ));
    std::fs::write(dir.join("san"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
    openssl(&format!("req {fresh} -subj /CN={name} -keyout {name}-key.pem -out {name}.csr"));
    openssl(&format!(
        "x509 -req -in {name}.csr -CA {name}-ca.pem -CAkey {name}-ca-key.pem -CAcreateserial -days 3650 \
         -extfile san -out {name}.pem"
    ));
}

#[tokio::test]
async fn tls_with_certificates_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), "good");
    certificates(dir.path(), "other");
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (file("good-ca.pem"), file("good.pem"), file("good-key.pem"));
    let etcd = Etcd::start_with(&[
        "--cert-file",
        &cert,
        "--key-file",
        &key,
        "--trusted-ca-file",
        &ca,
        "--client-cert-auth",
    ])
    .await;
    let tls = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    let put = |key: &str| etcd.try_ctl(&[&tls[..], &["put", key, "over TLS"]].concat()).ok();
    eventually("etcd to take a key", || async { put("app/a") }).await;
    let feed = format!("etcds://{}/app/", etcd.endpoint());
    let good = ["--feed", &feed, "--etcd-ca", &ca, "--etcd-cert", &cert, "--etcd-key", &key];
    let daemon = Daemon::serve(&good);
    let mut mirror = mirror(&daemon.http()).await;
    assert_eq!(mirror.state.len(), 1);
    put("app/b").unwrap();
    mirror.follow_until("the second key", |mirror| mirror.state.len() == 2).await;
    // Nobody is spoken to whose authority is another one, and nobody is let in without a certificate. The log says
    // what would be right.
    let other = file("other-ca.pem");
    let plain = etcd.feed("app/");
    for (bad, complaint) in [
        (
            vec!["--feed", &feed, "--etcd-ca", &other, "--etcd-cert", &cert, "--etcd-key", &key],
            "invalid peer certificate",
        ),
        (vec!["--feed", &feed], "--etcd-ca"),
        (vec!["--feed", &feed, "--etcd-ca", &ca], "--etcd-cert and --etcd-key"),
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
