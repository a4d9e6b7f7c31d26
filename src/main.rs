//! The `crumbd` command: parse the command line, run one command.

use std::process::ExitCode;

/// Many threads allocate and free small entries of each other: the general-purpose allocator of
/// the C library takes half as much CPU again for an update, and up to twice the memory afterwards.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    crumbd::run_command()
}
