//! Texts to values: each is understood as a whole, or is a fault that says what would be right.

use std::ffi::OsStr;
use std::fmt;
use std::num::IntErrorKind;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::fault::{Fault, Why};
use super::given::{Given, Place};
use crate::cli::units::{Bounds, Bytes, Span, UnitError};

/// Reads one setting after the other, and keeps what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) given: &'a Given,
    pub(super) faults: Vec<Fault>,
    /// What was asked for: to be compared with what there is.
    #[cfg(test)]
    pub(super) asked: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(given: &'a Given) -> Self {
        Self {
            given,
            faults: Vec::new(),
            #[cfg(test)]
            asked: Vec::new(),
        }
    }

    /// A value that is not empty.
    fn value(&mut self, name: &'static str) -> Option<(Place, &'a OsStr)> {
        #[cfg(test)]
        self.asked.push(name);
        let (place, text) = self.given.get(name)?;
        if text.is_empty() {
            self.faults.push(Fault::Empty(place));
            return None;
        }
        Some((place, text))
    }

    /// A value as `parse` understands it.
    fn parsed<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, Why>) -> Option<T> {
        let (place, text) = self.value(name)?;
        let parsed = text.to_str().ok_or(Why::NotText).and_then(parse);
        let fault = |why| Fault::Value { place, text: text.to_string_lossy().into_owned(), why };
        parsed.map_err(|why| self.faults.push(fault(why))).ok()
    }

    /// The same where the error says all that there is to say.
    pub(super) fn explained<T, E>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
        fault: impl FnOnce(Place, E) -> Fault,
    ) -> Option<T> {
        let text = self.text(name)?;
        let place = self.given.place(name)?;
        parse(&text).map_err(|error| self.faults.push(fault(place, error))).ok()
    }

    pub(super) fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        self.value(name).map(|(_, text)| PathBuf::from(text))
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.parsed(name, |text| Ok(text.to_owned()))
    }

    pub(super) fn address(&mut self, name: &'static str) -> Option<std::net::SocketAddr> {
        self.parsed(name, |text| text.parse().map_err(|_| Why::NoAddress))
    }

    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(name, |text| {
            let found = choices.iter().find(|(name, _)| *name == text);
            let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" and ");
            found.map(|(_, choice)| *choice).ok_or_else(|| Why::NoChoice(names()))
        })
    }

    pub(super) fn count(&mut self, name: &'static str, bounds: Bounds<usize>) -> Option<usize> {
        self.parsed(name, |text| {
            let number = text.parse::<usize>().map_err(|error| match error.kind() {
                IntErrorKind::PosOverflow => bounds.too_large().into(),
                _ if is_negative(text) => bounds.too_small().into(),
                _ => Why::NoNumber,
            })?;
            Ok(bounds.check(number)?)
        })
    }

    pub(super) fn bytes(&mut self, name: &'static str, bounds: Bounds<Bytes>) -> Option<usize> {
        self.unit(name, bounds).map(|bytes| bytes.0)
    }

    pub(super) fn span(&mut self, name: &'static str, bounds: Bounds<Span>) -> Option<Duration> {
        self.unit(name, bounds).map(|span| span.0)
    }

    fn unit<T>(&mut self, name: &'static str, bounds: Bounds<T>) -> Option<T>
    where
        T: FromStr<Err = UnitError> + PartialOrd + fmt::Display,
    {
        self.parsed(name, |text| {
            let value = text.parse().map_err(|error| match error {
                UnitError::TooLarge => bounds.too_large().into(),
                other => Why::from(other),
            })?;
            Ok(bounds.check(value)?)
        })
    }
}

fn is_negative(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|digits| digits.parse::<u128>().is_ok())
}
