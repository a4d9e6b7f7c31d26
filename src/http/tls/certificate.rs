//! The names in a certificate, and its expiry.
//!
//! rustls has verified a client's certificate before it is parsed here, but does not expose its names. A certificate
//! that cannot be parsed completely has no names.

use std::time::{Duration, SystemTime};

use x509_parser::asn1_rs::{Any, Class, Error, Sequence, Set, Tag};
use x509_parser::certificate::{X509Certificate, X509CertificateParser};
use x509_parser::extensions::{GeneralName, SubjectAlternativeName};
use x509_parser::nom::Parser as _;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::X509Name;

/// The string types whose bytes are the text.
const STRINGS: [Tag; 4] = [Tag::Utf8String, Tag::PrintableString, Tag::T61String, Tag::Ia5String];

/// The names and the expiry of a certificate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CertificateInfo {
    /// The common names of the subject; nearly always one.
    pub(super) common_names: Vec<String>,
    /// The URIs among the subject's alternative names.
    pub(super) uris: Vec<String>,
    /// The end of its validity; `None` before 1970.
    pub(super) expires: Option<SystemTime>,
}

impl CertificateInfo {
    /// Parses a certificate (DER); `None` if it is malformed.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        // Only one extension is used; errors in others are ignored.
        let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
        let (_, certificate) = parser.parse(certificate).ok()?;
        Some(Self {
            common_names: common_names(certificate.subject())?,
            uris: uris(&certificate)?,
            expires: expires(&certificate),
        })
    }
}

fn common_names(subject: &X509Name<'_>) -> Option<Vec<String>> {
    if !is_complete(subject) {
        return None;
    }
    let names = subject.iter_common_name().map(|name| {
        let value = name.attr_value();
        // A name in another encoding counts, but equals no configured name.
        let known = value.class() == Class::Universal && STRINGS.contains(&value.tag());
        if known { String::from_utf8_lossy(value.data).into_owned() } else { String::new() }
    });
    Some(names.collect())
}

/// Whether the parser has read every attribute of the subject. It silently stops at the first one that it cannot read,
/// and a second common name after that must not be missed.
fn is_complete(subject: &X509Name<'_>) -> bool {
    // The raw bytes end where the parser stopped.
    let Ok((_, name)) = Sequence::from_der(subject.as_raw()) else { return false };
    let attributes = |set: Result<Set<'_>, Error>| Some(set.ok()?.der_iter::<Any<'_>, Error>().count());
    let there: Option<usize> = name.der_iter().map(attributes).sum();
    there == Some(subject.iter_attributes().count())
}

fn uris(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let mut uris = Vec::new();
    for extension in certificate.extensions().iter().filter(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME) {
        let (_, names) = SubjectAlternativeName::from_der(extension.value).ok()?;
        uris.extend(names.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        }));
    }
    Some(uris)
}

