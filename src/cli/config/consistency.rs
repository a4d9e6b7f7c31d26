//! Settings that need each other, contradict each other, or have no effect.
//!
//! A setting that can only be a mistake is an error. A setting without effect is a warning: several daemons may share a
//! file or an environment.

use std::net::IpAddr;

use super::CollectionFeed;
use super::error::{SettingError, Warning};
use super::nearest::nearest;
use super::raw::{RawSettings, names, variable};
use super::settings::Settings;
use crate::feed::{FeedSpec, PASSWORD_VARIABLE, Storage};
use crate::http::ListenAddress;

/// Variables of other commands, and variables without a flag.
const OTHER_VARIABLES: [&str; 8] = [
    "CRUMBD_CONFIG",
    "CRUMBD_URL",
    "CRUMBD_TOKEN",
    "CRUMBD_TOKEN_FILE",
    "CRUMBD_CA_CERT",
    "CRUMBD_CLIENT_CERT",
    "CRUMBD_CLIENT_KEY",
    PASSWORD_VARIABLE,
];

/// Adds contradictions to the errors. Returns warnings for settings without effect.
pub(super) fn check(
    given: &RawSettings,
    settings: &Settings,
    errors: &mut Vec<SettingError>,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    listeners(given, settings, errors);
    etcd(given, settings, errors, &mut warnings);
    state(given, settings, errors, &mut warnings);
    let mut no_effect = |name: &str, why| {
        warnings.extend(given.origin(name).map(|origin| Warning::NoEffect { origin, why }));
    };
    let feeds = || settings.collections.iter().map(|collection| &collection.feed);
    if settings.feeds().strict && settings.collections.len() == 1 {
        let why = feeds().find_map(|feed| feed.kind().strict_has_no_effect);
        why.into_iter().for_each(|why| no_effect("strict", why));
    }
    if feeds().any(FeedSpec::takes_writes) {
        if settings.cache.max_value_bytes > settings.max_body_bytes {
            let origin = given.origin("max-value-bytes").or_else(|| given.origin("max-body-bytes"));
            warnings.extend(origin.map(|origin| Warning::ValueOverBody { origin }));
        }
    } else if !settings.collections.is_empty() {
        let why = "no feed here is written over HTTP";
        for name in ["max-body-bytes", "max-upload-bytes", "max-client-upload-bytes"] {
            warnings.extend(given.origin(name).map(|origin| Warning::NoEffect { origin, why }));
        }
    }
    warnings
}

/// Each listener needs an address of its own.
fn listeners(given: &RawSettings, settings: &Settings, errors: &mut Vec<SettingError>) {
    let mut taken: Vec<(&str, ListenAddress)> = Vec::new();
    for (flag, address) in settings.addresses() {
        if let Some((other_flag, at)) = taken.iter().find(|(_, at)| is_same(at, &address)) {
            // The default address has no origin.
            let origin = given.origin(flag).or_else(|| given.origin(other_flag));
            let other = format!("--{other_flag} {at}");
            errors.extend(origin.map(|origin| SettingError::SameAddress {
                origin,
                address: address.clone(),
                other,
            }));
        }
        taken.push((flag, address));
    }
}

/// Whether the system refuses the second of two listeners at these addresses. Port 0 is any free one.
fn is_same(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => {
            let (ip, other_ip) = (one.ip(), other.ip());
            // `[::]` is every address of IPv4, too.
            let covers =
                |every: IpAddr, ip: IpAddr| every.is_unspecified() && (every.is_ipv6() || ip.is_ipv4());
            let is_every = covers(ip, other_ip) || covers(other_ip, ip);
            one.port() != 0 && one.port() == other.port() && (ip == other_ip || is_every)
        }
        (ListenAddress::Unix { path, .. }, ListenAddress::Unix { path: other, .. }) => path == other,
        // `systemd:` takes all sockets.
        (ListenAddress::Systemd(one), ListenAddress::Systemd(other)) => {
            one.is_none() || other.is_none() || one == other
        }
        _ => false,
    }
}

fn etcd(
    given: &RawSettings,
    settings: &Settings,
    errors: &mut Vec<SettingError>,
    warnings: &mut Vec<Warning>,
) {
    let given = |name: &str| given.origin(name);
    let flags = ["etcd-ca", "etcd-cert", "etcd-key", "etcd-user", "etcd-password-file"];
    let mut needs = |origin, needs, why| errors.push(SettingError::Needs { origin, needs, why });
    match (given("etcd-cert"), given("etcd-key")) {
        (Some(origin), None) => needs(origin, "etcd-key", "the certificate's private key"),
        (None, Some(origin)) => needs(origin, "etcd-cert", "the certificate that it belongs to"),
        _ => {}
    }
    if let (Some(origin), None) = (given("etcd-password-file"), given("etcd-user")) {
        needs(origin, "etcd-user", "the user whose password it is");
    }
    if let (Some(origin), None) = (given("etcd-user"), given("etcd-password-file"))
        && std::env::var_os(PASSWORD_VARIABLE).is_none_or(|password| password.is_empty())
    {
        needs(
            origin,
            "etcd-password-file",
            "the password, unless it is in the variable CRUMBD_ETCD_PASSWORD",
        );
    }
    let mut etcd =
        settings.collections.iter().map(|collection| &collection.feed).filter(|feed| feed.is_etcd());
    if settings.collections.is_empty() {
        return;
    }
    match (etcd.next(), etcd.any(|feed| feed.scheme() == "etcds")) {
        (Some(first), false) if first.scheme() == "etcd" => {
            let why = "is for TLS only, and the feed is etcd://; with TLS it is etcds://";
            let origins = ["etcd-ca", "etcd-cert"].into_iter().filter_map(given);
            errors.extend(origins.map(|origin| SettingError::Conflict { origin, why }));
        }
        (Some(_), _) => {}
        (None, _) => {
            let why = "no feed is etcd:";
            warnings
                .extend(flags.into_iter().filter_map(given).map(|origin| Warning::NoEffect { origin, why }));
        }
    }
}

fn state(
    given: &RawSettings,
    settings: &Settings,
    errors: &mut Vec<SettingError>,
    warnings: &mut Vec<Warning>,
) {
    match (given.origin("state-dir"), given.origin("state-interval")) {
        (None, Some(origin)) => {
            warnings.push(Warning::NoEffect { origin, why: "without --state-dir no state is kept" });
        }
        (Some(origin), _)
            if !settings.collections.is_empty() && settings.collections.iter().all(is_volatile) =>
        {
            let why = "has no use with stdin: as the feed: the data of such a feed end with the process";
            errors.push(SettingError::Conflict { origin, why });
        }
        _ => {}
    }
}

/// Whether the data of a collection end with the process.
fn is_volatile(collection: &CollectionFeed) -> bool {
    collection.feed.kind().storage == Storage::None
}

/// Warnings for variables whose name is nearly that of a setting. Other unknown variables are ignored: an orchestrator
/// sets some of its own for a service that is called crumbd.
pub(super) fn unknown_variables() -> Vec<Warning> {
    let known: Vec<String> = names().iter().map(|name| variable(name)).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).chain(OTHER_VARIABLES).collect();
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let ours = set.filter(|name| name.starts_with("CRUMBD_") && !known.contains(&name.as_str()));
    ours.filter_map(|name| {
        let nearest = nearest(&name, known.iter().copied())?.to_owned();
        Some(Warning::Variable { name, nearest })
    })
    .collect()
}
