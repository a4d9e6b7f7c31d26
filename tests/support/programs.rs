//! How each client of this repository is built and run. Everything that is built is below `target`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use super::{daemon, tools};

pub trait Client {
    /// The program for `crumbd conform`.
    fn follower(&self) -> Command;

    /// Its own tests and checks.
    fn tests(&self) -> Vec<Command>;
}

pub struct Go;
pub struct TypeScript;
pub struct Python {
    pub asyncio: bool,
}
pub struct Rust;

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

fn made() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// What the own tests are run with, so that a failure says what to repeat.
fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

fn done(mut command: Command, missing: &str) {
    let output = command.stdin(Stdio::null()).output();
    let output =
        output.unwrap_or_else(|error| panic!("{missing} is missing; .ci/setup installs it ({error})"));
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&text));
}

impl Go {
    /// A tool of the Go that `.ci/setup` unpacks.
    fn tool(name: &str, arguments: &[&str]) -> Command {
        let tool = std::path::absolute("target/tools/go-1.24/usr/lib/go-1.24/bin").unwrap().join(name);
        assert!(tool.is_file(), "{} is missing; .ci/setup installs it", tool.display());
        let mut command = command(tool.to_str().unwrap(), arguments);
        command.current_dir(clients().join("go"));
        command
    }

    fn command(arguments: &[&str]) -> Command {
        let mut command = Go::tool("go", arguments);
        // It has no dependencies, so nothing has to be fetched.
        command.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off").env("GOTOOLCHAIN", "local");
        command.env("GOCACHE", made().join("go-cache"));
        command
    }
}

impl Client for Go {
    fn follower(&self) -> Command {
        static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
            let program = made().join("go-client");
            let mut build = Go::command(&["build", "-o"]);
            build.arg(&program).arg("./cmd/conform");
            done(build, "go");
            program
        });
        Command::new(&*PROGRAM)
    }

    fn tests(&self) -> Vec<Command> {
        let gofmt = Go::tool("gofmt", &[]);
        let mut formatted = command("sh", &["-c", "test -z \"$(\"$0\" -l . | tee /dev/stderr)\""]);
        formatted.arg(gofmt.get_program()).current_dir(clients().join("go"));
        vec![formatted, Go::command(&["vet", "./..."]), Go::command(&["test", "-race", "-count=1", "./..."])]
    }
}

impl TypeScript {
    /// A copy of the sources with the compiler beside it, so that the source tree stays as it is.
    fn built() -> &'static Path {
        static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
            let (from, to) = (clients().join("typescript"), made().join("typescript-client"));
            let tools = std::path::absolute("target/tools/typescript-client/node_modules").unwrap();
            assert!(tools.is_dir(), "{} is missing; .ci/setup installs it", tools.display());
            _ = fs::remove_dir_all(&to);
            fs::create_dir_all(&to).unwrap();
            for part in ["src", "test", "conform", "tsconfig.json", "tsconfig.test.json", "package.json"] {
                let mut copy = command("cp", &["-R"]);
                copy.arg(from.join(part)).arg(&to);
                done(copy, "cp");
            }
            std::os::unix::fs::symlink(tools, to.join("node_modules")).unwrap();
            for project in ["tsconfig.json", "tsconfig.test.json"] {
                let mut compile = command("node", &["node_modules/typescript/bin/tsc", "-p", project]);
                compile.current_dir(&to);
                done(compile, "node, 20 or newer,");
            }
            to
        });
        &BUILT
    }
}

impl Client for TypeScript {
    fn follower(&self) -> Command {
        let mut command = Command::new("node");
        command.arg(Self::built().join("build/conform/follow.js"));
        command
    }

    fn tests(&self) -> Vec<Command> {
        // A test that hangs fails, and its open handles do not keep the runner alive.
        let run = "exec node --test --test-timeout=120000 --test-force-exit build/test/*.test.js";
        let mut command = command("sh", &["-c", run]);
        command.current_dir(Self::built());
        vec![command]
    }
}

impl Client for Python {
    fn follower(&self) -> Command {
        let client = clients().join("python");
        let mut command = tools::python("xxhash");
        command.env("PYTHONPATH", client.join("src")).arg(client.join("conform/crumbd_conform.py"));
        command.args(self.asyncio.then_some("--asyncio"));
        command
    }

    fn tests(&self) -> Vec<Command> {
        let mut command = tools::python("xxhash");
        command.args(["-m", "unittest", "discover", "-t", ".", "-s", "tests"]);
        command
            .current_dir(clients().join("python"))
            .env("PYTHONPATH", "src")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        vec![command]
    }
}

impl Client for Rust {
    /// `cargo test` builds the examples too, beside the tests.
    fn follower(&self) -> Command {
        let daemon = daemon::command();
        let program = Path::new(daemon.get_program()).with_file_name("examples").join("conform_client");
        assert!(program.is_file(), "{} is missing: cargo build --example conform_client", program.display());
        Command::new(program)
    }

    fn tests(&self) -> Vec<Command> {
        Vec::new()
    }
}
