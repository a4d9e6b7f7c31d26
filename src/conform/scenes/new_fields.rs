//! What later versions of the contract may add.

use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};
use crate::model::SyncStatus;

pub(super) const SCENES: &[Scene] = &[scene!(
    "new-fields",
    NewFields,
    BOTH,
    new_fields,
    "Records have fields, bodies have record types, and answers have headers that no client knows."
)];

async fn new_fields(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.unknown = true);
    stage.follows(Given::default()).await?;
    for value in ["2", "3"] {
        stage
            .daemon()
            .world(|world| world.change(&[("a", Some(value)), ("b", None), ("e", Some("{\"x\":1}"))]));
        stage.reaches().await?;
    }
    stage.daemon().world(|world| world.set_status(SyncStatus::ResyncInProgress));
    stage.reaches().await?;
    stage.daemon().world(|world| {
        world.change(&[("f", Some("6"))]);
        world.set_status(SyncStatus::InSync);
    });
    stage.reaches().await?;
    stage.read_the_state(1)
}
