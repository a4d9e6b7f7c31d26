//! Tokens from a file: one JSON object a line.
//!
//! ```text
//! # edge agents: made with `crumbd token --name edge --read edge/ --read shared/`
//! {"name":"edge","sha256":"9f86d0…","read":["edge/","shared/"],"write":[]}
//! ```
//!
//! Empty lines and lines that begin with `#` are ignored. The prefix `""` is every key.
//!
//! `read` and `write` are for the default collection. The member `collections` gives rights in named ones; `*` is every
//! named collection that has no member of its own. Nothing else does, so a token that is older than a collection has no
//! rights there:
//!
//! ```text
//! {"sha256":"9f86d0…","collections":{"pods":{"read":[""]},"*":{"read":["public/"],"write":[]}}}
//! ```
//!
//! A file with an error is not used at all: the daemon does not start, or keeps its current tokens and logs the error.
//!
//! A file may be read while it is being written, and then has some of its lines only, or none. So nobody loses rights by
//! one look at it: a file that takes rights away counts when a second look, a second later, finds the same file. A file
//! without any token is an error where there were tokens, unless a line `# no tokens` says that it is meant.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{error, info};

use crate::http::auth::token::{Hash, Line, LineRights, hash, hex, unhex};
use crate::http::auth::{Authorizer, Grant, KeyRights, Revocation, Rights};
use crate::http::serve::reload::{LoadRecord, LoadReport, Reloadable, Stamp, read_regular};
use crate::model::{CollectionName, Key, KeySelector};
use crate::value::Recurring;

/// The largest file, in bytes: about half a million tokens.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// The largest number of prefixes in `read`, and in `write`.
const MAX_PREFIXES: usize = 256;

/// How many tokens a line of the log names.
const MAX_NAMES: usize = 20;

/// How many characters of a name, or of the hash of a token without one, are logged.
const MAX_NAME_CHARS: usize = 64;
const SHOWN_HASH_CHARS: usize = 8;

/// What the shared secret is for, so that it is no other hash of the same bytes.
const SECRET_NAME: &[u8] = b"crumbd cursor key";

/// The comment that a file needs to take away all tokens.
const NO_TOKENS: &str = "# no tokens";

/// What a line looks like.
/// The longest word of an error that is shown: a name of a member with a typing mistake, but no token.
const MAX_WORD: usize = 15;

const LINE_FORM: &str = r#"{"name":"edge","sha256":"64 HEX DIGITS","read":["edge/"],"write":[]}"#;

/// The least time between the two looks at a file that takes rights away. Less than the time between two checks of it.
const SETTLING_TIME: Duration = Duration::from_millis(900);

/// Errors of the tokens file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokensError {
    /// The file cannot be read.
    #[error("tokens file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A line is invalid.
    #[error("tokens file {} line {line}: {source}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
        /// The error in the line.
        source: LineError,
    },
    /// There is no token in it, and nothing says that this is meant.
    #[error("tokens file {} has no token; the line \"{NO_TOKENS}\" says that it is meant", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Errors in a line of the tokens file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// It is not the expected JSON object.
    #[error(
        "it is not a token as a JSON object: {}; a line is {LINE_FORM}, and `crumbd token` prints one; of \"read\" and \
         \"write\", [] is no key and [\"\"] is every key",
        in_one_line(.0)
    )]
    Json(serde_json::Error),
    /// The rights to a collection are no object.
    #[error("the rights to the collection {0:?} are not an object with \"read\" and \"write\"")]
    Rights(String),
    /// Its hash is malformed.
    #[error("sha256 is not 64 hex digits; `crumbd token` prints a token and its line")]
    Hash,
    /// It has too many prefixes.
    #[error("{0} prefixes are too many; the limit is {MAX_PREFIXES}")]
    TooManyPrefixes(usize),
    /// An earlier line has the same token.
    #[error("an earlier line has the same token")]
    Duplicate,
}

/// The text of an error in a line, which has columns only.
fn in_one_line(error: &serde_json::Error) -> String {
    let text = without_secrets(&error.to_string());
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{what} at column {}", error.column()),
        None => text,
    }
}

