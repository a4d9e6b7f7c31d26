//! Thousands of generated requests: mostly valid long polls, with every kind of mistake.

use fastrand::Rng;

use crate::exchange::Case;
use crate::header_lines::{authorization, header};
use crate::twins::Places;

/// It ends a connection that is still in step.
pub const LAST: &str = "GET /livez HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n";

/// One client's bytes.
pub fn case(rng: &mut Rng, places: &Places) -> Case {
    let seed = rng.get_seed();
    let mut parts: Vec<Vec<u8>> = (0..rng.usize(1..5)).map(|_| request(rng, places)).collect();
    if rng.u8(..10) < 3 {
        let at = rng.usize(..parts.len());
        (0..rng.usize(1..4)).for_each(|_| mutate(rng, &mut parts[at]));
    }
    if rng.u8(..20) > 0 {
        parts.push(LAST.into());
    }
    Case { name: format!("seed {seed}"), writes: split(rng, parts), half_closed: rng.u8(..12) == 0 }
}

pub fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.usize(..of.len())]
}

/// The common one mostly, and any of the others else.
pub fn mostly<'a>(rng: &mut Rng, percent: u8, common: &'a str, others: &[&'a str]) -> &'a str {
    if rng.u8(..100) < percent { common } else { one(rng, others) }
}

fn request(rng: &mut Rng, places: &Places) -> Vec<u8> {
    let method = mostly(
        rng,
        88,
        "GET",
        &["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "G", "GET,", ""],
    );
    let target = target(rng, places);
    let version = mostly(
        rng,
        92,
        "HTTP/1.1",
        &["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1", "HTTP/1.1 ", "HTTP/01.1", ""],
    );
    let gap = mostly(rng, 97, " ", &["  ", "\t", " \t ", ""]);
    let end = mostly(rng, 96, "\r\n", &["\n", "\r", "\r\r\n", "\n\r\n"]);
    let before = mostly(rng, 96, "", &["\r\n", "\n", " ", "\r\n\r\n"]);
    let mut text = format!("{before}{method}{gap}{target} {version}{end}");
    let host = mostly(
        rng,
        94,
        "Host: crumbd",
        &["host:", "HOST:  a  ", "X: no host", "Host: a\r\nHost: b", "Host : a"],
    );
    text.push_str(host);
    text.push_str(end);
    let mut body = String::new();
    if !places.tokens.is_empty() {
        text.push_str(&authorization(rng, &places.tokens));
        text.push_str(end);
    }
    for _ in 0..rng.usize(..4) {
        let header = header(rng, places, &mut body);
        let end = mostly(rng, 97, end, &["\n", "\r", "\r\n ", "\r\n\t"]);
        text.push_str(&header);
        text.push_str(end);
    }
    text.push_str(end);
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

fn cursor(rng: &mut Rng, places: &Places) -> String {
    let kept = &places.kept[rng.usize(..places.kept.len())];
    match rng.u8(..20) {
        0..=7 => kept.clone(),
        8..=11 => places.newest.clone(),
        12 => places.gone.clone(),
        13 => places.ahead.clone(),
        14 => places.foreign.clone(),
        15 => kept.replace('.', "%2E"),
        16 => kept.replace('.', "%2e").replace('1', "%31"),
        17 => kept.to_ascii_uppercase(),
        18 => format!("{kept}{}", one(rng, &[".", "~", "/", "-", "0", "%", "%00", "..", "?", "#"])),
        _ => one(rng, &["", ".", "..", "current", "nonsense", "%", "a/b", "*", "next", "~", "\u{e9}"])
            .to_owned(),
    }
}

fn target(rng: &mut Rng, places: &Places) -> String {
    let at = cursor(rng, places);
    let path = match rng.u8(..20) {
        0..=12 => format!("/v1/breadcrumbs/{at}/next"),
        13 => "/v1/breadcrumbs/current".to_owned(),
        14 => format!("/v1/breadcrumbs/{at}"),
        15 => format!("/v1/breadcrumbs/{at}/next/"),
        16 => format!("/v1/breadcrumbs/{at}/diff/{}", cursor(rng, places)),
        17 => one(rng, &["/livez", "/readyz", "/v1/kv/app%2F2", "/v1/kv?limit=2", "/nowhere", "*", "/", ""])
            .to_owned(),
        18 => stream(rng, places),
        _ => format!("/v1/breadcrumbs/{at}/NEXT"),
    };
    let query = if path.contains("/stream") { String::new() } else { query(rng) };
    match rng.u8(..40) {
        0 => format!("http://crumbd{path}{query}"),
        1 => format!("https://elsewhere:1{path}{query}"),
        2 => format!("{path}{query}#fragment"),
        _ => format!("{path}{query}"),
    }
}

fn stream(rng: &mut Rng, places: &Places) -> String {
    let at = cursor(rng, places);
    let path = mostly(
        rng,
        90,
        "/v1/stream",
        &["/v1/stream/", "/v1/streams", "/v1//stream", "/v1/strea", "//v1/stream"],
    );
    let query = one(
        rng,
        &[
            "",
            "?",
            "?from=CURSOR",
            "?from=CURSOR&prefix=app%2F",
            "?prefix=db",
            "?from=",
            "?from=CURSOR~1f",
            "?form=1",
        ],
    );
    format!("{path}{}", query.replace("CURSOR", &at))
}

/// Mostly one that does not wait.
fn query(rng: &mut Rng) -> String {
    let wait = mostly(
        rng,
        85,
        "wait=0",
        &["wait=1ms", "wait=20ms", "wait=0s", "wait=", "wait", "wait=1", "wait=-1s", "wait=+0", "wait=%30"],
    );
    let more = mostly(
        rng,
        70,
        "",
        &[
            "&prefix=app%2F",
            "&prefix=app/",
            "&prefix=",
            "&prefix",
            "&prefix=%00",
            "&prefix=%ff%FE",
            "&prefix=a+b",
            "&prefix=%2",
            "&prefix=%",
            "&prefix=\u{e9}",
            "&prefix=%E9",
            "&prefix=db&prefix=db",
            "&prefix=db/1",
            "&unknown=1",
            "&wait=0",
            "&%77ait=0",
            "&",
            "&&",
            "&=",
            "&=1",
            "?",
            "?wait=0",
            ";a",
            "&prefix=%26wait%3D0",
            "&prefix=\"",
            "&prefix=a'b",
            "&prefix=[x]",
            "&prefix=x%20y",
            "&rights=0",
            "&rights=1",
            "&rights=x",
            "&rights=",
        ],
    );
    match rng.u8(..30) {
        0 => format!("?{}", more.trim_start_matches('&')),
        1 => format!("&{wait}{more}"),
        _ => format!("?{wait}{more}"),
    }
}

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    const NASTY: &[u8] = b"\r\n\t \0\x7f\xff:/?#%&=+,;\"GH10.";
    let (at, nasty) = (rng.usize(..bytes.len().max(1)).min(bytes.len()), NASTY[rng.usize(..NASTY.len())]);
    match rng.u8(..6) {
        0 if at < bytes.len() => bytes[at] = nasty,
        1 if at < bytes.len() => drop(bytes.remove(at)),
        2 => {
            let again = bytes[at..(at + rng.usize(..40)).min(bytes.len())].to_vec();
            bytes.splice(at..at, again);
        }
        3 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
        4 if rng.u8(..4) == 0 => bytes.truncate(at),
        _ => bytes.insert(at, nasty),
    }
}

/// All at once, request by request, at any border, or byte by byte.
fn split(rng: &mut Rng, parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let all = parts.concat();
    match rng.u8(..8) {
        0..=2 => vec![all],
        3 | 4 => parts,
        5 if all.len() < 600 => all.iter().map(|byte| vec![*byte]).collect(),
        _ => {
            let mut borders: Vec<usize> = (0..rng.usize(1..6)).map(|_| rng.usize(..=all.len())).collect();
            borders.extend([0, all.len()]);
            borders.sort_unstable();
            borders.windows(2).map(|pair| all[pair[0]..pair[1]].to_vec()).collect()
        }
    }
}
