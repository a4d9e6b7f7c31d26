//! Files that the settings name.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use crate::feed::{EtcdAccess, NoFile};
use crate::wire;

/// What keeps the feed's file from being read.
pub(super) fn feed(path: &Path, follow: bool) -> Result<(), String> {
    match readable(path) {
        // It is waited for.
        Err(error) if follow && error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("feed file {}: {error}", path.display())),
        Ok(found) => match NoFile::of(found.file_type()) {
            Some(kind) => Err(format!("feed file {}: it is {kind}", path.display())),
            None => Ok(()),
        },
    }
}

/// Opens regular files only: to open a pipe may wait for its writer, or take what it wrote.
fn readable(path: &Path) -> io::Result<Metadata> {
    let found = std::fs::metadata(path)?;
    if found.is_file() {
        File::open(path)?;
    }
    Ok(found)
}

/// What is wrong with certificates and keys for etcd.
pub(super) fn etcd(access: &EtcdAccess) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |what: &str, path: &Path, parse: fn(&[u8]) -> Result<(), wire::PemError>| {
        let found = std::fs::read(path).map_err(|error| error.to_string());
        let parsed = found.and_then(|bytes| parse(&bytes).map_err(|error| error.to_string()));
        wrong.extend(parsed.err().map(|error| format!("etcd {what} {}: {error}", path.display())));
    };
    if let Some(ca) = &access.ca {
        check("authority", ca, |bytes| wire::certificates(bytes).map(drop));
    }
    if let Some((certificate, key)) = &access.identity {
        check("certificate", certificate, |bytes| wire::certificates(bytes).map(drop));
        check("key", key, |bytes| wire::private_key(bytes).map(drop));
    }
    wrong
}
