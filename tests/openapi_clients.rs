//! Clients that generators make of `/openapi.json`, and the requests that schemathesis makes of it, against the daemon.
//!
//! `.ci/setup` installs the tools. The clients themselves are in `openapi_clients/`.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::daemon::Daemon;
use support::tokens::TokenFile;

/// How long a tool may run, in seconds. Reached only when it hangs.
const LIMIT_S: &str = "300";

const VERSIONS: [&str; 2] = ["3.1", "3.0"];

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi_clients")
}

/// What `.ci/setup` has installed under this name.
fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/openapi").join(name);
    assert!(path.exists(), "{} is missing; run .ci/setup, which installs it", path.display());
    path
}

fn node(script: &str) -> Command {
    let mut node = Command::new("timeout");
    node.args([LIMIT_S, "node"]).arg(tool(script));
    node
}

fn python(command: &str) -> Command {
    let mut python = Command::new("timeout");
    python.arg(LIMIT_S).arg(tool(&format!("venv/bin/{command}")));
    python
}

/// Runs it to its end, and fails with all that it wrote unless it succeeds.
fn succeeds(command: &mut Command) {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; run .ci/setup"));
    let [out, err] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(done.status.success(), "{command:?}: {}\n{out}\n{err}", done.status);
}

fn document(daemon: &Daemon, version: &str) -> String {
    format!("{}/openapi.json?version={version}", daemon.url())
}

#[test]
fn a_python_client_reads_and_writes() {
    for version in VERSIONS {
        let daemon = Daemon::push(&[]);
        let made = tempfile::tempdir().unwrap();
        succeeds(
            python("openapi-python-client")
                .args(["generate", "--overwrite", "--meta", "none", "--url", &document(&daemon, version)])
                .arg("--config")
                .arg(sources().join("python_client.yml"))
                .arg("--output-path")
                .arg(made.path().join("crumbd_client")),
        );
        let client = sources().join("client.py");
        succeeds(python("python").arg(client).arg(daemon.url()).env("PYTHONPATH", made.path()));
    }
}

#[test]
fn a_typescript_client_reads_and_writes_without_a_cast() {
    for version in VERSIONS {
        let daemon = Daemon::push(&[]);
        let made = tempfile::tempdir().unwrap();
        for name in ["client.ts", "tsconfig.json", "package.json"] {
            std::fs::copy(sources().join(name), made.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(tool("node_modules"), made.path().join("node_modules")).unwrap();
        succeeds(
            node("node_modules/openapi-typescript/bin/cli.js")
                .args([&document(&daemon, version), "--output"])
                .arg(made.path().join("api.d.ts")),
        );
        succeeds(node("node_modules/typescript/bin/tsc").arg("--project").arg(made.path()));
        succeeds(
            Command::new("timeout")
                .args([LIMIT_S, "node"])
                .arg(made.path().join("out/client.js"))
                .arg(daemon.url()),
        );
    }
}

#[test]
fn both_versions_are_valid() {
    let mut tokens = TokenFile::new();
    let token = tokens.add(&[""], &[""]);
    for (daemon, header) in [
        (Daemon::push(&["--base-path", "/crumbd"]), None),
        (tokens.daemon(&[]), Some(format!("Authorization: Bearer {}", token.text))),
    ] {
        for version in VERSIONS {
            let made = tempfile::tempdir().unwrap();
            let file = made.path().join("openapi.json");
            let mut curl = Command::new("curl");
            curl.args(header.iter().flat_map(|header| ["--header", header]));
            succeeds(curl.args(["--fail", "--silent", &document(&daemon, version), "--output"]).arg(&file));
            succeeds(python("openapi-spec-validator").arg(&file));
        }
    }
}

/// Its configuration says what it leaves out, and why.
#[test]
fn schemathesis_finds_nothing() {
    let mut tokens = TokenFile::new();
    let token = tokens.add(&[""], &[""]);
    tokens.make_admin(&token);
    let daemon = tokens.daemon(&["--client-table", "9"]);
    let header = format!("Authorization: Bearer {}", token.text);
    let made = tempfile::tempdir().unwrap();
    for name in ["schemathesis.toml", "schemathesis_hooks.py"] {
        std::fs::copy(sources().join(name), made.path().join(name)).unwrap();
    }
    succeeds(
        python("schemathesis")
            .args(["--config-file", "schemathesis.toml", "run", &document(&daemon, "3.1")])
            .args(["--header", &header])
            .current_dir(made.path()),
    );
    assert!(daemon.log().lines().all(|line| !line.contains("panicked")), "{}", daemon.log());
}
