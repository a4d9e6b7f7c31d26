//! `crumbd status`.

use clap::Args;
use serde_json::Value;

use super::units::Bytes;
use super::{Daemon, Failure, output};

/// Show how a daemon is
#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    daemon: Daemon,
    /// Print the daemon's JSON as it is.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let text = self.daemon.client()?.status().await?;
        if self.json {
            return Ok(output::bytes(text.as_bytes())?);
        }
        let status: Value = serde_json::from_str(&text)?;
        let lines = lines(&status).into_iter().map(|(name, shown)| format!("{name:<12} {shown}\n"));
        Ok(output::bytes(lines.collect::<String>().as_bytes())?)
    }
}

fn lines(status: &Value) -> Vec<(&'static str, String)> {
    let text = |path: &str| match status.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    let size = |path: &str| {
        let bytes = status.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        Bytes(usize::try_from(bytes).unwrap_or(usize::MAX)).to_string()
    };
    let seconds = |path: &str| {
        let seconds = status.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
        format!("{seconds:.1} s")
    };
    let ready = if text("/ready") == "true" { "ready" } else { "not ready" };
    vec![
        ("feed", text("/feed")),
        ("status", format!("{}, {ready}, upstream heard {} ago", text("/status"), seconds("/age_seconds"))),
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
        ("waiters", text("/waiters")),
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
