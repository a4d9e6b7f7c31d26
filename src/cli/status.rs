//! `crumbd status`.

use clap::Args;
use serde_json::Value;

use super::escaped::Escaped;
use super::health::{NoAnswer, TIMEOUT};
use super::units::Bytes;
use super::{Daemon, Failure, output, wrong};
use crate::client::{Client, ClientError};

/// Show the status of a daemon, what is wrong first
///
/// With --check it prints only what is wrong, and its exit code is for scripts: 0 if nothing is, 1 if something is, and 3 if the
/// daemon does not answer within 5 s. Wrong is a feed that is not in-sync, a state directory that cannot be written, a
/// limit that is reached or has refused requests within the last minute, a certificate that expires within a week, a file
/// that cannot be used, and keys that are absent because their values cannot be kept. A token for administration, or one
/// that may read everything, is told all of it.
///
/// Of a daemon with named collections it shows one line for each: its name, status, number of keys, the time since its
/// upstream was heard, and its feed. With --collection it shows everything of one; "" is the one without a name.
///
/// The --url of a daemon with --admin-listen is that address: others do not serve the status.
#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    daemon: Daemon,
    /// Print the daemon's JSON unchanged.
    #[arg(long)]
    json: bool,
    /// Print only what is wrong, and end with 1 if something is.
    #[arg(long, conflicts_with = "json")]
    check: bool,
}

/// Something is wrong, which is printed.
#[derive(Debug, thiserror::Error)]
#[error("something is wrong")]
pub(super) struct SomethingIsWrong;

impl Status {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.daemon.client()?;
        if self.check {
            return self.check(client.with_timeout(TIMEOUT)).await;
        }
        if self.daemon.collection.is_none()
            && let Some(text) = several_collections(&client).await?
        {
            if self.json {
                return Ok(output::bytes(text.as_bytes())?);
            }
            let collections = serde_json::from_str(&text)?;
            let wrong = wrong::of_all(&client, &collections).await?;
            let shown = wrong.iter().map(|message| format!("WRONG: {message}\n")).collect::<String>();
            return Ok(output::bytes((shown + &table(&collections)).as_bytes())?);
        }
        let text = client.status().await?;
        if self.json {
            return Ok(output::bytes(text.as_bytes())?);
        }
        let status: Value = serde_json::from_str(&text)?;
        let wrong = wrong::of_status(&status).into_iter().map(|message| ("WRONG", message));
        let lines = wrong.chain(lines(&status)).chain(refused(&status));
        let lines = lines.map(|(name, shown)| format!("{name:<12} {}\n", Escaped::in_one_line(shown)));
        Ok(output::bytes(lines.collect::<String>().as_bytes())?)
    }

    async fn check(self, client: Client) -> Result<(), Failure> {
        let wrong = self.all_that_is_wrong(&client).await.map_err(|failure| {
            match failure.downcast::<ClientError>().map(|error| *error) {
                Ok(error @ ClientError::Refused { .. }) => error.into(),
                Ok(error) => NoAnswer(error).into(),
                Err(failure) => failure,
            }
        })?;
        if wrong.is_empty() {
            return Ok(output::line("nothing is wrong")?);
        }
        wrong.iter().try_for_each(output::line)?;
        Err(SomethingIsWrong.into())
    }

    async fn all_that_is_wrong(&self, client: &Client) -> Result<Vec<String>, Failure> {
        if self.daemon.collection.is_none()
            && let Some(text) = several_collections(client).await?
        {
            return wrong::of_all(client, &serde_json::from_str(&text)?).await;
        }
        Ok(wrong::of_status(&serde_json::from_str(&client.status().await?)?))
    }
}

