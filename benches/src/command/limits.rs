//! Between what bounds a measurement's numbers may be: what is over them no machine of today can do, and what is below
//! would measure nothing.

use std::ops::RangeInclusive;

use clap::builder::RangedU64ValueParser;
use crumbd::cli::units::{Bounds, Bytes};

type Count<T> = RangedU64ValueParser<T>;

fn within<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> Count<T> {
    Count::new().range(range)
}

/// Clients without whom there is nothing to measure.
pub(super) fn clients<T: TryFrom<u64>>() -> Count<T> {
    within(1..=1_000_000)
}

/// Clients that may be left out.
pub(super) fn clients_if_any<T: TryFrom<u64>>() -> Count<T> {
    within(0..=1_000_000)
}

/// Keys, updates and rounds.
pub(super) fn many() -> Count<u64> {
    within(1..=1_000_000_000)
}

/// Updates in one request.
pub(super) fn batch() -> Count<u64> {
    within(1..=1_000_000)
}

/// Updates a second.
pub(super) fn rate() -> Count<u32> {
    within(0..=1_000_000)
}

/// The size of a value.
pub(super) fn value_bytes() -> Count<usize> {
    within(0..=64 << 20)
}

/// Publications a second, which need not be whole.
pub(super) fn publications(text: &str) -> Result<f64, String> {
    const RATES: Bounds<f64> = Bounds { least: 0.001, most: 1_000_000.0 };
    let rate: f64 = text.parse().map_err(|_| "no number, such as 50 or 0.5".to_owned())?;
    if rate.is_nan() {
        return Err(RATES.too_small().to_string());
    }
    RATES.check(rate).map_err(|error| error.to_string())
}

/// What a slow reader takes in a second.
pub(super) fn slow_rate(text: &str) -> Result<Bytes, String> {
    const RATES: Bounds<Bytes> = Bounds { least: Bytes(1024), most: Bytes(1 << 30) };
    let rate = text.parse().map_err(|error: crumbd::cli::units::UnitError| error.to_string())?;
    RATES.check(rate).map_err(|error| error.to_string())
}
