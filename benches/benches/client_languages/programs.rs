//! The programs that measure: each is called with URL, transport, digest and rounds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub struct Program {
    pub name: &'static str,
    path: PathBuf,
    /// What runs the file, where it is no binary.
    interpreter: Option<&'static str>,
    pub arguments: &'static [&'static str],
}

impl Program {
    pub fn command(&self) -> Command {
        match self.interpreter {
            None => Command::new(&self.path),
            Some(interpreter) => {
                let mut command = Command::new(interpreter);
                command.arg(&self.path);
                command
            }
        }
    }
}

/// Builds all of them. An error says which toolchain is missing.
pub fn all() -> [Result<Program, String>; 4] {
    [go(), typescript(), python("Python", &[]), python("Python, asyncio", &["--asyncio"])]
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients")
}

fn go() -> Result<Program, String> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-client-bench");
    let newer = clients().join("../target/tools/go-1.24/usr/lib/go-1.24/bin/go");
    let mut build = Command::new(if newer.is_file() { newer } else { "go".into() });
    build.args(["build", "-o"]).arg(&path).arg("./cmd/bench").current_dir(clients().join("go"));
    // It has no dependencies, so nothing has to be fetched.
    build.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off").env("GOTOOLCHAIN", "local");
    done(build, "Go needs go, 1.21 or newer")?;
    Ok(Program { name: "Go", path, interpreter: None, arguments: &[] })
}

fn typescript() -> Result<Program, String> {
    let client = clients().join("typescript");
    let places =
        [client.join("node_modules"), clients().join("../target/tools/typescript-client/node_modules")];
    let tools = places.iter().find(|place| place.join("typescript").is_dir());
    let tools = tools.ok_or("TypeScript needs its compiler: .ci/setup, or npm ci in clients/typescript")?;
    for project in ["tsconfig.json", "tsconfig.test.json"] {
        let mut compile = Command::new("node");
        compile
            .arg(tools.join("typescript/bin/tsc"))
            .args(["-p", project, "--typeRoots"])
            .arg(tools.join("@types"));
        compile.current_dir(&client);
        done(compile, "TypeScript needs node")?;
    }
    Ok(Program {
        name: "TypeScript",
        path: client.join("build/bench/mirror.js"),
        interpreter: Some("node"),
        arguments: &[],
    })
}

/// Python with `xxhash`, where Debian's has it.
fn python(name: &'static str, arguments: &'static [&'static str]) -> Result<Program, String> {
    const DEBIAN: &str = "/usr/bin/python3";
    let mut check = Command::new(DEBIAN);
    check.args(["-c", "import xxhash"]);
    done(check, "Python needs /usr/bin/python3 with xxhash")?;
    let path = clients().join("python/bench/crumbd_bench.py");
    Ok(Program { name, path, interpreter: Some(DEBIAN), arguments })
}

fn done(mut command: Command, needs: &str) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{needs}, which .ci/setup installs: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(format!("{needs}, which .ci/setup installs: {command:?}: {}", String::from_utf8_lossy(&text).trim()))
}
