//! A round as the log keeps it: which replica gave which delta for which samples, and what came of it.
//!
//! A [`Commit`] has everything, and is a payload that a hash names. A [`Record`] is the body that goes into
//! the log beside that hash: at most [`RECORD_BYTES_MAX`] bytes, each contribution in a word if they fit,
//! else the sets of replicas and samples.

use super::{Error, Runs};
use muster_host::durable;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest body of a record.
pub const RECORD_BYTES_MAX: usize = 1024;
/// Hexadecimal digits of a delta's hash in a record: 128 bits are enough to tell deltas apart; the payload
/// has the whole.
const SHORT_HASH: usize = 32;

/// What one replica gave to a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contribution {
    /// Who.
    pub replica: u32,
    /// The samples that were leased to it, by their numbers in the run.
    pub samples: Runs,
    /// Hash of its delta.
    pub delta: String,
}

/// A round that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Which round.
    pub round: u64,
    /// The fencing epoch of the attempt that closed it.
    pub epoch: u64,
    /// Hash of the global weights that it began with.
    pub base: String,
    /// What was merged, in order of replica.
    pub contributions: Vec<Contribution>,
    /// Hash of the mean delta.
    pub aggregate: String,
}

impl Commit {
    /// Everything as JSON: the record's payload.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }

    /// Reads what [`Commit::to_bytes`] wrote.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Commit, Error> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::Commit { round: 0, reason: format!("read its payload: {e}") })
    }

    /// The samples that this round has consumed: none twice.
    ///
    /// # Errors
    /// When two contributions have a sample in common.
    pub fn samples(&self) -> Result<Runs, Error> {
        let all = self.contributions.iter().flat_map(|contribution| contribution.samples.ranges());
        Runs::of(all).ok_or_else(|| Error::Commit {
            round: self.round,
            reason: "two replicas have a sample in common".to_owned(),
        })
    }

    /// The body for the log.
    ///
    /// # Errors
    /// When the sets of replicas or samples are so torn that they do not fit, or overlap.
    pub fn record(&self) -> Result<Record, Error> {
        let each = self.contributions.iter().map(|contribution| Word {
            replica: contribution.replica,
            samples: contribution.samples.clone(),
            delta: contribution.delta.chars().take(SHORT_HASH).collect(),
        });
        let (round, epoch) = (self.round, self.epoch);
        let (base, aggregate) = (self.base.clone(), self.aggregate.clone());
        let record =
            Record { round, epoch, base, aggregate, contributions: Contributions::Each(each.collect()) };
        if record.to_json().len() <= RECORD_BYTES_MAX {
            return Ok(record);
        }
        let replicas =
            Runs::of(self.contributions.iter().map(|c| u64::from(c.replica)..u64::from(c.replica) + 1));
        let replicas = replicas
            .ok_or_else(|| Error::Commit { round, reason: "a replica contributes twice".to_owned() })?;
        let hash = durable::hash(&self.to_bytes());
        let record = Record {
            contributions: Contributions::Sets { replicas, samples: self.samples()?, hash },
            ..record
        };
        match record.to_json().len() {
            fits if fits <= RECORD_BYTES_MAX => Ok(record),
            bytes => Err(Error::Commit {
                round,
                reason: format!("its record would have {bytes} bytes, over {RECORD_BYTES_MAX}"),
            }),
        }
    }
}

/// The body of a round's record in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Which round.
    pub round: u64,
    /// The fencing epoch of the attempt that closed it.
    pub epoch: u64,
    /// Hash of the global weights that it began with.
    pub base: String,
    /// Hash of the mean delta.
    pub aggregate: String,
    /// What was merged.
    pub contributions: Contributions,
}

impl Record {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are JSON")
    }
}

/// The contributions of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Contributions {
    /// One word each.
    Each(Vec<Word>),
    /// Too many for that: the sets, and the hash of the payload that has each.
    Sets {
        /// Who contributed.
        replicas: Runs,
        /// The samples of all.
        samples: Runs,
        /// Hash of the [`Commit`]'s bytes.
        hash: String,
    },
}

