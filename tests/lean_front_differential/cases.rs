//! Hand-written requests that servers are known to answer differently.

use crate::exchange::Case;
use crate::grammar::LAST;
use crate::twins::Places;

/// Every case in several ways to cut it, with and without a request behind it, open and half closed.
pub fn all(places: &Places) -> Vec<Case> {
    let mut cases = Vec::new();
    for text in texts(places) {
        let bytes = text.clone().into_bytes();
        let whole = [bytes.clone(), LAST.into()].concat();
        let mut add = |kind: &str, writes: Vec<Vec<u8>>, half_closed: bool| {
            let shown: String = text.chars().take(200).collect();
            cases.push(Case { name: format!("{kind}: {shown:?}"), writes, half_closed });
        };
        add("alone", vec![bytes.clone()], false);
        add("pipelined", vec![whole.clone()], false);
        add("twice", vec![bytes.clone(), whole.clone()], false);
        add("half closed", vec![whole.clone()], true);
        add("cut off", vec![bytes[..bytes.len().saturating_sub(1)].to_vec()], true);
        if bytes.len() < 400 {
            add("byte by byte", whole.iter().map(|byte| vec![*byte]).collect(), false);
        }
    }
    cases.extend(borders(places));
    cases
}

/// A long poll and the state, cut at every border.
fn borders(places: &Places) -> Vec<Case> {
    let next = format!("GET /v1/breadcrumbs/{}/next HTTP/1.1\r\nHost: a\r\n\r\n", places.kept[0]);
    let current = "GET /v1/breadcrumbs/current HTTP/1.1\r\nHost: a\r\n\r\n";
    let all = format!("{next}{current}{next}{LAST}").into_bytes();
    let cut = |at: usize| Case {
        name: format!("cut at {at}"),
        writes: vec![all[..at].to_vec(), all[at..].to_vec()],
        half_closed: false,
    };
    (1..all.len()).map(cut).collect()
}

