//! Short words for sets of numbers: runs such as `0+512,1024+16`, in order and apart.
//!
//! Sample ranges and sets of replicas go into the log in this form, where every byte counts.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Most runs that are read from a text.
const RUNS_MAX: usize = 1 << 16;

/// Some numbers that follow each other; never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// How many.
    pub len: u64,
}

/// A set of numbers as runs: in order, with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Runs(Vec<Run>);

impl Runs {
    /// The set of all numbers in `ranges`; `None` when two of them overlap or a number would not fit.
    pub fn of(ranges: impl IntoIterator<Item = Range<u64>>) -> Option<Runs> {
        let mut ranges: Vec<Range<u64>> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| range.start);
        let mut runs: Vec<Run> = Vec::new();
        for range in ranges {
            match runs.last_mut() {
                Some(last) if last.first + last.len > range.start => return None,
                Some(last) if last.first + last.len == range.start => last.len += range.end - range.start,
                Some(_) | None => runs.push(Run { first: range.start, len: range.end - range.start }),
            }
        }
        Some(Runs(runs))
    }

    /// The runs, in order.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.0
    }

    /// The runs as ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|run| run.first..run.first + run.len)
    }

    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|run| run.len).sum()
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, run) in self.0.iter().enumerate() {
            write!(f, "{}{}+{}", if place == 0 { "" } else { "," }, run.first, run.len)?;
        }
        Ok(())
    }
}

impl FromStr for Runs {
    type Err = String;

    fn from_str(text: &str) -> Result<Runs, String> {
        let wrong = || format!("{text:?} are no runs such as 0+512,1024+16, in order and apart");
        if text.is_empty() {
            return Ok(Runs::default());
        }
        let mut runs: Vec<Run> = Vec::new();
        let mut free = 0u64;
        for word in text.split(',') {
            let (first, len) = word.split_once('+').ok_or_else(wrong)?;
            let run =
                Run { first: first.parse().map_err(|_| wrong())?, len: len.parse().map_err(|_| wrong())? };
            let end = run.first.checked_add(run.len).ok_or_else(wrong)?;
            let apart = runs.is_empty() || run.first > free;
            if run.len == 0 || !apart || runs.len() >= RUNS_MAX {
                return Err(wrong());
            }
            free = end;
            runs.push(run);
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
