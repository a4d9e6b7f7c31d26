//! Protection against cross-origin writes.
//!
//! A browser lets any web page send simple requests to any address that the browser can reach, also to a daemon on the
//! same machine. It marks them with two headers that a page cannot change: `Sec-Fetch-Site`, and `Origin` in older
//! browsers. Other programs send neither header.

use axum::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use axum::http::uri::Authority;

use crate::http::rep::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a write from a web page of another origin.
pub(in crate::http) fn refuse_cross_origin(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes()) {
        Some(b"same-origin" | b"none") => return Ok(()),
        Some(_) => return Err(refused("the Sec-Fetch-Site header names another site")),
        None => {}
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let same = origin.to_str().ok().zip(headers.get(HOST).and_then(|host| host.to_str().ok()));
    match same.is_some_and(|(origin, host)| is_same(origin, host)) {
        true => Ok(()),
        false => Err(refused(
            "the Origin header differs from the Host header (a proxy in front of the daemon must pass Host on)",
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
    Problem::forbidden("cross-origin", format!("a web page may write to its own origin only: {why}"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn taken(headers: &[(HeaderName, &'static str)]) -> bool {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        refuse_cross_origin(&headers.collect()).is_ok()
    }

    #[test]
    fn a_page_writes_to_its_own_origin_only_and_other_programs_are_free() {
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
