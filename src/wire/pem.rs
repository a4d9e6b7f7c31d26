//! Certificates and keys in PEM files, as the bytes that TLS needs.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A PEM text without a usable certificate or key. The caller adds the file's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemError {
    /// It has no certificate.
    #[error("there is no certificate in it; one begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// It has no private key.
    #[error(
        "there is no private key in it that can be used: it is PKCS#8, PKCS#1 or SEC1 in PEM, and not encrypted"
    )]
    NoKey,
    /// The last line of a section is missing; holds that line.
    #[error("it is damaged or only half there: the line {0} is missing")]
    MissingEnd(String),
    /// The first line of a section is malformed; holds that line.
    #[error("it is damaged or only half there: the line {0:?} begins nothing")]
    MalformedBegin(String),
    /// The text between the two lines is not base64; holds the reason.
    #[error("it is damaged or only half there: its base64 cannot be read ({0})")]
    Base64(String),
    /// Any other error of the PEM library.
    #[error("it is damaged or only half there: {0}")]
    Other(String),
}

/// Reads the certificates of a file, in their order. There is at least one.
///
/// # Errors
/// [`PemError`].
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    match all.map_err(|error| damaged(&error))? {
        none if none.is_empty() => Err(PemError::NoCertificate),
        all => Ok(all),
    }
}

/// Reads the first private key of a file.
///
/// # Errors
/// [`PemError`].
pub(crate) fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => PemError::NoKey,
        error => damaged(&error),
    })
}

fn damaged(error: &pem::Error) -> PemError {
    let text = |line: &[u8]| String::from_utf8_lossy(line).trim_end().to_owned();
    match error {
        pem::Error::MissingSectionEnd { end_marker } => PemError::MissingEnd(text(end_marker)),
        pem::Error::IllegalSectionStart { line } => PemError::MalformedBegin(text(line)),
        pem::Error::Base64Decode(reason) => PemError::Base64(reason.clone()),
        error => PemError::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_damaged_section_is_an_error() {
        let whole = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(whole.repeat(2).as_bytes()).map(|all| all.len()), Ok(2));
        assert_eq!(certificates(b""), Err(PemError::NoCertificate));
        assert_eq!(private_key(whole.as_bytes()).err(), Some(PemError::NoKey));
        let half = &whole[..whole.len() - 10];
        assert!(matches!(certificates(half.as_bytes()), Err(PemError::MissingEnd(_))));
        let no_base64 = whole.replace("AAEC", "A*EC");
        assert!(matches!(certificates(no_base64.as_bytes()), Err(PemError::Base64(_))));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAEC\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(private_key(encrypted.as_bytes()).err(), Some(PemError::NoKey));
    }
}
