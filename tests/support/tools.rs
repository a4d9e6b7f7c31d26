//! Interpreters for clients that are not written in Rust, and servers that no package has. One that is missing fails the
//! test.

use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Debian's Python, which has the modules that `.ci/setup` installs.
const PYTHON: &str = "/usr/bin/python3";

/// Python with this module.
pub fn python(module: &str) -> Command {
    check(Command::new(PYTHON).args(["-c", &format!("import {module}")]), &format!("{PYTHON} with {module}"));
    Command::new(PYTHON)
}

/// Node, 18 or newer.
pub fn node() -> Command {
    let is_new = "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)";
    check(Command::new("node").args(["-e", is_new]), "node, 18 or newer,");
    Command::new("node")
}

/// The checker of Prometheus' rules.
pub fn promtool() -> Command {
    check(Command::new("promtool").arg("--version"), "promtool");
    Command::new("promtool")
}

/// The monitoring server.
pub fn prometheus() -> Command {
    check(Command::new("prometheus").arg("--version"), "prometheus");
    Command::new("prometheus")
}

/// The API server of Kubernetes.
pub fn kube_apiserver() -> PathBuf {
    let path = std::path::absolute("target/tools/bin/kube-apiserver").unwrap();
    assert!(path.is_file(), "{} is missing; .ci/setup builds it", path.display());
    path
}

/// The package manager of Kubernetes.
pub fn helm() -> Command {
    manifest_tool("bin/helm")
}

/// The command line of Kubernetes, of which the tests use kustomize.
pub fn kubectl() -> Command {
    manifest_tool("bin/kubectl")
}

/// Python with the schemas of Kubernetes' objects.
pub fn manifest_python() -> Command {
    manifest_tool("venv/bin/python")
}

fn manifest_tool(path: &str) -> Command {
    let path = std::path::absolute("target/tools/deploy-manifests").unwrap().join(path);
    assert!(path.is_file(), "{} is missing; .ci/setup installs it", path.display());
    Command::new(path)
}

fn check(command: &mut Command, what: &str) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{what} is missing; .ci/setup installs it");
}
