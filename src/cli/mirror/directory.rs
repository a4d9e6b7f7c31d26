//! The directory of a mirror: opened, proved, and brought from state to state.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::generations::{self, ForeignLink, Generations};
use super::in_place::InPlace;
use super::layout::{Layout, Selection};
use super::manifest::{MANIFEST, Manifest, ManifestError};
use super::read_back::{OnDisk, read_back};
use crate::cli::file_attributes::Attributes;
use crate::cli::file_error::FileError;
use crate::cli::output::say;
use crate::client::MirrorSnapshot;

/// The file that the process holds locked.
const LOCK: &str = "..lock";

/// The number of the last write after which the command succeeded.
const COMMAND_DONE: &str = "..command-done";

/// A directory, held by this process alone.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    layout: Layout,
    attributes: Attributes,
    way: Way,
    /// The files that are there. `None` after an error: then they are read back.
    on_disk: Option<OnDisk>,
    /// Whether the files were those of other keys, and are to be replaced by any state.
    takes_over: bool,
    lock: File,
}

/// How files are replaced.
#[derive(Debug)]
enum Way {
    Generations(Generations),
    InPlace(InPlace),
}

/// A directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    ForeignLink(#[from] ForeignLink),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("another `crumbd mirror` keeps {}: stop it, or mirror to another directory", .0.display())]
    Locked(PathBuf),
    #[error(
        "{} has files and no {MANIFEST}: they are not of `crumbd mirror`, which would delete them; give an empty directory",
        .0.display()
    )]
    NotEmpty(PathBuf),
    #[error(
        "the files in {} were written with --in-place: give that flag again, or mirror to another directory",
        .0.display()
    )]
    InPlace(PathBuf),
    #[error(
        "the files in {} were written without --in-place: leave that flag out, or mirror to another directory",
        .0.display()
    )]
    Generations(PathBuf),
    #[error(
        "the files in {} are those of {found}, not of {wanted}: give --take-over to replace them, or mirror to another \
         directory",
        path.display()
    )]
    OtherKeys { path: PathBuf, found: Selection, wanted: Selection },
}

impl Directory {
    /// Opens the directory, and makes it if it is not there. Files of other keys are an error, unless they are to be taken
    /// over. Returns the state of the files too, where it is proved.
    pub(super) fn open(
        path: &Path,
        in_place: bool,
        layout: Layout,
        attributes: Attributes,
        take_over: bool,
    ) -> Result<(Self, Option<MirrorSnapshot>), OpenError> {
        if !path.is_dir() {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            above
                .map_or(Ok(()), fs::create_dir_all)
                .map_err(FileError::at("make the directory above", path))?;
            attributes.make_directory(path).map_err(FileError::at("make the directory", path))?;
        }
        let lock = lock(path)?;
        let has_generations = generations::has_link(path);
        let (way, manifest) = if in_place {
            if has_generations {
                return Err(OpenError::Generations(path.to_owned()));
            }
            let manifest = read_manifest(path)?;
            let number = manifest.as_ref().map_or(0, |manifest| manifest.generation);
            (Way::InPlace(InPlace::open(path, attributes, number)), manifest)
        } else {
            if !has_generations && path.join(MANIFEST).exists() {
                return Err(OpenError::InPlace(path.to_owned()));
            }
            let generations = Generations::open(path, attributes)?;
            let manifest = generations.root().map_or(Ok(None), |root| read_manifest(&root))?;
            (Way::Generations(generations), manifest)
        };
        let other = manifest.as_ref().and_then(|manifest| manifest.other_than(layout.selection()));
        let takes_over = other.is_some();
        let path = path.to_owned();
        let mut this = Self { path, layout, attributes, way, on_disk: None, takes_over, lock };
        let on_disk = this.read_back(manifest.as_ref())?;
        if let Some(found) = other.clone().filter(|_| !take_over && !on_disk.state.is_empty()) {
            let wanted = this.layout.selection().clone();
            return Err(OpenError::OtherKeys { path: this.path, found, wanted });
        }
        if let Way::InPlace(files) = &this.way {
            let is_new = manifest.is_none();
            if is_new && !on_disk.state.is_empty() && !this.path.join(MANIFEST).exists() {
                return Err(OpenError::NotEmpty(this.path));
            }
            files.make_room()?;
            if is_new {
                files.claim(&this.layout)?;
            }
        }
        let proved =
            manifest.filter(|manifest| !takes_over && on_disk.is_fit() && manifest.proves(&on_disk.state));
        let resume = proved.map(|_| on_disk.state.clone());
        if resume.is_none() && !on_disk.state.is_empty() {
            let path = this.path.display();
            match other {
                Some(found) => say(format_args!(
                    "the files in {path} are those of {found}: the state of {} is fetched, and takes their place",
                    this.layout.selection()
                )),
                None => say(format_args!(
                    "the files in {path} are not as its {MANIFEST} says, or not of the mode and owner that are wanted: the \
                     state is fetched, and they are mended"
                )),
            }
        }
        this.on_disk = Some(on_disk);
        Ok((this, resume))
    }

