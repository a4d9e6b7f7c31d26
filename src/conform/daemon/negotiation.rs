//! The media type and the coding of an answer.

use crate::wire::{Coding, MediaType};

/// A representation that an endpoint has: the type, and whether its values are strings.
struct Offer<T> {
    name: &'static str,
    strings: bool,
    what: T,
}

/// The format of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StreamFormat {
    pub(super) events: bool,
    pub(super) media: MediaType,
}

/// The media type of a state or of updates; `None` where the client accepts none.
pub(super) fn media_type(accept: Option<&str>) -> Option<MediaType> {
    let offer = |media: MediaType| Offer {
        name: media.as_str().split(';').next().unwrap_or_default(),
        strings: matches!(media, MediaType::JsonStrings | MediaType::NdjsonStrings),
        what: media,
    };
    choose(accept, &MediaType::ALL.map(offer))
}

/// The format of a stream; `None` where the client accepts none.
pub(super) fn stream_format(accept: Option<&str>) -> Option<StreamFormat> {
    let offer = |events: bool, strings: bool| Offer {
        name: if events { "text/event-stream" } else { "application/x-ndjson" },
        strings,
        what: StreamFormat {
            events,
            media: if strings { MediaType::NdjsonStrings } else { MediaType::Ndjson },
        },
    };
    choose(accept, &[offer(false, false), offer(true, false), offer(false, true), offer(true, true)])
}

fn choose<T: Copy>(accept: Option<&str>, offers: &[Offer<T>]) -> Option<T> {
    let mut best: Option<(f32, T)> = None;
    for range in accept.unwrap_or("*/*").split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut strings, mut ours) = (1.0, false, true);
        for parameter in parts {
            match parameter.split_once('=') {
                Some((n, v)) if n.eq_ignore_ascii_case("q") => quality = v.parse().unwrap_or(0.0),
                Some((n, v)) if n.eq_ignore_ascii_case("values") => {
                    strings = v.trim_matches('"').eq_ignore_ascii_case("string");
                    ours = strings;
                }
                _ => {}
            }
        }
        let is_wanted = |offer: &&Offer<T>| {
            let main = offer.name.split('/').next().unwrap_or_default();
            let named = name == offer.name || name == "*/*" || name.strip_suffix("/*") == Some(main);
            named && offer.strings == strings
        };
        if let Some(offer) = offers.iter().find(is_wanted)
            && ours
            && quality > 0.0
            && best.is_none_or(|(other, _)| quality > other)
        {
            best = Some((quality, offer.what));
        }
    }
    best.map(|(_, what)| what)
}

/// The coding of a body of at least 1 KiB. `prefer` is taken where the client accepts it at all.
pub(super) fn coding(accept: Option<&str>, prefer: Coding) -> Coding {
    let accepted = |coding: Coding| {
        accept.unwrap_or_default().split(',').any(|range| {
            let (name, parameters) = range.split_once(';').unwrap_or((range, ""));
            let quality = parameters.trim().strip_prefix("q=").map_or(1.0, |q| q.parse().unwrap_or(0.0));
            (name.trim().eq_ignore_ascii_case(coding.as_str()) || name.trim() == "*") && quality > 0.0
        })
    };
    let order = [prefer, Coding::Gzip, Coding::Zstd];
    order.into_iter().find(|coding| accepted(*coding)).unwrap_or(Coding::Identity)
}
