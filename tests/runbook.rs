//! The runbook has a row for every warning and error line that the sources have, and no other row.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../src/docs/runbook.md");

/// The macros that log what needs a person, and the words of their levels.
const MACROS: [(&str, &str); 2] = [("warn!(", "WARN"), ("error!(", "ERROR")];

/// The most sentences that a cell may have: who reads it is tired.
const SENTENCES: usize = 3;

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The first text in quotes, unescaped, in the arguments of a macro.
fn message(arguments: &str) -> Option<String> {
    let mut chars = arguments[arguments.find('"')? + 1..].chars().peekable();
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                '\n' => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                'n' => text.push('\n'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

/// The message with `…` for each part that varies.
fn shown(message: &str) -> String {
    let mut shown = String::new();
    let mut rest = message;
    while let Some((before, after)) = rest.split_once('{') {
        shown += before;
        // Two parts side by side are one.
        if !shown.ends_with('…') {
            shown.push('…');
        }
        rest = after.split_once('}').unwrap().1;
    }
    shown + rest
}

/// The lines that the sources log: message and level, with the places.
fn logged() -> BTreeMap<(String, &'static str), Vec<String>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut found) = (Vec::new(), BTreeMap::<_, Vec<String>>::new());
    sources(&src, &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for (name, level) in MACROS {
            for (at, _) in text.match_indices(name) {
                let line = text[..at].lines().last().unwrap_or_default();
                let is_macro = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                if !is_macro || line.trim_start().starts_with("//") {
                    continue;
                }
                let place = format!("{}:{}", file.display(), text[..at].lines().count());
                let message =
                    message(&text[at..]).unwrap_or_else(|| panic!("{place}: a line without a text"));
                found.entry((shown(&message), level)).or_default().push(place);
            }
        }
    }
    found
}

/// The cells of the rows about lines: level, line, meaning, advice.
fn rows() -> Vec<[&'static str; 4]> {
    let rows = PAGE.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        <[&str; 4]>::try_from(cells).ok()
    });
    rows.filter(|[level, ..]| MACROS.iter().any(|(_, word)| word == level)).collect()
}

/// The text of a code span.
fn code(cell: &str) -> &str {
    let ticks = cell.len() - cell.trim_start_matches('`').len();
    assert!(ticks > 0, "{cell} is no code");
    let inside = cell.trim_matches('`');
    if ticks == 1 { inside } else { inside.trim() }
}

#[test]
fn the_runbook_has_every_warning_and_error_and_no_other() {
    let logged = logged();
    assert!(logged.len() > 50, "the sources are not read: {}", logged.len());
    let page: Vec<(String, &str)> =
        rows().iter().map(|[level, line, ..]| (code(line).to_owned(), *level)).collect();
    let missing: Vec<_> = logged.iter().filter(|(line, _)| !page.iter().any(|row| row == *line)).collect();
    assert!(missing.is_empty(), "src/docs/runbook.md has no row for {missing:#?}");
    let is_logged = |row: &&(String, &str)| {
        logged.keys().any(|known| (known.0.as_str(), known.1) == (row.0.as_str(), row.1))
    };
    let surplus: Vec<_> = page.iter().filter(|row| !is_logged(row)).collect();
    assert!(surplus.is_empty(), "no source logs {surplus:#?}");
    for (place, line) in page.iter().enumerate() {
        assert!(!page[..place].contains(line), "{line:?} has two rows");
    }
}

#[test]
fn a_row_is_short_and_says_what_to_do() {
    for [_, line, meaning, advice] in rows() {
        for cell in [meaning, advice] {
            let sentences = cell.matches(". ").count() + 1;
            assert!(cell.ends_with(['.', '?']) && sentences <= SENTENCES, "{line}: {cell}");
        }
    }
}

#[test]
fn a_message_is_read_as_it_is_logged() {
    let arguments = "warn!(times, %error, \"a \\\"b\\\" \\\n    {c}: {} d {e:?}\", f(\"g\"));";
    assert_eq!(shown(&message(arguments).unwrap()), "a \"b\" …: … d …");
}
