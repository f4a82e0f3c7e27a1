//! How far to replay: a log index, a moment of log time, or a moment of wall time.

use muster_protocol::ids::LogIndex;
use muster_protocol::time::{LogMs, WallMs};
use std::fmt;
use std::str::FromStr;

/// The last entry to fold: this one, or the last one not later than a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// A log index: `1234`.
    Index(LogIndex),
    /// A moment of log time: `5000ms`.
    LogMs(LogMs),
    /// A moment by the leaders' wall clocks, in UTC: `2026-11-24T15:00:00Z`.
    WallMs(WallMs),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a log index (1234), nor log time (5000ms), nor UTC (2026-11-24T15:00:00Z)")]
pub struct ParseUntilError(String);

impl FromStr for Until {
    type Err = ParseUntilError;
    fn from_str(text: &str) -> Result<Self, ParseUntilError> {
        let number =
            |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?;
        let until = match text.strip_suffix("ms") {
            Some(digits) => number(digits).map(|ms| Until::LogMs(LogMs(ms))),
            None => number(text)
                .map(|index| Until::Index(LogIndex(index)))
                .or_else(|| wall_ms(text).map(|ms| Until::WallMs(WallMs(ms)))),
        };
        until.ok_or_else(|| ParseUntilError(text.to_string()))
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Until::Index(index) => write!(f, "{index}"),
            Until::LogMs(LogMs(ms)) => write!(f, "{ms}ms"),
            Until::WallMs(WallMs(ms)) => {
                let (year, month, day) = civil_from_days(ms / DAY_MS);
                let (s, ms) = (ms % DAY_MS / 1000, ms % 1000);
                write!(
                    f,
                    "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z",
                    s / 3600,
                    s / 60 % 60,
                    s % 60
                )
            }
        }
    }
}

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS[.fff]Z`.
fn wall_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix(['Z', 'z'])?.split_once(['T', 't', ' '])?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let in_range =
        (1970..=9999).contains(&year) && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !in_range
        || day < 1
        || day > days_in(year, month)
        || fraction.is_empty()
        || !fraction.bytes().all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    let ms = fraction.bytes().chain([b'0'; 3]).take(3).fold(0, |ms, digit| ms * 10 + u64::from(digit - b'0'));
    Some(days_from_civil(year, month, day) * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; 3];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts
            .next()
            .filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, years counted from March so that the leap day
/// comes last.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - DAYS_BEFORE_1970
}

/// From the first of March of the year 0.
const DAYS_BEFORE_1970: u64 = 719_468;

fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_parsed_and_displayed() {
        let wall = |ms| Until::WallMs(WallMs(ms));
        for (text, expected) in [
            ("0", Until::Index(LogIndex(0))),
            ("1234", Until::Index(LogIndex(1234))),
            ("5000ms", Until::LogMs(LogMs(5000))),
            ("1970-01-01T00:00:00Z", wall(0)),
            ("2000-02-29T00:00:00.5Z", wall(951_782_400_500)),
            ("2026-11-24T15:00:00Z", wall(1_795_532_400_000)),
            ("2026-11-24 15:00:00.123456Z", wall(1_795_532_400_123)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
            assert_eq!(expected.to_string().parse(), Ok(expected), "{expected}");
        }
        for text in [
            "",
            "ms",
            "-1",
            "+5",
            "1.5",
            "5s",
            "now",
            "2026-11-24",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-24T24:00:00Z",
        ] {
            assert!(text.parse::<Until>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_day_round_trips() {
        for day in (0..2_900_000).step_by(13) {
            let (year, month, date) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month, date), day);
        }
    }
}
