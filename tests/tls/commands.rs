//! The client commands over TLS, and their error messages.

use super::support::daemon::{Daemon, run};
use super::support::tls::Authority;

/// What the command wrote, or its complaint.
fn said(args: &[&str]) -> Result<String, String> {
    let done = run(args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if done.status.success() { Ok(text(done.stdout)) } else { Err(text(done.stderr)) }
}

#[tokio::test]
async fn every_command_speaks_tls_and_shows_its_certificate() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let server = servers.server();
    let flags =
        [&server.served()[..], &["--tls-client-ca", &clients.ca, "--tls-client-cn", "deploy"]].concat();
    let daemon = Daemon::push(&flags);
    let identity = clients.client(Some("deploy"), None);
    let tls = [&["--url", daemon.url(), "--ca-cert", &servers.ca][..], &identity.shown()].concat();
    let with = |args: &[&str]| said(&[args, &tls].concat()).unwrap();
    with(&["put", "a", "one"]);
    with(&["put", "b", "two"]);
    assert_eq!(with(&["get", "a"]), "one");
    with(&["delete", "a"]);
    let dump = with(&["dump"]);
    assert!(dump.contains("\"two\"") && !dump.contains("\"one\""), "{dump}");
    assert!(with(&["status"]).contains("in-sync"));
    // It never ends by itself.
    let mut follow = super::support::daemon::command()
        .args(["follow", "--all", "--json"])
        .args(&tls)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(follow.stdout.take().unwrap()));
    assert!(lines.next().unwrap().unwrap().contains("\"two\""));
    with(&["put", "c", "three"]);
    assert!(lines.next().unwrap().unwrap().contains("\"three\""));
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[tokio::test]
async fn what_is_wrong_is_said_in_a_sentence() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let server = authority.server();
    let daemon = Daemon::push(&[&server.served()[..], &["--tls-client-ca", &authority.ca]].concat());
    let plain = Daemon::push(&[]);
    let (good, foreign) = (authority.client(None, None), other.client(None, None));
    let url = ["status", "--url", daemon.url()];
    let ca = ["--ca-cert", &authority.ca];
    let over_tls = plain.url().replace("http://", "https://");
    let without = format!("http://{}", daemon.address());
    let mixed = ["--client-cert", &good.cert, "--client-key", &foreign.key];
    for (args, complaint) in [
        (url.to_vec(), "not signed by an authority that this system trusts"),
        ([&url[..], &["--ca-cert", &other.ca], &good.shown()].concat(), "not signed by the authority in"),
        ([&url[..], &ca].concat(), "it wants a client certificate: --client-cert and --client-key"),
        (
            [&url[..], &ca, &foreign.shown()].concat(),
            "does not know the authority that signed the client certificate",
        ),
        ([&url[..], &ca, &mixed].concat(), "does not belong to the certificate"),
        ([&url[..], &ca, &mixed[..2]].concat(), "--client-cert and --client-key belong together"),
        ([&url[..], &["--ca-cert", "/absent"]].concat(), "authority /absent: No such file"),
        ([&url[..], &["--ca-cert", &good.key]].concat(), "there is no certificate in it"),
        ([&["status", "--url", &over_tls][..], &ca].concat(), "it does not speak TLS"),
        (vec!["status", "--url", &without], "this port speaks TLS only; use an https:// address"),
        ([&["status", "--url", &without][..], &ca].concat(), "certificates are for https:// only"),
        (vec!["follow", "--url", daemon.url(), "--ca-cert", &other.ca], "not signed by the authority in"),
    ] {
        let said = said(&args).expect_err(&format!("{args:?}"));
        let sentence = said.strip_prefix("crumbd: ").unwrap_or_else(|| panic!("{args:?}: {said}"));
        assert!(sentence.contains(complaint), "{args:?}: {complaint:?} is not in {said:?}");
        assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    }
}
