//! What is wrong with a collection and with the daemon, in sentences. Status, page and `crumbd status` show them first.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::http::app::App;
use crate::http::auth::access::Access;
use crate::http::budget::LimitUse;
use crate::http::collection::{Collection, Stored};
use crate::http::serve::reload::Reloadable;
use crate::model::SyncStatus;

/// A certificate that expires within this time is wrong.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Something that is wrong: the part, for programs, and a sentence for people.
pub(super) struct Wrong {
    part: &'static str,
    message: String,
}

impl Wrong {
    fn new(part: &'static str, message: impl Into<String>) -> Self {
        Self { part, message: message.into() }
    }

    /// The JSON of it.
    pub(super) fn json(&self) -> Value {
        json!({ "part": self.part, "message": self.message })
    }
}

/// Everything that is wrong and that the client may know of. What concerns the most clients comes first.
pub(super) fn all(app: &App, collection: &Collection, access: &Access) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if app.shutdown.has_begun() {
        wrong.push(Wrong::new("daemon", "the daemon is shutting down"));
    }
    if let Some(unwell) = collection.liveness.health.unwell() {
        wrong.push(Wrong::new(
            "daemon",
            format!("the part {} makes no progress: {}", unwell.part, unwell.why),
        ));
    }
    wrong.extend(feed(collection, access));
    if access.may_monitor() {
        wrong.extend(store(collection));
        let refused_keys = collection.view.cache().refused_keys();
        let (refused, flags) = (refused_keys.len(), refused_keys.lacking_room().collect::<Vec<_>>());
        if refused > 0 || !flags.is_empty() {
            let keys = if refused == 1 { "1 key is".to_owned() } else { format!("{refused} keys are") };
            let why = match flags.join(" and --") {
                flags if flags.is_empty() => "for the upstream's values cannot be kept".to_owned(),
                flags => format!("for the upstream has more than --{flags} allows"),
            };
            wrong.push(Wrong::new("keys", format!("{keys} absent, {why}; \"refused\" names them")));
        }
    }
    let monitors_all = app.may_monitor_all(&access.admission());
    wrong.extend(app.budgets.usage().filter_map(|limit| full(&limit, monitors_all)));
    if monitors_all {
        app.files.iter().for_each(|files| wrong.extend(file(&**files)));
    }
    wrong
}

/// A feed that is not in-sync.
fn feed(collection: &Collection, access: &Access) -> Option<Wrong> {
    let (cache, upstream) = (collection.view.cache(), &collection.upstream);
    let crumb = cache.current_breadcrumb();
    if crumb.sync_status() == SyncStatus::InSync {
        return None;
    }
    let report = upstream.activity();
    // An error may quote a record, with keys that not every client may read.
    let error = report.last_error.filter(|_| access.may_monitor()).map(|(error, _)| error);
    let why = upstream.problem().or(error).unwrap_or_else(|| "it has not said why".to_owned());
    let heard = match upstream.heard_at() {
        Some(at) => format!("the upstream was last heard at {}", time(at)),
        None => "the upstream was never heard".to_owned(),
    };
    let served = match (cache.was_in_sync(), crumb.kvs().is_empty()) {
        (true, _) | (false, false) => "the last known state is served",
        (false, true) => "nothing is served yet",
    };
    let (activity, since) = (report.activity, time(report.since));
    let message = format!("the feed is not in-sync: {why} ({activity} since {since}; {heard}); {served}");
    Some(Wrong::new("feed", message))
}

/// A state directory that cannot be written.
fn store(collection: &Collection) -> Option<Wrong> {
    let failing = collection.view.cache().stats().persistence().failing?;
    let (since, why) = (time(failing.since), failing.why);
    Some(match collection.stored {
        Some(Stored::Writes) => {
            let message =
                format!("writes are refused since {since}: {why}. Reading goes on; each write tries again");
            Wrong::new("store", message)
        }
        _ => {
            let message = format!(
                "the state is not saved since {since}: {why}. Serving goes on, but the next start begins with an older state"
            );
            Wrong::new("store", message)
        }
    })
}

/// A limit that is reached, or has refused somebody lately.
fn full(limit: &LimitUse, monitors_all: bool) -> Option<Wrong> {
    let LimitUse { flag, max, is_refusing, .. } = limit;
    let used = limit.used.filter(|_| monitors_all || !limit.depends_on_keys);
    let is_full = used.is_some_and(|used| used >= *max);
    let used = used.map(|used| format!(" ({used} of {max} are used)")).unwrap_or_default();
    let message = match (is_full, is_refusing) {
        (_, true) => format!("the limit --{flag} has refused requests within the last minute{used}"),
        (true, false) => format!("the limit --{flag} is reached{used}"),
        (false, false) => return None,
    };
    Some(Wrong::new("limit", message))
}

/// Files that cannot be used, or whose certificate expires.
fn file(files: &dyn Reloadable) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if let Some((fault, since)) = files.report().fault {
        let since = time(since);
        wrong.push(Wrong::new("files", format!("since {since}: {fault}. What was read before is in force")));
    }
    if let Some(at) = files.expires() {
        let now = SystemTime::now();
        let message = match at.duration_since(now) {
            Err(_) => format!("the certificate has expired at {}: clients refuse it", time(at)),
            Ok(left) if left <= EXPIRES_SOON => {
                let hours = left.as_secs() / 3600;
                format!(
                    "the certificate expires at {}, in {} days and {} hours",
                    time(at),
                    hours / 24,
                    hours % 24
                )
            }
            Ok(_) => return wrong,
        };
        wrong.push(Wrong::new("files", message));
    }
    wrong
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