/// The text of an error without what may be a token: somebody may have put it where the hash or a prefix belongs, and the
/// error is logged and shown. Left out are texts where something else is expected, and words longer than any of this format.
fn without_secrets(text: &str) -> String {
    // As the library names a text where something else is expected.
    let (before, quoted, after) = match (text.find("string \""), text.rfind("\", expected")) {
        (Some(begin), Some(end)) if begin < end => (&text[..begin], "a text", &text[end + 1..]),
        _ => (text, "", ""),
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-+/=.".contains(c);
    let masked = |text: &str| {
        let mut masked = String::new();
        for word in text.split_inclusive(|c: char| !is_part(c)) {
            let length = word.trim_end_matches(|c: char| !is_part(c)).len();
            let shown = if length > MAX_WORD { "…" } else { &word[..length] };
            masked.extend([shown, &word[length..]]);
        }
        masked
    };
    [&masked(before), quoted, &masked(after)].concat()
}

/// The tokens of a file and their current rights.
pub struct Tokens {
    path: PathBuf,
    /// Read by every request, without a lock.
    grants: ArcSwap<HashMap<Hash, Grant>>,
    /// Locked while the file is read.
    looks: Mutex<Looks>,
    record: LoadRecord,
}

/// What the looks at the file have found.
#[derive(Default)]
struct Looks {
    /// The stamp of the file that was read last.
    stamp: Option<Stamp>,
    /// The file that takes rights away, until it counts.
    pending: Option<Pending>,
    /// The error, while the file has one.
    error: Option<String>,
    /// What is logged of it.
    failing: Recurring,
}

/// A file that takes rights away, and has been seen once.
struct Pending {
    stamp: Option<Stamp>,
    content: Hash,
    seen: Instant,
}

/// The tokens of a file, each with its name for the log.
struct Parsed {
    rights: HashMap<Hash, (String, Rights)>,
    /// Whether a comment says that there are no tokens.
    is_meant_empty: bool,
}

impl Tokens {
    /// Reads the tokens file.
    ///
    /// # Errors
    /// [`TokensError`].
    pub fn open(path: PathBuf) -> Result<Arc<Self>, TokensError> {
        let (grants, looks) = Default::default();
        let tokens = Self { path, grants, looks, record: LoadRecord::new() };
        tokens.look(&mut tokens.looks.lock(), Instant::now())?;
        Ok(Arc::new(tokens))
    }

    /// A secret that daemons with the same file share, for the key of their cursors: 64 hex digits. Nobody can compute it who does not
    /// know the hash of every token; `None` if that is one client from whom something is hidden in a collection that it
    /// may read or write.
    pub fn shared_secret(&self) -> Option<String> {
        let grants = self.grants.load();
        let mut hashes: Vec<Hash> = grants.keys().copied().collect();
        let is_known = |only: &Hash| grants.get(only).is_some_and(|grant| !grant.rights().hide_nothing());
        if hashes.is_empty() || (hashes.len() == 1 && hashes.iter().any(is_known)) {
            return None;
        }
        hashes.sort_unstable();
        Some(hex(&hash(&[SECRET_NAME, &hashes.concat()].concat())))
    }

    /// The collections in which some token has rights of its own, in order.
    pub fn named_collections(&self) -> BTreeSet<CollectionName> {
        let grants = self.grants.load();
        grants.values().flat_map(|grant| grant.rights().named.keys().cloned()).collect()
    }

    /// Reads the file. Its tokens count at once, or at a later look if they take rights away.
    fn look(&self, looks: &mut Looks, now: Instant) -> Result<(), TokensError> {
        // Taken before the file is read, so that a change meanwhile is noticed the next time.
        looks.stamp = Stamp::of(&self.path);
        let before = looks.pending.take();
        let unreadable = |source| TokensError::Read { path: self.path.clone(), source };
        let content = read_regular(&self.path, MAX_FILE_BYTES).map_err(unreadable)?;
        let text = String::from_utf8(content)
            .map_err(|error| unreadable(std::io::Error::other(format!("it is not UTF-8: {error}"))))?;
        let Parsed { rights, is_meant_empty } = parse(&text).map_err(|(line, source)| TokensError::Line {
            path: self.path.clone(),
            line,
            source,
        })?;
        let grants = self.grants.load();
        if rights.is_empty() && !grants.is_empty() && !is_meant_empty {
            return Err(TokensError::Empty { path: self.path.clone() });
        }
        let loses = |(hash, grant): &(&Hash, &Grant)| {
            !rights.get(*hash).is_some_and(|(_, now)| now.cover(grant.rights()))
        };
        let losers = Names::of(grants.iter().filter(loses).map(|(_, grant)| grant));
        if !losers.is_empty() {
            let (stamp, content) = (looks.stamp, hash(text.as_bytes()));
            let same = before.filter(|seen| seen.stamp == stamp && seen.content == content);
            if same.as_ref().is_none_or(|same| now.duration_since(same.seen) < SETTLING_TIME) {
                if same.is_none() {
                    info!(tokens = ?losers, "tokens lose rights unless {} changes again", self.path.display());
                }
                looks.pending = Some(same.unwrap_or(Pending { stamp, content, seen: now }));
                return Ok(());
            }
        }
        self.put_in_force(rights);
        Ok(())
    }

    /// A token with unchanged rights keeps its grant; the grants of the others are revoked.
    fn put_in_force(&self, rights: HashMap<Hash, (String, Rights)>) {
        let before = self.grants.load_full();
        let grants: HashMap<Hash, Grant> = rights
            .into_iter()
            .map(|(hash, (name, rights))| {
                let grant = match before.get(&hash) {
                    Some(kept) if *kept.rights() == rights => kept.clone(),
                    Some(changed) => changed.with_rights(rights),
                    None => Grant::new(rights),
                };
                grant.set_name(Some(name));
                (hash, grant)
            })
            .collect();
        let grants = Arc::new(grants);
        // Stored before the old ones are revoked: revoked clients come back at once.
        self.grants.store(Arc::clone(&grants));
        let (mut changed, mut removed) = (Names::default(), Names::default());
        for (hash, old) in before.iter() {
            match grants.get(hash) {
                Some(now) if now.rights() == old.rights() => {}
                Some(now) => {
                    changed.add(now);
                    old.revoke(Revocation::Changed);
                }
                None => {
                    removed.add(old);
                    old.revoke(Revocation::Removed);
                }
            }
        }
        info!(tokens = grants.len(), ?changed, ?removed, "tokens read from {}", self.path.display());
    }
}

/// The names of tokens for the log: the first ones, and how many others there are.
#[derive(Default)]
struct Names {
    first: Vec<String>,
    others: usize,
}

impl Names {
    fn of<'a>(grants: impl Iterator<Item = &'a Grant>) -> Self {
        let mut names = Self::default();
        grants.for_each(|grant| names.add(grant));
        names
    }

    fn add(&mut self, grant: &Grant) {
        match self.first.len() {
            MAX_NAMES => self.others += 1,
            _ => self.first.extend(grant.name()),
        }
    }

    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first: Vec<&String> = self.first.iter().collect();
        first.sort_unstable();
        write!(f, "{first:?}")?;
        if self.others > 0 { write!(f, " and {} others", self.others) } else { Ok(()) }
    }
}