fn expires(certificate: &X509Certificate<'_>) -> Option<SystemTime> {
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    const OID: u8 = 0x06;
    const BITS: u8 = 0x03;
    const OCTETS: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;
    const SET: u8 = 0x31;
    const VERSION: u8 = 0xa0;
    const EXTENSIONS: u8 = 0xa3;
    const URI: u8 = 0x86;
    const UTF8: u8 = 0x0c;
    const BMP: u8 = 0x1e;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];

    fn value(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        let bytes = parts.concat();
        let length = match bytes.len() {
            short @ ..0x80 => vec![short as u8],
            long => vec![0x82, (long >> 8) as u8, long as u8],
        };
        [vec![kind], length, bytes].concat()
    }

    fn attribute(oid: &[u8], kind: u8, text: &[u8]) -> Vec<u8> {
        value(SEQUENCE, &[&value(OID, &[oid]), &value(kind, &[text])])
    }

    fn named(name: &str) -> Vec<u8> {
        value(SET, &[&attribute(COMMON_NAME, UTF8, name.as_bytes())])
    }

    /// A certificate with this subject, expiry and URIs. Unused fields have arbitrary bytes.
    fn certificate(subject: &[u8], end: (u8, &str), uris: &[&str]) -> Vec<u8> {
        let dns = value(0x82, &[b"localhost"]);
        let names: Vec<u8> = uris.iter().flat_map(|uri| value(URI, &[uri.as_bytes()])).collect();
        let critical = value(0x01, &[&[0xff]]);
        let names = value(OCTETS, &[&value(SEQUENCE, &[&dns, &names])]);
        let extensions = [
            value(SEQUENCE, &[&value(OID, &[&[0x55, 0x1d, 0x0e]]), &value(OCTETS, &[&[0; 200]])]),
            value(SEQUENCE, &[&value(OID, &[&[0x55, 0x1d, 0x11]]), &critical, &names]),
        ];
        let algorithm = value(SEQUENCE, &[&value(OID, &[&[0x2a, 0x03]])]);
        let bits = value(BITS, &[&[0; 300]]);
        let begin = value(UTC_TIME, &[b"700101000000Z"]);
        let fields = [
            value(VERSION, &[&[2, 1, 2]]),
            value(2, &[&[1]]),
            algorithm.clone(),
            value(SEQUENCE, &[]),
            value(SEQUENCE, &[&begin, &value(end.0, &[end.1.as_bytes()])]),
            value(SEQUENCE, &[subject]),
            value(SEQUENCE, &[&algorithm, &bits]),
            value(EXTENSIONS, &[&value(SEQUENCE, &[&extensions.concat()])]),
        ];
        value(SEQUENCE, &[&value(SEQUENCE, &[&fields.concat()]), &algorithm, &bits])
    }

    const END: (u8, &str) = (UTC_TIME, "260101000000Z");

    fn common_names_of(subject: &[&[u8]]) -> Option<Vec<String>> {
        CertificateInfo::of(&certificate(&subject.concat(), END, &[])).map(|info| info.common_names)
    }

    #[test]
    fn expiry_times_are_parsed() {
        let parsed = |kind: u8, text: &str| {
            let info = CertificateInfo::of(&certificate(&named("one"), (kind, text), &[]))?;
            info.expires.map(|time| humantime::format_rfc3339_seconds(time).to_string())
        };
        for (kind, text, time) in [
            (UTC_TIME, "700101000000Z", "1970-01-01T00:00:00Z"),
            (UTC_TIME, "491231235959Z", "2049-12-31T23:59:59Z"),
            (UTC_TIME, "000229120000Z", "2000-02-29T12:00:00Z"),
            (UTC_TIME, "260301000000Z", "2026-03-01T00:00:00Z"),
            (GENERALIZED_TIME, "20500101000000Z", "2050-01-01T00:00:00Z"),
            (GENERALIZED_TIME, "21000301000000Z", "2100-03-01T00:00:00Z"),
            (GENERALIZED_TIME, "99991231235959Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(parsed(kind, text).as_deref(), Some(time));
        }
        for bad in ["", "Z", "260301000000", "26x301000000Z", "500101000000Z", "261301000000Z"] {
            assert_eq!(parsed(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn names_and_expiry_are_parsed_and_damaged_bytes_are_refused() {
        let subject =
            [value(SET, &[&attribute(ORGANISATION, UTF8, b"an organisation")]), named("one"), named("two")];
        let whole = certificate(&subject.concat(), END, &["spiffe://a/b", "urn:c"]);
        let info = CertificateInfo::of(&whole).unwrap();
        assert_eq!(info.common_names, ["one", "two"]);
        assert_eq!(info.uris, ["spiffe://a/b", "urn:c"]);
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        assert_eq!(info.expires, Some(end));
        assert_eq!(CertificateInfo::of(&certificate(&[], END, &[])).unwrap().common_names, [""; 0]);
        for length in 0..whole.len() {
            assert_eq!(CertificateInfo::of(&whole[..length]), None, "cut at {length}");
        }
        for at in 0..whole.len() {
            for byte in [0x00, 0x7f, 0x80, 0x83, 0x84, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                // It must not panic.
                _ = CertificateInfo::of(&damaged);
            }
        }
    }

    #[test]
    fn no_common_name_is_missed() {
        let two = |second: &[u8]| common_names_of(&[&named("one"), second]);
        assert_eq!(two(&[]), Some(vec!["one".to_owned()]));
        // A second name counts in the same set, in another encoding, and with invalid text.
        let pair = [attribute(ORGANISATION, UTF8, b"o"), attribute(COMMON_NAME, UTF8, b"two")].concat();
        assert_eq!(two(&value(SET, &[&pair])).unwrap(), ["one", "two"]);
        assert_eq!(two(&value(SET, &[&attribute(COMMON_NAME, BMP, b"\0t\0w")])).unwrap(), ["one", ""]);
        assert_eq!(two(&value(SET, &[&attribute(COMMON_NAME, UTF8, b"\xff")])).unwrap(), ["one", "\u{fffd}"]);
        // An unreadable attribute may be a common name.
        let unreadable = value(SEQUENCE, &[&value(OID, &[COMMON_NAME])]);
        let alone = attribute(COMMON_NAME, UTF8, b"two");
        let in_one_set = [attribute(COMMON_NAME, UTF8, b"one"), unreadable.clone()].concat();
        for broken in [value(SET, &[]), value(SET, &[&unreadable]), value(SET, &[&in_one_set]), alone] {
            assert_eq!(two(&broken), None, "{broken:02x?}");
        }
    }

    #[test]
    fn unreadable_alternative_names_are_no_names() {
        let whole = certificate(&named("one"), END, &["urn:c"]);
        let at = whole.windows(5).position(|bytes| bytes == b"urn:c").unwrap();
        let mut longer = whole.clone();
        longer[at - 1] += 1;
        assert_eq!(CertificateInfo::of(&longer), None);
        let mut no_text = whole;
        no_text[at] = 0xff;
        assert_eq!(CertificateInfo::of(&no_text).unwrap().uris, [""; 0]);
    }
}
