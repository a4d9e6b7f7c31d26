//! The command line: one file a command.

mod after_change;
mod completions;
mod config;
mod conform;
mod delete;
mod dump;
mod escaped;
mod feeds;
mod file_attributes;
mod file_error;
mod follow;
mod get;
mod health;
mod keep_files;
mod load;
mod log;
mod lost_daemon;
mod man;
mod mirror;
mod open_files;
mod output;
mod progress;
mod put;
mod serve;
mod signals;
mod status;
mod template;
mod token;
pub mod units;
mod wrong;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use tokio::runtime::Builder;

use self::config::SettingErrors;
use self::output::PrintError;
use crate::client::{Client, ClientTls};
use crate::http::DEFAULT_PORT;
use crate::model::{CollectionName, CollectionNameError};

/// The environment variable that holds a token.
const TOKEN_VARIABLE: &str = "CRUMBD_TOKEN";

/// The last part of `crumbd --help`.
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
/// crumbd follows a feed of updates and holds the whole state in memory. Clients GET the current
/// breadcrumb, then long-poll the next one, for ever.
#[derive(Parser)]
#[command(name = "crumbd", version, after_help = EXAMPLES)]
struct Cli {
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
    Load(load::Load),
    Follow(follow::Follow),
    Mirror(Box<mirror::Mirror>),
    Template(Box<template::Template>),
    Status(status::Status),
    Health(health::Health),
    Feeds(feeds::Feeds),
    Token(token::Token),
    Config(config::Config),
    Completions(completions::Completions),
    Man(man::Man),
    Conform(conform::Conform),
}

/// The flags with which a command reaches the daemon.
#[derive(Args)]
pub struct Daemon {
    /// The daemon's address; `unix:/PATH` for a unix socket.
    #[arg(long, env = "CRUMBD_URL", value_name = "URL", default_value_t = format!("http://127.0.0.1:{DEFAULT_PORT}"))]
    pub url: String,

    /// The named collection, on a daemon of several [default: the collection without a name]
    #[arg(long, env = "CRUMBD_COLLECTION", value_name = "NAME")]
    collection: Option<CollectionChoice>,

    /// File with the token, for a daemon with --tokens; a line break at its end is ignored. The variable
    /// CRUMBD_TOKEN may hold the token itself. There is no flag for it: other processes can read command lines.
    #[arg(long, env = "CRUMBD_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Certificate authority (PEM) of a daemon at an https:// address [default: the system's authorities]
    #[arg(long, env = "CRUMBD_CA_CERT", value_name = "FILE")]
    ca_cert: Option<PathBuf>,

    /// Client certificate (PEM), for a daemon with --tls-client-ca; needs --client-key.
    #[arg(long, env = "CRUMBD_CLIENT_CERT", value_name = "FILE")]
    client_cert: Option<PathBuf>,

    /// Private key (PEM) of the client certificate.
    #[arg(long, env = "CRUMBD_CLIENT_KEY", value_name = "FILE")]
    client_key: Option<PathBuf>,
}

impl Daemon {
    /// Makes a client of this daemon.
    ///
    /// # Errors
    /// A token, a certificate or an address that cannot be used.
    pub fn client(&self) -> Result<Client, Failure> {
        let client = Client::over_tls(&self.url, self.tls()?)?;
        let client = match self.collection.clone() {
            Some(CollectionChoice(Some(name))) => client.in_collection(name),
            _ => client,
        };
        Ok(match self.token()? {
            Some(token) => client.with_token(&token)?,
            None => client,
        })
    }

    /// The name of the collection; empty for the one without a name.
    fn collection(&self) -> &str {
        let choice = self.collection.as_ref().and_then(|choice| choice.0.as_ref());
        choice.map(CollectionName::as_str).unwrap_or_default()
    }

    /// The token, if one was given.
    ///
    /// # Errors
    /// A file or a variable without a token.
    pub fn token(&self) -> Result<Option<String>, CredentialError> {
        let (text, origin) = match &self.token_file {
            Some(path) => {
                let read = std::fs::read_to_string(path);
                let unreadable = |source| CredentialError::TokenFile { path: path.clone(), source };
                (read.map_err(unreadable)?, format!("token file {}", path.display()))
            }
            None => match std::env::var(TOKEN_VARIABLE) {
                Ok(text) => (text, TOKEN_VARIABLE.to_owned()),
                Err(std::env::VarError::NotPresent) => return Ok(None),
                Err(error) => return Err(CredentialError::TokenVariable(error)),
            },
        };
        let token = text.trim_end_matches(['\n', '\r']);
        if token.is_empty() {
            return Err(CredentialError::EmptyToken { origin });
        }
        Ok(Some(token.to_owned()))
    }

    /// The TLS settings of this client.
    ///
    /// # Errors
    /// A certificate without its key, or a key without its certificate.
    pub fn tls(&self) -> Result<ClientTls, CredentialError> {
        let identity = match (self.client_cert.clone(), self.client_key.clone()) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err(CredentialError::HalfIdentity),
        };
        Ok(ClientTls { ca: self.ca_cert.clone(), identity, ..ClientTls::default() })
    }
}

