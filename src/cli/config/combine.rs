//! Settings that need each other, contradict each other, or have no effect.
//!
//! What can only be a mistake is a fault. What a file or an environment that several daemons share may well say, and has no
//! effect on this one, is a remark.

use super::fault::{Fault, Remark};
use super::given::{Given, names, variable};
use super::nearest::nearest;
use super::settings::{PASSWORD, Settings};
use crate::feed::FeedSpec;

/// Variables of other commands, and those that are no flags.
const OTHER_VARIABLES: [&str; 8] = [
    "CRUMBD_CONFIG",
    "CRUMBD_URL",
    "CRUMBD_TOKEN",
    "CRUMBD_TOKEN_FILE",
    "CRUMBD_CA_CERT",
    "CRUMBD_CLIENT_CERT",
    "CRUMBD_CLIENT_KEY",
    PASSWORD,
];

/// Adds what contradicts itself to the faults, and returns what has no effect.
pub(super) fn check(given: &Given, settings: &Settings, faults: &mut Vec<Fault>) -> Vec<Remark> {
    let mut remarks = Vec::new();
    etcd(given, settings, faults, &mut remarks);
    state(given, settings, faults, &mut remarks);
    let mut no_effect = |name: &str, why| {
        remarks.extend(given.place(name).map(|place| Remark::NoEffect { place, why }));
    };
    match &settings.feed {
        Some(FeedSpec::Push) => {
            if settings.strict {
                no_effect(
                    "strict",
                    "a push: feed has no records that cannot be read; it answers them with 400",
                );
            }
            if settings.cache.max_value_bytes > settings.max_body_bytes {
                let place = given.place("max-value-bytes").or_else(|| given.place("max-body-bytes"));
                remarks.extend(place.map(|place| Remark::ValueOverBody { place }));
            }
        }
        Some(FeedSpec::Etcd { .. }) if settings.strict => {
            no_effect("strict", "every value of etcd is a record that can be read");
        }
        _ => {}
    }
    if settings.feed.as_ref().is_some_and(|feed| *feed != FeedSpec::Push) {
        let why = "only a push: feed is written over HTTP";
        for name in ["max-body-bytes", "max-upload-bytes"] {
            remarks.extend(given.place(name).map(|place| Remark::NoEffect { place, why }));
        }
    }
    remarks
}

fn etcd(given: &Given, settings: &Settings, faults: &mut Vec<Fault>, remarks: &mut Vec<Remark>) {
    let given = |name: &str| given.place(name);
    let flags = ["etcd-ca", "etcd-cert", "etcd-key", "etcd-user", "etcd-password-file"];
    let mut needs = |place, needs, why| faults.push(Fault::Needs { place, needs, why });
    match (given("etcd-cert"), given("etcd-key")) {
        (Some(place), None) => needs(place, "etcd-key", "the certificate's private key"),
        (None, Some(place)) => needs(place, "etcd-cert", "the certificate that it belongs to"),
        _ => {}
    }
    if let (Some(place), None) = (given("etcd-password-file"), given("etcd-user")) {
        needs(place, "etcd-user", "the user whose password it is");
    }
    if let (Some(place), None) = (given("etcd-user"), given("etcd-password-file"))
        && std::env::var_os(PASSWORD).is_none_or(|password| password.is_empty())
    {
        needs(place, "etcd-password-file", "the password, unless it is in the variable CRUMBD_ETCD_PASSWORD");
    }
    match &settings.feed {
        Some(FeedSpec::Etcd { tls: false, .. }) => {
            let why = "is for TLS only, and the feed is etcd://; with TLS it is etcds://";
            let places = ["etcd-ca", "etcd-cert"].into_iter().filter_map(given);
            faults.extend(places.map(|place| Fault::Senseless { place, why }));
        }
        Some(FeedSpec::Etcd { .. }) | None => {}
        Some(_) => {
            let why = "the feed is not etcd:";
            remarks.extend(flags.into_iter().filter_map(given).map(|place| Remark::NoEffect { place, why }));
        }
    }
}

fn state(given: &Given, settings: &Settings, faults: &mut Vec<Fault>, remarks: &mut Vec<Remark>) {
    match (given.place("state-dir"), given.place("state-interval")) {
        (None, Some(place)) => {
            remarks.push(Remark::NoEffect { place, why: "without --state-dir no state is kept" });
        }
        (Some(place), _) if settings.feed == Some(FeedSpec::Stdin) => {
            let why = "has no use with stdin: as the feed: what that said is gone with the process";
            faults.push(Fault::Senseless { place, why });
        }
        _ => {}
    }
}

/// Variables that are nearly those of a setting. Others may belong to anybody: an orchestrator sets some of its own for
/// a service that is called crumbd.
pub(super) fn unknown_variables() -> Vec<Remark> {
    let known: Vec<String> = names().iter().map(|name| variable(name)).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).chain(OTHER_VARIABLES).collect();
    let set = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let ours = set.filter(|name| name.starts_with("CRUMBD_") && !known.contains(&name.as_str()));
    ours.filter_map(|name| {
        let nearest = nearest(&name, known.iter().copied())?.to_owned();
        Some(Remark::Variable { name, nearest })
    })
    .collect()
}
