//! The clients of this repository, in Go, TypeScript, Python and Rust: each passes its own tests, and every scene of
//! `crumbd conform`, by long polls and over a stream, in the clear and over TLS.
#![allow(clippy::unwrap_used)]

mod support;

use std::process::Stdio;
use std::sync::{PoisonError, RwLock};

use support::daemon;
use support::programs::{Client, Go, Python, Rust, TypeScript};

/// The scenes that are played at a time. Most of them wait.
const JOBS: &str = "8";

/// The scenes of several clients are played at once. A client's own tests measure pauses and silence, so nothing runs
/// beside them.
static MACHINE: RwLock<()> = RwLock::new(());

fn passes_every_scene(client: &dyn Client) {
    let _shared = MACHINE.read().unwrap_or_else(PoisonError::into_inner);
    for options in [&[][..], &["--tls"]] {
        let mut command = daemon::command();
        let program = client.follower();
        command.args(["conform", "--jobs", JOBS]).args(options).arg("--");
        command.arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let broken: Vec<&str> = text.lines().filter(|line| !line.starts_with("ok ")).collect();
        assert!(output.status.success(), "{options:?}:\n{}", broken.join("\n"));
    }
}

fn passes_its_own_tests(client: &dyn Client) {
    let commands = client.tests();
    let _alone = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
    for mut command in commands {
        command.env("CRUMBD_BIN", env!("CARGO_BIN_EXE_crumbd")).stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?}:\n{text}");
    }
}

#[test]
fn the_go_client_keeps_every_rule() {
    passes_every_scene(&Go);
}

#[test]
fn the_go_client_passes_its_tests() {
    passes_its_own_tests(&Go);
}

#[test]
fn the_typescript_client_keeps_every_rule() {
    passes_every_scene(&TypeScript);
}

#[test]
fn the_typescript_client_passes_its_tests() {
    passes_its_own_tests(&TypeScript);
}

#[test]
fn the_python_client_keeps_every_rule() {
    passes_every_scene(&Python { asyncio: false });
}

#[test]
fn the_python_client_keeps_every_rule_with_asyncio() {
    passes_every_scene(&Python { asyncio: true });
}

#[test]
fn the_python_client_passes_its_tests() {
    passes_its_own_tests(&Python { asyncio: false });
}

#[test]
fn the_rust_client_keeps_every_rule() {
    passes_every_scene(&Rust);
}