/// The collection that a command is for. The empty text is the one without a name.
#[derive(Clone)]
struct CollectionChoice(Option<CollectionName>);

impl FromStr for CollectionChoice {
    type Err = CollectionNameError;

    fn from_str(text: &str) -> Result<Self, CollectionNameError> {
        if text.is_empty() { Ok(Self(None)) } else { text.parse().map(|name| Self(Some(name))) }
    }
}

/// A token or a certificate of the client that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The token file cannot be read.
    #[error("token file {}: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The variable's value is not text.
    #[error("{TOKEN_VARIABLE}: {0}")]
    TokenVariable(std::env::VarError),
    /// The file or the variable is empty.
    #[error("{origin} is empty: put the token into it, or leave it out")]
    EmptyToken {
        /// The file or the variable.
        origin: String,
    },
    /// One of certificate and key is missing.
    #[error("--client-cert and --client-key belong together: one of them is missing")]
    HalfIdentity,
}

/// The reason why a command failed: one readable sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Cli {
    /// Runs the command of this process's arguments.
    async fn main() -> ExitCode {
        signals::ignore_file_size_signal();
        match Self::try_parse() {
            Ok(cli) => cli.run().await,
            Err(message) => help_or_error(&message),
        }
    }

    async fn run(self) -> ExitCode {
        let done = match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::Get(get) => get.run().await,
            Command::Put(put) => put.run().await,
            Command::Delete(delete) => delete.run().await,
            Command::Dump(dump) => dump.run().await,
            Command::Load(load) => load.run().await,
            Command::Follow(follow) => follow.run().await,
            Command::Mirror(mirror) => mirror.run().await,
            Command::Template(template) => template.run().await,
            Command::Status(status) => status.run().await,
            Command::Health(health) => health.run().await,
            Command::Feeds(feeds) => feeds.run(),
            Command::Token(token) => token.run(),
            Command::Config(config) => config.run(),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
            Command::Conform(conform) => conform.run().await,
        };
        done.map_or_else(|failure| report(&failure), |()| ExitCode::SUCCESS)
    }
}

/// The exit code of `crumbd health` and `crumbd status --check` for a daemon that does not answer.
const EXIT_NO_ANSWER: u8 = 3;

/// The exit code for invalid flags and settings; clap uses the same.
const EXIT_USAGE: u8 = 2;

/// Prints why a command failed, and returns the exit code.
fn report(failure: &Failure) -> ExitCode {
    // The reader of the output has seen enough, as in `crumbd dump | head`.
    if let Some(PrintError::ReaderGone) = failure.downcast_ref() {
        return ExitCode::SUCCESS;
    }
    if let Some(errors) = failure.downcast_ref::<SettingErrors>() {
        errors.0.iter().for_each(output::say);
        return ExitCode::from(EXIT_USAGE);
    }
    if let Some(ended) = failure.downcast_ref::<conform::EndedBySignal>() {
        return ExitCode::from(ended.exit_code());
    }
    // What is wrong is printed already.
    if failure.is::<status::SomethingIsWrong>() {
        return ExitCode::FAILURE;
    }
    output::say(failure);
    if failure.is::<health::NoAnswer>() {
        return ExitCode::from(EXIT_NO_ANSWER);
    }
    let is_usage = failure.is::<serve::CheckFailed>() || failure.is::<crate::conform::SuiteError>();
    if is_usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
}

/// Prints the parser's message: the help, the version, or an error in the command line.
fn help_or_error(message: &clap::Error) -> ExitCode {
    let text = message.render();
    if message.use_stderr() {
        let text = if io::stderr().is_terminal() { text.ansi().to_string() } else { text.to_string() };
        _ = output::line_on_stderr(text.trim_end());
        return ExitCode::from(EXIT_USAGE);
    }
    let text = if io::stdout().is_terminal() { text.ansi().to_string() } else { text.to_string() };
    output::bytes(text.as_bytes()).map_or_else(|error| report(&error.into()), |()| ExitCode::SUCCESS)
}

/// The most threads for work that blocks. The allocator keeps some megabytes for each thread, so hundreds of short tasks
/// at a time must not have a thread each.
const MAX_BLOCKING_THREADS: usize = 32;

/// Runs the command of this process's arguments to its end.
pub fn main() -> ExitCode {
    let runtime = Builder::new_multi_thread().enable_all().max_blocking_threads(MAX_BLOCKING_THREADS).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output::say(format_args!(
                "threads cannot be started: {error}; is there a limit on processes (ulimit -u)?"
            ));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(Cli::main());
    // The command has finished its work. The thread that reads standard input may still wait: it ends only when the
    // other side closes the pipe. So no thread is waited for.
    runtime.shutdown_background();
    code
}
