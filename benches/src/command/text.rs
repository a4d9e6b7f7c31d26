//! Updates to be written.

use std::fmt::Write as _;

/// Stands between random digits, so that values compress about as well as JSON documents do: to a fifth.
const SAME: &str = " running and ready, no restarts; ";

/// Numbered updates: number `n` sets key `n` modulo the number of keys.
#[derive(Debug, Clone)]
pub(super) struct Text {
    prefix: &'static str,
    keys: u64,
    value_bytes: usize,
    /// Another in every run: a value that is the same as before is no update.
    run: u64,
    /// Every so many updates is a deletion.
    deletes: Option<u64>,
}

impl Text {
    /// Keys below `bench/` and this name.
    pub(super) fn new(prefix: &'static str, keys: u64, value_bytes: usize) -> Self {
        Self { prefix, keys: keys.max(1), value_bytes, run: fastrand::u64(..), deletes: None }
    }

    /// Every so many updates deletes its key.
    pub(super) fn with_deletes(self, every: u64) -> Self {
        Self { deletes: Some(every), ..self }
    }

    /// The records of so many updates, one a line.
    pub(super) fn write(&self, body: &mut String, first: u64, count: u64) {
        body.clear();
        for number in first..first + count {
            let (prefix, key) = (self.prefix, number % self.keys);
            // Writing to a string cannot fail.
            if self.deletes.is_some_and(|every| number % every == every - 1) {
                _ = writeln!(body, r#"{{"type":"deleted","key":"bench/{prefix}/{key:09}"}}"#);
                continue;
            }
            _ = write!(body, r#"{{"type":"put","key":"bench/{prefix}/{key:09}","value":""#);
            let begin = body.len();
            _ = write!(body, "{:016x}-{number:012}", self.run);
            let fill = self.value_bytes.saturating_sub(body.len() - begin + 2);
            let end = body.len() + fill;
            while body.len() < end {
                _ = write!(body, "{:016x}{SAME}", fastrand::u64(..));
            }
            body.truncate(end);
            body.push_str("\"}\n");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crumbd::wire::parse_records;

    #[test]
    fn updates_can_be_read_and_have_their_size() {
        let mut body = String::new();
        Text::new("test", 2, 100).with_deletes(3).write(&mut body, 0, 3);
        let lines: Vec<&str> = body.lines().collect();
        assert!(lines[0].contains("bench/test/000000000") && lines[1].contains("bench/test/000000001"));
        assert!(lines[2].contains("deleted"));
        let value = lines[0].split("\"value\":").nth(1).unwrap().trim_end_matches('}');
        assert_eq!(value.len(), 100);
        assert_eq!(parse_records(&body).unwrap().records.len(), 3);
    }
}
