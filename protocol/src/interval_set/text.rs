//! The text of a set: runs such as `0+512,1024+16`, each a first number and how many follow from it,
//! ascending and with gaps between them.
//!
//! Sets of samples and of replicas go into the log in this form, where every byte counts. A set has one text:
//! `05+1` and `0+5,5+1` are refused.

use super::IntervalSet;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::ops::Range;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most runs that are read from a text.
const RUNS_MAX: usize = 1 << 16;

impl IntervalSet<u64> {
    /// The set of all numbers in `ranges`, in any order; `None` if two of them overlap.
    pub fn from_disjoint(ranges: impl IntoIterator<Item = Range<u64>>) -> Option<Self> {
        let mut set = IntervalSet::default();
        let mut numbers = 0_u64;
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            numbers = numbers.checked_add(range.end - range.start)?;
            set.insert_range(range.start, range.end);
            if set.len() < numbers {
                return None;
            }
        }
        Some(set)
    }

    /// The intervals as ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.intervals().map(|(first, end)| first..end)
    }
}

impl fmt::Display for IntervalSet<u64> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, end)) in self.intervals().enumerate() {
            write!(f, "{}{first}+{}", if index == 0 { "" } else { "," }, end - first)?;
        }
        Ok(())
    }
}

impl FromStr for IntervalSet<u64> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a set such as 0+512,1024+16, ascending and with gaps");
        let mut set = IntervalSet::default();
        for (index, run) in text.split(',').filter(|_| !text.is_empty()).enumerate() {
            let (first, len) = run.split_once('+').ok_or_else(wrong)?;
            let first: u64 = first.parse().map_err(|_| wrong())?;
            let len: u64 = len.parse().map_err(|_| wrong())?;
            let end = first.checked_add(len).ok_or_else(wrong)?;
            if index >= RUNS_MAX {
                return Err(wrong());
            }
            set.insert_range(first, end);
        }
        // Runs that are empty, overlap, touch or descend, and numbers such as `05`, are written otherwise.
        if set.to_string() == text { Ok(set) } else { Err(wrong()) }
    }
}

impl Serialize for IntervalSet<u64> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IntervalSet<u64> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_one_text() {
        let table: [(&[Range<u64>], Option<&str>); 6] = [
            (&[], Some("")),
            (&[3..3], Some("")),
            (&[0..5], Some("0+5")),
            (&[8..10, 0..5, 5..7], Some("0+7,8+2")),
            (&[0..5, 4..6], None),
            (&[0..u64::MAX], Some("0+18446744073709551615")),
        ];
        for (ranges, expected) in table {
            let set = IntervalSet::from_disjoint(ranges.iter().cloned());
            assert_eq!(set.as_ref().map(ToString::to_string).as_deref(), expected);
            if let Some(set) = set {
                assert_eq!(set.to_string().parse(), Ok(set.clone()));
                assert_eq!(set.len(), ranges.iter().map(|range| range.end - range.start).sum::<u64>());
                let json = serde_json::to_string(&set).unwrap();
                assert_eq!(json, format!("\"{set}\""));
                assert_eq!(serde_json::from_str::<IntervalSet<u64>>(&json).unwrap(), set);
                assert_eq!(IntervalSet::from_disjoint(set.ranges()), Some(set));
            }
        }
    }

    #[test]
    fn other_texts_are_refused() {
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
            assert!(text.parse::<IntervalSet<u64>>().is_err_and(|e| e.contains(text)), "{text}");
        }
    }
}
