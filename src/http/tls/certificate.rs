//! What a certificate says: who it is for, and until when.
//!
//! Of a certificate only three things are wanted here that rustls does not tell: the common names and
//! URIs of its subject, and when it expires. They stand at known places (RFC 5280, 4.1), so a reader
//! of a few lines finds them. A client's certificate is looked at only after rustls has verified it; what
//! is not understood names nobody.
//!
//! ```text
//! Certificate    = SEQ { TBSCertificate, … }
//! TBSCertificate = SEQ { [0] version?, serial, SEQ algorithm, SEQ issuer, SEQ { notBefore, notAfter },
//!                        SEQ subject, SEQ key, …, [3] SEQ { SEQ { OID, BOOL?, OCTETS value } … } }
//! subject        = SEQ of SET of SEQ { OID, string }
//! value          = SEQ of names, of which [6] is a URI, where the OID is that of subjectAltName
//! ```

use std::time::{Duration, SystemTime};

const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const URI: u8 = 0x86;
/// `YYMMDDhhmmssZ` and `YYYYMMDDhhmmssZ`.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// UTF8String, PrintableString, TeletexString, IA5String: those whose bytes are the text.
const STRINGS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];

/// 2.5.4.3 and 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// What a certificate says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Of the subject; nearly always there is one.
    pub(super) common_names: Vec<String>,
    /// Of the subject's alternative names.
    pub(super) uris: Vec<String>,
    /// From when on it is no good any more.
    pub(super) expires: Option<SystemTime>,
}

impl Facts {
    /// Reads a certificate (DER). Nothing where it is not one.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut fields = Der(Der(certificate).take(SEQUENCE)?);
        let mut fields = Der(fields.take(SEQUENCE)?);
        _ = fields.take(VERSION);
        let (_serial, _algorithm, _issuer) = (fields.any()?, fields.any()?, fields.any()?);
        let mut validity = Der(fields.take(SEQUENCE)?);
        let (_not_before, (kind, not_after)) = (validity.any()?, validity.any()?);
        let subject = Der(fields.take(SEQUENCE)?);
        let _key = fields.any()?;
        let extensions = loop {
            match fields.any() {
                Some((EXTENSIONS, list)) => break Der(list).take(SEQUENCE)?,
                // Unique identifiers, which nobody uses.
                Some(_) => {}
                None => break &[],
            }
        };
        Some(Self {
            common_names: common_names(subject)?,
            uris: uris(Der(extensions))?,
            expires: time(kind, not_after),
        })
    }
}

fn common_names(mut subject: Der<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !subject.0.is_empty() {
        let mut together = Der(subject.take(SET)?);
        while !together.0.is_empty() {
            let mut name = Der(together.take(SEQUENCE)?);
            if name.take(OID)? == COMMON_NAME {
                let (kind, text) = name.any()?;
                // A name that is written otherwise is there, and nobody's.
                let known = STRINGS.contains(&kind).then(|| String::from_utf8_lossy(text).into_owned());
                names.push(known.unwrap_or_default());
            }
        }
    }
    Some(names)
}

fn uris(mut extensions: Der<'_>) -> Option<Vec<String>> {
    let mut uris = Vec::new();
    while !extensions.0.is_empty() {
        let mut extension = Der(extensions.take(SEQUENCE)?);
        if extension.take(OID)? != ALTERNATIVE_NAMES {
            continue;
        }
        let value = std::iter::from_fn(|| extension.any()).find(|(kind, _)| *kind == OCTETS)?.1;
        let mut names = Der(Der(value).take(SEQUENCE)?);
        while !names.0.is_empty() {
            if let (URI, text) = names.any()? {
                uris.push(String::from_utf8_lossy(text).into_owned());
            }
        }
    }
    Some(uris)
}

