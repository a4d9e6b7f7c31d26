//! The `Host` of a request, and protection against DNS rebinding.
//!
//! A web page can give its own name another address, such as 127.0.0.1, and then read from a daemon there as if the daemon
//! were its origin. It cannot change the `Host` header, which has the page's name. So a daemon that everybody on the
//! machine may read, and nobody else, answers to names that no page can have: IP addresses, `localhost`, names without a
//! dot (public names have one), and those that its operator allows.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{StatusCode, Version};

use crate::http::app::App;
use crate::http::rep::problem::Problem;

/// The names under which a daemon answers. The default is any name.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Option<Arc<[String]>>);

impl Hosts {
    /// IP addresses, `localhost`, names without a dot, and these names; `*` among them means any name.
    pub fn local_and(names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<String> = names.into_iter().map(|name| canonical(&name)).collect();
        if names.iter().any(|name| name == "*") { Self(None) } else { Self(Some(names.into())) }
    }

    /// Whether this is the value of a proper `Host` header with a name that is allowed.
    pub(in crate::http) fn admit(&self, host: &str) -> bool {
        authority(host).is_some_and(|authority| self.allow(&authority))
    }

    fn allow(&self, authority: &Authority) -> bool {
        let Some(allowed) = &self.0 else { return true };
        let name = canonical(authority.host());
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
        !name.contains('.') && !name.is_empty()
            || name.ends_with(".localhost")
            || address.parse::<IpAddr>().is_ok()
            || allowed.contains(&name)
    }
}

/// The name in lower case and without the dot at its end.
fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The host and port of a `Host` header (RFC 9110, 7.2); `None` if it is malformed.
fn authority(text: &str) -> Option<Authority> {
    let authority: Authority = text.parse().ok()?;
    let port = text.strip_prefix(authority.host())?;
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| port.is_empty() || authority.port_u16().is_some());
    (is_port && !authority.host().is_empty()).then_some(authority)
}

/// Refuses a request whose `Host` is missing, doubled or malformed (RFC 9112, 3.2). Two readers of such a request could
/// take it for requests to different hosts.
pub(in crate::http) async fn require_one(request: Request) -> Result<Request, Problem> {
    let mut all = request.headers().get_all(HOST).into_iter();
    match (all.next(), all.next()) {
        (None, _) if request.version() < Version::HTTP_11 => Ok(request),
        (None, _) => Err(Problem::bad_request(
            "the request has no Host header, which HTTP/1.1 requires, and no :authority",
        )),
        (Some(_), Some(_)) => {
            Err(Problem::bad_request("the Host header is given twice, or is another than :authority"))
        }
        (Some(one), None) => match one.to_str().ok().and_then(authority) {
            Some(_) => Ok(request),
            None => {
                let detail = format!(
                    "the Host header is {:?}: expected a name or an address, and a port if it is not the usual one",
                    String::from_utf8_lossy(one.as_bytes())
                );
                Err(Problem::bad_request(detail))
            }
        },
    }
}

/// Refuses a request to a name that is not allowed.
pub(in crate::http) async fn require_allowed(
    State(app): State<App>,
    request: Request,
) -> Result<Request, Problem> {
    app.hosts.require(&request).map(|()| request)
}

impl Hosts {
    /// Refuses a request to another name.
    pub(in crate::http) fn require(&self, request: &Request) -> Result<(), Problem> {
        let header = request.headers().get(HOST).and_then(|host| host.to_str().ok()).and_then(authority);
        // A target with a host of its own counts instead of the header (RFC 9112, 3.2.2).
        let host = request.uri().authority().cloned().or(header).filter(|host| !self.allow(host));
        host.map_or(Ok(()), |host| Err(unknown(&host)))
    }
}

fn unknown(host: &Authority) -> Problem {
    Problem::new(
        StatusCode::MISDIRECTED_REQUEST,
        "unknown-host",
        format!(
            "this daemon does not answer to the name {:?}, because a web page could have that name; use an IP address or \
             localhost, or start the daemon with --allow-host {}",
            host.host(),
            host.host()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for good in ["a", "a.example:80", "127.0.0.1:7811", "[::1]", "[::1]:7811", "a:", "A_b"] {
            assert!(Hosts::default().admit(good), "{good:?}");
        }
        for bad in
            ["", ":80", "a b", "a/b", "u@a", "a:b", "a:65536", "a:-1", "<>", "a,b c", "[::1", "a\u{e9}"]
        {
            assert!(!Hosts::default().admit(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_local_daemon_answers_to_names_that_no_page_has() {
        let hosts = Hosts::local_and(["App.example".to_owned()]);
        for good in [
            "localhost:1",
            "x.localhost",
            "crumbd",
            "10.0.0.1",
            "[fe80::1]:1",
            "app.EXAMPLE.",
            "app.example:9",
        ] {
            assert!(hosts.admit(good), "{good:?}");
        }
        for bad in
            ["evil.example", "127.0.0.1.evil.example", "app.example.evil", "localhost.evil.example", "a."]
        {
            assert_eq!(hosts.admit(bad), bad == "a.", "{bad:?}");
        }
        assert!(Hosts::local_and(["*".to_owned()]).admit("evil.example"));
    }
}
