//! `crumbd conform`: a client that keeps the rules passes every scene, and each planted bug breaks the scene for it.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use support::daemon::{command, run};
use support::tools;

const CLIENT: &str = "tests/conform/client.py";

/// A bug of the client, the scene that it breaks (of long polls, where it does not say `(stream)`), and the rule of that
/// scene.
const BUGS: [(&str, &str, &str); 39] = [
    ("applies-cut-bodies", "cut-off-before-end", "whole"),
    ("cursor-before-data", "cut-off-half", "whole"),
    ("ignores-digest", "digest-wrong-value", "proof"),
    ("ignores-digest", "count-wrong", "proof"),
    ("reads-state-after-failure", "restart", "resume"),
    ("builds-links", "rights-in-link", "link"),
    ("ignores-204", "prefix-moved", "move"),
    ("forgets-old-state", "cursor-gone", "gone"),
    ("ends-when-rights-change", "permission-changed", "gone"),
    ("deletes-unsettled", "settle", "settle"),
    ("deletes-on-empty", "empty-held", "empty"),
    ("ignores-retry-after", "retry-after-503", "later"),
    ("hot-loop", "outage-of-the-proxy", "pace"),
    ("regular-pauses", "outage-pace", "pace"),
    ("retries-fatal", "401", "fatal"),
    ("skips-key-base64", "keys-of-any-bytes", "bytes"),
    ("ignores-coding", "gzip", "coding"),
    ("drops-prefix", "prefix-odd-bytes", "prefix"),
    ("refuses-unknown", "new-fields", "new-fields"),
    ("waits-for-ever", "silence", "silence"),
    ("reads-state-when-behind", "replica-behind", "ahead"),
    ("compares-revisions", "another-history", "lower"),
    ("polls-without-waiting", "snapshot", "pace"),
    ("asks-at-once-again", "answer-moves-nothing", "pace"),
    ("asks-at-once-again", "answer-of-a-cache", "pace"),
    ("connects-anew", "connection-kept", "connection"),
    ("polls-always", "snapshot (stream)", "resume"),
    ("holds-what-is-forbidden", "rights-narrowed-to-nothing", "empty"),
    ("holds-what-is-forbidden", "rights-narrowed-to-nothing (stream)", "empty"),
    ("holds-what-is-forbidden", "rights-narrowed-not-in-sync", "empty"),
    ("takes-cursors-apart", "cursors-of-another-shape", "link"),
    ("follows-redirects", "redirects", "status"),
    ("ends-at-any-4xx", "other-statuses", "status"),
    ("applies-any-2xx", "other-statuses", "status"),
    ("takes-hints-for-answers", "early-hints", "status"),
    ("ignores-dates", "retry-after-date", "later"),
    ("chokes-on-retry-after", "retry-after-odd", "later"),
    ("ignores-media-type", "another-media-type", "whole"),
    ("deletes-unsettled", "rights-narrowed-not-in-sync", "empty"),
];

