//! Texts to values. A text that is not a valid value is an error that names the valid form.

use std::ffi::OsStr;
use std::fmt;
use std::num::IntErrorKind;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::error::{InvalidValue, SettingError};
use super::raw::{Origin, RawSettings};
use crate::cli::units::{Bounds, Bytes, Span, UnitError};
use crate::http::{ListenAddress, ListenAddressError};

/// Reads one setting after the other, and collects the errors.
pub(super) struct Reader<'a> {
    pub(super) given: &'a RawSettings,
    pub(super) errors: Vec<SettingError>,
    /// The names that were read, to compare with the list of flags.
    #[cfg(test)]
    pub(super) names: Vec<&'static str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(given: &'a RawSettings) -> Self {
        Self {
            given,
            errors: Vec::new(),
            #[cfg(test)]
            names: Vec::new(),
        }
    }

    /// Reads a text that is not empty.
    fn value(&mut self, name: &'static str) -> Option<(Origin, &'a OsStr)> {
        #[cfg(test)]
        self.names.push(name);
        let (origin, text) = self.given.get(name)?;
        if text.is_empty() {
            self.errors.push(SettingError::Empty(origin));
            return None;
        }
        Some((origin, text))
    }

    /// Reads a value with `parse`.
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Option<T> {
        let (origin, text) = self.value(name)?;
        let parsed = text.to_str().ok_or(InvalidValue::NotUtf8).and_then(parse);
        let error = |why| SettingError::Value { origin, text: text.to_string_lossy().into_owned(), why };
        parsed.map_err(|why| self.errors.push(error(why))).ok()
    }

    /// Reads a value with `parse`, whose error is complete in itself.
    pub(super) fn parsed_or<T, E>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
        to_error: impl FnOnce(Origin, E) -> SettingError,
    ) -> Option<T> {
        let text = self.text(name)?;
        let origin = self.given.origin(name)?;
        parse(&text).map_err(|error| self.errors.push(to_error(origin, error))).ok()
    }

    /// Reads all values of a setting that may be repeated, each with `parse`, whose error is complete in itself.
    pub(super) fn all<T, E>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
        to_error: impl Fn(Origin, E) -> SettingError,
    ) -> Vec<T> {
        #[cfg(test)]
        self.names.push(name);
        let Some((origin, texts)) = self.given.get_all(name) else { return Vec::new() };
        let mut values = Vec::new();
        for text in texts {
            if text.is_empty() {
                self.errors.push(SettingError::Empty(origin.clone()));
                continue;
            }
            match text.to_str().map(&parse) {
                Some(Ok(value)) => values.push(value),
                Some(Err(error)) => self.errors.push(to_error(origin.clone(), error)),
                None => {
                    let (text, why) = (text.to_string_lossy().into_owned(), InvalidValue::NotUtf8);
                    self.errors.push(SettingError::Value { origin: origin.clone(), text, why });
                }
            }
        }
        values
    }

    pub(super) fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        self.value(name).map(|(_, text)| PathBuf::from(text))
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.parsed(name, |text| Ok(text.to_owned()))
    }

    /// Reads the addresses of a listener.
    pub(super) fn addresses(&mut self, name: &'static str) -> Vec<ListenAddress> {
        let parse = |text: &str| text.parse().map_err(|why| (text.to_owned(), why));
        self.all(name, parse, |origin, (text, why): (String, ListenAddressError)| SettingError::Value {
            origin,
            text,
            why: why.into(),
        })
    }

    pub(super) fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.parsed(name, |text| {
            let found = choices.iter().find(|(name, _)| *name == text);
            let names = || choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" and ");
            found.map(|(_, choice)| *choice).ok_or_else(|| InvalidValue::NotAChoice(names()))
        })
    }

    pub(super) fn count(&mut self, name: &'static str, bounds: Bounds<usize>) -> Option<usize> {
        self.parsed(name, |text| {
            let number = text.parse::<usize>().map_err(|error| match error.kind() {
                IntErrorKind::PosOverflow => bounds.too_large().into(),
                _ if is_negative(text) => bounds.too_small().into(),
                _ => InvalidValue::NotANumber,
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
                other => InvalidValue::from(other),
            })?;
            Ok(bounds.check(value)?)
        })
    }
}

fn is_negative(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|digits| digits.parse::<u128>().is_ok())
}
