//! Sets of sample numbers in the text form of the records: `0+512,1024+16`, each a first number and a length.
//! Kept apart from the interval set of the trainers on purpose: see [`super`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SampleSet {
    /// From the start of each run to its end (exclusive); runs never touch.
    runs: BTreeMap<u64, u64>,
}

impl SampleSet {
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|(start, end)| end - start).sum()
    }

    /// One past the largest number; 0 for the empty set.
    pub fn end(&self) -> u64 {
        self.runs.last_key_value().map_or(0, |(_, end)| *end)
    }

    pub fn add(&mut self, other: &SampleSet) {
        for (start, end) in &other.runs {
            let (mut start, mut end) = (*start, *end);
            // Merges all runs that touch the new one.
            while let Some((first, last)) =
                self.runs.range(..=end).next_back().map(|(first, last)| (*first, *last))
            {
                if last < start {
                    break;
                }
                self.runs.remove(&first);
                (start, end) = (start.min(first), end.max(last));
            }
            self.runs.insert(start, end);
        }
    }

    /// The size of the intersection.
    pub fn overlap(&self, other: &SampleSet) -> u64 {
        let mut both = 0;
        for (start, end) in &other.runs {
            let before = self.runs.range(..start).next_back();
            let touching = before.into_iter().chain(self.runs.range(start..end));
            both +=
                touching.map(|(first, last)| (*last.min(end)).saturating_sub(*first.max(start))).sum::<u64>();
        }
        both
    }
}

impl fmt::Display for SampleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (start, end)) in self.runs.iter().enumerate() {
            write!(f, "{}{start}+{}", if index == 0 { "" } else { "," }, end - start)?;
        }
        Ok(())
    }
}

impl From<SampleSet> for String {
    fn from(numbers: SampleSet) -> String {
        numbers.to_string()
    }
}

impl FromStr for SampleSet {
    type Err = String;

    fn from_str(text: &str) -> Result<SampleSet, String> {
        let mut numbers = SampleSet::default();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let run = word
                .split_once('+')
                .and_then(|(first, len)| Some((first.parse::<u64>().ok()?, len.parse::<u64>().ok()?)));
            let run = run
                .and_then(|(first, len)| Some((first, first.checked_add(len)?)))
                .filter(|(first, end)| first < end);
            let (first, end) = run.ok_or_else(|| format!("{text:?} are no numbers such as 0+512,1024+16"))?;
            let one = SampleSet { runs: BTreeMap::from([(first, end)]) };
            if numbers.overlap(&one) > 0 {
                return Err(format!("{text:?} has {word} twice"));
            }
            numbers.add(&one);
        }
        Ok(numbers)
    }
}

impl TryFrom<String> for SampleSet {
    type Error = String;

    fn try_from(text: String) -> Result<SampleSet, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_add_and_overlap() {
        let of = |text: &str| text.parse::<SampleSet>().unwrap();
        let table = [
            ("", "", "", 0),
            ("0+4", "", "0+4", 0),
            ("0+4", "4+4", "0+8", 0),
            ("0+4,8+4", "4+4", "0+12", 0),
            ("0+4,8+4", "2+8", "0+12", 4),
            ("0+10", "2+3", "0+10", 3),
            ("5+1,7+1,9+1", "0+20", "0+20", 3),
            ("8+2", "0+4", "0+4,8+2", 0),
        ];
        for (left, right, sum, both) in table {
            let (left, right) = (of(left), of(right));
            assert_eq!((left.overlap(&right), right.overlap(&left)), (both, both), "{left} {right}");
            let mut all = left.clone();
            all.add(&right);
            assert_eq!(all.to_string(), sum);
            assert_eq!(all.count(), left.count() + right.count() - both);
        }
        for wrong in ["0", "0+0", "a+1", "0+4,3+1", "18446744073709551615+1", "0+1,"] {
            assert!(wrong.parse::<SampleSet>().is_err(), "{wrong}");
        }
    }
}