/// The collections of a daemon that has not only the default one.
async fn several_collections(client: &Client) -> Result<Option<String>, Failure> {
    let text = match client.collections().await {
        Ok(text) => text,
        // An older daemon has the default one only.
        Err(ClientError::Refused { status: 404, .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let all: Value = serde_json::from_str(&text)?;
    let is_named = |one: &Value| one["name"].is_string();
    Ok(all["collections"].as_array().is_some_and(|all| all.iter().any(is_named)).then_some(text))
}

/// One line for each collection, in columns.
fn table(collections: &Value) -> String {
    let head = ["name", "status", "keys", "heard", "feed"].map(str::to_owned);
    let all = collections["collections"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<[String; 5]> = [head].into_iter().chain(all.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name, status, keys, heard] = [0, 1, 2, 3].map(width);
    let line = |[a, b, c, d, feed]: &[String; 5]| {
        format!("{a:<name$}  {b:<status$}  {c:>keys$}  {d:>heard$}  {feed}\n")
    };
    rows.iter().map(line).collect()
}

fn row(collection: &Value) -> [String; 5] {
    let text = |name: &str| collection[name].as_str().unwrap_or("-").to_owned();
    let name = collection["name"].as_str().unwrap_or("(no name)");
    let status = match collection["ready"].as_bool() {
        Some(true) => text("status"),
        _ => format!("{}, not ready", text("status")),
    };
    // A token that may not read every key is not told.
    let keys = collection["count"].as_u64().map_or_else(|| "-".to_owned(), |count| count.to_string());
    let heard = match collection.get("upstream_heard_timestamp") {
        Some(Value::Null) => "never".to_owned(),
        _ => format!("{:.1} s ago", collection["age_seconds"].as_f64().unwrap_or(0.0)),
    };
    [name.to_owned(), status, keys, heard, text("feed")].map(|shown| Escaped::in_one_line(shown).to_string())
}

fn lines(status: &Value) -> Vec<(&'static str, String)> {
    let text = |path: &str| match status.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let size = |path: &str| match status.pointer(path).and_then(Value::as_u64) {
        Some(bytes) => Bytes(usize::try_from(bytes).unwrap_or(usize::MAX)).to_string(),
        // A token that may not read every key is not told.
        None => "-".to_owned(),
    };
    let seconds = |path: &str| {
        let seconds = status.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        format!("{seconds:.1} s")
    };
    let ready = if text("/ready") == "true" { "ready" } else { "not ready" };
    vec![
        ("feed", text("/feed")),
        ("status", format!("{}, {ready}, upstream {}", text("/status"), heard(status))),
        (
            "feed is",
            format!(
                "{}, since {}{}",
                text("/feed_activity/name"),
                text("/feed_activity/since"),
                last_error(status)
            ),
        ),
        ("keys", format!("{} ({} of keys and values)", text("/count"), size("/payload_bytes"))),
        ("digest", text("/digest")),
        ("cursor", text("/cursor")),
        (
            "revision",
            format!("{}, breadcrumb {} of {}", text("/revision"), text("/sequence"), text("/timestamp")),
        ),
        (
            "kept",
            format!(
                "{} breadcrumbs, about {}, since {}",
                text("/kept/breadcrumbs"),
                size("/kept/bytes"),
                text("/kept/oldest")
            ),
        ),
        ("stored", stored(status)),
        ("waiters", format!("{} of {}", text("/waiters"), text("/waiters_limit"))),
        ("limits", limits(status)),
        ("files", files(status)),
        (
            "ingest",
            format!(
                "{} updates, {} without change, {} refused, {} malformed, {} of {} events waiting",
                text("/ingest/updates"),
                text("/ingest/suppressed"),
                text("/ingest/refused"),
                text("/ingest/malformed"),
                text("/ingest/backlog"),
                text("/ingest/capacity"),
            ),
        ),
        ("uptime", format!("{}, version {}", seconds("/uptime_seconds"), text("/version"))),
    ]
}

/// When the upstream was last heard.
fn heard(status: &Value) -> String {
    match status.get("upstream_heard_timestamp") {
        Some(Value::Null) => "never heard".to_owned(),
        // An older daemon does not say that it never was.
        _ => format!("heard {:.1} s ago", status["age_seconds"].as_f64().unwrap_or(0.0)),
    }
}

/// What the state directory holds, and whether it is written.
fn stored(status: &Value) -> String {
    let Some(store) = status.get("store") else { return "-".to_owned() };
    let what = match store["keeps"].as_str() {
        Some("writes") => "every write, on disk",
        Some(_) => "a copy of the state, on disk",
        None => return "nothing (no --state-dir)".to_owned(),
    };
    let written = match store["last_write_timestamp"].as_str() {
        Some(at) => format!("last written {at}"),
        None => "not written since the start".to_owned(),
    };
    match store["failing"]["message"].as_str() {
        Some(why) => format!("{what}; {written}; FAILING: {why}"),
        None => format!("{what}; {written}"),
    }
}

/// The use of the daemon's limits.
fn limits(status: &Value) -> String {
    let all = status["limits"].as_array().map_or(&[][..], Vec::as_slice);
    let used = all.iter().filter_map(|limit| {
        let (flag, used, max) = (limit["flag"].as_str()?, limit["used"].as_u64()?, limit["limit"].as_u64()?);
        Some(format!("{flag} {used} of {max}"))
    });
    let used: Vec<String> = used.collect();
    if used.is_empty() { "-".to_owned() } else { used.join(", ") }
}

/// The files that are read again when they change.
fn files(status: &Value) -> String {
    let all = status["files"].as_array().map_or(&[][..], Vec::as_slice);
    let files = all.iter().map(|files| {
        let text = |name: &str| files[name].as_str();
        let read = format!("{} read {}", text("files").unwrap_or("-"), text("read_timestamp").unwrap_or("-"));
        let fault = files["fault"]["message"].as_str().map(|fault| format!(", FAULT: {fault}"));
        let expires = text("expires_timestamp").map(|at| format!(", expires {at}"));
        read + &fault.unwrap_or_default() + &expires.unwrap_or_default()
    });
    let files: Vec<String> = files.collect();
    if files.is_empty() { "-".to_owned() } else { files.join("; ") }
}

/// The last error of the feed, and why it cannot be in-sync.
fn last_error(status: &Value) -> String {
    let text = |path: &str| status.pointer(path).and_then(Value::as_str);
    let error = text("/feed_last_error/message").zip(text("/feed_last_error/at"));
    let error = error.map(|(message, at)| format!("; last error ({at}): {message}"));
    let problem = text("/feed_problem").map(|problem| format!("; not in-sync: {problem}"));
    error.unwrap_or_default() + &problem.unwrap_or_default()
}

/// Lines for the refused keys: the keys that are absent because the upstream's values for them were refused.
fn refused(status: &Value) -> Vec<(&'static str, String)> {
    let count = status.pointer("/refused/count").and_then(Value::as_u64).unwrap_or(0);
    if count == 0 {
        return Vec::new();
    }
    let keys = status.pointer("/refused/keys").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let more = match status.pointer("/refused/exact") {
        Some(Value::Bool(false)) => " or more",
        _ => "",
    };
    let named =
        if (keys.len() as u64) < count { format!("; {} of them:", keys.len()) } else { ":".to_owned() };
    let first = format!("{count}{more} keys are absent because their values were refused{named}");
    let mut lines = vec![("refused", first)];
    lines.extend(keys.iter().map(|key| ("", refused_key(key))));
    lines
}

fn refused_key(refused: &Value) -> String {
    let text = |name: &str| refused.get(name).and_then(Value::as_str);
    let key = text("key").map(|key| key.escape_debug().to_string());
    let key = key.or_else(|| text("key_base64").map(|key| format!("base64:{key}"))).unwrap_or_default();
    let cut = if refused.get("key_bytes").is_some() { "…" } else { "" };
    let revision = refused.get("revision").and_then(Value::as_u64).unwrap_or(0);
    let (reason, since) = (text("reason").unwrap_or_default(), text("since").unwrap_or_default());
    format!("{key}{cut}: {reason} (revision {revision}, since {since})")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_refused_keys_are_shown_with_their_reasons_and_cannot_forge_a_line() {
        let named = json!({ "key": "a\nfeed x", "key_bytes": 300, "reason": "too large", "revision": 7, "since": "2026-01-01T00:00:00Z" });
        let status = json!({ "refused": { "count": 2, "exact": true, "keys": [named] } });
        let lines: Vec<String> = refused(&status).into_iter().map(|(_, line)| line).collect();
        assert_eq!(
            lines,
            [
                "2 keys are absent because their values were refused; 1 of them:",
                "a\\nfeed x…: too large (revision 7, since 2026-01-01T00:00:00Z)"
            ]
        );
        assert!(refused(&json!({ "refused": { "count": 0, "exact": true, "keys": [] } })).is_empty());
        assert!(refused(&json!({})).is_empty(), "an older daemon does not report it");
    }
}
