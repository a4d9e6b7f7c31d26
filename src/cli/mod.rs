//! The command line: one file a command.

mod config;
mod delete;
mod dump;
mod feeds;
mod follow;
mod get;
mod log;
mod open_files;
mod output;
mod put;
mod serve;
mod signals;
mod status;
mod token;
pub mod units;
mod warm;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::config::Faults;
use self::output::PrintError;
use crate::client::{Client, ClientTls};

/// Where a daemon listens on this machine, and where a client looks for one, when nobody says otherwise.
const DEFAULT_PORT: u16 = 7811;

/// The variable with a token.
const TOKEN: &str = "CRUMBD_TOKEN";

/// How `crumbd --help` ends.
const EXAMPLES: &str = "\
Examples:
  A daemon that is its own datastore, a write, and a client that follows:
      crumbd serve
      crumbd put greeting hello
      crumbd follow
  A file of records (one JSON object a line), and what is appended to it:
      crumbd serve --feed 'file:feed.ndjson?follow=true'
      curl -i localhost:7811/v1/breadcrumbs/current";

/// Serve the state of a datastore to any number of clients over plain HTTP
///
/// crumbd follows one feed of updates and holds the whole state in memory. Clients GET the current
/// breadcrumb, then long-poll the next one, for ever.
#[derive(Parser)]
#[command(name = "crumbd", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Get(get::Get),
    Put(put::Put),
    Delete(delete::Delete),
    Dump(dump::Dump),
    Follow(follow::Follow),
    Status(status::Status),
    Token(token::Token),
}

/// How a command reaches the daemon.
#[derive(Args)]
pub struct Daemon {
    /// The daemon's address.
    #[arg(long, env = "CRUMBD_URL", value_name = "URL", default_value_t = format!("http://127.0.0.1:{DEFAULT_PORT}"))]
    pub url: String,

    /// File with the token of a daemon that wants one; a line break at its end does not count. The variable
    /// CRUMBD_TOKEN holds the token itself, which has no place on the command line.
    #[arg(long, env = "CRUMBD_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Certificate authority (PEM) of a daemon at an https:// address; the system's authorities when left out.
    #[arg(long, env = "CRUMBD_CA_CERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,

    /// Client certificate (PEM) to show to a daemon that wants one; needs --client-key.
    #[arg(long, env = "CRUMBD_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,

    /// Private key (PEM) of the client certificate.
    #[arg(long, env = "CRUMBD_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,
}

impl Daemon {
    /// A client of it.
    ///
    /// # Errors
    /// A token, a certificate or an address that cannot be used.
    pub fn client(&self) -> Result<Client, Failure> {
        let client = Client::over_tls(&self.url, self.tls()?)?;
        Ok(match self.token()? {
            Some(token) => client.with_token(&token)?,
            None => client,
        })
    }

    /// The token, for a daemon that wants one.
    ///
    /// # Errors
    /// A file or a variable that holds none.
    pub fn token(&self) -> Result<Option<String>, Failure> {
        let (text, place) = match &self.token_file {
            Some(path) => {
                let place = format!("token file {}", path.display());
                (std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?, place)
            }
            None => match std::env::var(TOKEN) {
                Ok(text) => (text, TOKEN.to_owned()),
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error) => return Err(format!("{TOKEN}: {error}").into()),
            },
        };
        let token = text.trim_end_matches(['\n', '\r']);
        if token.is_empty() {
            return Err(format!("{place} is empty: without a token it has no use").into());
        }
        Ok(Some(token.to_owned()))
    }

    /// How to speak TLS with it.
    ///
    /// # Errors
    /// A certificate without its key, or a key without its certificate.
    pub fn tls(&self) -> Result<ClientTls, Failure> {
        let identity = match (self.client_cert.clone(), self.client_key.clone()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("--client-cert and --client-key belong together: one of them is missing".into()),
        };
        Ok(ClientTls { ca: self.ca_cert.clone(), identity })
    }
}

/// Why a command failed: one readable sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Cli {
    /// Runs the command of this process's arguments.
    async fn main() -> ExitCode {
        signals::survive_a_limit_of_file_size();
        match Self::try_parse() {
            Ok(cli) => cli.run().await,
            Err(said) => help_or_error(&said),
        }
    }

    async fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::Get(get) => get.run().await,
            Command::Put(put) => put.run().await,
            Command::Delete(delete) => delete.run().await,
            Command::Dump(dump) => dump.run().await,
            Command::Follow(follow) => follow.run().await,
            Command::Status(status) => status.run().await,
            Command::Token(token) => token.run(),
        };
        done.map_or_else(|failure| ended(&failure), |()| ExitCode::SUCCESS)
    }
}

/// What a command line has that makes no sense, as the parser itself ends for it.
const MISUSED: u8 = 2;

/// Says why a command failed, and with which code the process ends.
fn ended(failure: &Failure) -> ExitCode {
    // Whoever read our output has seen enough, as in `crumbd dump | head`.
    if let Some(PrintError::NobodyReads) = failure.downcast_ref() {
        return ExitCode::SUCCESS;
    }
    if let Some(faults) = failure.downcast_ref::<Faults>() {
        faults.0.iter().for_each(output::say);
        return ExitCode::from(MISUSED);
    }
    output::say(failure);
    if failure.is::<serve::CheckFailed>() { ExitCode::from(MISUSED) } else { ExitCode::FAILURE }
}

/// Prints what the parser has to say: the help, the version, or what is wrong with the command line.
fn help_or_error(said: &clap::Error) -> ExitCode {
    let text = said.render();
    if said.use_stderr() {
        let text = if io::stderr().is_terminal() { text.ansi().to_string() } else { text.to_string() };
        _ = output::line_on_stderr(text.trim_end());
        return ExitCode::from(MISUSED);
    }
    let text = if io::stdout().is_terminal() { text.ansi().to_string() } else { text.to_string() };
    output::bytes(text.as_bytes()).map_or_else(|error| ended(&error.into()), |()| ExitCode::SUCCESS)
}

/// Runs the command of this process's arguments to its end.
pub fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::say(format_args!(
                "it cannot start its threads: {error}; is there a limit of processes (ulimit -u)?"
            ));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(Cli::main());
    // The command has waited for all that counts. To wait for all threads too would be to wait for the one that
    // reads standard input, and that reads for as long as somebody else holds the pipe open.
    runtime.shutdown_background();
    code
}
