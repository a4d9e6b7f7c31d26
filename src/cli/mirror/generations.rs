//! A directory in which whole revisions replace each other.
//!
//! ```text
//! DIR/current                  symbolic link to the newest generation, replaced by a rename
//! DIR/..20260102T030405Z-7/    a generation: the files of one revision, and its manifest
//! DIR/..20260102T030401Z-6/    the generation before, for readers that have it open; and those of the last moment
//! DIR/..lock
//! ```
//!
//! A generation never changes but for the cursor in its manifest. A file that is the same as before is a hard link to
//! the one of the generation before. The link is replaced only when the new generation is on disk: whatever ends the
//! process, `current` leads to a whole revision.

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use super::layout::Layout;
use super::manifest::{MANIFEST, Manifest};
use super::read_back::OnDisk;
use super::write_file::{Unsynced, replace, sync, write_new};
use crate::cli::file_attributes::Attributes;
use crate::cli::file_error::FileError;
use crate::cli::output::say;
use crate::client::MirrorSnapshot;

/// The name of the symbolic link.
pub(super) const CURRENT: &str = "current";

/// How long a generation is kept after it was replaced, and the one before the current one is always kept. A reader that
/// has looked the link up, and opens what it leads to only now, finds it.
const KEPT: Duration = Duration::from_secs(2);

/// The link before it is renamed.
const NEXT: &str = "..current.new";

/// The generations of a directory.
#[derive(Debug)]
pub(super) struct Generations {
    directory: PathBuf,
    attributes: Attributes,
    /// The name of the generation that `current` leads to.
    current: Option<String>,
    /// Those before it, the oldest first, and when they were replaced.
    replaced: VecDeque<(String, Instant)>,
    /// The highest number of a generation so far.
    number: u64,
}

/// Something that is not of this program is where its link should be.
#[derive(Debug, thiserror::Error)]
#[error("{} is no link of `crumbd mirror`: move it away, or mirror to another directory", .0.display())]
pub(super) struct ForeignLink(PathBuf);

/// Whether the link in this directory leads to a generation, or led to one.
pub(super) fn has_link(directory: &Path) -> bool {
    let target = fs::read_link(directory.join(CURRENT)).ok();
    target.is_some_and(|target| target.to_str().and_then(number_of).is_some())
}

impl Generations {
    /// The generations in this directory. What an earlier run left half done is removed.
    pub(super) fn open(directory: &Path, attributes: Attributes) -> Result<Self, super::OpenError> {
        let link = directory.join(CURRENT);
        let current = match fs::read_link(&link) {
            Ok(target) => match target.to_str().filter(|name| number_of(name).is_some()) {
                Some(name) => Some(name.to_owned()).filter(|name| directory.join(name).is_dir()),
                None => return Err(ForeignLink(link).into()),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) if error.kind() == ErrorKind::InvalidInput => return Err(ForeignLink(link).into()),
            Err(error) => return Err(FileError::at("read", &link)(error).into()),
        };
        let mut this = Self {
            directory: directory.to_owned(),
            attributes,
            current,
            replaced: VecDeque::new(),
            number: 0,
        };
        let current_number = this.current.as_deref().and_then(number_of);
        for file in fs::read_dir(directory).map_err(FileError::at("read", directory))? {
            let file = file.map_err(FileError::at("read", directory))?;
            let Some((name, number)) =
                file.file_name().to_str().and_then(|name| Some((name.to_owned(), number_of(name)?)))
            else {
                continue;
            };
            this.number = this.number.max(number);
            if this.current.as_ref() == Some(&name) {
                continue;
            }
            let is_previous = current_number.is_some_and(|current| number + 1 == current);
            if is_previous && this.replaced.is_empty() {
                this.replaced.push_back((name, Instant::now()));
            } else {
                this.remove(&name);
            }
        }
        Ok(this)
    }

    /// The directory with the files of now.
    pub(super) fn root(&self) -> Option<PathBuf> {
        self.current.as_ref().map(|name| self.directory.join(name))
    }

    /// Makes a generation of this state, and replaces the current one.
    pub(super) fn write(
        &mut self,
        on_disk: &OnDisk,
        state: &MirrorSnapshot,
        layout: &Layout,
    ) -> Result<(), FileError> {
        self.number += 1;
        let name = format!("..{}-{}", timestamp(), self.number);
        let root = self.directory.join(&name);
        let swapped = self.build(&root, on_disk, state, layout).and_then(|()| self.lead_to(&name));
        if let Err(error) = swapped {
            // Where this fails too, the next start removes it.
            _ = fs::remove_dir_all(&root);
            return Err(error);
        }
        self.replaced.extend(self.current.replace(name).map(|old| (old, Instant::now())));
        self.remove_old();
        sync(&self.directory).map_err(FileError::at("sync", &self.directory))
    }

