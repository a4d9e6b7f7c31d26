//! Suggestions for names that do not exist.

/// The nearest name, if one is near: at most two letters inserted, removed, replaced or swapped.
pub(in crate::cli) fn nearest<'n>(
    written: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<&'n str> {
    let limit = |name: &str| if written.len().min(name.len()) < 5 { 1 } else { 2 };
    let near = names.into_iter().map(|name| (distance(written, name), name));
    near.filter(|(distance, name)| *distance <= limit(name)).min().map(|(_, name)| name)
}

/// The number of letters to insert, remove, replace, or swap with their neighbour.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut line = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = last[j] + usize::from(a != b);
            let mut least = changed.min(last[j + 1] + 1).min(line[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut last, line);
    }
    last.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_is_near_and_another_word_is_not() {
        let levels = ["error", "warn", "info", "debug", "trace"];
        for (written, meant) in [("inof", "info"), ("debgu", "debug"), ("wran", "warn"), ("eror", "error")] {
            assert_eq!(nearest(written, levels), Some(meant));
        }
        for other in ["", "verbose", "all", "hyper"] {
            assert_eq!(nearest(other, levels), None, "{other}");
        }
    }
}
