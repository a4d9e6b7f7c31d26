//! Text from outside, in a log of lines or on a terminal.

use std::fmt::{self, Debug, Display, Formatter, Write};

/// Text that may hold anything, with its control characters escaped. It can neither begin a line that looks like one of
/// this program nor steer a terminal.
pub(super) struct Escaped<T> {
    text: T,
    line_breaks: LineBreaks,
}

/// What becomes of the line breaks of a text.
#[derive(Clone, Copy)]
enum LineBreaks {
    /// `\n`.
    Escaped,
    /// The next line is indented.
    Indented,
}

impl<T> Escaped<T> {
    /// The text in one line.
    pub(super) fn in_one_line(text: T) -> Self {
        Self { text, line_breaks: LineBreaks::Escaped }
    }

    /// The text in its lines, all but the first indented.
    pub(super) fn indented(text: T) -> Self {
        Self { text, line_breaks: LineBreaks::Indented }
    }
}

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping { to: f, line_breaks: self.line_breaks }, "{}", self.text)
    }
}

impl<T: Debug> Debug for Escaped<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(Escaping { to: f, line_breaks: self.line_breaks }, "{:?}", self.text)
    }
}

struct Escaping<'a, W> {
    to: &'a mut W,
    line_breaks: LineBreaks,
}

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, unsafe_char)) = rest.char_indices().find(|(_, c)| must_be_escaped(*c)) {
            self.to.write_str(&rest[..at])?;
            match (unsafe_char, self.line_breaks) {
                ('\n', LineBreaks::Indented) => self.to.write_str("\n  ")?,
                (other, _) => write!(self.to, "{}", other.escape_default())?,
            }
            rest = &rest[at + unsafe_char.len_utf8()..];
        }
        self.to.write_str(rest)
    }
}

/// Whether the character ends a line, controls a terminal, or changes the order in which others are shown.
fn must_be_escaped(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' // line and paragraph separators
                | '\u{061c}' | '\u{200e}' | '\u{200f}' // marks of direction
                | '\u{202a}'..='\u{202e}' // embeddings and overrides
                | '\u{2066}'..='\u{2069}' // isolates
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_in_its_line_and_shows_its_control_characters() {
        for (text, shown) in [
            ("plain, ключ, 日本 \\n \u{1f35e}", "plain, ключ, 日本 \\n \u{1f35e}"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{1b}[2J\u{7}\u{7f}\0", "\\u{1b}[2J\\u{7}\\u{7f}\\u{0}"),
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            (
                "\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}\u{61c}",
                "\\u{2028}\\u{2029}\\u{202e}\\u{2066}\\u{200f}\\u{61c}",
            ),
        ] {
            assert_eq!(Escaped::in_one_line(text).to_string(), shown);
            assert_eq!(format!("{:?}", Escaped::in_one_line(format_args!("{text}"))), shown);
        }
        assert_eq!(Escaped::indented("a\n\u{1b}b\r\nc").to_string(), "a\n  \\u{1b}b\\r\n  c");
    }
}
