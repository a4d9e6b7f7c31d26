//! The files of an earlier run.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::file_name::is_long;
use super::layout::Layout;
use super::manifest::Manifest;
use crate::cli::file_attributes::Attributes;
use crate::cli::file_error::FileError;
use crate::client::MirrorSnapshot;
use crate::model::{Entry, Key};

/// Keys whose files are there, and how they are.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    /// Key and value of each file.
    pub(super) state: MirrorSnapshot,
    /// The keys whose files are not as they should be, though their content may be right: of another mode or owner, or no
    /// files at all.
    pub(super) unfit: BTreeSet<Vec<u8>>,
    /// Files that are no key's at this place: left over from an earlier layout.
    pub(super) strays: Vec<PathBuf>,
}

impl OnDisk {
    /// Whether the files need no mending.
    pub(super) fn is_fit(&self) -> bool {
        self.unfit.is_empty() && self.strays.is_empty()
    }
}

/// Reads all files of keys below `root`. What is nobody's is not looked at.
pub(super) fn read_back(
    root: &Path,
    layout: &Layout,
    manifest: Option<&Manifest>,
    attributes: &Attributes,
) -> Result<OnDisk, FileError> {
    let mut found = Vec::new();
    let mut unfit = BTreeSet::new();
    let mut strays = Vec::new();
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        let path = root.join(&directory);
        for file in fs::read_dir(&path).map_err(FileError::at("read", &path))? {
            let file = file.map_err(FileError::at("read", &path))?;
            let name = file.file_name();
            let Some(name) = std::str::from_utf8(name.as_bytes()).ok().filter(|name| !name.starts_with(".."))
            else {
                continue;
            };
            let relative = if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
            let metadata = file.metadata().map_err(FileError::at("look at", &file.path()))?;
            if metadata.is_dir() {
                directories.push(relative);
                continue;
            }
            let key = match is_long(&relative) {
                true => manifest.and_then(|manifest| manifest.long_key(&relative)),
                false => layout.key(&relative),
            };
            let Some(key) = key else {
                if is_long(&relative) {
                    strays.push(file.path());
                }
                continue;
            };
            let content = match metadata.is_file() {
                true => fs::read(file.path()).map_err(FileError::at("read", &file.path()))?,
                false => Vec::new(),
            };
            if !attributes.are_of(&metadata) {
                unfit.insert(key.as_bytes().to_vec());
            }
            found.push((relative, key, content));
        }
    }
    let keys = |found: &[(String, Key, Vec<u8>)]| {
        let entries = found.iter().map(|(_, key, content)| Entry::new(key.as_bytes(), content, None));
        state_of(entries, manifest)
    };
    let all = keys(&found);
    // A key that was a plain file and became a directory may have left both.
    let (placed, left): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(path, key, _)| layout.path(&all, key.as_bytes()) == *path);
    strays.extend(left.iter().map(|(path, ..)| root.join(path)));
    let state = if left.is_empty() { all } else { keys(&placed) };
    Ok(OnDisk { state, unfit, strays })
}

/// The state of these entries at the manifest's cursor.
fn state_of(entries: impl Iterator<Item = Entry>, manifest: Option<&Manifest>) -> MirrorSnapshot {
    // Without a manifest the files are of no state, and nothing resumes from it.
    let cursor = manifest.and_then(|manifest| manifest.cursor);
    let status = manifest.and_then(|manifest| manifest.status.as_deref()?.parse().ok());
    MirrorSnapshot::of(entries, cursor, manifest.and_then(Manifest::rights)).with_status(status)
}
