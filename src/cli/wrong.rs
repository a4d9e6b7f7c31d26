//! What is wrong with a daemon, for `crumbd status`.

use serde_json::Value;

use super::Failure;
use super::escaped::Escaped;
use crate::client::{Client, ClientError};
use crate::model::CollectionName;

/// The sentences of one status: the daemon's own, or what an older one lets see.
pub(super) fn of_status(status: &Value) -> Vec<String> {
    if let Some(wrong) = status["wrong"].as_array() {
        let messages = wrong.iter().filter_map(|one| one["message"].as_str());
        return messages.map(|message| Escaped::in_one_line(message).to_string()).collect();
    }
    let word = status["status"].as_str().unwrap_or("unknown");
    let is_well = word == "in-sync" && status["ready"].as_bool() == Some(true);
    if is_well { Vec::new() } else { vec![format!("the feed is not in-sync: its status is {word}")] }
}

/// The sentences of all collections that are listed. What is the daemon's, and so in each of them, comes once.
pub(super) async fn of_all(client: &Client, collections: &Value) -> Result<Vec<String>, Failure> {
    let mut all: Vec<String> = Vec::new();
    let mut shared: Vec<String> = Vec::new();
    for listed in collections["collections"].as_array().map_or(&[][..], Vec::as_slice) {
        let name = listed["name"].as_str();
        let client = match name {
            Some(name) => client.clone().in_collection(name.parse::<CollectionName>()?),
            None => client.clone(),
        };
        let status: Value = match client.status().await {
            Ok(text) => serde_json::from_str(&text)?,
            // The token has no rights there.
            Err(ClientError::Refused { status: 403, .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let parts = status["wrong"].as_array().map_or(&[][..], Vec::as_slice);
        let is_shared = |index: usize| {
            parts.get(index).is_some_and(|one| matches!(one["part"].as_str(), Some("limit" | "files")))
        };
        for (index, message) in of_status(&status).into_iter().enumerate() {
            match name {
                _ if is_shared(index) => shared.extend((!shared.contains(&message)).then_some(message)),
                Some(name) => all.push(format!("collection \"{name}\": {message}")),
                None => all.push(message),
            }
        }
    }
    Ok([all, shared].concat())
}