impl Reloadable for Tokens {
    fn name(&self) -> &'static str {
        "tokens"
    }

    fn reload(&self, forced: bool) {
        let mut looks = self.looks.lock();
        // After an error the file is always read: a file that was written while it was read may keep its stamp.
        let is_settled = looks.pending.is_none() && looks.error.is_none();
        if !forced && is_settled && looks.stamp == Stamp::of(&self.path) {
            return;
        }
        match self.look(&mut looks, Instant::now()) {
            Ok(()) => {
                looks.error = None;
                self.record.succeeded();
                if let Some(end) = looks.failing.ended() {
                    let path = self.path.display();
                    info!(times = end.times, lasted = %end.lasted(), "tokens file {path} is good again");
                }
            }
            Err(error) => {
                let error = error.to_string();
                self.record.failed(&error);
                let due = looks.failing.failed(&error);
                if let Some(times) = due.or(forced.then_some(1)) {
                    error!(times, "{error}; all tokens keep the rights they had");
                }
                looks.error = Some(error);
            }
        }
    }

    fn report(&self) -> LoadReport {
        self.record.report()
    }
}

impl Authorizer for Tokens {
    /// Looks up the token's hash, so that the time it takes reveals nothing of the token.
    fn admit(&self, token: &str) -> Option<Grant> {
        self.grants.load().get(&hash(token.as_bytes())).cloned()
    }
}

