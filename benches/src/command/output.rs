//! What the command prints. Nothing of it panics.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

/// Prints a line. A reader that has gone, as in `crumbd-bench … | head`, has seen enough.
///
/// # Errors
/// Every other fault of standard output, such as a full disk.
pub(super) fn line(text: impl Display) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(format!("{text}\n").as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}

/// Says something on standard error, under the program's name.
pub(crate) fn say(text: impl Display) {
    // Where even this cannot be written there is nobody to tell, and the exit code says it.
    _ = io::stderr().lock().write_all(format!("crumbd-bench: {text}\n").as_bytes());
}
