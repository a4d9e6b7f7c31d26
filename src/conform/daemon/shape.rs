//! Cursors of another shape: what a later daemon may give, and a client must not look into.

/// How such a cursor begins. No cursor of today begins so.
const BEGIN: &str = "v2~";

/// What is between the cursor of today and the filling.
const FILLING: &str = "~_.-";

/// The length of such a cursor: the longest that a client has to take.
const LENGTH: usize = 200;

/// The cursor in another shape.
pub(super) fn shaped(cursor: &str) -> String {
    let mut text = format!("{BEGIN}{cursor}{FILLING}");
    while text.len() < LENGTH {
        text.push('x');
    }
    text
}

/// The cursor behind any shape.
pub(crate) fn plain(text: &str) -> &str {
    let inside = text.strip_prefix(BEGIN).and_then(|rest| rest.split_once(FILLING));
    inside.map_or(text, |(cursor, _)| cursor)
}
