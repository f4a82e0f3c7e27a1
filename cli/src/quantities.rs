//! Quantities as people write them: sizes, durations, CPUs, index ranges. No other file parses them.

use std::ops::RangeInclusive;

/// The message says what would be valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseQuantityError(String);

impl ParseQuantityError {
    fn new(text: &str, expected: &str) -> ParseQuantityError {
        ParseQuantityError(format!("{text:?} is not {expected}"))
    }
}

const SIZE: &str = "a size: a number and one of KiB MiB GiB TiB kB MB GB TB, such as \"2GiB\"";
const DURATION: &str = "a duration: numbers and units of ms s m h d, such as \"90s\" or \"1h30m\"";
const CPUS: &str = "a number of CPUs from 0 to 1000000, such as 2 or 0.5";
const ARRAY: &str = "an array: FIRST-LAST or FIRST-LAST:STEP, such as \"0-99\" or \"0-99:2\"";
const MIB: u128 = 1 << 20;
const CPUS_MAX: f64 = 1_000_000.0;
/// More digits after the point are refused.
const FRACTION_DIGITS: usize = 9;

/// `2GiB` in MiB, rounded up.
pub fn size_mib(text: &str) -> Result<u32, ParseQuantityError> {
    let wrong = || ParseQuantityError::new(text, SIZE);
    let (number, unit) = split_unit(text.trim());
    let scale: u128 = match unit.trim_start() {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, parts, one) = decimal(number).ok_or_else(wrong)?;
    let bytes = whole
        .checked_mul(scale)
        .and_then(|bytes| bytes.checked_add((parts * scale).div_ceil(one)))
        .ok_or_else(wrong)?;
    u32::try_from(bytes.div_ceil(MIB))
        .map_err(|_| ParseQuantityError::new(text, "a size that fits: at most 4095 TiB"))
}

/// `1h30m` in milliseconds.
pub fn duration_ms(text: &str) -> Result<u64, ParseQuantityError> {
    let wrong = || ParseQuantityError::new(text, DURATION);
    let mut rest = text.trim();
    let mut total: u128 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split_unit(rest);
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let scale: u128 = match &after[..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let (whole, parts, one) = decimal(number).ok_or_else(wrong)?;
        total = whole.checked_mul(scale).and_then(|ms| total.checked_add(ms)).ok_or_else(wrong)?
            + parts * scale / one;
        rest = after[unit_end..].trim_start();
    }
    u64::try_from(total).map_err(|_| wrong())
}

/// `0.5` CPUs in thousandths.
pub fn cpu_milli(text: &str) -> Result<u32, ParseQuantityError> {
    let number: f64 = text.trim().parse().map_err(|_| ParseQuantityError::new(text, CPUS))?;
    cpus_to_milli(number).ok_or_else(|| ParseQuantityError::new(text, CPUS))
}

/// CPUs in thousandths; `None` if out of range.
pub fn cpus_to_milli(cpus: f64) -> Option<u32> {
    let inside = (0.0..=CPUS_MAX).contains(&cpus);
    // The range check makes sure that the result fits.
    inside.then(|| (cpus * 1000.0).round() as u32)
}

/// The indices of an array job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexRange {
    pub first: u64,
    pub step: u32,
    /// How many indices.
    pub tasks: u32,
}

/// `0-99` or `0-99:2`, with at most `tasks_max` indices.
pub fn index_range(text: &str, tasks_max: u32) -> Result<IndexRange, ParseQuantityError> {
    let wrong = || ParseQuantityError::new(text, ARRAY);
    let (range, step) = match text.trim().split_once(':') {
        Some((range, step)) => (range, whole(step, 1..=u32::MAX.into()).ok_or_else(wrong)?),
        None => (text.trim(), 1),
    };
    let (first, last) = range.split_once('-').ok_or_else(wrong)?;
    let first = whole(first, 0..=u64::MAX).ok_or_else(wrong)?;
    let last = whole(last, first..=u64::MAX).ok_or_else(|| {
        ParseQuantityError(format!("{text:?} is not an array: its last index is before its first"))
    })?;
    let tasks = ((last - first) / step)
        .checked_add(1)
        .and_then(|tasks| u32::try_from(tasks).ok())
        .filter(|tasks| *tasks <= tasks_max);
    let tasks = tasks
        .ok_or_else(|| ParseQuantityError::new(text, &format!("an array of at most {tasks_max} tasks")))?;
    Ok(IndexRange { first, step: u32::try_from(step).map_err(|_| wrong())?, tasks })
}

