//! The `crumbd` command: parse the command line, run one command.

use std::process::ExitCode;

/// Many threads allocate and free small entries of each other: the general-purpose allocator of
/// the C library takes half as much CPU again for an update, and up to twice the memory afterwards.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("crumbd cannot start its threads: {error}; is there a limit of processes (ulimit -u)?");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(crumbd::cli::Cli::main());
    // The command has waited for all that counts. To wait for all threads too would be to wait for the one that
    // reads standard input, and that reads for as long as somebody else holds the pipe open.
    runtime.shutdown_background();
    code
}
