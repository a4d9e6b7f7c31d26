//! Modes and owners of files, as flags give them.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;

/// Permissions such as `0644`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mode(pub(super) u32);

/// A user, a group, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    user: Option<u32>,
    group: Option<u32>,
}

/// What files and directories are given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) file_mode: Mode,
    pub(super) dir_mode: Mode,
    pub(super) owner: Option<Owner>,
}

/// A flag that is no mode or no owner.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum AttributeError {
    #[error("no mode: write it in octal, from 0 to 7777, such as 0644")]
    Mode,
    #[error("{what} {name:?} is not in {file}: give a name that is there, or a number")]
    Unknown { what: &'static str, name: String, file: &'static str },
    #[error("no owner: write it as USER, USER:GROUP or :GROUP")]
    Owner,
}

impl FromStr for Mode {
    type Err = AttributeError;

    fn from_str(text: &str) -> Result<Self, AttributeError> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let is_octal = !digits.is_empty() && digits.bytes().all(|digit| (b'0'..b'8').contains(&digit));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o7777);
        mode.map(Self).ok_or(AttributeError::Mode)
    }
}

impl FromStr for Owner {
    type Err = AttributeError;

    fn from_str(text: &str) -> Result<Self, AttributeError> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() && group.is_none_or(str::is_empty) {
            return Err(AttributeError::Owner);
        }
        let user = (!user.is_empty()).then(|| number_of("user", user, "/etc/passwd")).transpose()?;
        let group = group.filter(|group| !group.is_empty());
        let group = group.map(|group| number_of("group", group, "/etc/group")).transpose()?;
        Ok(Self { user, group })
    }
}

/// The number of a user or group.
fn number_of(what: &'static str, name: &str, file: &'static str) -> Result<u32, AttributeError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let lines = fs::read_to_string(file).unwrap_or_default();
    let number = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    number.ok_or_else(|| AttributeError::Unknown { what, name: name.to_owned(), file })
}

impl Owner {
    fn give(self, file: &File) -> io::Result<()> {
        std::os::unix::fs::fchown(file, self.user, self.group)
    }

    fn owns(self, metadata: &fs::Metadata) -> bool {
        self.user.is_none_or(|user| user == metadata.uid())
            && self.group.is_none_or(|group| group == metadata.gid())
    }
}

impl Attributes {
    /// Gives a new file its owner and mode.
    pub(super) fn give_to_file(&self, file: &File) -> io::Result<()> {
        self.owner.map_or(Ok(()), |owner| owner.give(file))?;
        // After the owner, because a change of owner takes special bits away.
        file.set_permissions(Permissions::from_mode(self.file_mode.0))
    }

    /// Makes a directory, which may be there already.
    pub(super) fn make_directory(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
            made => made?,
        }
        let directory = File::open(path)?;
        self.owner.map_or(Ok(()), |owner| owner.give(&directory))?;
        directory.set_permissions(Permissions::from_mode(self.dir_mode.0))
    }

    /// Whether a file is a regular one with this mode and owner.
    pub(super) fn are_of(&self, metadata: &fs::Metadata) -> bool {
        metadata.is_file()
            && metadata.mode() & 0o7777 == self.file_mode.0
            && self.owner.is_none_or(|owner| owner.owns(metadata))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    #[test]
    fn modes_are_octal() {
        assert_eq!(("0644".parse(), "600".parse()), (Ok(Mode(0o644)), Ok(Mode(0o600))));
        for bad in ["", "rw", "+644", "0o", "888", "17777"] {
            assert_eq!(bad.parse::<Mode>(), Err(AttributeError::Mode), "{bad:?}");
        }
    }

    #[test]
    fn an_owner_is_a_name_or_a_number() {
        assert_eq!("root".parse(), Ok(Owner { user: Some(0), group: None }));
        assert_eq!("7:root".parse(), Ok(Owner { user: Some(7), group: Some(0) }));
        assert_eq!(":12".parse(), Ok(Owner { user: None, group: Some(12) }));
        for bad in ["", ":"] {
            assert_eq!(bad.parse::<Owner>(), Err(AttributeError::Owner));
        }
        assert!(matches!("no such user".parse::<Owner>(), Err(AttributeError::Unknown { .. })));
    }
}