/// One value after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value, if it is of this kind.
    fn take(&mut self, kind: u8) -> Option<&'a [u8]> {
        if *self.0.first()? == kind { self.any().map(|(_, bytes)| bytes) } else { None }
    }

    /// The next value and its kind.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&kind, rest) = self.0.split_first()?;
        let (&length, rest) = rest.split_first()?;
        // A length of up to 127 is a byte; a longer one is so many bytes behind 128.
        let (length, rest) = match usize::from(length) {
            length @ ..=0x7f => (length, rest),
            bytes @ 0x81..=0x83 => {
                let (length, rest) = rest.split_at_checked(bytes - 0x80)?;
                (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((kind, value))
    }
}

/// Times of certificates are UTC and end with a Z.
fn time(kind: u8, text: &[u8]) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0, |sum, digit| 10 * sum + u64::from(digit - b'0'));
    let (year, rest) = match (kind, digits.len()) {
        (UTC_TIME, 12) => (2000 + number(&digits[..2]), &digits[2..]),
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    // Two digits are the years from 1950 to 2049.
    let year = if kind == UTC_TIME && year >= 2050 { year - 100 } else { year };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| rest.get(at..at + 2).map_or(0, number));
    // As if the year began in March: then the leap day is its last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    // 1970-01-01 by the same count.
    let days = days.checked_sub(719_469)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(((days * 24 + hour) * 60 + minute) * 60 + second))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // a test may unwrap

    use super::*;

    fn told(kind: u8, text: &str) -> Option<String> {
        time(kind, text.as_bytes()).map(|time| humantime::format_rfc3339_seconds(time).to_string())
    }

    #[test]
    fn times_of_certificates_are_understood() {
        for (kind, text, time) in [
            (UTC_TIME, "700101000000Z", "1970-01-01T00:00:00Z"),
            (UTC_TIME, "491231235959Z", "2049-12-31T23:59:59Z"),
            (UTC_TIME, "000229120000Z", "2000-02-29T12:00:00Z"),
            (UTC_TIME, "260301000000Z", "2026-03-01T00:00:00Z"),
            (GENERALIZED_TIME, "20500101000000Z", "2050-01-01T00:00:00Z"),
            (GENERALIZED_TIME, "21000301000000Z", "2100-03-01T00:00:00Z"),
            (GENERALIZED_TIME, "99991231235959Z", "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(told(kind, text).as_deref(), Some(time));
        }
        for bad in ["", "Z", "260301000000", "2603010000Z", "26x301000000Z", "500101000000Z"] {
            assert_eq!(told(UTC_TIME, bad), None, "{bad}");
        }
    }

    fn value(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        let bytes = parts.concat();
        let length = match bytes.len() {
            short @ ..0x80 => vec![short as u8],
            long => vec![0x82, (long >> 8) as u8, long as u8],
        };
        [vec![kind], length, bytes].concat()
    }

    /// A certificate with these common names and URIs, and bytes that mean nothing where nobody looks.
    fn certificate(common_names: &[&str], uris: &[&str]) -> Vec<u8> {
        let named = |oid: &[u8], text: &str| {
            value(SET, &[&value(SEQUENCE, &[&value(OID, &[oid]), &value(0x0c, &[text.as_bytes()])])])
        };
        let mut subject = named(&[0x55, 0x04, 0x0a], "an organisation");
        common_names.iter().for_each(|name| subject.extend(named(COMMON_NAME, name)));
        let dns = value(0x82, &[b"localhost"]);
        let names: Vec<u8> = uris.iter().flat_map(|uri| value(URI, &[uri.as_bytes()])).collect();
        let critical = value(0x01, &[&[0xff]]);
        let names = value(OCTETS, &[&value(SEQUENCE, &[&dns, &names])]);
        let extensions = [
            value(SEQUENCE, &[&value(OID, &[&[0x55, 0x1d, 0x0e]]), &value(OCTETS, &[&[0; 200]])]),
            value(SEQUENCE, &[&value(OID, &[ALTERNATIVE_NAMES]), &critical, &names]),
        ];
        let time = |text: &str| value(UTC_TIME, &[text.as_bytes()]);
        let fields = [
            value(VERSION, &[&[2, 1, 2]]),
            value(2, &[&[1]]),
            value(SEQUENCE, &[]),
            value(SEQUENCE, &[]),
            value(SEQUENCE, &[&time("250101000000Z"), &time("260101000000Z")]),
            value(SEQUENCE, &[&subject]),
            value(SEQUENCE, &[&[0; 300]]),
            value(EXTENSIONS, &[&value(SEQUENCE, &[&extensions.concat()])]),
        ];
        value(SEQUENCE, &[&value(SEQUENCE, &[&fields.concat()]), &[5, 0]])
    }

    #[test]
    fn names_and_the_end_are_found_and_nothing_is_made_of_damaged_bytes() {
        let whole = certificate(&["one", "two"], &["spiffe://a/b", "urn:c"]);
        let facts = Facts::of(&whole).unwrap();
        assert_eq!(facts.common_names, ["one", "two"]);
        assert_eq!(facts.uris, ["spiffe://a/b", "urn:c"]);
        assert_eq!(facts.expires, time(UTC_TIME, b"260101000000Z"));
        assert_eq!(Facts::of(&certificate(&[], &[])).unwrap().common_names, [""; 0]);
        for length in 0..whole.len() - 2 {
            assert_eq!(Facts::of(&whole[..length]), None, "cut at {length}");
        }
        for at in 0..whole.len() {
            for byte in [0x00, 0x7f, 0x80, 0x83, 0x84, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = byte;
                // Whatever comes of it: it is no panic.
                _ = Facts::of(&damaged);
            }
        }
    }
}
