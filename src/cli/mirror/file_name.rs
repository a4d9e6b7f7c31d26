//! The file names of keys. Each key has exactly one path, two keys never have the same, and the path decodes back to the
//! key. The rule is told to people in `docs/files.md`.
//!
//! A slash of the key separates directories. Plain segments are names as they are. In the others a percent sign begins
//! what is not literal:
//!
//! | in the name | stands for |
//! |---|---|
//! | `%XX`, two upper-case hex digits | a byte: a percent sign, a control character, a byte that is not UTF-8, the first dot of a segment that is `.` or begins with `..` |
//! | `%-` alone | an empty segment |
//! | `%+` at the end of a directory's name | the segment goes on in the next name, because no name has more than 255 bytes |
//! | `%=` alone, as the last name | the value of the key that the directory is: `a` is in `a/%=` while there is a key `a/b` |
//! | `%long/SHA-256` | a key whose path would have more than [`MAX_PATH_BYTES`]; the manifest has the key |

use std::fmt::Write;

use ring::digest::{SHA256, digest};

/// The longest name of a file or directory on nearly all file systems, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The longest path below the directory, in bytes: half of what Linux takes, so that the directory itself fits too.
pub(super) const MAX_PATH_BYTES: usize = 2048;

/// An empty segment.
const EMPTY: &str = "%-";

/// The end of a name whose segment goes on in the next one.
const CONTINUED: &str = "%+";

/// The file of a key that is a directory too.
const OWN_VALUE: &str = "%=";

/// The directory of the keys with long paths.
const LONG: &str = "%long";

/// The path of a key whose prefix is taken off. `has_keys_below`: whether there are keys that begin with this key and a
/// slash, so that its path is a directory.
pub(super) fn path_of(name: &[u8], has_keys_below: bool) -> String {
    let mut path = String::with_capacity(name.len() + OWN_VALUE.len() + 1);
    for (i, segment) in name.split(|byte| *byte == b'/').enumerate() {
        if i > 0 {
            path.push('/');
        }
        push_segment(&mut path, segment);
        if path.len() > MAX_PATH_BYTES {
            return long_path_of(name);
        }
    }
    if has_keys_below {
        path.push('/');
        path.push_str(OWN_VALUE);
    }
    if path.len() > MAX_PATH_BYTES { long_path_of(name) } else { path }
}

/// The key, without its prefix, at this path. `None` if no key has such a path, or if only the manifest knows it: see
/// [`is_long`].
pub(super) fn name_of(path: &str) -> Option<Vec<u8>> {
    let mut names: Vec<&str> = path.split('/').collect();
    let has_keys_below = names.len() > 1 && names.last() == Some(&OWN_VALUE);
    if has_keys_below {
        names.pop();
    }
    let mut name = Vec::with_capacity(path.len());
    let (mut is_first, mut continues) = (true, false);
    for text in names {
        if !is_first && !continues {
            name.push(b'/');
        }
        let rest = text.strip_suffix(CONTINUED);
        (is_first, continues) = (false, rest.is_some());
        match rest.unwrap_or(text) {
            EMPTY => {}
            text => unescape(text, &mut name)?,
        }
    }
    // Only one spelling is the key's.
    (!continues && path_of(&name, has_keys_below) == path).then_some(name)
}

/// Whether the path is of a key that only the manifest knows.
pub(super) fn is_long(path: &str) -> bool {
    path.strip_prefix(LONG).is_some_and(|rest| rest.starts_with('/'))
}

/// The keys, without the prefix, in whose directories this one is, the nearest last.
pub(super) fn directories_of(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    // The path of a longer one is long, and no directory.
    let within = &name[..name.len().min(MAX_PATH_BYTES + 1)];
    within.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &name[..at])
}

fn long_path_of(name: &[u8]) -> String {
    let mut path = format!("{LONG}/");
    for byte in digest(&SHA256, name).as_ref() {
        // Nothing fails that writes into a string.
        _ = write!(path, "{byte:02x}");
    }
    path
}

fn push_segment(path: &mut String, segment: &[u8]) {
    let is_dotted = segment == b"." || segment.starts_with(b"..");
    match std::str::from_utf8(segment) {
        Ok("") => path.push_str(EMPTY),
        Ok(text) if text.len() <= MAX_NAME_BYTES && !is_dotted && !text.chars().any(is_special) => {
            path.push_str(text);
        }
        _ => push_pieces(path, &escaped(segment, is_dotted)),
    }
}

/// A character that is escaped wherever it is.
fn is_special(c: char) -> bool {
    c == '%' || c.is_ascii_control()
}

fn escape(byte: u8) -> String {
    format!("%{byte:02X}")
}

/// The segment in pieces that must stay together: characters and escapes.
fn escaped(segment: &[u8], is_dotted: bool) -> Vec<String> {
    let mut pieces = Vec::with_capacity(segment.len());
    for chunk in segment.utf8_chunks() {
        for c in chunk.valid().chars() {
            // A special character is ASCII.
            pieces.push(if is_special(c) { escape(c as u8) } else { c.to_string() });
        }
        pieces.extend(chunk.invalid().iter().map(|byte| escape(*byte)));
    }
    if is_dotted {
        pieces[0] = escape(b'.');
    }
    pieces
}

