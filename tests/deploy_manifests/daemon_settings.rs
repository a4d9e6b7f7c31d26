//! The daemon itself reads the settings of the pods: `crumbd serve --check` with their file, arguments and variables, and files in
//! the place of the Secrets.

use std::path::Path;
use std::process::Stdio;

use crate::objects::{Objects, items};
use crate::support::{daemon, kubernetes, tls::Authority, tokens::TokenFile};

/// What `serve --check` says against the settings: errors, and warnings.
pub fn problems(objects: &Objects) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let inside = |path: &str| format!("{}{path}", root.path().display());
    let moved = |text: &str| {
        ["/etc/crumbd/", "/var/lib/crumbd"]
            .iter()
            .fold(text.to_owned(), |text, path| text.replace(path, &inside(path)))
    };
    for mount in items(&objects.container()["volumeMounts"]) {
        let directory = inside(mount["mountPath"].as_str().unwrap());
        std::fs::create_dir_all(&directory).unwrap();
        write_secrets(Path::new(&directory));
    }
    std::fs::write(inside("/etc/crumbd/config/crumbd.toml"), moved(objects.config_file())).unwrap();
    let mut command = daemon::command();
    // In place of a pod's service account.
    let cluster = "server: https://127.0.0.1:1, insecure-skip-tls-verify: true";
    command.env("KUBECONFIG", kubernetes::kubeconfig(root.path(), cluster, "token: token"));
    for variable in items(&objects.container()["env"]) {
        command.env(variable["name"].as_str().unwrap(), moved(variable["value"].as_str().unwrap()));
    }
    command.args(objects.arguments().iter().map(|argument| moved(argument)));
    // Other tests have the ports.
    command.args(["--check", "--log-format=text", "--listen=127.0.0.1:0"]);
    if objects.settings().contains_key("etcd-listen") {
        command.arg("--etcd-listen=127.0.0.1:0");
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    let is_good = output.status.success() && !said.contains("crumbd: note: ");
    if is_good { Vec::new() } else { vec![format!("crumbd serve --check: {} {said}", output.status)] }
}

/// A file of each kind that a Secret may have.
fn write_secrets(directory: &Path) {
    let authority = Authority::new("the authority");
    let server = authority.server();
    let mut tokens = TokenFile::new();
    tokens.add_admin();
    tokens.save();
    let copy = |from: &str, to: &str| {
        std::fs::copy(from, directory.join(to)).unwrap();
    };
    copy(&authority.ca, "ca.crt");
    copy(&server.cert, "tls.crt");
    copy(&server.key, "tls.key");
    copy(tokens.path(), "tokens.jsonl");
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write("cursor.key", &"0123456789abcdef".repeat(4));
    write("password", "secret\n");
    write("token", "secret\n");
}
