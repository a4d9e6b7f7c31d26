//! An etcd with users and passwords, which expires tokens, refuses logins and changes rights.

use crate::support::daemon::Daemon;
use crate::support::etcd::{Etcd, Net, Proxy};
use crate::support::eventually;
use crate::support::followed::{fill, follow, is, mirror, status, told};

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
    // The write may have come by a watch that was still there.
    let connected = || daemon.log().lines().filter(|line| line.contains("connected to etcd")).count();
    eventually("it to log in again", || async { (connected() > 1).then_some(()) }).await;
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

/// Does what shuts the daemon out, waits until it complains so, undoes it, and waits until the daemon has what was written
/// meanwhile. All the time it serves, it says that it may be old and how old, and no cursor is lost.
async fn shut_out(etcd: &Etcd, daemon: &Daemon, out: impl AsyncFnOnce(), complaint: &str, again: &[&[&str]]) {
    let http = daemon.http();
    let mut mirror = mirror(&http).await;
    let before = mirror.cursor.clone();
    out().await;
    told(&mut mirror, "resync-in-progress").await;
    eventually("the age to grow", || async {
        (status(&http).await["age_seconds"].as_f64()? > 1.5).then_some(())
    })
    .await;
    daemon.logged(complaint, |line| (line.contains("WARN") && line.contains(complaint)).then_some(()));
    assert_eq!(status(&http).await["status"], "resync-in-progress");
    assert_eq!(&*http.get("/v1/kv/app%2F00007").await.ok(200).body, b"guarded 7");
    assert_eq!(http.get("/readyz").await.ok(200).body, b"ready (stale)\n");
    let key = format!("app/{complaint}");
    etcd.ctl(&[&ROOT[..], &["put", &key, "while shut out"]].concat());
    again.iter().for_each(|command| drop(etcd.ctl(command)));
    mirror.follow_until("what was written", |mirror| mirror.state.contains_key(key.as_bytes())).await;
    told(&mut mirror, "in-sync").await;
    eventually("the age to be small again", || async {
        (status(&http).await["age_seconds"].as_f64()? < 1.5).then_some(())
    })
    .await;
    assert_eq!(mirror.seen.snapshots, 1);
    let next = http.get(&format!("/v1/breadcrumbs/{before}/next?wait=0")).await.ok(200).standing();
    assert_eq!(next.cursor(), mirror.cursor, "a cursor from before goes on");
}

const ROOT: [&str; 2] = ["--user", "root:admin"];

#[tokio::test]
async fn a_permission_that_is_revoked_and_granted_again_costs_no_cursor() {
    let etcd = guarded(&[]).await;
    let daemon = reader(&etcd.feed("app/"), "correct horse");
    let revoke = [&ROOT[..], &["role", "revoke-permission", "app", "--prefix=true", "app/"]].concat();
    let grant = [&ROOT[..], &["role", "grant-permission", "app", "--prefix=true", "read", "app/"]].concat();
    shut_out(&etcd, &daemon, async || drop(etcd.ctl(&revoke)), "permission denied", &[&grant]).await;
}

#[tokio::test]
async fn a_user_that_is_removed_and_added_again_costs_no_cursor() {
    let etcd = guarded(&[]).await;
    let daemon = reader(&etcd.feed("app/"), "correct horse");
    let remove = [&ROOT[..], &["user", "delete", "reader"]].concat();
    let add = [&ROOT[..], &["user", "add", "reader:correct horse"]].concat();
    let grant = [&ROOT[..], &["user", "grant-role", "reader", "app"]].concat();
    shut_out(&etcd, &daemon, async || drop(etcd.ctl(&remove)), "authentication failed", &[&add, &grant])
        .await;
}

#[tokio::test]
async fn a_password_that_is_changed_in_etcd_and_in_its_file_costs_no_restart_and_no_cursor() {
    let mut etcd = guarded(&[]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "correct horse").unwrap();
    let path = file.path().to_str().unwrap();
    let feed = etcd.feed("app/");
    let daemon = Daemon::serve(&["--feed", &feed, "--etcd-user", "reader", "--etcd-password-file", path]);
    let remove = [&ROOT[..], &["user", "delete", "reader"]].concat();
    let add = [&ROOT[..], &["user", "add", "reader:battery staple"]].concat();
    let grant = [&ROOT[..], &["user", "grant-role", "reader", "app"]].concat();
    let out = async || {
        etcd.ctl(&remove);
        std::fs::write(path, "battery staple\n").unwrap();
    };
    shut_out(&etcd, &daemon, out, "authentication failed", &[&add, &grant]).await;
    assert!(!daemon.log().contains("battery staple"), "{}", daemon.log());
    // Without the file it goes on with what was in it. A restarted etcd wants a login again.
    drop(file);
    etcd.kill();
    etcd.restart().await;
    daemon.logged("that the file is gone", |line| line.contains("using the password").then_some(()));
    etcd.ctl(&[&ROOT[..], &["put", "app/late", "1"]].concat());
    eventually("what was written", || async {
        (daemon.http().get("/v1/kv/app%2Flate").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_etcd_that_wants_a_user_for_a_while_costs_no_cursor() {
    let etcd = guarded(&[]).await;
    let disable = [&ROOT[..], &["auth", "disable"]].concat();
    etcd.ctl(&disable);
    let daemon = follow(&etcd.feed("app/"));
    shut_out(&etcd, &daemon, async || drop(etcd.ctl(&["auth", "enable"])), "user name is empty", &[&disable])
        .await;
}

/// One that may read some keys only is answered when it asks how the store is, and yet hears of no change.
#[tokio::test]
async fn a_watch_that_is_refused_is_not_taken_for_one_that_is_quiet() {
    let etcd = guarded(&[]).await;
    // The daemon recognises the store by the key that was set last: that one it may read all the time.
    etcd.ctl(&[&ROOT[..], &["put", "app/00000", "set last"]].concat());
    let net = Proxy::before(etcd.endpoint()).await;
    let daemon = reader(&net.feed("app/"), "correct horse");
    is(&daemon.http(), "in-sync").await;
    let revoke = [&ROOT[..], &["role", "revoke-permission", "app", "--prefix=true", "app/"]].concat();
    let some = [&ROOT[..], &["role", "grant-permission", "app", "read", "app/", "app/00005"]].concat();
    let grant = [&ROOT[..], &["role", "grant-permission", "app", "--prefix=true", "read", "app/"]].concat();
    let out = async || {
        etcd.ctl(&revoke);
        etcd.ctl(&some);
        let reconnects = status(&daemon.http()).await["ingest"]["reconnects"].clone();
        net.set(Net::Cut);
        eventually("the daemon to notice", || async {
            (status(&daemon.http()).await["ingest"]["reconnects"] != reconnects).then_some(())
        })
        .await;
        net.set(Net::Open);
    };
    shut_out(&etcd, &daemon, out, "permission denied", &[&grant]).await;
}
