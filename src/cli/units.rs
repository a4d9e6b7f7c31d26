//! Durations and sizes with units, and bounds for them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration such as `500ms`, `5s` or `15m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Span(pub Duration);

/// A number of bytes such as `4096`, `64KiB` or `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct Bytes(pub usize);

/// A text that is not a duration or a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// The text cannot be read.
    #[error("no {what}: write it as {example}")]
    Invalid {
        /// The expected quantity.
        what: &'static str,
        /// Examples of it.
        example: &'static str,
    },
    /// `5M`: some tools mean minutes by it, here it would be months.
    #[error("no duration: M may mean minutes or months; write 15m or 1month")]
    MonthsOrMinutes,
    /// The number overflows.
    #[error("too large")]
    TooLarge,
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if text.split_inclusive(char::is_alphabetic).any(|part| part.ends_with('M')) {
            return Err(UnitError::MonthsOrMinutes);
        }
        humantime::parse_duration(text).map(Self).map_err(|error| match error {
            humantime::DurationError::NumberOverflow => UnitError::TooLarge,
            _ => UnitError::Invalid { what: "duration", example: "500ms, 5s or 15m" },
        })
    }
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let invalid = UnitError::Invalid { what: "size", example: "4096, 64KiB, 8MiB or 1GiB" };
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(invalid),
        };
        if number.is_empty() {
            return Err(invalid);
        }
        let bytes = number.parse::<usize>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.map(Self).ok_or(UnitError::TooLarge)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match units.into_iter().find(|(shift, _)| self.0 as u64 >= 1 << shift) {
            Some((shift, unit)) if (self.0 as u64).is_multiple_of(1 << shift) => {
                write!(f, "{}{unit}", self.0 >> shift)
            }
            Some((shift, unit)) => write!(f, "{:.1} {unit}", self.0 as f64 / (1_u64 << shift) as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

/// The smallest and the largest allowed value, both included.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<T> {
    /// The smallest allowed value.
    pub least: T,
    /// The largest allowed value.
    pub most: T,
}

/// A value outside its [`Bounds`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfBounds {
    /// Below the smallest allowed value, which it holds.
    #[error("too small: it is at least {0}")]
    TooSmall(String),
    /// Above the largest allowed value, which it holds.
    #[error("too large: it is at most {0}")]
    TooLarge(String),
}

impl<T: PartialOrd + fmt::Display> Bounds<T> {
    /// Returns the number if it is within the bounds.
    ///
    /// # Errors
    /// [`OutOfBounds`].
    pub fn check(&self, number: T) -> Result<T, OutOfBounds> {
        if number < self.least {
            return Err(self.too_small());
        }
        if number > self.most { Err(self.too_large()) } else { Ok(number) }
    }

    /// The error for a number below the bounds.
    pub fn too_small(&self) -> OutOfBounds {
        OutOfBounds::TooSmall(self.least.to_string())
    }

    /// The error for a number above the bounds.
    pub fn too_large(&self) -> OutOfBounds {
        OutOfBounds::TooLarge(self.most.to_string())
    }
}

/// A duration that is not a valid wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// It is not a duration.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// It is too short or too long.
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
}

/// Reads a duration that a command waits for: from 1ms to a year, so that no clock overflows.
///
/// # Errors
/// [`WaitError`].
pub fn parse_wait(text: &str) -> Result<Span, WaitError> {
    const WAIT: Bounds<Span> =
        Bounds { least: Span(Duration::from_millis(1)), most: Span(Duration::from_secs(365 * 24 * 60 * 60)) };
    match text.parse() {
        Ok(span) => Ok(WAIT.check(span)?),
        Err(UnitError::TooLarge) => Err(WAIT.too_large().into()),
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_have_units() {
        assert_eq!("4096".parse(), Ok(Bytes(4096)));
        assert_eq!("64KiB".parse(), Ok(Bytes(65536)));
        assert_eq!("1 GiB".parse(), Ok(Bytes(1 << 30)));
        assert_eq!("15m".parse(), Ok(Span(Duration::from_secs(900))));
        for bad in ["", "KiB", "1kb", "-1", "1.5MiB", "64M"] {
            assert!(
                matches!(bad.parse::<Bytes>(), Err(UnitError::Invalid { .. })),
                "{bad:?} was taken for a size"
            );
        }
        for bad in ["", "5", "-1s", "s", "1.5"] {
            assert!(
                matches!(bad.parse::<Span>(), Err(UnitError::Invalid { .. })),
                "{bad:?} was taken for a duration"
            );
        }
    }

    #[test]
    fn a_number_that_overflows_is_too_large() {
        for bad in ["99999999999999999999", "17179869184GiB"] {
            assert_eq!(bad.parse::<Bytes>(), Err(UnitError::TooLarge), "{bad}");
        }
        for bad in ["99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(bad.parse::<Span>(), Err(UnitError::TooLarge), "{bad}");
        }
    }

    #[test]
    fn a_unit_that_may_be_minutes_or_months_is_refused() {
        for bad in ["15M", "1h 15M"] {
            assert_eq!(bad.parse::<Span>(), Err(UnitError::MonthsOrMinutes), "{bad}");
        }
    }

    #[test]
    fn bounds_include_their_ends() {
        let bounds = Bounds { least: 1, most: 3 };
        assert_eq!((bounds.check(1), bounds.check(3)), (Ok(1), Ok(3)));
        assert_eq!(bounds.check(0), Err(OutOfBounds::TooSmall("1".to_owned())));
        assert_eq!(bounds.check(4), Err(OutOfBounds::TooLarge("3".to_owned())));
    }
}
