//! The manifest: says of which state the files are, so that a restart goes on from there.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::{Layout, Selection};
use crate::cli::file_error::FileError;
use crate::client::MirrorSnapshot;
use crate::http::read_regular;
use crate::model::{Digest, Key, OpaqueCursor};

/// The manifest's name. No key has a name that begins with two dots.
pub(super) const MANIFEST: &str = "..manifest.json";

/// The format that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// The content of the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// Counts the writes in which a key changed.
    pub(super) generation: u64,
    /// The collection of the keys, empty for the one without a name. `None` where an older version wrote this.
    #[serde(default)]
    collection: Option<String>,
    /// The prefix that is taken off the keys.
    prefix: String,
    /// `None` while the first files are written in place.
    #[serde(with = "as_text")]
    pub(super) cursor: Option<OpaqueCursor>,
    rights: Option<String>,
    pub(super) status: Option<String>,
    count: u64,
    /// The daemon's digest: of the keys with their prefix.
    #[serde(with = "as_text")]
    digest: Option<Digest>,
    /// The keys of the files in `%long`, in base64, by file name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    long_keys: BTreeMap<String, String>,
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error(transparent)]
    Unreadable(#[from] FileError),
    #[error("{path}: {source}")]
    Invalid { path: String, source: serde_json::Error },
    #[error(
        "{path} has format {found}, and this program knows {FORMAT} at most: run the newer crumbd, or begin with an empty \
         directory"
    )]
    Newer { path: String, found: u32 },
}

impl Manifest {
    /// The manifest of a whole state.
    pub(super) fn of(state: &MirrorSnapshot, layout: &Layout, generation: u64) -> Self {
        Self {
            format: FORMAT,
            generation,
            collection: Some(layout.selection().collection.clone()),
            prefix: layout.selection().prefix.clone(),
            cursor: state.cursor(),
            rights: state.rights().map(str::to_owned),
            status: state.status().map(|status| status.to_string()),
            count: state.len() as u64,
            digest: Some(state.digest()),
            long_keys: layout.long_keys(state),
        }
    }

    /// The manifest of a directory into which the first files are being written. It only says whose they are.
    pub(super) fn of_no_state(layout: &Layout) -> Self {
        Self { cursor: None, rights: None, status: None, ..Self::of(&MirrorSnapshot::default(), layout, 0) }
    }

    /// Reads the manifest in this directory; `None` if there is none.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, ManifestError> {
        let path = directory.join(MANIFEST);
        let bytes = match read_regular(&path, u64::MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::at("read", &path)(error).into()),
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let invalid = |source| ManifestError::Invalid { path: path.display().to_string(), source };
        // A newer format may have other fields.
        let Format { format } = serde_json::from_slice(&bytes).map_err(invalid)?;
        if format > FORMAT {
            return Err(ManifestError::Newer { path: path.display().to_string(), found: format });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(invalid)
    }

    /// The manifest's text.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Maps with text as keys, numbers and text can always be written.
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// The key of a file in `%long`.
    pub(super) fn long_key(&self, path: &str) -> Option<Key> {
        self.long_keys.get(path.rsplit('/').next()?).and_then(|text| Layout::long_key(text))
    }

    /// What the files are of, if that is something else.
    pub(super) fn other_than(&self, selection: &Selection) -> Option<Selection> {
        let collection = self.collection.as_ref().unwrap_or(&selection.collection).clone();
        let found = Selection { collection, prefix: self.prefix.clone() };
        (found != *selection).then_some(found)
    }

    /// The state of these files, if they are those of this manifest.
    pub(super) fn proves(&self, files: &MirrorSnapshot) -> bool {
        self.cursor.is_some() && self.count == files.len() as u64 && self.digest == Some(files.digest())
    }

    pub(super) fn rights(&self) -> Option<&str> {
        self.rights.as_deref()
    }
}

/// A value that is written as text.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::to_string).serialize(to)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}
