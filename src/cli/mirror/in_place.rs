//! A directory whose files are replaced one by one.
//!
//! ```text
//! DIR/…                   the files
//! DIR/..manifest.json     written last
//! DIR/..new/              new files before they are renamed into their place
//! DIR/..lock
//! ```
//!
//! Each file is whole and on disk before it gets its name. The manifest is written when all files are those of its
//! cursor. If the process ends before that, the files do not match the manifest, and the next start mends them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fs, io};

use super::layout::Layout;
use super::manifest::{MANIFEST, Manifest};
use super::read_back::OnDisk;
use super::write_file::{Unsynced, replace, write_new};
use crate::cli::file_attributes::Attributes;
use crate::cli::file_error::FileError;
use crate::client::MirrorSnapshot;
use crate::model::Entry;

/// The directory of new files.
const NEW: &str = "..new";

/// The files that are written before they are renamed together: a sync of the file system serves all of them.
const BATCH: usize = 1024;

/// A directory whose files are replaced one by one.
#[derive(Debug)]
pub(super) struct InPlace {
    directory: PathBuf,
    attributes: Attributes,
    /// The number of writes in which a key changed.
    number: u64,
}

impl InPlace {
    /// The files in this directory, of which the manifest says that so many writes changed them.
    pub(super) fn open(directory: &Path, attributes: Attributes, number: u64) -> Self {
        Self { directory: directory.to_owned(), attributes, number }
    }

    /// Makes room for new files. What an earlier run left there is removed.
    pub(super) fn make_room(&self) -> Result<(), FileError> {
        let new = self.directory.join(NEW);
        match fs::remove_dir_all(&new) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(FileError::at("remove", &new))?,
        }
        fs::create_dir(&new).map_err(FileError::at("make the directory", &new))
    }

    pub(super) fn root(&self) -> &Path {
        &self.directory
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Makes the directory one of this program, before there are files.
    pub(super) fn claim(&self, layout: &Layout) -> Result<(), FileError> {
        self.write_manifest(&Manifest::of_no_state(layout))
    }

    /// Brings the files to this state. After an error they are between the two.
    pub(super) fn write(
        &mut self,
        on_disk: &OnDisk,
        state: &MirrorSnapshot,
        layout: &Layout,
    ) -> Result<(), FileError> {
        let mut keys = layout.affected(&on_disk.state, state).keys;
        keys.extend(on_disk.unfit.iter().cloned());
        let (mut obsolete, mut written) = (on_disk.strays.clone(), Vec::new());
        for key in &keys {
            let place = |state: &MirrorSnapshot| state.get(key).map(|_| layout.path(state, key));
            let (old, new) = (place(&on_disk.state), place(state));
            if let Some(old) = old.filter(|old| new.as_ref() != Some(old)) {
                obsolete.push(self.directory.join(old));
            }
            written.extend(new.zip(state.get(key)));
        }
        let mut unsynced = Unsynced::default();
        // First, because a file may be where a directory must be.
        for path in obsolete {
            self.remove(&path, &mut unsynced).map_err(FileError::at("remove", &path))?;
        }
        for batch in written.chunks(BATCH) {
            self.write_batch(batch, &mut unsynced)?;
        }
        unsynced.sync(&self.directory)?;
        self.number += 1;
        self.save_position(state, layout)
    }

    fn write_batch(&self, batch: &[(String, &Entry)], unsynced: &mut Unsynced) -> Result<(), FileError> {
        let temporary = |number: usize| self.directory.join(NEW).join(number.to_string());
        let mut files = Unsynced::default();
        for (number, (_, entry)) in batch.iter().enumerate() {
            let path = temporary(number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed.map_err(FileError::at("remove", &path))?,
            }
            write_new(&path, entry.value(), &self.attributes).map_err(FileError::at("write", &path))?;
            files.add(&path);
        }
        files.sync(&self.directory)?;
        for (number, (relative, _)) in batch.iter().enumerate() {
            for (at, _) in relative.match_indices('/') {
                let directory = self.directory.join(&relative[..at]);
                if !directory.is_dir() {
                    let made = self.attributes.make_directory(&directory);
                    made.map_err(FileError::at("make the directory", &directory))?;
                    directory.parent().into_iter().for_each(|parent| unsynced.add(parent));
                }
            }
            let path = self.directory.join(relative);
            rename(&temporary(number), &path).map_err(FileError::at("replace", &path))?;
            path.parent().into_iter().for_each(|parent| unsynced.add(parent));
        }
        Ok(())
    }

    /// Removes a file, and the directories that are empty without it.
    fn remove(&self, path: &Path, unsynced: &mut Unsynced) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed?,
        }
        for directory in path.ancestors().skip(1).take_while(|directory| *directory != self.directory) {
            unsynced.add(directory);
            // A directory that is not empty stays.
            if fs::remove_dir(directory).is_err() {
                return Ok(());
            }
        }
        unsynced.add(&self.directory);
        Ok(())
    }

    /// Writes a newer cursor of the same files into the manifest.
    pub(super) fn save_position(&self, state: &MirrorSnapshot, layout: &Layout) -> Result<(), FileError> {
        self.write_manifest(&Manifest::of(state, layout, self.number))
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<(), FileError> {
        let (path, temporary) = (self.directory.join(MANIFEST), self.directory.join(NEW).join("manifest"));
        replace(&path, &temporary, &manifest.to_bytes(), &self.attributes)?;
        super::write_file::sync(&self.directory).map_err(FileError::at("sync", &self.directory))
    }
}

/// Renames a file. Directories without files, which a process that was killed may have left in its place, are removed.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            remove_empty_directories(to)?;
            fs::rename(from, to)
        }
        renamed => renamed,
    }
}

fn remove_empty_directories(path: &Path) -> io::Result<()> {
    for inner in fs::read_dir(path)? {
        let inner = inner?;
        if inner.file_type()?.is_dir() {
            remove_empty_directories(&inner.path())?;
        }
    }
    fs::remove_dir(path)
}