/// Appends the segment as one name, or as several.
fn push_pieces(path: &mut String, pieces: &[String]) {
    let mut left: usize = pieces.iter().map(String::len).sum();
    let mut used = 0;
    for piece in pieces {
        let fits_whole = used + left <= MAX_NAME_BYTES;
        left -= piece.len();
        if !fits_whole && used + piece.len() > MAX_NAME_BYTES - CONTINUED.len() {
            path.push_str(CONTINUED);
            path.push('/');
            used = 0;
        }
        let is_first_dot = used == 0 && piece == ".";
        let before = path.len();
        match is_first_dot && path.ends_with("%+/") {
            true => path.push_str(&escape(b'.')),
            false => path.push_str(piece),
        }
        used += path.len() - before;
    }
}

/// Appends the bytes that the escaped text stands for.
fn unescape(text: &str, bytes: &mut Vec<u8>) -> Option<()> {
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'%' {
            let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*byte);
            rest = after;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use std::collections::{BTreeSet, HashMap};

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_rule_by_example() {
        for (name, below, path) in [
            ("plain", false, "plain"),
            ("a/b.conf", false, "a/b.conf"),
            (".hidden", false, ".hidden"),
            ("100%", false, "100%25"),
            ("", false, "%-"),
            ("/", false, "%-/%-"),
            ("a//b/", false, "a/%-/b/%-"),
            (".", false, "%2E"),
            ("..", false, "%2E."),
            ("a/../..b", false, "a/%2E./%2E.b"),
            ("a\0b\nc", false, "a%00b%0Ac"),
            ("ключ/ü", false, "ключ/ü"),
            ("a", true, "a/%="),
            ("", true, "%-/%="),
            ("%=", false, "%25="),
        ] {
            assert_eq!(path_of(name.as_bytes(), below), path);
            assert_eq!(name_of(path).as_deref(), Some(name.as_bytes()), "{path}");
        }
        assert_eq!(path_of(b"\xff\xc3\x28", false), "%FF%C3(");
    }

    #[test]
    fn a_long_segment_is_several_names_and_a_long_path_is_a_hash() {
        let long = "a".repeat(256);
        assert_eq!(path_of(long.as_bytes(), false), format!("{}%+/aaa", "a".repeat(253)));
        let path = path_of("€".repeat(300).as_bytes(), true);
        assert!(path.split('/').all(|name| name.len() <= MAX_NAME_BYTES), "{path}");
        assert_eq!(name_of(&path).unwrap(), "€".repeat(300).as_bytes());
        let path = path_of(&[b'a'; 5000], false);
        assert!(is_long(&path) && path.len() == "%long/".len() + 64, "{path}");
    }

    #[test]
    fn another_spelling_is_no_key() {
        for bad in
            ["", "%41", "%2f", "%2F", "..", ".", "..data", "a/..", "a%", "a%4", "%+", "a%+/b", "%=", "a/%=/b"]
        {
            assert_eq!(name_of(bad), None, "{bad:?}");
        }
        assert!(!is_long("%long") && name_of("%long/abc").is_none());
    }

    /// Few letters, so that keys are often in each other's directories; some of them long.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let odd = prop::sample::select(vec![
            &b"/"[..],
            b"/",
            b"/",
            b"a",
            b"b",
            b".",
            b".",
            b"%",
            b"=",
            b"-",
            b"+",
            b"\0",
            b"\xff",
            b"2E",
            b"long",
            b"\xc3",
            "é".as_bytes(),
        ]);
        let long = (prop::sample::select(vec![b'a', b'.', b'%', 0xff]), 240..270_usize);
        let long = long.prop_map(|(byte, len)| vec![byte; len]);
        let piece = prop_oneof![20 => odd.prop_map(<[u8]>::to_vec), 1 => long];
        vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_path_leads_back_and_no_two_keys_share_one(names in btree_set(name(), 0..40)) {
            let below = |name: &[u8]| {
                let within = [name, b"/"].concat();
                names.iter().any(|other| other.starts_with(&within))
            };
            let paths: HashMap<String, &Vec<u8>> =
                names.iter().map(|name| (path_of(name, below(name)), name)).collect();
            prop_assert_eq!(paths.len(), names.len());
            let sorted: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
            for (path, name) in &paths {
                prop_assert!(path.len() <= MAX_PATH_BYTES);
                for part in path.split('/') {
                    prop_assert!(!part.is_empty() && part.len() <= MAX_NAME_BYTES && part != "." && !part.starts_with(".."));
                }
                for (at, _) in path.match_indices('/') {
                    prop_assert!(!sorted.contains(&path[..at]), "{} is a file and a directory", &path[..at]);
                }
                if is_long(path) {
                    prop_assert_eq!(name_of(path), None);
                } else {
                    prop_assert_eq!(&name_of(path).unwrap(), *name);
                }
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(path in ".{0,40}") {
            if let Some(name) = name_of(&path) {
                prop_assert!(path_of(&name, false) == path || path_of(&name, true) == path);
            }
        }
    }
}
