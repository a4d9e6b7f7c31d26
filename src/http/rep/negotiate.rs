//! Content negotiation (RFC 9110, section 12).

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

use crate::http::api::stream::Framing;
use crate::http::rep::problem::Problem;
use crate::view::Format;
use crate::wire::{Coding, MediaType};

/// The codings in our order of preference, for clients without one. gzip comes before zstd, although zstd is better:
/// clients that accept both (browsers, for example) decode gzip without faults.
const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Zstd, Coding::Identity];

/// The media type and coding that the client prefers.
pub(in crate::http) fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    let media = media_type(headers).ok_or_else(|| {
        let offered = MediaType::ALL.map(MediaType::as_str).join(", ");
        Problem::not_acceptable(format!("the Accept header allows none of the media types here: {offered}"))
    })?;
    Ok(Format { media, coding: coding(headers)? })
}

/// The media type of a stream that the client prefers. A stream has no content coding, so identity must be acceptable.
pub(in crate::http) fn stream(headers: &HeaderMap) -> Result<Framing, Problem> {
    if excludes_identity(headers) {
        return Err(Problem::not_acceptable(
            "the Accept-Encoding header excludes identity, the only content coding of a stream",
        ));
    }
    let ranges = list(headers, &ACCEPT);
    let framing = match ranges.is_empty() {
        true => Some(Framing::ALL[0]),
        false => best(Framing::ALL, |framing| media_quality(&ranges, framing.as_str())),
    };
    framing.ok_or_else(|| {
        let offered = Framing::ALL.map(Framing::as_str).join(", ");
        Problem::not_acceptable(format!(
            "the Accept header allows none of the media types of a stream: {offered}"
        ))
    })
}

/// Whether the client wants no body without a coding.
pub(in crate::http) fn excludes_identity(headers: &HeaderMap) -> bool {
    let codings = list(headers, &ACCEPT_ENCODING);
    quality(&codings, "identity").or_else(|| quality(&codings, "*")) == Some(0)
}

fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    let ranges = list(headers, &ACCEPT);
    if ranges.is_empty() {
        return Some(MediaType::Json);
    }
    best(MediaType::ALL, |media| media_quality(&ranges, media.as_str()))
}

/// The quality of a media type of ours. A range that names a form of the values is for that form only, and one that
/// names none is for the types without the parameter.
fn media_quality(ranges: &[Item], media: &str) -> Option<u16> {
    let (media, values) = match media.split_once("; values=") {
        Some((media, values)) => (media, Some(values)),
        None => (media, None),
    };
    let (group, _) = media.split_once('/')?;
    let group = format!("{group}/*");
    let of = |name| ranges.iter().find(|range| range.name == name && range.values.as_deref() == values);
    // The most specific range that matches decides.
    [media, &group, "*/*"].into_iter().find_map(of).map(|range| range.quality)
}

/// The coding that the client prefers.
pub(in crate::http) fn coding(headers: &HeaderMap) -> Result<Coding, Problem> {
    let codings = list(headers, &ACCEPT_ENCODING);
    let quality_of = |coding: Coding| {
        let named = quality(&codings, coding.as_str());
        let any = || quality(&codings, "*");
        match coding {
            Coding::Identity => named.or_else(any).or(Some(IDENTITY_QUALITY)),
            Coding::Gzip => named.or_else(|| quality(&codings, "x-gzip")).or_else(any),
            Coding::Zstd => named.or_else(any),
        }
    };
    best(CODINGS, quality_of).ok_or_else(|| {
        Problem::not_acceptable(
            "the Accept-Encoding header allows none of the codings here: gzip, zstd, identity",
        )
    })
}

/// The quality of identity if it is not named: acceptable, but worse than any named coding.
const IDENTITY_QUALITY: u16 = 1;

/// The first candidate of the highest quality; `None` if all are excluded.
fn best<T: Copy>(all: impl IntoIterator<Item = T>, quality: impl Fn(T) -> Option<u16>) -> Option<T> {
    let mut best = None;
    for candidate in all {
        let quality = quality(candidate).unwrap_or(0);
        if quality > best.map_or(0, |(_, quality)| quality) {
            best = Some((candidate, quality));
        }
    }
    best.map(|(candidate, _)| candidate)
}

/// An item of a header. Its other parameters are ignored.
struct Item {
    name: String,
    /// In thousandths.
    quality: u16,
    /// The parameter `values` of a media type.
    values: Option<String>,
}

fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<Item> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or("").to_ascii_lowercase();
            let parameter = |name: &str| {
                let mut parameters = parts.clone().filter_map(|part| part.split_once('='));
                parameters.find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
            };
            let q = parameter("q").and_then(|q| q.parse::<f32>().ok()).filter(|q| q.is_finite());
            let quality = (q.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16;
            let values = parameter("values").map(|values| values.trim_matches('"').to_ascii_lowercase());
            Item { name, quality, values }
        })
        .collect()
}

