//! Certificates and keys as they stand in files: PEM text to the bytes that TLS wants.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why a file holds no certificate or no key. The file's name is for whoever has read it to say.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PemError {
    /// There is none in it.
    #[error("there is no certificate in it; one begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate,
    /// There is none in it.
    #[error(
        "there is no private key in it that can be used: it is PKCS#8, PKCS#1 or SEC1 in PEM, and not encrypted"
    )]
    NoKey,
    /// A part of it begins and does not end, or is not what its frame says.
    #[error("it is damaged or only half there: {0}")]
    Damaged(String),
}

/// The certificates of a file, in its order. There is at least one.
///
/// # Errors
/// [`PemError`].
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
    match all.map_err(|error| damaged(&error))? {
        none if none.is_empty() => Err(PemError::NoCertificate),
        all => Ok(all),
    }
}

/// The first private key of a file.
///
/// # Errors
/// [`PemError`].
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => PemError::NoKey,
        error => damaged(&error),
    })
}

fn damaged(error: &pem::Error) -> PemError {
    PemError::Damaged(match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("the line {} is missing", String::from_utf8_lossy(end_marker).trim_end())
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("the line {:?} begins nothing", String::from_utf8_lossy(line).trim_end())
        }
        pem::Error::Base64Decode(reason) => format!("its base64 cannot be read ({reason})"),
        error => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_half_there_is_said() {
        let whole = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(whole.repeat(2).as_bytes()).map(|all| all.len()), Ok(2));
        assert_eq!(certificates(b""), Err(PemError::NoCertificate));
        assert_eq!(private_key(whole.as_bytes()).err(), Some(PemError::NoKey));
        let half = &whole[..whole.len() - 10];
        for damaged in [half, &whole.replace("AAEC", "A*EC")] {
            assert!(matches!(certificates(damaged.as_bytes()), Err(PemError::Damaged(_))), "{damaged}");
        }
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAEC\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(private_key(encrypted.as_bytes()).err(), Some(PemError::NoKey));
    }
}
