//! Header lines, valid and invalid.

use fastrand::Rng;

use crate::grammar::{mostly, one};
use crate::twins::Places;

/// Mostly a token that is known.
pub fn authorization(rng: &mut Rng, tokens: &[String]) -> String {
    let token = &tokens[rng.usize(..tokens.len())];
    match rng.u8(..30) {
        0 => "X: no token".to_owned(),
        1 => format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {}", tokens[0]),
        2 => format!("Authorization: Bearer {token}x"),
        3 => format!("authorization:bearer  {token} "),
        4 => format!("Authorization: BEARER\t{token}"),
        5 => format!("Authorization: Basic {token}"),
        6 => format!("Authorization: {token}"),
        7 => format!("Authorization:\r\n Bearer {token}"),
        8 => format!("Authorization : Bearer {token}"),
        9 => format!("Proxy-Authorization: Bearer {token}"),
        10 => format!("Authorization: Bearer {token}, Bearer {}", tokens[0]),
        11 => one(
            rng,
            &["Authorization:", "Authorization: Bearer", "Authorization: Bearer ", "Authorization: \u{e9}"],
        )
        .to_owned(),
        _ => format!("Authorization: Bearer {token}"),
    }
}

/// A header line; one that announces a body adds it.
pub fn header(rng: &mut Rng, places: &Places, body: &mut String) -> String {
    let smuggled =
        format!("GET /v1/breadcrumbs/{}/next?wait=0 HTTP/1.1\r\nHost: smuggled\r\n\r\n", places.kept[0]);
    let media = [
        "*/*",
        "application/json",
        "application/x-ndjson",
        "application/vnd.crumbd.v1+bincode",
        "text/html",
        "",
        "application/*;q=0",
        "text/html, */*;q=0.1",
        "application/json;q=0.5, application/x-ndjson",
        "*/*;q=x",
        "application/json;charset=utf-8",
        "text/event-stream",
        "a,b,,",
        "application/json; values=string",
        "application/x-ndjson;q=0.9;values=string, application/json;q=0.5",
        "text/event-stream;values=string",
        "*/*;VALUES=\"String\"",
        "application/json;values=base64",
        "application/json;values=, */*;q=0.1",
    ];
    let codings = [
        "gzip",
        "zstd",
        "gzip, zstd",
        "identity",
        "identity;q=0",
        "*;q=0",
        "identity;q=0, *;q=0",
        "br",
        "x-gzip",
        "",
        "gzip;q=0.1",
        "gzip;q=0.5, zstd",
    ];
    match rng.u8(..40) {
        0..=7 => format!("Accept: {}", one(rng, &media)),
        8..=15 => format!("accept-encoding:{}", one(rng, &codings)),
        16..=18 => mostly(
            rng,
            50,
            "Connection: keep-alive",
            &[
                "Connection: close",
                "connection: Keep-Alive, close",
                "Connection: upgrade",
                "Connection:",
                "Connection: TE",
                "Connection: x",
                "Connection: keep-alive\t",
                "Connection: close\r\nConnection: keep-alive",
            ],
        )
        .to_owned(),
        19 => "Content-Length: 0".to_owned(),
        20 => {
            body.push_str(&smuggled);
            format!("Content-Length: {}", smuggled.len())
        }
        21 => {
            body.push_str(&smuggled);
            one(
                rng,
                &[
                    "Content-Length: +3",
                    "Content-Length: 0, 0",
                    "Content-Length: 0\r\nContent-Length: 5",
                    "Content-Length : 0",
                    "Content_Length: 9",
                    "Content-Length: -1",
                    "Content-Length: 0x10",
                    "Content-Length:",
                    "Content-Length: 1 1",
                    "\tContent-Length: 4",
                ],
            )
            .to_owned()
        }
        22 => {
            body.push_str(&format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()));
            one(
                rng,
                &[
                    "Transfer-Encoding: chunked",
                    "transfer-encoding:\tchunked",
                    "Transfer-Encoding: gzip, chunked",
                ],
            )
            .to_owned()
        }
        23 => {
            body.push_str(&format!("0\r\n\r\n{smuggled}"));
            one(
                rng,
                &[
                    "Transfer-Encoding: chunked",
                    "Transfer-Encoding: identity",
                    "Transfer-Encoding: xchunked",
                    "Transfer-Encoding : chunked",
                    "Transfer-Encoding: chunked\r\nContent-Length: 4",
                    "Content-Length: 4\r\nTransfer-Encoding: chunked",
                    "X: y\nTransfer-Encoding: chunked",
                    "Transfer-Encoding:\r\n chunked",
                    "Transfer_Encoding: chunked",
                ],
            )
            .to_owned()
        }
        24 => one(
            rng,
            &[
                "Expect: 100-continue",
                "Expect: x",
                "Upgrade: h2c",
                "Connection: upgrade\r\nUpgrade: websocket",
                "HTTP2-Settings: AAMAAABkAAQAAP__",
                "TE: trailers",
                "Trailer: X",
                "Authorization: Basic eDp5",
            ],
        )
        .to_owned(),
        25 => format!(
            "If-None-Match: {}",
            one(rng, &["*", &format!("W/\"{}\"", places.newest), &format!("\"{}\"", places.newest), "x"])
        ),
        26 => one(
            rng,
            &[
                "If-Match: *",
                "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT",
                "Range: bytes=0-1",
                "Cookie: a=b",
                "Keep-Alive: timeout=5",
                "X-HTTP-Method-Override: PUT",
                "Max-Forwards: 0",
                "Proxy-Connection: close",
                "Content-Type: application/json",
            ],
        )
        .to_owned(),
        27 => one(
            rng,
            &[
                "no colon",
                ": no name",
                "a b: c",
                "A: \u{e9}",
                "A: \u{1}",
                "A: \0",
                "A:\tb",
                "A: b\t",
                "A\u{e9}: b",
                "A:",
                "(a): b",
                "A: b\rc",
            ],
        )
        .to_owned(),
        31 => format!("Last-Event-ID: {}", one(rng, &[&places.kept[0], &places.newest, "", "x"])),
        28 => format!("X-Smuggled: {}", smuggled.lines().next().unwrap_or_default()),
        29 => format!("X: {}", "long ".repeat(rng.usize(..2400))),
        30 => (0..rng.usize(1..130)).map(|n| format!("X-{n}: {n}")).collect::<Vec<_>>().join("\r\n"),
        _ => {
            one(rng, &["User-Agent: fuzz", "X: y", "accept : */*", "Accept:\r\n application/json"]).to_owned()
        }
    }
}
