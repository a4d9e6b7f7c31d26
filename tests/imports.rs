//! The imports that each module may have. They keep data flowing one way.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

/// Room, and the rooms of ours that it may import beside itself. `cli` wires everything together and may import all.
const TABLE: [(&str, &[&str]); 13] = [
    ("model", &[]),
    ("wire", &["model"]),
    ("ingest", &[]),
    ("trail", &[]),
    ("value", &[]),
    ("cache", &["model", "ingest", "trail"]),
    ("state", &["model", "wire", "value", "cache"]),
    ("client", &["model", "wire"]),
    ("conform", &["model", "wire"]),
    ("feed", &["model", "wire", "ingest", "value"]),
    ("view", &["model", "wire", "trail", "cache"]),
    ("http", &["model", "wire", "value", "view", "feed"]),
    ("daemon", &["model", "ingest", "cache", "state", "feed", "view", "http"]),
];

/// The part of `feed` that may import `client`: a relay is a client of another daemon.
const RELAY: &str = "feed/relay";

/// What `http` may know of feeds: how to write to one, and what is known of its upstream.
const FEED_HANDLES: [&str; 7] =
    ["Writer", "EtcdCalls", "WriteRequest", "WriteError", "Upstream", "Activity", "ActivityReport"];

fn sources(dir: &Path, into: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// The code of a file without comments and without its tests, which may use whatever they need.
fn code(path: &Path) -> Result<String, Box<dyn Error>> {
    let is_test = |part: &str| matches!(part, "tests" | "tests.rs" | "model.rs" | "loom" | "loom.rs");
    let below_a_room = path.iter().skip_while(|part| *part != "src").skip(2);
    if below_a_room.filter_map(|part| part.to_str()).any(is_test) {
        return Ok(String::new());
    }
    let text = fs::read_to_string(path)?;
    let text: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    Ok(without_test_items(&text.join("\n")))
}

/// The code without its `#[cfg(test)]` items. What follows such an item is kept.
fn without_test_items(code: &str) -> String {
    let mut kept = Vec::new();
    let mut lines = code.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push(line);
            continue;
        }
        // Formatted code: the last line of an item is as far to the right as its first one.
        let indent = line.len() - line.trim_start().len();
        let is_last = |line: &str| {
            let is_own = line.len() - line.trim_start().len() == indent;
            is_own && !line.trim_start().starts_with("#[") && line.ends_with([';', ',', '}'])
        };
        let _last = lines.by_ref().find(|line| is_last(line));
    }
    kept.join("\n")
}

/// The paths that follow `crate::` in this code, one `use` group resolved: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
        let (base, tail) = rest.split_at(end);
        match tail.strip_prefix('{').and_then(|group| group.split_once('}')) {
            Some((group, _)) => {
                found.extend(
                    group
                        .split(',')
                        .map(str::trim)
                        .filter(|name| !name.is_empty())
                        .map(|name| format!("{base}{name}")),
                );
            }
            None => found.push(base.to_owned()),
        }
    }
    found
}

#[test]
fn a_room_imports_only_what_the_table_allows() -> Result<(), Box<dyn Error>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let table: BTreeMap<_, _> = TABLE.into_iter().collect();
    let (mut faults, mut looked_at) = (Vec::new(), 0);
    for entry in fs::read_dir(&src)? {
        let dir = entry?.path();
        let Some(room) = dir.file_name().and_then(|name| name.to_str()).filter(|_| dir.is_dir()) else {
            continue;
        };
        // The pages are text.
        if ["cli", "docs"].contains(&room) {
            continue;
        }
        let allowed = table.get(room).ok_or(format!("the room {room} is not in the table"))?;
        let mut files = Vec::new();
        sources(&dir, &mut files)?;
        for file in files {
            for path in imports(&code(&file)?) {
                looked_at += 1;
                let mut parts = path.split("::");
                let other = parts.next().unwrap_or_default();
                let handle = parts.next().unwrap_or_default();
                let is_handle = other != "feed" || room != "http" || FEED_HANDLES.contains(&handle);
                let is_relay = other == "client" && file.starts_with(src.join(RELAY));
                if other != room && !is_relay && !(allowed.contains(&other) && is_handle) {
                    faults.push(format!("{}: crate::{path}", file.strip_prefix(&src)?.display()));
                }
            }
        }
    }
    assert!(looked_at > 300, "the imports were not found: {looked_at}");
    assert!(faults.is_empty(), "imports that the table does not allow:\n{}", faults.join("\n"));
    Ok(())
}

/// The vocabulary does no I/O, has no channels and counts nothing.
#[test]
fn the_model_is_vocabulary_only() -> Result<(), Box<dyn Error>> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model"), &mut files)?;
    for file in files {
        let code = code(&file)?;
        for absent in
            ["tokio", "std::io", "std::fs", "std::net", "atomic", "Mutex", "RwLock", "mpsc", "oneshot"]
        {
            assert!(!code.contains(absent), "{} has {absent}", file.display());
        }
    }
    Ok(())
}

#[test]
fn the_test_skips_test_items_and_nothing_after_them() {
    let code = "a();\n#[cfg(test)]\n#[allow(x)]\nimpl B {\n    fn c(\n        d: E,\n    ) {\n    }\n}\nf();\n\
                mod g {\n    #[cfg(test)]\n    names: H,\n    #[cfg(test)]\n    mod i;\n    j();\n}";
    assert_eq!(without_test_items(code), "a();\nf();\nmod g {\n    j();\n}");
}

#[test]
fn the_test_sees_what_is_imported() {
    let code =
        "use crate::a::{self, b};\nuse crate::c::D;\nlet x = crate::e::f();\npub(in crate::g) fn h() {}";
    assert_eq!(imports(code), ["a::self", "a::b", "c::D", "e::f", "g"]);
}
