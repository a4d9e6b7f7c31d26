//! The scenes, one function each, one file for each idea.

mod bytes;
mod changes;
mod codings;
mod empty;
mod failures;
mod fatal;
mod gone;
mod histories;
mod links;
mod new_fields;
mod outages;
mod prefixes;
mod proof;
mod replicas;
mod silence;
mod snapshot;
mod statuses;
mod whole;

use super::scene::Scene;

/// All scenes, by file.
pub(super) const ALL: [&[Scene]; 18] = [
    snapshot::SCENES,
    changes::SCENES,
    whole::SCENES,
    proof::SCENES,
    links::SCENES,
    gone::SCENES,
    empty::SCENES,
    failures::SCENES,
    outages::SCENES,
    statuses::SCENES,
    fatal::SCENES,
    bytes::SCENES,
    codings::SCENES,
    prefixes::SCENES,
    new_fields::SCENES,
    silence::SCENES,
    replicas::SCENES,
    histories::SCENES,
];