/// A contribution in a word, `replica:samples:delta`: `3:0+512,1024+16:9f86d081884c7d65…`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Word {
    /// Who.
    pub replica: u32,
    /// For which samples.
    pub samples: Runs,
    /// The first digits of the delta's hash.
    pub delta: String,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.replica, self.samples, self.delta)
    }
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Word, String> {
        let mut parts = text.splitn(3, ':');
        let (Some(replica), Some(samples), Some(delta)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(format!("{text:?} is no REPLICA:SAMPLES:DELTA"));
        };
        let replica = replica.parse().map_err(|e| format!("{replica:?} is no replica: {e}"))?;
        Ok(Word { replica, samples: samples.parse()?, delta: delta.to_owned() })
    }
}

impl From<Word> for String {
    fn from(word: Word) -> String {
        word.to_string()
    }
}

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(text: String) -> Result<Word, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(replicas: u32, each: u64, missing: impl Fn(u32) -> bool) -> Commit {
        let hash = |word: &str| durable::hash(word.as_bytes());
        let contributions = (0..replicas).filter(|replica| !missing(*replica)).map(|replica| {
            let first = 1_000_000 + u64::from(replica) * each;
            Contribution {
                replica,
                samples: Runs::of([first..first + each]).expect("is apart"),
                delta: hash(&format!("delta {replica}")),
            }
        });
        Commit {
            round: 17,
            epoch: 3,
            base: hash("base"),
            contributions: contributions.collect(),
            aggregate: hash("aggregate"),
        }
    }

    #[test]
    fn a_record_names_each_contribution_while_they_fit() {
        for replicas in [1, 4, 8, 12] {
            let commit = commit(replicas, 512, |_| false);
            let record = commit.record().expect("fits");
            let json = record.to_json();
            assert!(json.len() <= RECORD_BYTES_MAX);
            assert_eq!(serde_json::from_str::<Record>(&json).expect("is one"), record);
            let Contributions::Each(words) = &record.contributions else { panic!("{json}") };
            assert_eq!(words.len(), replicas as usize);
            assert!(
                words
                    .iter()
                    .zip(&commit.contributions)
                    .all(|(word, whole)| whole.delta.starts_with(&word.delta))
            );
            assert_eq!(Commit::from_bytes(&commit.to_bytes()).expect("is one"), commit);
        }
        let json = commit(1, 512, |_| false).record().expect("fits").to_json();
        assert!(json.contains(r#""contributions":{"each":["0:1000000+512:"#), "{json}");
    }

    #[test]
    fn a_record_of_many_names_sets() {
        let commit = commit(4096, 64, |replica| replica == 5 || replica == 4000);
        let record = commit.record().expect("fits");
        assert!(record.to_json().len() <= RECORD_BYTES_MAX);
        let Contributions::Sets { replicas, samples, hash } = &record.contributions else {
            panic!("{record:?}")
        };
        assert_eq!(replicas.to_string(), "0+5,6+3994,4001+95");
        assert_eq!((samples.count(), samples.runs().len()), (4094 * 64, 3));
        assert_eq!(*hash, durable::hash(&commit.to_bytes()));
        assert_eq!(serde_json::from_str::<Record>(&record.to_json()).expect("is one"), record);
    }

    #[test]
    fn what_can_not_be_written_down_is_refused() {
        let torn = commit(1000, 64, |replica| replica % 2 == 1).record().expect_err("is torn").to_string();
        assert!(torn.starts_with("commit round 17: its record would have"), "{torn}");
        let mut twice = commit(40, 64, |_| false);
        twice.contributions[1].samples = twice.contributions[0].samples.clone();
        assert!(twice.record().is_err_and(|e| e.to_string().contains("a sample in common")));
        assert!(Commit::from_bytes(b"{}").is_err());
        for text in ["", "1", "1:0+1", "x:0+1:ab", "1:0+0:ab"] {
            assert!(text.parse::<Word>().is_err(), "{text}");
        }
    }
}
