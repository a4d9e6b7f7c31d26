//! Clients that the daemon accepts, and servers that a client trusts.

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::serving::daemon;
use super::support::daemon::Daemon;
use super::support::http::Http;
use super::support::in_time;
use super::support::tls::{Authority, Identity, client_config, connect};

const SECRET: &str = "nobody else may know this";
const GOOD_CN: &str = "edge";
const GOOD_URI: &str = "spiffe://example.org/edge";
const BAD_CN: &str = "someone";
const BAD_URI: &str = "spiffe://example.org/someone";
const CN: [&str; 2] = ["--tls-client-cn", GOOD_CN];
const URI: [&str; 2] = ["--tls-client-uri", GOOD_URI];

/// Asks for the whole state, without TLS or with it, and says everything that comes back.
async fn heard(daemon: &Daemon, config: Option<ClientConfig>) -> String {
    let request = b"GET /v1/breadcrumbs/current HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut heard = Vec::new();
    let exchange = async {
        match config {
            None => {
                let mut stream = TcpStream::connect(daemon.address()).await?;
                stream.write_all(request).await?;
                stream.read_to_end(&mut heard).await
            }
            Some(config) => {
                let mut stream = connect(daemon, config).await?;
                stream.write_all(request).await?;
                stream.read_to_end(&mut heard).await
            }
        }
    };
    let ended = in_time("the end", exchange).await;
    format!(
        "{}{}",
        String::from_utf8_lossy(&heard),
        ended.map_or_else(|error| error.to_string(), |_| String::new())
    )
}

#[tokio::test]
async fn every_kind_of_server_lets_in_those_it_should_and_shows_the_others_nothing() {
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let ca = ["--tls-client-ca", &good.ca];
    let serve = |authority: &Authority, wanted: &[&str]| daemon(authority, &[&ca, wanted].concat());
    let servers = [
        ("CN or URI", serve(&good, &[CN, URI].concat()), [false, false, true, true, true, false]),
        ("CN", serve(&good, &CN), [false, false, true, false, true, false]),
        ("URI", serve(&good, &URI), [false, false, false, true, true, false]),
        ("a CA that clients do not trust", serve(&other, &[CN, URI].concat()), [false; 6]),
    ];
    let clients = [
        ("plain TCP", None),
        ("a CA that the server does not trust", Some(other.client(Some(GOOD_CN), Some(GOOD_URI)))),
        ("good CN", Some(good.client(Some(GOOD_CN), Some(BAD_URI)))),
        ("good URI", Some(good.client(Some(BAD_CN), Some(GOOD_URI)))),
        ("both good", Some(good.client(Some(GOOD_CN), Some(GOOD_URI)))),
        ("both bad", Some(good.client(Some(BAD_CN), Some(BAD_URI)))),
    ];
    let both = &clients[4].1;
    for (server, daemon, expected) in &servers {
        let authority = if server.contains("trust") { &other } else { &good };
        let admin = Http::over_tls(daemon.url(), client_config(&[&authority.ca], both.as_ref()));
        admin.put(b"secret", "text/plain", SECRET.as_bytes()).await;
        for ((client, identity), let_in) in clients.iter().zip(expected) {
            let config = identity.as_ref().map(|identity| client_config(&[&good.ca], Some(identity)));
            let heard = heard(daemon, config).await;
            assert_eq!(heard.contains(SECRET), *let_in, "server {server}, client {client}: {heard}");
            assert_eq!(
                heard.starts_with("HTTP/1.1 200 "),
                *let_in,
                "server {server}, client {client}: {heard}"
            );
        }
    }
}

/// What the rule says, written down once more.
fn expected(
    common_name: Option<&str>,
    uri: Option<&str>,
    wanted: (Option<&str>, Option<&str>),
) -> Result<(), String> {
    let fits = |wanted: Option<&str>, has: Option<&str>| wanted.is_some() && wanted == has;
    if wanted == (None, None) || fits(wanted.0, common_name) || fits(wanted.1, uri) {
        return Ok(());
    }
    let has = |what: &str, name: Option<&str>| {
        name.map_or(format!("no {what}"), |name| format!("the {what} {name:?}"))
    };
    let wanted =
        [wanted.0.map(|name| has("common name", Some(name))), wanted.1.map(|uri| has("URI", Some(uri)))];
    Err(format!(
        "the client certificate has {} and {}; this daemon requires {}",
        has("common name", common_name),
        has("URI", uri),
        wanted.into_iter().flatten().collect::<Vec<_>>().join(" or "),
    ))
}