/// The tokens of a file, or the number of an invalid line and its error.
fn parse(text: &str) -> Result<Parsed, (usize, LineError)> {
    let mut parsed = Parsed { rights: HashMap::new(), is_meant_empty: false };
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            parsed.is_meant_empty |= line == NO_TOKENS;
            continue;
        }
        let (hash, name, rights) = parse_line(line).map_err(|error| (number, error))?;
        if parsed.rights.insert(hash, (name, rights)).is_some() {
            return Err((number, LineError::Duplicate));
        }
    }
    Ok(parsed)
}

/// The hash, the name for the log and the rights of a token.
fn parse_line(line: &str) -> Result<(Hash, String, Rights), LineError> {
    // A list in the order of the members would be taken for them.
    let members: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).map_err(LineError::Json)?;
    if let Some(serde_json::Value::Object(collections)) = members.get("collections")
        && let Some((name, _)) = collections.iter().find(|(_, rights)| !rights.is_object())
    {
        return Err(LineError::Rights(without_secrets(name)));
    }
    let Line { name, sha256, read, write, collections, admin } =
        serde_json::from_str(line).map_err(LineError::Json)?;
    let hash = unhex(&sha256).ok_or(LineError::Hash)?;
    let mut rights = Rights { default: key_rights(LineRights { read, write })?, admin, ..Rights::default() };
    for (name, given) in collections.0 {
        let given = key_rights(given)?;
        match name {
            Some(name) => _ = rights.named.insert(name, given),
            None => rights.other_named = given,
        }
    }
    let hash_chars = &sha256[..SHOWN_HASH_CHARS];
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("sha256 {hash_chars}…"));
    Ok((hash, name.chars().take(MAX_NAME_CHARS).collect(), rights))
}

