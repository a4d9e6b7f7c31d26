//! Errors for texts that are not records, with the field or the column of the mistake.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::wire::WireError;

pub(super) fn json_error(text: &str, error: &serde_json::Error) -> WireError {
    wrong_type(text).unwrap_or_else(|| {
        let reason: String = error.to_string().chars().take(400).collect();
        // A record is one line, so the column is enough.
        let reason = reason.replace(" at line 1 column ", " at column ");
        WireError::Json(format!("{reason}, in {}", sample(text)))
    })
}

/// The error for the first field with a value of the wrong type, if there is one. serde would name only a column.
fn wrong_type(text: &str) -> Option<WireError> {
    const NUMBERS: [&str; 4] = ["revision", "ttl", "sequence", "count"];
    const TEXTS: [&str; 12] = [
        "type",
        "key",
        "key_base64",
        "encoding",
        "status",
        "mode",
        "reason",
        "cursor",
        "from",
        "history",
        "timestamp",
        "digest",
    ];
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(text).ok()?;
    members.into_iter().find_map(|(name, raw)| {
        let one_of = |fields: &[&'static str]| fields.iter().copied().find(|field| *field == name);
        let (field, fits, expected) = if let Some(field) = one_of(&NUMBERS) {
            let fits = serde_json::from_str::<Option<u64>>(raw.get()).is_ok();
            (field, fits, "a whole number below 2^64, without quotes")
        } else if let Some(field) = one_of(&TEXTS) {
            (field, serde_json::from_str::<Option<Cow<'_, str>>>(raw.get()).is_ok(), "a JSON string")
        } else {
            let field = one_of(&["more"])?;
            (field, serde_json::from_str::<Option<bool>>(raw.get()).is_ok(), "true or false")
        };
        (!fits).then(|| WireError::invalid(field, raw.get(), expected))
    })
}

/// The beginning of a text, so that users recognize it.
pub(super) fn sample(text: &str) -> String {
    let text = text.trim();
    let sample: String = text.chars().take(60).collect();
    if sample.len() < text.len() { sample + "…" } else { sample }
}
