//! What the log records of a round: which replica contributed which delta for which samples, and the result.

use super::Error;
use muster_protocol::interval_set::IntervalSet;
use serde::{Deserialize, Serialize};

/// One replica's contribution to a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contribution {
    /// The replica's number.
    pub replica: u32,
    /// The samples that were leased to it, by their numbers in the run.
    pub samples: IntervalSet<u64>,
    /// Hash of its delta.
    pub delta: String,
}

/// What a round begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundPlan {
    /// The round's number.
    pub round: u64,
    /// The fencing epoch of the attempt that runs it.
    pub epoch: u64,
    /// Hash of the global weights that all replicas begin with.
    pub base: String,
    /// The samples that are leased to each replica, in order of replica.
    pub leases: Vec<IntervalSet<u64>>,
}

/// A round that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundCommit {
    /// The round's number.
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

impl RoundPlan {
    /// Commits the round: `deltas` are the replicas that were merged, in order, each with the hash of its
    /// delta, and `aggregate` is the hash of their mean.
    ///
    /// # Errors
    /// [`Error::Commit`] when no replica was merged, their order is wrong, one has no lease, or a sample is
    /// leased to two replicas.
    pub fn commit(self, deltas: &[(u32, String)], aggregate: String) -> Result<RoundCommit, Error> {
        let RoundPlan { round, epoch, base, leases } = self;
        let refuse = |reason: String| Error::Commit { round, reason };
        if deltas.is_empty() || !deltas.is_sorted_by(|a, b| a.0 < b.0) {
            let order: Vec<u32> = deltas.iter().map(|(replica, _)| *replica).collect();
            return Err(refuse(format!("replicas {order:?} are not some replicas in order")));
        }
        if IntervalSet::from_disjoint(leases.iter().flat_map(IntervalSet::ranges)).is_none() {
            return Err(refuse("a sample is leased to two replicas".to_owned()));
        }
        let contribution = |(replica, delta): &(u32, String)| {
            let samples = leases.get(*replica as usize).cloned();
            let samples = samples
                .ok_or_else(|| refuse(format!("there is no replica {replica} among {}", leases.len())))?;
            Ok(Contribution { replica: *replica, samples, delta: delta.clone() })
        };
        let contributions = deltas.iter().map(contribution).collect::<Result<_, Error>>()?;
        Ok(RoundCommit { round, epoch, base, contributions, aggregate })
    }
}

impl RoundCommit {
    /// The commit as JSON.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are JSON")
    }

    /// Reads what [`RoundCommit::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<RoundCommit, Error> {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::Commit { round: 0, reason: format!("read its payload: {e}") })
    }

    /// The samples that this round has consumed, each once.
    ///
    /// # Errors
    /// When two contributions have a sample in common.
    pub fn samples(&self) -> Result<IntervalSet<u64>, Error> {
        let all = self.contributions.iter().flat_map(|contribution| contribution.samples.ranges());
        IntervalSet::from_disjoint(all).ok_or_else(|| Error::Commit {
            round: self.round,
            reason: "two replicas have a sample in common".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(replica: u64) -> IntervalSet<u64> {
        let first = 100 + replica * 8;
        IntervalSet::from_disjoint([first..first + 8]).expect("is apart")
    }

    fn plan(replicas: u64) -> RoundPlan {
        let leases = (0..replicas).map(lease).collect();
        RoundPlan { round: 5, epoch: 2, base: "base".to_owned(), leases }
    }

    fn deltas(replicas: &[u32]) -> Vec<(u32, String)> {
        replicas.iter().map(|replica| (*replica, format!("delta {replica}"))).collect()
    }

    #[test]
    fn a_commit_names_what_was_merged_in_order() {
        let commit = plan(3).commit(&deltas(&[0, 2]), "sum".to_owned()).expect("fits");
        let contribution = |replica: u32| Contribution {
            replica,
            samples: lease(replica.into()),
            delta: format!("delta {replica}"),
        };
        assert_eq!(commit.contributions, [contribution(0), contribution(2)]);
        let RoundCommit { round, epoch, base, aggregate, .. } = &commit;
        assert_eq!((*round, *epoch, base.as_str(), aggregate.as_str()), (5, 2, "base", "sum"));
        assert_eq!(commit.samples().expect("is apart").to_string(), "100+8,116+8");
        assert_eq!(RoundCommit::from_bytes(&commit.to_bytes()).expect("is one"), commit);
        assert!(RoundCommit::from_bytes(b"{}").is_err());
        let mut twice = commit;
        twice.contributions[1].samples = twice.contributions[0].samples.clone();
        assert!(twice.samples().is_err_and(|e| e.to_string().contains("a sample in common")));
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let table: [(&[u32], &str); 5] = [
            (&[], "replicas [] are not"),
            (&[1, 0], "replicas [1, 0] are not"),
            (&[1, 1], "replicas [1, 1] are not"),
            (&[0, 9], "there is no replica 9 among 3"),
            (&[3], "there is no replica 3 among 3"),
        ];
        for (replicas, expected) in table {
            let refused =
                plan(3).commit(&deltas(replicas), "sum".to_owned()).expect_err(expected).to_string();
            assert!(refused.starts_with("commit round 5: ") && refused.contains(expected), "{refused}");
        }
        let mut twice = plan(2);
        twice.leases[1] = lease(0);
        let refused = twice.commit(&deltas(&[0]), "sum".to_owned()).expect_err("is leased twice");
        assert!(refused.to_string().contains("leased to two replicas"), "{refused}");
    }
}
