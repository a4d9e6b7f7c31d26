//! The `crumbd` command: parse the command line, run one command.

use std::process::ExitCode;

/// Many threads allocate and free small entries of each other: the general-purpose allocator of
/// the C library is the slowest at that of those measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    crumbd::cli::Cli::main().await
}
