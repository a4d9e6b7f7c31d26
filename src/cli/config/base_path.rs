//! The path under which a proxy serves the daemon.

use std::str::FromStr;

/// Such a path: empty, or `/` and segments, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BasePath(pub(super) String);

/// A text that is not such a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no path such as /crumbd, of letters, digits and ._~- between slashes")]
pub(in crate::cli) struct BasePathError;

impl FromStr for BasePath {
    type Err = BasePathError;

    fn from_str(text: &str) -> Result<Self, BasePathError> {
        let path = text.strip_suffix('/').unwrap_or(text);
        let is_segment = |segment: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
            !["", ".", ".."].contains(&segment) && segment.bytes().all(plain)
        };
        let valid = match path.strip_prefix('/') {
            Some(segments) => segments.split('/').all(is_segment),
            None => path.is_empty(),
        };
        if valid { Ok(Self(path.to_owned())) } else { Err(BasePathError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_has_plain_segments() {
        for (text, path) in [("/", ""), ("/a", "/a"), ("/a/b-c/", "/a/b-c")] {
            assert_eq!(text.parse(), Ok(BasePath(path.to_owned())));
        }
        for bad in ["a", "//a", "/a//b", "/..", "/a b", "/a?b", "http://a/b", "/a%20"] {
            assert_eq!(bad.parse::<BasePath>(), Err(BasePathError), "{bad:?}");
        }
    }
}