#[tokio::test]
async fn who_is_let_in_depends_on_signer_common_name_and_uri_and_the_others_are_told_why() {
    let signers = [Authority::new("first"), Authority::new("second"), Authority::new("nobody's")];
    let [first, second, _] = &signers;
    let both = tempfile::NamedTempFile::new().unwrap();
    let text = [&first.ca, &second.ca].map(|path| std::fs::read_to_string(path).unwrap()).concat();
    std::fs::write(both.path(), text).unwrap();
    let names = [None, Some(GOOD_CN), Some(BAD_CN)];
    let uris = [None, Some(GOOD_URI), Some(BAD_URI)];
    let mut clients = Vec::new();
    for (n, signer) in signers.iter().enumerate() {
        for name in names {
            clients.extend(uris.map(|uri| (n, name, uri, signer.client(name, uri))));
        }
    }
    // The authorities that the daemon trusts, by their file and by their place among the signers.
    let trusted =
        [(first.ca.as_str(), vec![0]), (&second.ca, vec![1]), (both.path().to_str().unwrap(), vec![0, 1])];
    for (file, signed_by) in &trusted {
        for wanted in
            [(None, None), (Some(GOOD_CN), None), (None, Some(GOOD_URI)), (Some(GOOD_CN), Some(GOOD_URI))]
        {
            let mut flags = vec!["--tls-client-ca", file];
            flags.extend(wanted.0.iter().flat_map(|_| CN));
            flags.extend(wanted.1.iter().flat_map(|_| URI));
            let daemon = daemon(first, &flags);
            let ask = async |identity: Option<&Identity>| {
                let http = Http::over_tls(daemon.url(), client_config(&[&first.ca], identity));
                http.try_send("GET", "/v1/kv", &[], None).await
            };
            let refused = ask(None).await.expect_err("nobody is let in without a certificate");
            assert!(format!("{refused:?}").contains("CertificateRequired"), "{refused:?}");
            for (signer, name, uri, identity) in &clients {
                let case = format!("signer {signer} of {signed_by:?}, {name:?}, {uri:?}, wanted {wanted:?}");
                let got = ask(Some(identity)).await;
                if !signed_by.contains(signer) {
                    let refused = format!("{:?}", got.expect_err(&case));
                    // OpenSSL and others say "unknown ca" and mean the same.
                    let told = ["UnknownCA", "DecryptError"].iter().any(|alert| refused.contains(alert));
                    assert!(told, "{case}: {refused}");
                    continue;
                }
                match expected(*name, *uri, wanted) {
                    Ok(()) => _ = got.unwrap_or_else(|error| panic!("{case}: {error:?}")).ok(200),
                    Err(why) => {
                        let problem = got.unwrap_or_else(|error| panic!("{case}: {error:?}")).problem(403);
                        assert_eq!(problem["type"], "urn:crumbd:problem:unknown-client", "{case}");
                        assert_eq!(problem["detail"], why, "{case}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_daemon_that_wants_no_certificates_lets_everybody_in() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let daemon = daemon(&authority, &[]);
    for identity in [None, Some(authority.client(Some(BAD_CN), None)), Some(other.client(None, None))] {
        let config = client_config(&[&authority.ca], identity.as_ref());
        Http::over_tls(daemon.url(), config).get("/v1/kv").await.ok(200);
    }
}

#[tokio::test]
async fn a_token_counts_beside_a_certificate_and_not_instead() {
    let authority = Authority::new("authority");
    let mut tokens = super::support::tokens::TokenFile::new();
    let token = tokens.add(&[""], &[]).text;
    let server = authority.server();
    let flags = [&server.served()[..], &["--tls-client-ca", &authority.ca], &CN].concat();
    let daemon = tokens.daemon(&flags);
    let [good, bad] = [GOOD_CN, BAD_CN].map(|name| {
        let identity = authority.client(Some(name), None);
        Http::over_tls(daemon.url(), client_config(&[&authority.ca], Some(&identity)))
    });
    good.with_token(&token).get("/v1/kv").await.ok(200);
    good.get("/v1/kv").await.problem(401);
    bad.with_token(&token).get("/v1/kv").await.problem(403);
    bad.get("/livez").await.problem(403);
}
