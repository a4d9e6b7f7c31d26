//! The `crumbd-bench` command: what a deployment of this size costs.

// They panic where nobody reads; `command/output.rs` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod command;

use std::process::ExitCode;

use clap::Parser;

/// As in the daemon: the clients share the machine with it, so what they burn, it lacks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match command::Bench::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            command::output::say(failure);
            ExitCode::FAILURE
        }
    }
}