    fn remove_old(&mut self) {
        while self.replaced.len() > 1
            && let Some((old, _)) = self.replaced.pop_front_if(|(_, since)| since.elapsed() > KEPT)
        {
            self.remove(&old);
        }
    }

    /// Makes a generation that nobody sees yet.
    fn build(
        &self,
        root: &Path,
        on_disk: &OnDisk,
        state: &MirrorSnapshot,
        layout: &Layout,
    ) -> Result<(), FileError> {
        let affected = layout.affected(&on_disk.state, state).keys;
        let old = self.root();
        let mut unsynced = Unsynced::default();
        let mut made = HashSet::new();
        let make = |path: &Path| {
            self.attributes.make_directory(path).map_err(FileError::at("make the directory", path))
        };
        make(root)?;
        unsynced.add(root);
        for entry in state.iter() {
            let relative = layout.path(state, entry.key());
            for (at, _) in relative.match_indices('/') {
                if !made.contains(&relative[..at]) {
                    let directory = root.join(&relative[..at]);
                    make(&directory)?;
                    unsynced.add(&directory);
                    made.insert(relative[..at].to_owned());
                }
            }
            let path = root.join(&relative);
            let same = old
                .as_ref()
                .filter(|_| !affected.contains(entry.key()) && !on_disk.unfit.contains(entry.key()));
            // A file system may have no links, or no more of them to this file.
            if same.is_none_or(|old| fs::hard_link(old.join(&relative), &path).is_err()) {
                write_new(&path, entry.value(), &self.attributes).map_err(FileError::at("write", &path))?;
                unsynced.add(&path);
            }
        }
        let path = root.join(MANIFEST);
        let manifest = Manifest::of(state, layout, self.number).to_bytes();
        write_new(&path, &manifest, &self.attributes).map_err(FileError::at("write", &path))?;
        unsynced.add(&path);
        unsynced.sync(root)
    }

    fn lead_to(&self, name: &str) -> Result<(), FileError> {
        let (next, link) = (self.directory.join(NEXT), self.directory.join(CURRENT));
        remove_if_there(&next).map_err(FileError::at("remove", &next))?;
        std::os::unix::fs::symlink(name, &next).map_err(FileError::at("make the link", &next))?;
        fs::rename(&next, &link).map_err(FileError::at("replace", &link))
    }

    /// The number of the current generation.
    pub(super) fn number(&self) -> u64 {
        self.current.as_deref().and_then(number_of).unwrap_or_default()
    }

    /// Writes a newer cursor of the same files into the manifest.
    pub(super) fn save_position(&self, state: &MirrorSnapshot, layout: &Layout) -> Result<(), FileError> {
        let Some(root) = self.root() else { return Ok(()) };
        let manifest = Manifest::of(state, layout, self.number()).to_bytes();
        replace(&root.join(MANIFEST), &root.join("..manifest.new"), &manifest, &self.attributes)
    }

    /// Removes a generation. It is in nobody's way if that fails, and the next start tries again.
    fn remove(&self, name: &str) {
        let path = self.directory.join(name);
        if let Err(error) = fs::remove_dir_all(&path).map_err(FileError::at("remove", &path)) {
            say(error);
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The time in a generation's name, such as `20260102T030405Z`.
fn timestamp() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "")
}

/// The number in a generation's name; `None` for any other name.
fn number_of(name: &str) -> Option<u64> {
    let (time, number) = name.strip_prefix("..")?.split_once('-')?;
    let is_time = time.len() == "20260102T030405Z".len()
        && time.bytes().enumerate().all(|(at, byte)| match at {
            8 => byte == b'T',
            15 => byte == b'Z',
            _ => byte.is_ascii_digit(),
        });
    is_time.then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_generation_has_a_number() {
        assert_eq!(number_of(&format!("..{}-7", timestamp())), Some(7));
        for other in [
            "current",
            "..data",
            "..20260102T030405Z",
            "..20260102T030405Z-",
            "..2026-01-02-7",
            "20260102T030405Z-7",
        ] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }
}