fn key_rights(given: LineRights) -> Result<KeyRights, LineError> {
    let prefixes = |list: Vec<String>| match list.len() {
        ..=MAX_PREFIXES => {
            Ok(KeySelector::prefixes(list.into_iter().map(|prefix| Key::new(prefix.into_bytes()))))
        }
        many => Err(LineError::TooManyPrefixes(many)),
    };
    Ok(KeyRights { read: prefixes(given.read)?, write: prefixes(given.write)? })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::super::{NewRights, NewToken};
    use super::*;

    fn line(token: &NewToken, rights: &str) -> String {
        let line: Line = serde_json::from_str(&token.line).unwrap();
        format!("{{\"sha256\":\"{}\",{rights}}}\n", line.sha256)
    }

    fn made() -> NewToken {
        NewToken::make(NewRights::default()).unwrap()
    }

    /// A tokens file, and looks at it at chosen times.
    struct Watched {
        dir: tempfile::TempDir,
        tokens: Arc<Tokens>,
        looks: Looks,
        now: Instant,
    }

    impl Watched {
        fn new(text: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("tokens"), text).unwrap();
            let tokens = Tokens::open(dir.path().join("tokens")).unwrap();
            Self { dir, tokens, looks: Looks::default(), now: Instant::now() }
        }

        fn write(&self, text: &str) {
            std::fs::write(self.dir.path().join("tokens"), text).unwrap();
        }

        fn look_after(&mut self, pause: Duration) -> Result<(), TokensError> {
            self.now += pause;
            self.tokens.look(&mut self.looks, self.now)
        }

        fn admit(&self, token: &NewToken) -> Option<Grant> {
            self.tokens.admit(&token.token)
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_grants_whose_rights_have_changed_are_revoked() {
        let [same, changed, removed] = [made(), made(), made()];
        let (one, other) = (r#""read":["a/","b/"]"#, r#""read":["a/"]"#);
        let mut file = Watched::new(&[line(&same, one), line(&changed, one), line(&removed, one)].concat());
        let before = [&same, &changed, &removed].map(|token| file.admit(token).unwrap());
        // The same rights, written differently.
        let again = [line(&changed, other), line(&same, r#""read":["b/","a/","a/b"],"write":[]"#)].concat();
        file.write(&again);
        file.look_after(SECOND).unwrap();
        file.look_after(SECOND).unwrap();
        assert_eq!(
            before.map(|grant| grant.revocation()),
            [None, Some(Revocation::Changed), Some(Revocation::Removed)]
        );
        let may_read = |token| file.admit(token).unwrap().rights().default.read.matches(b"b/c");
        assert!(may_read(&same) && !may_read(&changed));
        assert!(file.admit(&removed).is_none());

        // An invalid file changes nothing.
        file.write("nonsense");
        assert!(file.look_after(SECOND).is_err() && file.look_after(SECOND).is_err());
        assert!(file.admit(&same).is_some_and(|grant| grant.revocation().is_none()));
    }

    #[test]
    fn rights_are_lost_at_the_second_look_and_won_at_the_first() {
        let [one, other, third] = [made(), made(), made()];
        let (wide, narrow) = (r#""read":["a/"],"write":["a/"]"#, r#""read":["a/b/"],"write":["a/"]"#);
        let admin = r#""read":["a/"],"write":["a/"],"admin":true"#;
        let both = [line(&one, wide), line(&other, admin)].concat();
        let mut file = Watched::new(&both);
        let held = [&one, &other].map(|token| file.admit(token).unwrap());
        let is_held = || held.iter().all(|grant| grant.revocation().is_none());

        // Half of the file, less than a second, and then all of it.
        for half in [
            line(&one, wide),
            line(&one, narrow) + &line(&other, admin),
            line(&one, wide) + &line(&other, wide),
        ] {
            file.write(&half);
            file.look_after(SECOND).unwrap();
            file.look_after(SECOND / 2).unwrap();
            assert!(is_held(), "{half}");
            file.write(&both);
            file.look_after(SECOND).unwrap();
            assert!(is_held(), "{half}");
        }
        // It grows from look to look.
        for part in [line(&one, narrow), line(&one, narrow) + "# a comment\n"] {
            file.write(&part);
            file.look_after(SECOND).unwrap();
            assert!(is_held(), "{part}");
        }
        // What is added counts at once.
        file.write(&[both, line(&third, wide)].concat());
        file.look_after(SECOND).unwrap();
        assert!(is_held() && file.admit(&third).is_some());

        file.write(&line(&one, narrow));
        file.look_after(SECOND).unwrap();
        file.look_after(SECOND / 2).unwrap();
        assert!(is_held(), "too early");
        file.look_after(SECOND / 2).unwrap();
        assert_eq!(
            held.map(|grant| grant.revocation()),
            [Some(Revocation::Changed), Some(Revocation::Removed)]
        );
    }

    #[test]
    fn a_file_without_tokens_takes_them_away_only_if_it_says_so() {
        let one = made();
        let mut file = Watched::new(&line(&one, r#""read":[""]"#));
        for empty in ["", "\n", "# a comment\n", "\u{feff}"] {
            file.write(empty);
            for _ in 0..3 {
                assert!(matches!(file.look_after(SECOND), Err(TokensError::Empty { .. })), "{empty:?}");
            }
            assert!(file.admit(&one).is_some());
        }
        file.write("# no tokens\n");
        file.look_after(SECOND).unwrap();
        assert!(file.admit(&one).is_some());
        file.look_after(SECOND).unwrap();
        assert!(file.admit(&one).is_none());
        file.write("");
        file.look_after(SECOND).unwrap();
    }

    #[test]
    fn an_error_names_its_line() {
        let hash = "0".repeat(64);
        let good = format!("{{\"sha256\":\"{hash}\"}}");
        assert_eq!(parse(&format!("\u{feff}\n # a comment\n{good}\n")).unwrap().rights.len(), 1);
        for (text, at) in [
            (format!("{good}\n{good}"), 2),
            (format!("#\n\n{{\"sha256\":\"{hash}\",\"reed\":[]}}"), 3),
            ("{\"sha256\":\"1234\"}".to_owned(), 1),
            (format!("{{\"sha256\":\"{hash}\",\"read\":\"a\"}}"), 1),
            ("{}".to_owned(), 1),
        ] {
            assert_eq!(parse(&text).err().unwrap().0, at, "{text}");
        }
        for (collections, wanted) in [
            (r#"{"pods":{"reed":[""]}}"#, "reed"),
            (r#"{"Pods":{"read":[""]}}"#, "is not the name of a collection"),
            (r#"{"":{}}"#, "is not the name of a collection"),
            (r#"{"pods":{},"pods":{"read":[""]}}"#, "twice"),
            (r#"{"*":{},"*":{}}"#, "twice"),
            (r#"["pods"]"#, "an object of collections"),
        ] {
            let text = format!("{good}\n{{\"sha256\":\"{}\",\"collections\":{collections}}}", "1".repeat(64));
            let (line, error) = parse(&text).err().unwrap();
            assert!(line == 2 && error.to_string().contains(wanted), "{collections}: {error}");
        }
    }

    #[test]
    fn an_error_shows_no_token_that_is_in_the_wrong_place() {
        let token = made().token;
        let hash = "0".repeat(64);
        for line in [
            format!("\"{token}\""),
            format!("{{\"{token}\":1}}"),
            format!("{{\"sha256\":\"{token}\"}}"),
            format!("{{\"sha256\":\"{hash}\",\"{token}\":1}}"),
            format!("{{\"sha256\":\"{hash}\",\"read\":\"{token}\"}}"),
            format!("{{\"sha256\":\"{hash}\",\"read\":\"a\\\"b {token}\"}}"),
            format!("{{\"sha256\":\"{hash}\",\"admin\":\"{token}\"}}"),
            format!("{{\"sha256\":\"{hash}\",\"collections\":{{\"{token}\":{{}}}}}}"),
            format!("{{\"sha256\":\"{hash}\",\"collections\":{{\"{token}\":1}}}}"),
            format!("{{\"sha256\":\"{hash}\",\"collections\":\"{token}\"}}"),
            token.clone(),
        ] {
            let error = parse(&line).err().unwrap().1.to_string();
            assert!(!error.contains(&token[10..20]), "{line}: {error}");
        }
    }

    /// The rights of a line.
    fn rights(members: &str) -> Rights {
        parse_line(&format!("{{\"sha256\":\"{}\",{members}}}", "0".repeat(64))).unwrap().2
    }

    #[test]
    fn rights_in_a_named_collection_come_from_its_member_or_else_from_the_star() {
        let (pods, nodes) = ("pods".parse().unwrap(), "nodes".parse().unwrap());
        let old = rights(r#""read":[""],"write":[""]"#);
        assert!(old.in_collection(Some(&pods)).is_empty() && old.in_collection(None).read.is_all());
        let new = rights(r#""collections":{"pods":{},"*":{"read":["a/"]}}"#);
        assert!(new.in_collection(Some(&pods)).is_empty() && new.in_collection(None).is_empty());
        assert!(new.in_collection(Some(&nodes)).read.matches(b"a/b"));
    }

    #[test]
    fn rights_that_are_lost_in_one_collection_only_are_lost() {
        let star = rights(r#""collections":{"*":{"read":["a/"]}}"#);
        let but_pods = rights(r#""collections":{"*":{"read":["a/"]},"pods":{"read":["a/b/"]}}"#);
        let and_pods = rights(r#""collections":{"*":{"read":["a/"]},"pods":{"read":[""]}}"#);
        let pods = rights(r#""collections":{"pods":{"read":["a/"]}}"#);
        assert!(and_pods.cover(&star) && star.cover(&but_pods) && star.cover(&pods));
        assert!(!but_pods.cover(&star) && !star.cover(&and_pods) && !pods.cover(&star));
    }

    #[test]
    fn one_token_makes_a_secret_only_if_nothing_is_hidden_from_it_where_it_may_do_something() {
        for (members, makes) in [
            (r#""read":[""]"#, true),
            (r#""read":["a"]"#, false),
            (r#""write":[""]"#, false),
            (r#""admin":true"#, false),
            (r#""collections":{"pods":{"read":[""]}}"#, true),
            (r#""read":[""],"collections":{"pods":{"read":["a"]}}"#, false),
            (r#""read":[""],"collections":{"*":{"write":[""]}}"#, false),
        ] {
            let file = Watched::new(&line(&made(), members));
            assert_eq!(file.tokens.shared_secret().is_some(), makes, "{members}");
        }
    }
}