/// Runs the suite against the client.
fn conform(options: &[&str], client: &[&str]) -> Output {
    let python = tools::python("xxhash");
    let mut command = command();
    command.arg("conform").args(options).arg("--").arg(python.get_program()).arg(CLIENT).args(client);
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_client_that_keeps_the_rules_passes_every_scene() {
    let runs: [(&[&str], &[&str]); 3] = [
        (&["--jobs", "8"], &[]),
        (&["--jobs", "4", "--transport", "stream"], &["--events"]),
        (
            &[
                "--tls",
                "--scene",
                "snapshot",
                "--scene",
                "cut-off-half",
                "--scene",
                "failover",
                "--scene",
                "token",
            ],
            &[],
        ),
    ];
    for (options, client) in runs {
        let output = conform(options, client);
        assert!(output.status.success(), "{options:?}:\n{}", text(&output));
        assert!(text(&output).trim_end().ends_with(" ok, 0 broken"), "{}", text(&output));
    }
}

#[test]
fn each_planted_bug_breaks_the_scene_for_its_rule() {
    let one = |(bug, scene, rule): (&'static str, &'static str, &'static str)| {
        let (scene, transport) = match scene.strip_suffix(" (stream)") {
            Some(scene) => (scene, "stream"),
            None => (scene, "poll"),
        };
        let output = conform(&["--transport", transport, "--scene", scene], &["--bug", bug]);
        let text = text(&output);
        let is_found = output.status.code() == Some(1)
            && text.lines().any(|line| line.starts_with("BROKEN") && line.contains(scene))
            && text.lines().any(|line| line == format!("broken rules: {rule}"));
        (!is_found).then(|| format!("{bug} does not break {scene} ({rule}):\n{text}"))
    };
    // All at once would make the machine busy, and some scenes last long.
    let next = AtomicUsize::new(0);
    let work = || {
        let bugs = std::iter::from_fn(|| BUGS.get(next.fetch_add(1, Ordering::Relaxed)));
        bugs.filter_map(|bug| one(*bug)).collect::<Vec<_>>()
    };
    let unseen: Vec<_> = thread::scope(|threads| {
        let started: Vec<_> = (0..10).map(|_| threads.spawn(work)).collect();
        started.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(unseen.is_empty(), "{}", unseen.join("\n"));
}

#[test]
fn a_program_that_breaks_the_line_protocol_is_told_so() {
    let script = |text: &str| {
        let mut command = command();
        command.args(["conform", "--transport", "poll", "--scene", "snapshot", "--", "sh", "-c", text]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        self::text(&output)
    };
    let said = script("echo hello; cat");
    assert!(said.contains("lines with one JSON object each") && said.contains("hello"), "{said}");
    let said = script("echo because >&2; exit 3");
    assert!(said.contains("a program that follows for ever") && said.contains("because"), "{said}");
    let said = script("printf '\\377\\376\\n'; cat");
    assert!(said.contains("is not UTF-8") && said.contains(r"\xff\xfe"), "{said}");
    let said = script("echo '{\"fatal\":\"tired\"}'; exit 1");
    assert!(said.contains("the end: {\"fatal\":\"tired\"}"), "{said}");
    let said = script("echo '{}'; cat");
    assert!(said.contains("none of these members"), "{said}");
    let said = script("printf 1234 >&2; head -c 100000 /dev/zero | tr '\\0' e >&2; echo x");
    assert!(said.contains("1234eee") && said.contains("a line of more than 4 KiB"), "{said}");
    let said = script("printf '{\"cursor\":'; exec 1>&-; cat");
    assert!(said.contains("{\"cursor\": (without a line break)"), "{said}");
}

#[test]
fn a_suite_that_cannot_be_played_says_so_before_any_scene() {
    let refused = |args: &[&str]| {
        let output = run(&[&["conform"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(output.stdout.is_empty(), "{}", text(&output));
        text(&output)
    };
    let said = refused(&["--", "/no/such/program"]);
    assert!(said.contains("the program \"/no/such/program\" cannot be started: No such file"), "{said}");
    let said = refused(&["--", "no-such-program-of-any-path"]);
    assert!(said.contains("no directory of PATH"), "{said}");
    let said = refused(&["--", "src/docs/clients.md"]);
    assert!(said.contains("Permission denied"), "{said}");
    let said = refused(&["--scene", "nonsense", "--", "true"]);
    assert!(said.contains("there is no scene \"nonsense\""), "{said}");
    let said =
        refused(&["--transport", "poll", "--scene", "snapshot", "--scene", "heartbeats", "--", "true"]);
    assert!(said.contains("the scene heartbeats is not played for poll"), "{said}");
}

#[test]
fn a_signal_ends_the_programs_and_what_they_started_too() {
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let directory = tempfile::tempdir().unwrap();
        let (started, held) = (directory.path().join("started"), directory.path().join("started.held"));
        for fifo in [&started, &held] {
            assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
        }
        // A program that ignores signals, and a process of it that holds a fifo open.
        let script =
            "trap '' INT TERM HUP; (exec 3<> \"$0.held\"; echo two > \"$0\"; exec sleep 600 2>&-) & wait";
        let mut command = command();
        command.args(["conform", "--transport", "poll", "--scene", "snapshot", "--", "sh", "-c", script]);
        let mut suite = command.arg(&started).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        assert_eq!(fs::read_to_string(&started).unwrap(), "two\n");
        let id = suite.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
        assert_eq!(suite.wait().unwrap().code(), Some(code));
        // Without a wait a fifo can be opened for writing only while somebody has it open for reading.
        let is_held = || rustix::fs::open(&held, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).is_ok();
        let end = Instant::now() + Duration::from_secs(20);
        while is_held() {
            assert!(Instant::now() < end, "a process of the program is still there after SIG{name}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn the_json_report_says_the_same() {
    let output = conform(&["--json", "--scene", "snapshot", "--transport", "poll"], &[]);
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!((&lines[0]["scene"], &lines[0]["ok"]), (&"snapshot".into(), &true.into()));
    assert_eq!(lines[1], serde_json::json!({ "ok": 1, "broken": 0, "broken_rules": [] }));
}

#[test]
fn the_page_for_clients_lists_every_scene_under_a_rule_that_it_has() {
    let listed = String::from_utf8(run(&["conform", "--list"]).stdout).unwrap();
    let listed: Vec<String> = listed
        .lines()
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            let (rule, rest) = rest.trim_start().split_once(' ').unwrap();
            let (transports, sentence) = rest.trim_start().split_once(' ').unwrap();
            format!("| `{name}` | `{rule}` | {} | {} |", transports.replace(',', ", "), sentence.trim())
        })
        .collect();
    let page = fs::read_to_string("src/docs/clients.md").unwrap();
    let scenes = page.split("## The scenes").nth(1).unwrap();
    let rows: Vec<_> = scenes.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows, listed, "the table is:\n{}", listed.join("\n"));
    let rules = page.split("## The rules").nth(1).unwrap().split("## ").next().unwrap();
    let rules: Vec<_> =
        rules.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(rules.len(), 20, "{rules:?}");
    for rule in &rules {
        assert!(listed.iter().any(|row| row.contains(&format!("| `{rule}` |"))), "no scene is for {rule}");
        assert!(BUGS.iter().any(|(_, _, broken)| broken == rule), "no planted bug is for {rule}");
    }
}

#[test]
fn the_certificates_of_the_suite_are_good_until_2120() {
    for name in ["authority", "localhost"] {
        let path = format!("src/conform/daemon/certificates/{name}.pem");
        let der = CertificateDer::from_pem_file(path).unwrap();
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
        let january_2120 = 4_733_510_400;
        assert!(certificate.validity().not_after.timestamp() > january_2120, "{name}");
    }
}