    fn read_back(&self, manifest: Option<&Manifest>) -> Result<OnDisk, FileError> {
        let root = match &self.way {
            Way::Generations(generations) => generations.root(),
            Way::InPlace(files) => Some(files.root().to_owned()),
        };
        root.map_or(Ok(OnDisk::default()), |root| read_back(&root, &self.layout, manifest, &self.attributes))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there are files of the keys that are wanted.
    pub(super) fn has_keys(&self) -> bool {
        !self.takes_over && self.on_disk.as_ref().is_some_and(|on_disk| !on_disk.state.is_empty())
    }

    /// The number of writes in which a key changed.
    pub(super) fn generation(&self) -> u64 {
        match &self.way {
            Way::Generations(generations) => generations.number(),
            Way::InPlace(files) => files.number(),
        }
    }

    /// Brings the files to this state; returns the number of keys that have changed.
    pub(super) fn write(&mut self, state: &MirrorSnapshot) -> Result<usize, OpenError> {
        if !self.is_held() {
            // Removed or replaced by somebody.
            let in_place = matches!(self.way, Way::InPlace(_));
            (*self, _) = Self::open(&self.path, in_place, self.layout.clone(), self.attributes, false)?;
        }
        let on_disk = match self.on_disk.take() {
            Some(on_disk) => on_disk,
            // After an error; the manifest knows no more than names of long keys, which are written again.
            None => {
                if let Way::InPlace(files) = &self.way {
                    files.make_room()?;
                }
                self.read_back(None)?
            }
        };
        let changed = self.layout.affected(&on_disk.state, state).changed;
        let is_first = self.generation() == 0;
        if changed == 0 && on_disk.is_fit() && !is_first {
            self.save(state)?;
        } else {
            match &mut self.way {
                Way::Generations(generations) => generations.write(&on_disk, state, &self.layout)?,
                Way::InPlace(files) => files.write(&on_disk, state, &self.layout)?,
            }
        }
        self.on_disk = Some(OnDisk { state: state.clone(), ..OnDisk::default() });
        Ok(changed)
    }

    /// Whether the directory is still the one that this process has locked.
    fn is_held(&self) -> bool {
        let file = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let (there, held) = (fs::metadata(self.path.join(LOCK)).map(file), self.lock.metadata().map(file));
        there.is_ok_and(|there| held.is_ok_and(|held| there == held))
    }

    /// Writes a newer cursor of the same files into the manifest.
    fn save(&self, state: &MirrorSnapshot) -> Result<(), FileError> {
        match &self.way {
            Way::Generations(generations) => generations.save_position(state, &self.layout),
            Way::InPlace(files) => files.save_position(state, &self.layout),
        }
    }

    /// Whether the command has not succeeded since the files changed last.
    pub(super) fn command_is_due(&self) -> bool {
        let done = fs::read_to_string(self.path.join(COMMAND_DONE)).ok();
        self.generation() > 0 && done.and_then(|done| done.trim().parse().ok()) != Some(self.generation())
    }

    /// Remembers that the command has succeeded after this write. Returns what does so.
    pub(super) fn command_done(&self) -> impl Fn(u64) + Send + 'static {
        let (path, temporary) = (self.path.join(COMMAND_DONE), self.path.join("..command-done.new"));
        move |generation| {
            // Where this cannot be written, the command runs once more after the next start.
            let written = fs::write(&temporary, format!("{generation}\n"));
            _ = written.and_then(|()| fs::rename(&temporary, &path));
        }
    }
}

/// Reads the manifest. One that is damaged is as none, but that it is said.
fn read_manifest(root: &Path) -> Result<Option<Manifest>, OpenError> {
    match Manifest::read(root) {
        Err(newer @ ManifestError::Newer { .. }) => Err(newer.into()),
        Err(damaged) => {
            say(damaged);
            Ok(None)
        }
        Ok(manifest) => Ok(manifest),
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(FileError::at("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        // A file system without locks.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(FileError::at("lock", &path)(error).into()),
    }
}