fn whole(text: &str, range: RangeInclusive<u64>) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && range.contains(number))
}

/// Splits a leading number from what follows it.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    text.split_at(end)
}

/// `1.5` as (1, 5, 10): whole part, numerator and denominator of the fraction.
fn decimal(text: &str) -> Option<(u128, u128, u128)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let dot = text.contains('.');
    if whole.is_empty() || (dot && fraction.is_empty()) || fraction.len() > FRACTION_DIGITS {
        return None;
    }
    let parts = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    // Limits the whole part, so that later products fit.
    let whole: u64 = whole.parse().ok()?;
    Some((whole.into(), parts, 10u128.pow(u32::try_from(fraction.len()).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let table: &[(&str, Option<u32>)] = &[
            ("2GiB", Some(2048)),
            ("1.5GiB", Some(1536)),
            ("512 MiB", Some(512)),
            ("1KiB", Some(1)),
            ("1025KiB", Some(2)),
            ("16GB", Some(15259)),
            ("0MiB", Some(0)),
            ("1TiB", Some(1 << 20)),
            ("4096TiB", None),
            ("2G", None),
            ("2", None),
            ("", None),
            ("GiB", None),
            ("-1GiB", None),
            ("1..5GiB", None),
            ("1.GiB", None),
            ("99999999999999999999999999TiB", None),
            ("1.00000000001GiB", None),
        ];
        for (text, expected) in table {
            assert_eq!(size_mib(text).ok(), *expected, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        let table: &[(&str, Option<u64>)] = &[
            ("250ms", Some(250)),
            ("1s", Some(1_000)),
            ("1.5s", Some(1_500)),
            ("90s", Some(90_000)),
            ("1h30m", Some(5_400_000)),
            ("1h 30m", Some(5_400_000)),
            ("2d", Some(172_800_000)),
            ("0s", Some(0)),
            ("10", None),
            ("", None),
            ("s", None),
            ("1y", None),
            ("-1s", None),
            ("1s2", None),
            ("18446744073709551615d", None),
        ];
        for (text, expected) in table {
            assert_eq!(duration_ms(text).ok(), *expected, "{text:?}");
        }
    }

    #[test]
    fn cpus() {
        let table: &[(&str, Option<u32>)] = &[
            ("1", Some(1000)),
            ("0.5", Some(500)),
            ("0.0004", Some(0)),
            ("0", Some(0)),
            ("1000000", Some(1_000_000_000)),
            ("1000001", None),
            ("-1", None),
            ("nan", None),
            ("inf", None),
            ("one", None),
        ];
        for (text, expected) in table {
            assert_eq!(cpu_milli(text).ok(), *expected, "{text:?}");
        }
    }

    #[test]
    fn arrays() {
        let some = |first, step, tasks| Some(IndexRange { first, step, tasks });
        let table: &[(&str, Option<IndexRange>)] = &[
            ("0-99", some(0, 1, 100)),
            ("0-99:2", some(0, 2, 50)),
            ("5-5", some(5, 1, 1)),
            ("1-10:4", some(1, 4, 3)),
            ("7", None),
            ("9-0", None),
            ("0-99:0", None),
            ("0-1000", None),
            ("0-18446744073709551615", None),
            ("-1-5", None),
            ("+1-5", None),
            ("a-b", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(index_range(text, 1000).ok(), *expected, "{text:?}");
        }
    }
}
