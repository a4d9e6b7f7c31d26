//! An etcd that wants a name and a password, and that forgets, refuses and changes its mind.

use crate::support::daemon::Daemon;
use crate::support::etcd::Etcd;
use crate::support::eventually;
use crate::support::followed::{fill, mirror, status, told};

/// An etcd that wants a name and a password. `reader` may read `app/` and nothing else.
async fn guarded(more: &[&str]) -> Etcd {
    let etcd = Etcd::start_with(more).await;
    fill(&etcd.keys(), 0, 10, "guarded").await;
    etcd.keys().put(b"secret/key", b"not for readers").await;
    etcd.ctl(&["user", "add", "root:admin"]);
    etcd.ctl(&["role", "add", "root"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["user", "add", "reader:correct horse"]);
    etcd.ctl(&["role", "add", "app"]);
    etcd.ctl(&["role", "grant-permission", "app", "--prefix=true", "read", "app/"]);
    etcd.ctl(&["user", "grant-role", "reader", "app"]);
    etcd.ctl(&["auth", "enable"]);
    etcd
}

/// A daemon that logs in as `reader`.
fn reader(feed: &str, password: &str) -> Daemon {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), password).unwrap();
    let path = file.path().to_str().unwrap();
    // It is read before the daemon listens, so it may go then.
    Daemon::serve(&["--feed", feed, "--etcd-user", "reader", "--etcd-password-file", path])
}

#[tokio::test]
async fn a_user_with_a_password_from_a_file_reads_what_it_may_and_logs_in_again_by_itself() {
    let mut etcd = guarded(&[]).await;
    // With the line end that most editors write.
    let daemon = reader(&etcd.feed("app/"), "correct horse\n");
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    assert_eq!(mirror.state.len(), 10);
    // A restarted etcd knows no token that it gave out before.
    etcd.kill();
    told(&mut mirror, "resync-in-progress").await;
    etcd.restart().await;
    etcd.ctl(&["--user", "root:admin", "put", "app/late", "1"]);
    mirror.follow_until("what was written after the restart", |mirror| mirror.state.len() == 11).await;
    told(&mut mirror, "in-sync").await;
    assert_eq!(mirror.seen.snapshots, 1);
    let command = std::fs::read(format!("/proc/{}/cmdline", daemon.pid())).unwrap();
    for (place, text) in
        [("process list", String::from_utf8_lossy(&command).into_owned()), ("log", daemon.log())]
    {
        assert!(!text.contains("correct horse"), "the password is in the {place}: {text}");
    }
}

/// etcd forgets a token that was not used for a while (5 minutes; here 1 second).
#[tokio::test]
async fn a_token_that_has_expired_is_replaced_by_logging_in_again() {
    let etcd = guarded(&["--auth-token-ttl", "1"]).await;
    let daemon = reader(&etcd.feed("app/"), "correct horse");
    let mut mirror = mirror(&daemon.http()).await;
    // A daemon that did not get to run uses no token; how long etcd keeps it beyond its time is etcd's business.
    eventually("etcd to have forgotten the token", || async {
        daemon.pause();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        daemon.go_on();
        let used = status(&daemon.http()).await["ingest"]["reconnects"].clone();
        eventually("the token to be used", || async {
            let status = status(&daemon.http()).await;
            (status["age_seconds"].as_f64()? < 1.0 || status["ingest"]["reconnects"] != used).then_some(())
        })
        .await;
        daemon.log().contains("invalid auth token").then_some(())
    })
    .await;
    etcd.ctl(&["--user", "root:admin", "put", "app/late", "1"]);
    mirror.follow_until("what was written afterwards", |mirror| mirror.state.len() == 11).await;
    told(&mut mirror, "in-sync").await;
    assert_eq!(mirror.seen.snapshots, 1);
    assert!(daemon.log().lines().filter(|line| line.contains("connected to etcd")).count() > 1);
}

#[tokio::test]
async fn a_wrong_password_is_told_in_the_log_and_tried_again_and_a_forbidden_prefix_is_not_served() {
    let etcd = guarded(&[]).await;
    for (password, prefix, complaint) in
        [("wrong horse", "app/", "authentication failed"), ("correct horse", "secret/", "permission denied")]
    {
        let daemon = reader(&etcd.feed(prefix), password);
        daemon.logged(complaint, |line| line.contains(complaint).then_some(()));
        daemon.http().get("/livez").await.ok(200);
        daemon.http().get("/readyz").await.problem(503);
        assert!(!daemon.log().contains(password), "{}", daemon.log());
    }
}
