//! `crumbd conform`: a client that keeps the rules passes every scene, and each planted bug breaks the scene for it.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Output, Stdio};
use std::thread;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use support::daemon::{command, run};
use support::tools;

const CLIENT: &str = "tests/conform/client.py";

/// A bug of the client, the scene that it breaks, and the rule of that scene.
const BUGS: [(&str, &str, &str); 22] = [
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
        let output = conform(&["--transport", "poll", "--scene", scene], &["--bug", bug]);
        let text = text(&output);
        let is_found = output.status.code() == Some(1)
            && text.lines().any(|line| line.starts_with("BROKEN") && line.contains(scene))
            && text.lines().any(|line| line == format!("broken rules: {rule}"));
        (!is_found).then(|| format!("{bug} does not break {scene} ({rule}):\n{text}"))
    };
    let unseen: Vec<_> = thread::scope(|threads| {
        let started: Vec<_> = BUGS.map(|bug| threads.spawn(move || one(bug))).into();
        started.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
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
    let said = self::text(&run(&[
        "conform",
        "--scene",
        "snapshot",
        "--transport",
        "poll",
        "--",
        "/no/such/program",
    ]));
    assert!(said.contains("a program that can be started") && said.contains("/no/such/program"), "{said}");
    let said = self::text(&run(&["conform", "--scene", "nonsense", "--", "true"]));
    assert!(said.contains("there is no scene \"nonsense\""), "{said}");
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
    assert_eq!(rules.len(), 18, "{rules:?}");
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
