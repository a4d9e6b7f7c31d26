//! Keys and values of every kind.

use super::super::daemon::state_of;
use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, FIRST_REVISION, Given, Stage};
use crate::model::SyncStatus;

pub(super) const SCENES: &[Scene] = &[
    scene!(
        "keys-of-any-bytes",
        Bytes,
        BOTH,
        keys,
        "Keys are empty, have NUL, quotes, and bytes that are no text."
    ),
    scene!(
        "values-of-any-bytes",
        Bytes,
        BOTH,
        values,
        "Values are empty, JSON with odd spellings, text and other bytes."
    ),
    scene!("big-values", Bytes, BOTH, big, "Values have up to 1 MiB, as text, JSON and other bytes."),
];

const KEYS: [&[u8]; 13] = [
    b"",
    b"\0",
    b"a\0b",
    b"\xff\xfe",
    b"\xc3\x28",
    b"caf\xc3\xa9",
    b"\"quoted\\\"",
    b"line\nbreak\r\n",
    b"a/b/../c",
    b"\xf0\x9f\xa6\x80",
    b"%41+ ",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
];

const VALUES: [&[u8]; 31] = [
    b"",
    b"\0",
    b"\xff\0\xfe",
    b"1.50",
    b"1e2",
    b"-0",
    b"12345678901234567890",
    b"1e999",
    b"0.1e-400",
    b"1E+2",
    b"{\"a\":1,\"a\":2}",
    b"{\"b\":1,\"a\":2,\"10\":3,\"9\":4}",
    b"\"\\u00e9\\/\"",
    b"\"\\ud83e\\udd80\"",
    b"\"\\ud800\"",
    b"null",
    b"true",
    b"\"text\"",
    b"text",
    b" 1",
    b"{ }",
    b"[1, 2]",
    b"[]",
    b"{}",
    b"\xef\xbb\xbf1",
    b"line\nbreak",
    b"\xc3\xa9",
    b"\xc3",
    b"data: x\n\nevent: reset\n\n",
    b"{\"type\":\"end\"}",
    b"\xe2\x80\xa8\xc2\x85",
];

/// Shows this state as a snapshot, then as updates.
async fn shows(stage: &mut Stage, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), Broken> {
    let (first, rest) = entries.split_at(entries.len() / 2);
    let daemon = stage.daemon();
    let part = state_of(FIRST_REVISION, first.iter().cloned());
    daemon.world(|world| world.replace(SyncStatus::InSync, part));
    stage.follows(Given::default()).await?;
    // Each half as updates too: the other half is new, then the first one is deleted and comes back.
    for entries in [rest, first] {
        let state = state_of(FIRST_REVISION + 1, entries.iter().cloned());
        daemon.world(|world| world.replace(SyncStatus::InSync, state));
        stage.reaches().await?;
    }
    let swapped = entries.iter().map(|(key, value)| (key.clone(), [value, &b"\0"[..]].concat()));
    let swapped = state_of(FIRST_REVISION + 2, swapped);
    for state in [state_of(FIRST_REVISION + 2, entries.iter().cloned()), swapped] {
        daemon.world(|world| world.replace(SyncStatus::InSync, state));
        stage.reaches().await?;
    }
    stage.read_the_state(1)
}

async fn keys(stage: &mut Stage) -> Result<(), Broken> {
    let long = b"k".repeat(4096);
    let keys = KEYS.iter().map(|key| key.to_vec()).chain([long]);
    shows(stage, keys.map(|key| (key, b"1".to_vec())).collect()).await
}

async fn values(stage: &mut Stage) -> Result<(), Broken> {
    let deep = ["[".repeat(120), "]".repeat(120)].concat().into_bytes();
    let values = VALUES.iter().map(|value| value.to_vec()).chain([deep]);
    let named = |(n, value): (usize, Vec<u8>)| (format!("value/{n:02}").into_bytes(), value);
    shows(stage, values.enumerate().map(named).collect()).await
}

async fn big(stage: &mut Stage) -> Result<(), Broken> {
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..(1 << 20) + 1).map(|_| random.u8(..)).collect();
    let text = "é\"\\\n crumb ".repeat(30_000).into_bytes();
    let json = format!("[{}0]", "{\"n\":1.50},".repeat(30_000)).into_bytes();
    let entries = [("noise", noise), ("text", text), ("json", json), ("small", b"1".to_vec())];
    shows(stage, entries.map(|(key, value)| (key.as_bytes().to_vec(), value)).to_vec()).await
}
