//! The URL of a feed: `SCHEME:REST?OPTION=VALUE&…`.

use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

/// A feed's URL, taken apart. A feed takes the options that it knows; what is left is an error.
#[derive(Debug)]
pub(crate) struct FeedUrl<'a> {
    /// The text before the first colon.
    pub(super) scheme: &'a str,
    /// The text between that colon and the first question mark.
    pub(super) rest: &'a str,
    options: Vec<(String, String)>,
}

impl<'a> FeedUrl<'a> {
    /// Takes the URL apart. `None` if it has no scheme. Names and values of options are percent-decoded;
    /// `+` is no space.
    pub(super) fn parse(text: &'a str) -> Option<Result<Self, String>> {
        let (scheme, rest) = text.split_once(':')?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let options = query.split('&').filter(|option| !option.is_empty()).map(|option| {
            let (name, value) =
                option.split_once('=').ok_or_else(|| format!("the option {option:?} has no value"))?;
            Ok((decoded(name)?, decoded(value)?))
        });
        Some(options.collect::<Result<_, String>>().map(|options| Self { scheme, rest, options }))
    }

    /// Refuses a text after the scheme's colon.
    pub(super) fn has_no_rest(&self) -> Result<(), String> {
        match self.rest {
            "" => Ok(()),
            rest => Err(format!("nothing follows the colon, but there is {rest:?}")),
        }
    }

    /// Takes an option that may be given several times.
    pub(super) fn take_all(&mut self, name: &str) -> Vec<String> {
        let (taken, kept) =
            std::mem::take(&mut self.options).into_iter().partition(|(given, _)| given == name);
        self.options = kept;
        taken.into_iter().map(|(_, value): (String, String)| value).collect()
    }

    /// Takes an option that may be given once.
    pub(super) fn take(&mut self, name: &str) -> Result<Option<String>, String> {
        let mut all = self.take_all(name).into_iter();
        match (all.next(), all.next()) {
            (Some(value), None) if value.is_empty() => Err(format!("the option {name} has no value")),
            (value, None) => Ok(value),
            (_, Some(_)) => Err(format!("the option {name} is given twice")),
        }
    }

    /// Takes an option that is `true` or `false`; `false` when left out.
    pub(super) fn take_bool(&mut self, name: &str) -> Result<bool, String> {
        match self.take(name)?.as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(format!("the option {name} is true or false, and not {other:?}")),
        }
    }

    /// Refuses options that nobody has taken. `known` are those of the feed.
    pub(super) fn has_no_more_options(&self, known: &[&str]) -> Result<(), String> {
        let Some((name, _)) = self.options.first() else { return Ok(()) };
        Err(match known {
            [] => format!("{name:?} is no option: this feed has none"),
            known => format!("{name:?} is no option of this feed: it has {}", known.join(", ")),
        })
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| format!("the option {text:?} is not UTF-8"))
}

/// A `HOST:PORT`. `form` is what the whole URL looks like.
pub(super) fn host_and_port(text: &str, form: &str) -> Result<String, String> {
    let without_port = text.rsplit_once(':').map_or(text, |(host, _)| host);
    if text.starts_with('[') && !text.contains(']') {
        return Err(format!(
            "the bracket of {text:?} is not closed: an IPv6 address is written as [::1]:PORT; {form}"
        ));
    }
    if text.contains(['[', ']']) && !is_ipv6_in_brackets(without_port) {
        return Err(format!(
            "{text:?} is no HOST:PORT: brackets are for an IPv6 address, with the port after them, as in \
             [::1]:7811; {form}"
        ));
    }
    if !text.starts_with('[') && without_port.contains(':') {
        return Err(format!("{text:?} has several colons: an IPv6 address is written as [::1]:PORT; {form}"));
    }
    let is_of_a_host = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    match text.rsplit_once(':') {
        Some((host, _)) if let Some(odd) = host.chars().find(|&c| !is_of_a_host(c)) => {
            Err(format!("{odd:?} cannot be part of a host's name, as in {text:?}; {form}"))
        }
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
            Ok(text.to_owned())
        }
        _ => Err(format!("{text:?} is no HOST:PORT; {form}")),
    }
}

fn is_ipv6_in_brackets(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}