fn quality(items: &[Item], name: &str) -> Option<u16> {
    items.iter().find(|item| item.name == name).map(|item| item.quality)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn chosen(accept: &'static str, encoding: &'static str) -> Option<(MediaType, Coding)> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        format(&headers).ok().map(|format| (format.media, format.coding))
    }

    #[test]
    fn values_are_strings_only_for_a_range_that_says_so() {
        use MediaType::{Json, JsonStrings, Ndjson, NdjsonStrings};
        for (accept, expected) in [
            ("application/json; values=string", Some(JsonStrings)),
            ("application/json;VALUES=\"String\";q=0.5", Some(JsonStrings)),
            ("application/x-ndjson;q=0.5;values=string", Some(NdjsonStrings)),
            ("*/*;values=string", Some(JsonStrings)),
            ("application/json;values=string, application/json;q=0.9", Some(JsonStrings)),
            ("application/json;values=string;q=0.9, application/json", Some(Json)),
            ("application/json;values=string;q=0, */*", Some(Json)),
            ("application/json;q=0, application/json;values=string;q=0.1", Some(JsonStrings)),
            ("application/json;charset=utf-8;values=string", Some(JsonStrings)),
            ("application/json;value=string", Some(Json)),
            ("application/json;values=base64", None),
            ("application/json;values=", None),
            ("application/json;values=base64, application/x-ndjson", Some(Ndjson)),
            ("application/vnd.crumbd.v1+bincode;values=string", None),
            ("text/event-stream;values=string", None),
        ] {
            assert_eq!(chosen(accept, "").map(|(media, _)| media), expected, "Accept: {accept}");
        }
    }

    #[test]
    fn a_stream_is_ndjson_unless_events_are_preferred() {
        let chosen = |accept, encoding| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(encoding));
            stream(&headers).ok()
        };
        for (accept, encoding, expected) in [
            ("", "", Some(Framing::Ndjson)),
            ("*/*", "gzip, zstd", Some(Framing::Ndjson)),
            ("text/event-stream", "gzip", Some(Framing::Events)),
            ("text/*", "", Some(Framing::Events)),
            ("application/*", "", Some(Framing::Ndjson)),
            ("application/x-ndjson;q=0.5, text/event-stream", "", Some(Framing::Events)),
            ("application/json", "", None),
            ("text/event-stream;values=string", "", Some(Framing::EventsOfStrings)),
            ("application/x-ndjson;values=string, */*;q=0.5", "", Some(Framing::NdjsonStrings)),
            ("text/event-stream;values=json", "", None),
            ("*/*", "gzip, identity;q=0", None),
            ("*/*", "gzip, *;q=0", None),
        ] {
            assert_eq!(chosen(accept, encoding), expected, "Accept: {accept}, Accept-Encoding: {encoding}");
        }
    }

    #[test]
    fn the_preferred_representation_is_chosen() {
        use Coding::{Gzip, Identity, Zstd};
        use MediaType::{Bincode, Json, Ndjson};
        let bincode = "application/vnd.crumbd.v1+bincode";
        for (accept, encoding, expected) in [
            ("", "", Some((Json, Identity))),
            ("*/*", "gzip", Some((Json, Gzip))),
            ("*/*", "gzip, deflate, br, zstd", Some((Json, Gzip))),
            ("*/*", "zstd, gzip", Some((Json, Gzip))),
            ("*/*", "zstd, *", Some((Json, Gzip))),
            ("*/*", "zstd", Some((Json, Zstd))),
            ("*/*", "gzip;q=0.5, zstd;q=0.6", Some((Json, Zstd))),
            ("*/*", "gzip;q=0, *", Some((Json, Zstd))),
            ("*/*", "gzip;q=1, zstd;q=0.5", Some((Json, Gzip))),
            ("*/*", "gzip;q=0", Some((Json, Identity))),
            ("*/*", "identity;q=0, *;q=0", None),
            ("*/*", "br", Some((Json, Identity))),
            ("application/x-ndjson", "identity", Some((Ndjson, Identity))),
            ("application/json;q=0.5, application/x-ndjson", "", Some((Ndjson, Identity))),
            ("application/json;q=0, */*", "", Some((Ndjson, Identity))),
            (bincode, "", Some((Bincode, Identity))),
            ("text/html, */*;q=0.1", "", Some((Json, Identity))),
            ("text/html", "", None),
            ("application/*;q=0", "", None),
        ] {
            assert_eq!(chosen(accept, encoding), expected, "Accept: {accept}, Accept-Encoding: {encoding}");
        }
    }
}
