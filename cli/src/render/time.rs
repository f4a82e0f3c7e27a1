//! Durations and dates as text.

use muster_protocol::time::{LogMs, WallMs};

const SECONDS_PER_DAY: u64 = 86_400;

/// `850 ms`, `12.3 s`, `2m05s`, `1h02m`, `3d04h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..SECONDS_PER_DAY => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / SECONDS_PER_DAY, seconds / 3_600 % 24),
    }
}

pub fn between(from: LogMs, to: LogMs) -> String {
    duration(to.0.saturating_sub(from.0))
}

/// `2026-11-24 16:03:02`, in UTC.
pub fn moment(wall: WallMs) -> String {
    let (year, month, day) = date(wall.0 / 1000 / SECONDS_PER_DAY);
    format!("{year:04}-{month:02}-{day:02} {}", clock(wall))
}

/// `16:03:02`, in UTC.
pub fn clock(wall: WallMs) -> String {
    let seconds = wall.0 / 1000 % SECONDS_PER_DAY;
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// The date of a day counted from 1970; the algorithm is Howard Hinnant's `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.2 s"),
            (65_000, "1m05s"),
            (3_725_000, "1h02m"),
            (90_000_000, "1d01h"),
        ];
        for (ms, expected) in table {
            assert_eq!(duration(ms), expected);
        }
    }

    #[test]
    fn moments() {
        let table = [
            (0, "1970-01-01 00:00:00"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_700_000_000_000, "2023-11-14 22:13:20"),
            (1_795_536_182_123, "2026-11-24 16:03:02"),
        ];
        for (ms, expected) in table {
            assert_eq!(moment(WallMs(ms)), expected);
        }
        let _ = moment(WallMs(u64::MAX));
    }
}
