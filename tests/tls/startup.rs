//! A daemon with invalid TLS settings does not start, and names the mistake.

use super::support::daemon::Daemon;
use super::support::tls::Authority;

#[tokio::test]
async fn settings_that_make_no_sense_are_refused_in_words() {
    let authority = Authority::new("authority");
    let (one, two) = (authority.server(), authority.server());
    let (cert, key, ca) = (one.cert.as_str(), one.key.as_str(), authority.ca.as_str());
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent").display().to_string();
    let half = dir.path().join("half").display().to_string();
    std::fs::write(&half, &std::fs::read(cert).unwrap()[..300]).unwrap();
    let nonsense = dir.path().join("nonsense").display().to_string();
    std::fs::write(&nonsense, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let tls = ["--tls-cert", cert, "--tls-key", key];
    let with = |more: &[&'static str]| [&tls[..], more].concat();
    let with_file = |flag: &'static str, file: &str| {
        [&tls[..], &[flag, file]].concat().iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()
    };
    let owned = |args: Vec<&str>| args.into_iter().map(str::to_owned).collect::<Vec<_>>();
    for (args, complaint) in [
        (owned(vec!["--tls-cert", cert]), "tls-cert needs --tls-key".to_owned()),
        (owned(vec!["--tls-key", key]), "tls-key needs --tls-cert".to_owned()),
        (owned(vec!["--tls-client-ca", ca]), "tls-client-ca is for TLS only".to_owned()),
        (owned(vec!["--tls-client-cn", "a"]), "tls-client-cn is for TLS only".to_owned()),
        (owned(vec!["--tls-client-uri", "a:b"]), "tls-client-uri is for TLS only".to_owned()),
        (owned(with(&["--tls-client-cn", "a"])), "tls-client-cn needs --tls-client-ca".to_owned()),
        (owned(with(&["--tls-client-uri", "a:b"])), "tls-client-uri needs --tls-client-ca".to_owned()),
        (owned(with(&["--tls-client-cn", ""])), "tls-client-cn is empty".to_owned()),
        (owned(with(&["--tls-client-uri="])), "tls-client-uri is empty".to_owned()),
        (
            owned(vec!["--tls-cert", &absent, "--tls-key", key]),
            format!("TLS certificate {absent}: No such file"),
        ),
        (owned(vec!["--tls-cert", cert, "--tls-key", &absent]), format!("TLS key {absent}: No such file")),
        (with_file("--tls-client-ca", &absent), format!("TLS authority of clients {absent}: No such file")),
        (
            owned(vec!["--tls-cert", &half, "--tls-key", key]),
            format!("TLS certificate {half}: it is damaged or only half there"),
        ),
        (
            owned(vec!["--tls-cert", key, "--tls-key", key]),
            format!("TLS certificate {key}: there is no certificate in it"),
        ),
        (
            owned(vec!["--tls-cert", cert, "--tls-key", cert]),
            format!("TLS key {cert}: there is no private key in it"),
        ),
        (owned(vec!["--tls-cert", &nonsense, "--tls-key", key]), format!("TLS certificate {nonsense}: ")),
        (with_file("--tls-client-ca", &nonsense), format!("TLS authority of clients {nonsense}: ")),
        (
            with_file("--tls-client-ca", key),
            format!("TLS authority of clients {key}: there is no certificate"),
        ),
        (
            owned(vec!["--tls-cert", cert, "--tls-key", &two.key]),
            format!("TLS key {} does not belong to the certificate {cert}", two.key),
        ),
    ] {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = Daemon::serve_and_end(&args);
        assert!(!ended.status.success(), "{args:?}");
        let said = ended.stderr.lines().find(|line| line.starts_with("crumbd: ")).unwrap_or_default();
        assert!(said.contains(&complaint), "{args:?}: {complaint:?} is not in {:?}", ended.stderr);
    }
}

#[tokio::test]
async fn every_kind_of_key_is_taken() {
    let authority = Authority::new("authority");
    for kind in ["ec -pkeyopt ec_paramgen_curve:P-384", "rsa:2048", "ed25519"] {
        let server = authority.server_with(kind);
        let daemon = Daemon::push(&server.served()).vouched_for_by(&authority);
        daemon.http().get("/v1/kv").await.ok(200);
    }
}
