//! The command line: one file a command.

mod bench;
mod config;
mod delete;
mod dump;
mod feeds;
mod follow;
mod get;
mod log;
mod open_files;
mod put;
mod serve;
mod status;
mod token;
mod units;
mod warm;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::client::{Client, ClientTls};

/// Where a daemon listens, and where a client looks for one, when nobody says otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:7811";

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
    Bench(Box<bench::Bench>),
}

/// How a command reaches the daemon.
#[derive(Args)]
struct Daemon {
    /// The daemon's address.
    #[arg(long, env = "CRUMBD_URL", value_name = "URL", default_value_t = format!("http://{DEFAULT_LISTEN}"))]
    url: String,

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
    fn client(&self) -> Result<Client, Failure> {
        let client = Client::over_tls(&self.url, self.tls()?)?;
        Ok(match self.token()? {
            Some(token) => client.with_token(&token)?,
            None => client,
        })
    }

    /// The token, for a daemon that wants one.
    fn token(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.token_file else { return Ok(std::env::var("CRUMBD_TOKEN").ok()) };
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("token file {}: {error}", path.display()))?;
        Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
    }

    fn tls(&self) -> Result<ClientTls, Failure> {
        let identity = match (self.client_cert.clone(), self.client_key.clone()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("--client-cert and --client-key belong together: one of them is missing".into()),
        };
        Ok(ClientTls { ca: self.ca_cert.clone(), identity })
    }
}

/// Why a command failed: one readable sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Cli {
    /// Runs the command of this process's arguments.
    pub async fn main() -> ExitCode {
        let done = match Self::parse().command {
            Command::Serve(serve) => serve.run().await,
            Command::Get(get) => get.run().await,
            Command::Put(put) => put.run().await,
            Command::Delete(delete) => delete.run().await,
            Command::Dump(dump) => dump.run().await,
            Command::Follow(follow) => follow.run().await,
            Command::Status(status) => status.run().await,
            Command::Token(token) => token.run(),
            Command::Bench(bench) => bench.run().await,
        };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            // Whoever read our output has seen enough, as in `crumbd dump | head`.
            Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("crumbd: {error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
