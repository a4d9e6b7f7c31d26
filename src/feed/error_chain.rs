//! An error with its causes.

use std::error::Error;

/// The error and its causes, the outermost first.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An error and its causes in one line. The outermost usually says least ("transport error"), the innermost what
/// happened. An error that only repeats its cause is left out.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in causes(error).map(ToString::to_string) {
        said.retain(|before| !cause.contains(before.as_str()));
        if !said.iter().any(|before| before.contains(&cause)) {
            said.push(cause);
        }
    }
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] io::Error);

    #[test]
    fn an_error_is_told_with_its_causes_and_without_repetitions() {
        assert_eq!(
            chain(&Outer("transport error", io::Error::other("it hung up"))),
            "transport error: it hung up"
        );
        assert_eq!(chain(&Outer("tls: it hung up", io::Error::other("it hung up"))), "tls: it hung up");
        assert_eq!(chain(&Outer("hung", io::Error::other("it hung up"))), "it hung up");
    }
}
