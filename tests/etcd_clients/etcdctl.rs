//! Debian's `etcdctl`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::replicas::{Replica, Replicas};
use crate::support::etcd::{Etcd, etcdctl};
use crate::support::eventually;
use crate::support::tls::Authority;
use crate::support::tokens::TokenFile;

/// `etcdctl` with the flags that it needs here.
#[derive(Clone)]
struct Ctl(Vec<String>);

impl Ctl {
    fn at(endpoints: &str) -> Ctl {
        Ctl(vec![endpoints.to_owned()])
    }

    fn with(mut self, flags: &[&str]) -> Ctl {
        self.0.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = etcdctl(&self.0[0]);
        command.args(&self.0[1..]).args(arguments).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let done = self.command(arguments).output();
        done.unwrap_or_else(|error| panic!("etcdctl ({error}) is not installed: apt-get install etcd-client"))
    }

    /// What it prints.
    fn prints(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert!(done.status.success(), "etcdctl {arguments:?}: {}", complaint(&done));
        String::from_utf8(done.stdout).unwrap()
    }

    /// What it complains of.
    fn fails(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert!(!done.status.success(), "etcdctl {arguments:?} succeeds");
        complaint(&done)
    }

    /// What it prints of a transaction.
    fn transaction(&self, text: &str) -> String {
        let mut child = self.command(&["txn"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{text}");
        String::from_utf8(done.stdout).unwrap()
    }

    /// The first lines that it prints of a watch, after which it is killed.
    fn watches(&self, arguments: &[&str], lines: usize) -> Vec<String> {
        let mut timeout = Command::new("timeout");
        let watch = self.command(&[&["watch"], arguments].concat());
        timeout.arg("60").arg(watch.get_program()).args(watch.get_args());
        timeout.envs(watch.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = timeout.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        let told: Vec<String> = told.take(lines).map(Result::unwrap).collect();
        // `timeout` passes the signal on.
        let kill = format!("kill {}", child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        child.wait().unwrap();
        assert_eq!(told.len(), lines, "{arguments:?}: {told:?}");
        told
    }
}

fn complaint(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// What it prints, without who has answered.
fn without_ids(text: &str) -> String {
    if let Ok(mut answer @ Value::Object(_)) = serde_json::from_str::<Value>(text) {
        let header = answer["header"].as_object_mut().unwrap();
        header.retain(|name, _| name == "revision");
        return answer.to_string();
    }
    let is_id =
        |line: &&str| ["\"ClusterID\"", "\"MemberID\"", "\"RaftTerm\""].iter().any(|id| line.starts_with(id));
    text.lines().filter(|line| !is_id(line)).map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_prints_of_crumbd_what_it_prints_of_etcd() {
    let etcd = Etcd::start().await;
    let replica = Replica::start(&etcd, &[]).await;
    let (theirs, ours) = (Ctl::at(&etcd.endpoint()), Ctl::at(&replica.address));
    for (key, value) in [("c/a", "1"), ("c/c", "2"), ("c/b", "x y"), ("d", "3"), ("c/a", "4")] {
        assert_eq!(ours.prints(&["put", key, value]), "OK\n");
    }
    let reads: &[&[&str]] = &[
        &["c/a"],
        &["absent"],
        &["c/a", "--print-value-only"],
        &["c/a", "-w", "json"],
        &["c/a", "-w", "fields"],
        &["c/a", "--hex"],
        &["c/a", "c/c"],
        &["c/a", "--consistency", "s"],
        &["--prefix", "c/"],
        &["--prefix", "c/", "--rev", "3", "-w", "json"],
        &["--prefix", "c/", "--sort-by", "MODIFY", "--order", "DESCEND"],
        &["--prefix", "c/", "--sort-by", "VALUE"],
        &["--prefix", "c/", "--limit", "2", "-w", "json"],
        &["--prefix", "c/", "--count-only", "-w", "fields"],
        &["--prefix", "c/", "--keys-only"],
        &["--from-key", "c/b"],
        &["--prefix", ""],
    ];
    // What etcdctl 3.4 has not.
    let flags = theirs.prints(&["get", "--help"]);
    let is_there = |read: &[&str]| !read.contains(&"--count-only") || flags.contains("--count-only");
    for read in reads.iter().filter(|read| is_there(read)) {
        let get = [&["get"], *read].concat();
        assert_eq!(
            without_ids(&ours.prints(&get)),
            without_ids(&theirs.prints(&get)),
            "crumbd, then etcd: {get:?}"
        );
    }
    let ahead = ["get", "c/a", "--rev", "1000"];
    assert!(ours.fails(&ahead).contains("required revision is a future revision"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_writes_and_watches() {
    let etcd = Etcd::start().await;
    let replicas = Replicas::start(&etcd).await;
    let ctl = Ctl::at(&replicas.endpoints());
    ctl.prints(&["put", "c/a", "1"]);
    assert_eq!(ctl.prints(&["put", "c/a", "2", "--prev-kv"]), "OK\nc/a\n1\n");
    ctl.prints(&["put", "c/b", "3"]);
    let txn = |value: &str| {
        format!("mod(\"c/a\") > \"0\"\nvalue(\"c/a\") = \"{value}\"\n\nput c/c 4\nget c/c\n\nget c/a\n\n")
    };
    assert_eq!(ctl.transaction(&txn("2")), "SUCCESS\n\nOK\n\nc/c\n4\n");
    assert_eq!(ctl.transaction(&txn("1")), "FAILURE\n\nc/a\n2\n");
    assert_eq!(ctl.prints(&["del", "c/a", "--prev-kv"]), "1\nc/a\n2\n");
    assert_eq!(ctl.prints(&["del", "c/a"]), "0\n");
    assert_eq!(ctl.prints(&["del", "--prefix", "c/"]), "2\n");
    assert_eq!(ctl.prints(&["lock", "name", "echo", "locked"]), "locked\n");

    let told = ctl.watches(&["--rev", "2", "--prefix", "--prev-kv", "c/"], 29);
    let events = [
        "PUT,c/a,1",
        "PUT,c/a,1,c/a,2",
        "PUT,c/b,3",
        "PUT,c/c,4",
        "DELETE,c/a,2,c/a,",
        "DELETE,c/b,3,c/b,",
        "DELETE,c/c,4,c/c,",
    ];
    assert_eq!(told.join(","), events.join(","), "{told:?}");
    ctl.prints(&["put", "c/d", "5"]);
    assert_eq!(ctl.watches(&["--rev", "3", "c/a"], 6).join(","), "PUT,c/a,2,DELETE,c/a,");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_mirror_follows() {
    let (etcd, other) = (Etcd::start().await, Etcd::start().await);
    let replicas = Replicas::start(&etcd).await;
    let (source, destination) = (Ctl::at(&etcd.endpoint()), Ctl::at(&other.endpoint()));
    source.prints(&["put", "c/a", "1"]);
    source.prints(&["put", "c/b", "2"]);
    let mirror =
        Ctl::at(&replicas.endpoints()).command(&["make-mirror", "--prefix", "c/", &other.endpoint()]);
    let mut mirror = tokio::process::Command::from(mirror);
    let _mirror = mirror.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    for write in [&["put", "c/c", "3"][..], &["put", "c/a", "4"], &["del", "c/b"]] {
        let wanted = source.prints(&["get", "--prefix", "c/"]);
        let is_there = || async { (destination.prints(&["get", "--prefix", "c/"]) == wanted).then_some(()) };
        eventually("the same keys", is_there).await;
        source.prints(write);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_has_leases_and_sees_the_cluster() {
    let etcd = Etcd::start().await;
    let replicas = Replicas::start(&etcd).await;
    let both = replicas.endpoints();
    let ctl = Ctl::at(&both);
    let granted = ctl.prints(&["lease", "grant", "60"]);
    let lease = granted.split(' ').nth(1).unwrap();
    assert_eq!(granted, format!("lease {lease} granted with TTL(60s)\n"));
    ctl.prints(&["put", "leased", "1", "--lease", lease]);
    assert_eq!(
        ctl.prints(&["lease", "keep-alive", "--once", lease]),
        format!("lease {lease} keepalived with TTL(60)\n")
    );
    let left = ctl.prints(&["lease", "timetolive", lease, "--keys"]);
    assert!(left.starts_with(&format!("lease {lease} granted with TTL(60s), remaining(")), "{left}");
    assert!(left.contains("attached keys([leased])"), "{left}");
    assert_eq!(ctl.prints(&["lease", "list"]), format!("found 1 leases\n{lease}\n"));
    assert_eq!(ctl.prints(&["lease", "revoke", lease]), format!("lease {lease} revoked\n"));
    assert_eq!(ctl.prints(&["get", "leased"]), "");

    let members = ctl.prints(&["member", "list"]);
    assert!(both.split(',').any(|address| members.contains(&format!("http://{address}"))), "{members}");
    let health: Value = serde_json::from_str(&ctl.prints(&["endpoint", "health", "-w", "json"])).unwrap();
    let health = health.as_array().unwrap();
    assert_eq!(health.iter().filter(|one| one["health"] == true).count(), 2, "{health:?}");
    let status: Value = serde_json::from_str(&ctl.prints(&["endpoint", "status", "-w", "json"])).unwrap();
    let ids = |id: &str| [0, 1].map(|place| status[place]["Status"]["header"][id].as_u64().unwrap());
    let ([cluster, same_cluster], [member, other_member]) = (ids("cluster_id"), ids("member_id"));
    assert_eq!(cluster, same_cluster);
    assert_ne!(member, other_member);
    ctl.prints(&["put", "a", "1"]);
    // Both have the same, as soon as they are at the same revision.
    let hashes = eventually("the same hash", || async {
        let hashes: Value = serde_json::from_str(&ctl.prints(&["endpoint", "hashkv", "-w", "json"])).unwrap();
        let hash = |place: usize| hashes[place]["HashKV"]["hash"].as_u64();
        Some((hash(0)?, hash(1)?)).filter(|(one, other)| one == other)
    });
    hashes.await;
    assert_eq!(ctl.prints(&["alarm", "list"]), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_crumbd_does_not_do_is_refused_in_words() {
    let etcd = Etcd::start().await;
    let replica = Replica::start(&etcd, &[]).await;
    let ctl = Ctl::at(&replica.address);
    ctl.prints(&["put", "c/a", "1"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("snapshot");
    for refused in [
        &["snapshot", "save", file.to_str().unwrap()][..],
        &["compaction", "2"],
        &["defrag"],
        &["move-leader", "1"],
        &["user", "add", "name:password"],
        &["role", "add", "name"],
        &["auth", "enable"],
        &["member", "add", "name", "--peer-urls", "http://127.0.0.1:1"],
        &["endpoint", "hashkv", "--rev", "1"],
    ] {
        let complaint = ctl.fails(refused);
        assert!(complaint.contains("is not served here"), "{refused:?}: {complaint}");
    }
    assert_eq!(ctl.prints(&["get", "c/a"]), "c/a\n1\n");

    // Without `?write=true`.
    let reader = Replica::unasked(&etcd.feed(""), &[]);
    let ctl = Ctl::at(&reader.address);
    eventually("a read", || async { ctl.run(&["get", "c/a"]).status.success().then_some(()) }).await;
    for write in [&["put", "c/a", "2"][..], &["del", "c/a"], &["lease", "grant", "9"], &["lease", "list"]] {
        let complaint = ctl.fails(write);
        assert!(complaint.contains("crumbd"), "{write:?}: {complaint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn its_password_is_a_token_and_it_speaks_tls() {
    let etcd = Etcd::start().await;
    let authority = Authority::new("authority");
    let mut tokens = TokenFile::new();
    let token = tokens.add(&["app/"], &["app/"]).text;
    tokens.save();
    let server = authority.server();
    let args = [&server.served()[..], &["--tokens", tokens.path()]].concat();
    let replica = Replica::unasked(&etcd.feed("?write=true"), &args);
    let ctl = Ctl::at(&format!("https://{}", replica.address)).with(&["--cacert", &authority.ca]);
    let user = ctl.clone().with(&["--user", &format!("name:{token}")]);
    eventually("a write", || async { user.run(&["put", "app/a", "1"]).status.success().then_some(()) }).await;
    assert_eq!(user.prints(&["get", "--prefix", "app/"]), "app/a\n1\n");
    assert_eq!(user.watches(&["--rev", "1", "--prefix", "app/"], 3).join(","), "PUT,app/a,1");
    for denied in
        [&["get", "other"][..], &["put", "other", "1"], &["get", "--prefix", ""], &["del", "--prefix", "ap"]]
    {
        let complaint = user.fails(denied);
        assert!(complaint.contains("permission denied"), "{denied:?}: {complaint}");
    }
    let complaint = ctl.fails(&["get", "app/a"]);
    assert!(complaint.contains("user name is empty"), "{complaint}");
    let wrong = ctl.with(&["--user", "name:wrong"]).fails(&["get", "app/a"]);
    assert!(wrong.contains("invalid user ID or password"), "{wrong}");
    let without_tls =
        Ctl::at(&replica.address).with(&["--dial-timeout", "300ms", "--command-timeout", "300ms"]);
    without_tls.fails(&["get", "app/a"]);
}
