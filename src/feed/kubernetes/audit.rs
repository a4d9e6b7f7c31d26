//! Has a watch delivered everything? The server is asked for the metadata of all objects.
//!
//! A watch does not say so itself: its bookmarks may come ahead of events, and the server's revision counts changes of
//! other types too. If no object was set after the watch's last event, and there are as many objects as the events
//! have left, nothing is missing.

use serde::Deserialize;

use super::client::Client;
use super::error::KubeError;
use super::list::{Listing, Pages};
use super::object::revision;
use super::resume_point::ResumePoint;
use crate::model::Revision;

/// The state of the server at a revision, as far as the events up to it must explain it.
#[derive(Debug)]
pub(super) struct Audit {
    /// The revision.
    at: Revision,
    /// The revision at which the object that was set last was set.
    pub(super) last_set: Revision,
    pub(super) objects: u64,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemMetadata {
    resource_version: String,
}

impl Audit {
    /// Asks the server.
    pub(super) async fn ask(client: &Client, listing: Listing) -> Result<Self, KubeError> {
        let listing = Listing { metadata_only: true, ..listing };
        let mut pages = Pages::begin(client, listing);
        let mut audit = Self { at: Revision::ZERO, last_set: Revision::ZERO, objects: 0 };
        while let Some(page) = pages.next().await? {
            let contents = page.contents()?;
            audit.at = contents.revision()?;
            for object in contents.objects() {
                let item: Item = serde_json::from_str(object).map_err(KubeError::Json)?;
                audit.last_set = audit.last_set.max(revision(&item.metadata.resource_version)?);
                audit.objects += 1;
            }
        }
        Ok(audit)
    }

    /// Whether everything up to the audit's revision has arrived.
    pub(super) fn is_passed_by(&self, at: &ResumePoint) -> bool {
        match at.objects {
            // A later event may have changed the number.
            _ if at.revision > self.at => true,
            Some(objects) => at.revision >= self.last_set && objects == self.objects,
            // A watch delivers in order: an event at a revision means that all before it have arrived.
            None => at.revision >= self.at,
        }
    }
}
