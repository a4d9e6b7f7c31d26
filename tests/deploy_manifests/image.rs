//! The Dockerfile and the compose file: what pods expect of the image, and settings that the daemon takes.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::MADE;
use crate::objects::{items, yaml};
use crate::support::daemon;

const DOCKERFILE: &str = include_str!("../../deploy/Dockerfile");
const IGNORED: &str = include_str!("../../deploy/Dockerfile.dockerignore");

#[test]
fn the_image_is_what_the_pods_expect() {
    let has = |line: &str| assert!(DOCKERFILE.lines().any(|other| other == line), "{line}");
    let user = &MADE["chart"].pod_spec()["securityContext"]["runAsUser"];
    has(&format!("USER {user}:{user}"));
    has(&format!("EXPOSE {}", items(&MADE["chart"].container()["ports"])[0]["containerPort"]));
    has(&format!("ARG VERSION={}", env!("CARGO_PKG_VERSION")));
    let probe = &MADE["chart with secured"].container()["readinessProbe"]["exec"]["command"];
    let program = probe[0].as_str().unwrap();
    has(&format!("COPY --from=build /src/target/release/crumbd {program}"));
    has(&format!("ENTRYPOINT [\"{program}\"]"));
    let of_health = DOCKERFILE.lines().find(|line| line.starts_with("HEALTHCHECK ")).unwrap();
    assert!(of_health.ends_with(&format!("CMD [\"{program}\", \"health\"]")), "{of_health}");
}

/// What the Dockerfile copies out of the clone.
fn copied() -> Vec<&'static str> {
    let lines = DOCKERFILE.lines().filter_map(|line| line.strip_prefix("COPY "));
    let of_clone = lines.filter(|line| !line.starts_with("--"));
    of_clone.flat_map(|line| line.rsplit_once(' ').unwrap().0.split(' ')).collect()
}

#[test]
fn the_builder_is_sent_what_the_dockerfile_copies() {
    let sent: Vec<&str> = IGNORED.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert_eq!(copied(), sent);
    assert!(IGNORED.lines().any(|line| line == "*"));
}

#[test]
fn cargo_accepts_the_manifest_in_what_the_dockerfile_copies() {
    // What it says where one of them is left out.
    let accepts = |left_out: &str| {
        let directory = tempfile::tempdir().unwrap();
        let paths = copied().into_iter().filter(|path| *path != left_out);
        let copy = Command::new("cp").arg("-r").args(paths).arg(directory.path()).status().unwrap();
        assert!(copy.success());
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut cargo = Command::new(env!("CARGO"));
        let output = cargo
            .args(["fetch", "--locked", "--offline", "--target", &target])
            .current_dir(directory.path())
            .output();
        let output = output.unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8(output.stderr).unwrap()) }
    };
    accepts("").unwrap();
    for left_out in ["benches", "examples"] {
        let said = accepts(left_out).unwrap_err();
        assert!(said.contains("failed to"), "{left_out}: {said}");
    }
}

#[test]
fn the_daemon_takes_the_settings_of_the_compose_file() {
    let compose = yaml("deploy/compose.yaml");
    let services = compose["services"].as_object().unwrap();
    let replicas: Vec<&Value> = services.values().filter(|service| service["image"] == "crumbd").collect();
    assert_eq!(replicas.len(), 2);
    for replica in replicas {
        let state = tempfile::tempdir().unwrap();
        let command = items(&replica["command"]).iter().map(|argument| argument.as_str().unwrap());
        let command: Vec<String> = command
            .map(|argument| argument.replace("/var/lib/crumbd", state.path().to_str().unwrap()))
            .collect();
        let more = ["--check", "--listen=127.0.0.1:0"];
        let output = daemon::command().args(&command).args(more).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success() && !said.contains("crumbd: note: "), "{said}");
        // The default of --drain is 5 s.
        let grace = replica["stop_grace_period"].as_str().unwrap().trim_end_matches('s');
        assert!(grace.parse::<u64>().unwrap() > 5, "{grace}");
        for mount in items(&replica["volumes"]) {
            assert!(mount.as_str().unwrap().ends_with(":/var/lib/crumbd"), "{mount}");
        }
    }
}
