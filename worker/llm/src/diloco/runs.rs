//! Sets of numbers as short text: runs such as `0+512,1024+16` (first and length), in order and not adjacent.
//!
//! Sample ranges and sets of replicas are logged in this form, where every byte counts.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Runs that are read from a text, at most.
const RUNS_MAX: usize = 1 << 16;

/// A set of numbers as runs of consecutive ones: in order, with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Runs(Vec<Range<u64>>);

impl Runs {
    /// The set of all numbers in `ranges`; `None` when two of them overlap.
    pub fn of(ranges: impl IntoIterator<Item = Range<u64>>) -> Option<Runs> {
        let mut ranges: Vec<Range<u64>> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| range.start);
        let mut runs: Vec<Range<u64>> = Vec::new();
        for range in ranges {
            match runs.last_mut() {
                Some(last) if last.end > range.start => return None,
                Some(last) if last.end == range.start => last.end = range.end,
                Some(_) | None => runs.push(range),
            }
        }
        Some(Runs(runs))
    }

    /// The runs, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().cloned()
    }

    /// Number of elements.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|run| run.end - run.start).sum()
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, run) in self.0.iter().enumerate() {
            write!(f, "{}{}+{}", if place == 0 { "" } else { "," }, run.start, run.end - run.start)?;
        }
        Ok(())
    }
}

impl FromStr for Runs {
    type Err = String;

    fn from_str(text: &str) -> Result<Runs, String> {
        let wrong =
            || format!("{text:?} is not a list of runs such as 0+512,1024+16, in order and not adjacent");
        if text.is_empty() {
            return Ok(Runs::default());
        }
        let mut runs: Vec<Range<u64>> = Vec::new();
        for word in text.split(',') {
            let (first, len) = word.split_once('+').ok_or_else(wrong)?;
            let first: u64 = first.parse().map_err(|_| wrong())?;
            let end = len.parse().ok().and_then(|len| first.checked_add(len)).ok_or_else(wrong)?;
            let apart = runs.last().is_none_or(|last| first > last.end);
            if end == first || !apart || runs.len() >= RUNS_MAX {
                return Err(wrong());
            }
            runs.push(first..end);
        }
        let runs = Runs(runs);
        // `+5` and `05` are numbers to the parser; one set has one text.
        if runs.to_string() == text { Ok(runs) } else { Err(wrong()) }
    }
}

impl From<Runs> for String {
    fn from(runs: Runs) -> String {
        runs.to_string()
    }
}

impl TryFrom<String> for Runs {
    type Error = String;

    fn try_from(text: String) -> Result<Runs, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_one_short_text() {
        let table: [(&[Range<u64>], Option<&str>); 6] = [
            (&[], Some("")),
            (&[3..3], Some("")),
            (&[0..5], Some("0+5")),
            (&[8..10, 0..5, 5..7], Some("0+7,8+2")),
            (&[0..5, 4..6], None),
            (&[0..u64::MAX], Some("0+18446744073709551615")),
        ];
        for (ranges, expected) in table {
            let runs = Runs::of(ranges.iter().cloned());
            assert_eq!(runs.as_ref().map(Runs::to_string).as_deref(), expected);
            if let Some(runs) = runs {
                assert_eq!(runs.to_string().parse(), Ok(runs.clone()));
                assert_eq!(runs.count(), ranges.iter().map(|range| range.end - range.start).sum::<u64>());
                assert_eq!(Runs::of(runs.ranges()), Some(runs));
            }
        }
    }

    #[test]
    fn what_are_no_runs_is_refused() {
        for text in [
            "0",
            "0+0",
            "5+2,6+1",
            "0+5,5+1",
            "8+1,2+1",
            "+1+2",
            "01+2",
            "1+2,",
            "18446744073709551615+1",
            "a+b",
            "1 +2",
            "-1+2",
        ] {
            assert!(text.parse::<Runs>().is_err_and(|e| e.contains(text)), "{text}");
        }
    }
}
