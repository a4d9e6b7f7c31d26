//! Links with more in them than a cursor.

use super::super::scene::{Scene, scene};
use super::super::stage::{Broken, Given, Stage};

pub(super) const SCENES: &[Scene] = &[
    scene!("base-path", Link, BOTH, base_path, "The daemon is served under a path, which its links have."),
    scene!("rights-in-link", Link, BOTH, rights_in_link, "The links name the rights of the client."),
    scene!(
        "cursors-of-another-shape",
        Link,
        BOTH,
        another_shape,
        "Cursors are texts of 200 characters, as none is today."
    ),
    scene!(
        "rights-changed",
        Gone,
        BOTH,
        rights_changed,
        "The rights change: the client may read fewer keys, then all again."
    ),
    scene!("token", Fatal, BOTH, token, "Every request needs the token."),
];

async fn base_path(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.base = "/base/of%20it".to_owned());
    stage.follows(Given::default()).await?;
    changes(stage).await
}

async fn rights_in_link(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().change_rights("r1.a~b", b"");
    stage.follows(Given::default()).await?;
    changes(stage).await
}

async fn another_shape(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.shaped = true);
    stage.follows(Given::default()).await?;
    changes(stage).await?;
    stage.daemon().world(|world| {
        world.change(&[("a", None), ("e", Some("5"))]);
        world.forget_old();
    });
    stage.reaches().await?;
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("e", Some("6"))]));
    stage.reaches().await
}

async fn token(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().set(|settings| settings.token = Some("a-token.of~conform/42+=".to_owned()));
    stage.follows(Given { token: Some("a-token.of~conform/42+="), ..Given::default() }).await?;
    changes(stage).await
}

/// Some changes, with a new stream in between.
async fn changes(stage: &mut Stage) -> Result<(), Broken> {
    for value in ["2", "3"] {
        stage.daemon().world(|world| world.change(&[("a", Some(value))]));
        stage.reaches().await?;
        stage.waits().await?;
        stage.daemon().end_streams(None);
    }
    stage.waits().await?;
    stage.daemon().world(|world| world.change(&[("a", Some("4"))]));
    stage.reaches().await?;
    stage.read_the_state(1)
}

async fn rights_changed(stage: &mut Stage) -> Result<(), Broken> {
    stage.daemon().change_rights("all", b"");
    stage.daemon().world(|world| world.change(&[("public/x", Some("1")), ("public/y", Some("2"))]));
    stage.follows(Given::default()).await?;
    for (name, readable) in [("public", &b"public/"[..]), ("all again", b"")] {
        stage.reads_only(readable);
        let requests = stage.requests().len();
        stage.daemon().change_rights(name, readable);
        stage.daemon().world(|world| world.change(&[("public/x", Some(name))]));
        stage
            .until("a request after the rights have changed", |stage| stage.requests().len() > requests)
            .await?;
        let count =
            stage.daemon().newest().state.keys().filter(|key| key.as_bytes().starts_with(readable)).count();
        let what = format!("the client shows the {count} keys that it may read now");
        stage.until(&what, |stage| stage.shown().len() == count).await?;
        stage.reaches().await?;
        stage.waits().await?;
    }
    Ok(())
}
