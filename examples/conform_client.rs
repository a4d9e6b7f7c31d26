//! The Rust client as `crumbd conform` runs it: `crumbd conform -- target/debug/examples/conform_client`.
//!
//! What it is given and what it prints is the line protocol of the page "How to write a client".

use std::env;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crumbd::client::{
    Changed, Client, ClientError, ClientTls, DEFAULT_SILENCE, EntryChange, Event, Follower, MirrorSnapshot,
};
use crumbd::model::Entry;
use serde_json::{Value, json};

fn main() -> ExitCode {
    // Whoever runs it closes its input when it shall end.
    thread::spawn(|| {
        _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let followed = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(follow()));
    let Err(reason) = followed;
    print(&json!({ "fatal": reason }));
    ExitCode::FAILURE
}

/// Never ends well: what it follows has no end.
async fn follow() -> Result<std::convert::Infallible, String> {
    let mut follower = follower().map_err(|error| error.to_string())?;
    loop {
        match follower.next().await.map_err(|error| error.to_string())? {
            Event::Changed(changed) => print(&line(&changed, follower.state())),
            Event::Unchanged => {}
            Event::Retry(retry) => print(&json!({ "retry": retry.error.to_string() })),
            Event::Held { keys } => print(&json!({ "held": keys })),
        }
    }
}

fn follower() -> Result<Follower, ClientError> {
    let variable = |name: &str| env::var(name).ok();
    let tls = ClientTls { ca: variable("CRUMBD_CA_FILE").map(Into::into), ..ClientTls::default() };
    let timeout = variable("CRUMBD_TIMEOUT_MS").and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let client = |url: &str| {
        let mut client = Client::over_tls(url, tls.clone())?;
        if let Some(token) = variable("CRUMBD_TOKEN") {
            client = client.with_token(&token)?;
        }
        Ok::<_, ClientError>(timeout.map_or(client.clone(), |timeout| client.with_timeout(timeout)))
    };
    let urls = variable("CRUMBD_URL").unwrap_or_else(|| "http://127.0.0.1:7811".to_owned());
    let mut urls = urls.split(',');
    let mut builder = Follower::of(client(urls.next().unwrap_or_default())?);
    for url in urls {
        builder = builder.endpoint(client(url)?);
    }
    if let Some(prefix) = variable("CRUMBD_PREFIX") {
        builder = builder.prefix(prefix.as_str());
    }
    if variable("CRUMBD_TRANSPORT").as_deref() == Some("stream") {
        builder = builder.stream(timeout.unwrap_or(DEFAULT_SILENCE));
    }
    Ok(builder.allow_empty(variable("CRUMBD_ALLOW_EMPTY").is_some()).start())
}

fn line(changed: &Changed, state: &MirrorSnapshot) -> Value {
    let key = |entry: &Entry| BASE64.encode(entry.key());
    let change = |change: &EntryChange| match change {
        EntryChange::New(new) => {
            json!({ "type": "new", "key": key(new), "value": BASE64.encode(new.value()) })
        }
        EntryChange::Updated { new, .. } => {
            json!({ "type": "updated", "key": key(new), "value": BASE64.encode(new.value()) })
        }
        EntryChange::Deleted { old, .. } => json!({ "type": "deleted", "key": key(old) }),
    };
    json!({
        "cursor": changed.header.cursor.map(|cursor| cursor.to_string()),
        "status": changed.header.status.map(|status| status.to_string()),
        "count": state.len(),
        "digest": state.digest().to_string(),
        "changes": changed.changes.iter().map(change).collect::<Vec<_>>(),
    })
}

fn print(line: &Value) {
    let mut out = io::stdout().lock();
    _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