fn texts(places: &Places) -> Vec<String> {
    let Places { newest, kept, gone, ahead, foreign, .. } = places;
    let old = &kept[0];
    let next = |cursor: &str, query: &str| format!("/v1/breadcrumbs/{cursor}/next{query}");
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    let with = |lines: &str| format!("GET {} HTTP/1.1\r\n{lines}\r\n", next(old, ""));
    let smuggled = get(&next(old, "?prefix=db"));
    let mut texts = Vec::new();

    // Where a request ends.
    let length = smuggled.len();
    for framing in [
        format!("Content-Length: {length}"),
        format!("content-length:{length}"),
        "Content-Length: 0".to_owned(),
        "Content-Length: 0\r\nContent-Length: 0".to_owned(),
        format!("Content-Length: 0\r\nContent-Length: {length}"),
        format!("Content-Length: {length}, {length}"),
        format!("Content-Length: +{length}"),
        format!("Content-Length : {length}"),
        format!("Content-Length\t: {length}"),
        format!("X: y\r\n Content-Length: {length}"),
        format!("X: y\nContent-Length: {length}"),
        format!("X: y\rContent-Length: {length}"),
        format!("X: y\r\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        format!("\0Content-Length: {length}"),
        format!("Content\u{2d}Length: {length}\u{0b}"),
        format!("content_length: {length}"),
    ] {
        texts.push(format!("{}{smuggled}", with(&format!("Host: a\r\n{framing}\r\n"))));
        texts.push(format!("{}{smuggled}", with(&format!("{framing}\r\nHost: a\r\n"))));
    }
    for framing in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding:chunked",
        "transfer-encoding: CHUNKED",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\r\n chunked",
        " Transfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
    ] {
        texts.push(format!("{}0\r\n\r\n{smuggled}", with(&format!("Host: a\r\n{framing}\r\n"))));
        texts.push(format!(
            "{}{length:x}\r\n{smuggled}\r\n0\r\n\r\n",
            with(&format!("Host: a\r\n{framing}\r\n"))
        ));
        texts.push(format!(
            "{}{length:x};a=b\n{smuggled}\r\n0\r\nX: y\r\n\r\n",
            with(&format!("{framing}\r\nHost: a\r\n"))
        ));
    }

    // How a head may end, and what may stand around it.
    for (from, to) in [
        ("\r\n", "\n"),
        ("\r\n\r\n", "\n\n"),
        ("\r\n\r\n", "\r\n\n"),
        ("\r\n\r\n", "\n\r\n"),
        ("\r\n", "\r"),
        ("\r\n", "\r\r\n"),
        ("\r\n", "\n\r"),
        (" HTTP", "\tHTTP"),
        ("GET ", "GET\t"),
        ("GET ", "GET  "),
        (" HTTP/1.1", "  HTTP/1.1"),
        ("HTTP/1.1\r\n", "HTTP/1.1 \r\n"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("HTTP/1.1", "HTTP/1.2"),
        ("HTTP/1.1", "HTTP/2.0"),
        ("HTTP/1.1", "http/1.1"),
        ("HTTP/1.1", "HTTP/1.10"),
        (" HTTP/1.1", ""),
        ("HTTP/1.1", "ICAP/1.0"),
        ("GET ", "\r\nGET "),
        ("GET ", "\nGET "),
        ("GET ", " GET "),
        ("GET ", "\r\n\r\n\r\nGET "),
        ("GET ", "get "),
        ("GET ", "HEAD "),
        ("GET ", "POST "),
        ("GET ", "PUT "),
        ("GET ", "DELETE "),
        ("GET ", "PATCH "),
        ("GET ", "OPTIONS "),
        ("GET ", "CONNECT "),
        ("GET ", "TRACE "),
        ("GET ", "PRI "),
        ("GET ", "BREW "),
        ("GET ", "G\0ET "),
        ("Host: a\r\n", ""),
        ("Host: a", "Host:"),
        ("Host: a", "Host: a\r\nHost: a"),
        ("Host: a", "host: a\r\nHOST: b"),
        ("Host: a", "Host: a, b"),
        ("Host: a", "Host: a\tb"),
        ("Host: a", "Host: \u{e9}"),
        ("Host: a", "Host: a\0"),
        ("Host: a", "Host: a\x7f"),
        ("Host: a", "Host : a"),
        ("Host: a", " Host: a"),
        ("Host: a", "Host: a\r\n folded"),
        ("Host: a", "Host: a\r\n"),
        ("Host: a", "Host"),
        ("Host: a", ": a"),
        ("Host: a", "H\u{f6}st: a"),
    ] {
        texts.push(get(&next(old, "?wait=0")).replacen(from, to, 9));
        texts.push(get(&next(old, "?wait=0")).replacen(from, to, 1));
    }
    texts.push("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned());

    // Targets.
    for target in [
        "*",
        "/",
        "",
        "crumbd:80",
        "http://a/v1/breadcrumbs/current",
        "/v1/breadcrumbs/",
        "/v1/breadcrumbs//next",
        "/v1/breadcrumbs/next",
        "/v1/breadcrumbs/current/next",
        "/v1/breadcrumbs/../next",
        "/v1/breadcrumbs/./next",
        "/v1/breadcrumbs/%2e%2e/next",
        "/v1/breadcrumbs/a b/next",
        "/v1/breadcrumbs/\u{e9}/next",
        "/v1/breadcrumbs/%/next",
        "/v1/breadcrumbs/\"/next",
        "/v1/breadcrumbs/a\\b/next",
        "/v1/breadcrumbs?/next",
    ] {
        texts.push(get(target));
        texts.push(get(&format!("{target}?wait=0")));
    }
    texts.push(get(&format!("http://a{}", next(old, "?wait=0"))));
    texts.push(get(&format!("{}#f", next(old, "?wait=0"))));
    for cursor in [
        old,
        newest,
        gone,
        ahead,
        foreign,
        &kept[2],
        &old.replace('.', "%2E"),
        &old.replace('0', "%30"),
        &old.to_uppercase(),
        &format!("{old}."),
        &format!("{old}%"),
        &format!("{old}%00"),
        &old[..old.len() - 1].to_owned(),
        &"9".repeat(128),
        &"9".repeat(129),
        &format!("{old}/next"),
    ] {
        for query in [
            "?wait=0",
            "?wait=1ms",
            "?wait=",
            "?wait",
            "?wait=5",
            "?wait=1s&wait=1s",
            "?wait=0&x=1",
            "?Wait=0",
            "?wait=0&prefix=app%2F",
            "?prefix=&wait=0",
            "?prefix=%00%ff&wait=0",
            "?prefix=a&prefix=a",
            "?prefix=%",
            "?prefix=%2",
            "?prefix=%zz&wait=0",
            "?wait=%30",
            "?%77ait=0",
            "?wait=0+",
            "?wait=+0",
            "?&&wait=0&",
            "??wait=0",
            "?wait=0?",
            "?wait=0;prefix=a",
            "?wait=0&prefix=a#b",
            "?prefix=app/&wait=0",
            "?prefix=app%252F&wait=0",
            "?prefix=\u{fc}&wait=0",
            "?prefix=%C3%BC&wait=0",
            "?wait=00",
            "?wait=0ms",
            "?wait=1h1",
            "?wait=99999999999999999999ms",
        ] {
            texts.push(get(&next(cursor, query)));
        }
    }

    // Headers that decide, and those that must not.
    for accept in [
        "*/*",
        "application/json",
        "application/x-ndjson",
        "application/vnd.crumbd.v1+bincode",
        "text/html",
        "",
        ",",
        "*",
        "*/*;q=0",
        "application/json;q=0, */*;q=0.2",
        "APPLICATION/X-NDJSON",
        "application/x-ndjson ; q=1.0",
        "text/html\r\nAccept: application/x-ndjson",
        "application/json;q=nan",
        "application/json;q=-1",
        "application/\u{fc}",
        "a\tb",
    ] {
        for coding in [
            "",
            "gzip",
            "zstd",
            "gzip, zstd;q=0.5",
            "identity;q=0",
            "*;q=0",
            "br",
            "GZIP",
            "x-gzip",
            "gzip;q=0\r\nAccept-Encoding: zstd",
        ] {
            texts.push(with(&format!("Host: a\r\nAccept: {accept}\r\nAccept-Encoding: {coding}\r\n")));
        }
    }
    for header in [
        "Connection: close",
        "Connection: keep-alive",
        "Connection: Keep-Alive",
        "Connection: keep-alive, close",
        "Connection: close, keep-alive",
        "Connection: keep-alive\r\nConnection: close",
        "Connection:",
        "Connection: ,",
        "Connection: \"close\"",
        "Connection: upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA",
        "Connection: upgrade\r\nUpgrade: websocket",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "Expect: 100-Continue",
        "Expect: nothing",
        "TE: trailers",
        "Trailer: X",
        "If-None-Match: *",
        "If-Match: \"x\"",
        "Range: bytes=0-0",
        "Authorization: Bearer x",
        "Cookie: a",
        "Via: 1.0 x",
        "Forwarded: for=x",
        "A: \u{e9}",
        "A: \x01",
        "A: \t",
        "A:\tb\t",
        "A: b\t",
        "A\t: b",
        "A",
        "\x0bA: b",
        "(: b",
        "A: \x7f",
        "X-Long: ",
    ] {
        texts.push(with(&format!("Host: a\r\n{header}\r\n")));
        texts.push(with(&format!("{header}\r\nHost: a\r\n")));
    }

    // Sizes around every limit.
    for length in [1900, 1980, 2048, 3900, 3990, 4000, 4096, 4100, 8000, 8192, 9000, 70_000] {
        texts.push(with(&format!("Host: a\r\nX: {}\r\n", "x".repeat(length))));
        texts.push(get(&next(old, &format!("?wait=0&prefix={}", "x".repeat(length)))));
    }
    for headers in [30, 31, 32, 33, 99, 100, 101, 300] {
        let lines: String = (0..headers).map(|n| format!("X-{n}: {n}\r\n")).collect();
        texts.push(with(&format!("Host: a\r\n{lines}")));
    }

    // Streams: what they tell, where from, as what, and requests behind them.
    for cursor in [old, newest, gone, ahead, foreign] {
        for query in
            [format!("?from={cursor}"), format!("?from={cursor}&prefix=app%2F"), format!("?from={cursor}~1")]
        {
            texts.push(get(&format!("/v1/stream{query}")));
        }
        for accept in [
            "text/event-stream",
            "application/x-ndjson, text/event-stream",
            "*/*",
            "text/html",
            "application/json",
        ] {
            let lines = format!("Accept: {accept}\r\nLast-Event-ID: {cursor}\r\n");
            texts.push(format!("GET /v1/stream HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        }
    }
    for target in
        ["/v1/stream", "/v1/stream?prefix=app%2F", "/v1/stream?prefix=", "/v1/stream?from=", "/v1/stream?x=1"]
    {
        for lines in [
            "",
            "Accept: text/event-stream\r\n",
            "Last-Event-ID:\r\n",
            "Last-Event-ID: x\r\n",
            "Connection: close\r\n",
            "Accept-Encoding: identity;q=0\r\n",
        ] {
            texts.push(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        }
    }
    for method in ["HEAD", "POST", "OPTIONS"] {
        texts.push(get("/v1/stream").replace("GET", method));
    }

    // Back and forth between the two ways to be served.
    let plain = get(&next(old, ""));
    for other in [
        get("/v1/breadcrumbs/current"),
        get("/livez"),
        get("/nowhere"),
        with("Host: a\r\nConnection: keep-alive, x\r\n"),
        "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned(),
        plain.replace("GET", "HEAD"),
        get(&next(gone, "?wait=0")),
        get("/v1/breadcrumbs/current").replace("GET", "HEAD"),
        get("/v1/breadcrumbs/current").replace("Host", "If-None-Match: *\r\nHost"),
    ] {
        texts.push(format!("{plain}{other}{plain}"));
        texts.push(format!("{other}{plain}{other}"));
        texts.push(format!("{plain}{other}").repeat(20));
        texts.push(format!("{other}\r\n{plain}\r\n{other}"));
    }
    let waits = get(&next(newest, "?wait=30ms"));
    texts.push(format!("{waits}{plain}{waits}"));
    texts.push(format!("{waits}POST"));
    texts.push(format!("{waits}\0\0\0"));
    texts.push(format!("{waits}{}", plain.repeat(150)));
    texts
}
