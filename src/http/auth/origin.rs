//! Writes that a web page asks for: only those of our own origin are taken.
//!
//! A browser lets any page send simple requests to any address that its visitor can scope, a daemon on the visitor's own
//! machine included. It says so in two headers that no page can change: `Sec-Fetch-Site`, and `Origin` in older browsers.
//! Other programs send neither, and are not concerned.

use axum::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use axum::http::uri::Authority;

use crate::http::rep::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a write that a page of another origin asks for.
pub(in crate::http) fn refuse_other_pages(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes()) {
        Some(b"same-origin" | b"none") => return Ok(()),
        Some(_) => return Err(refused("Sec-Fetch-Site says that a page of another origin sends it")),
        None => {}
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let same = origin.to_str().ok().zip(headers.get(HOST).and_then(|host| host.to_str().ok()));
    match same.is_some_and(|(origin, host)| is_same(origin, host)) {
        true => Ok(()),
        false => Err(refused(
            "its Origin is not the Host that it is sent to (a proxy before the daemon must keep Host)",
        )),
    }
}

fn is_same(origin: &str, host: &str) -> bool {
    let Some((scheme, origin)) = origin.split_once("://") else { return false };
    let port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let parse = |text: &str| text.parse::<Authority>().ok();
    let (Some(origin), Some(host)) = (parse(origin), parse(host)) else { return false };
    let port_of = |authority: &Authority| authority.port_u16().unwrap_or(port);
    origin.host().eq_ignore_ascii_case(host.host()) && port_of(&origin) == port_of(&host)
}

fn refused(why: &str) -> Problem {
    Problem::forbidden("cross-origin", format!("a web page may only write to its own origin: {why}"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn taken(headers: &[(HeaderName, &'static str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        refuse_other_pages(&headers.collect()).is_ok()
    }

    #[test]
    fn a_page_writes_to_its_own_origin_only_and_other_programs_are_not_concerned() {
        for good in [
            &[][..],
            &[(HOST, "a:1")],
            &[(SEC_FETCH_SITE, "same-origin"), (ORIGIN, "https://proxy"), (HOST, "inside:7811")],
            &[(SEC_FETCH_SITE, "none")],
            &[(ORIGIN, "http://localhost:7811"), (HOST, "LOCALHOST:7811")],
            &[(ORIGIN, "https://a.example"), (HOST, "a.example:443")],
            &[(ORIGIN, "http://[::1]:7811"), (HOST, "[::1]:7811")],
        ] {
            assert!(taken(good), "{good:?}");
        }
        for bad in [
            &[(SEC_FETCH_SITE, "cross-site")][..],
            &[(SEC_FETCH_SITE, "same-site"), (ORIGIN, "http://a"), (HOST, "a")],
            &[(SEC_FETCH_SITE, "nonsense")],
            &[(ORIGIN, "null"), (HOST, "a")],
            &[(ORIGIN, "http://evil.example"), (HOST, "127.0.0.1:7811")],
            &[(ORIGIN, "http://a:1"), (HOST, "a:2")],
            &[(ORIGIN, "http://a")],
            &[(ORIGIN, "file://"), (HOST, "a")],
        ] {
            assert!(!taken(bad), "{bad:?}");
        }
    }
}
