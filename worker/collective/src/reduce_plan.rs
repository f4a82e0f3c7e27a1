//! The plan of an all-reduce: what each rank will send, exchanged before any number, and the order in which
//! all partial sums are added.

use super::sums::Sums;
use muster_llm::parallel::{Partial, Tree};

/// Most partial sums of a rank: more than any range over 2^64 replicas is left with.
const PARTS_MAX: usize = 128;
/// Most scalars that may go along with a vector.
const SCALARS_MAX: usize = 512;
/// Bytes before the parts: replicas and numbers (`u64`), parts and scalars (`u32`).
const HEADER_BYTES: usize = 24;

/// What a rank will send.
#[derive(Clone, Debug, PartialEq)]
pub struct ReducePlan {
    /// The number of logical replicas of the whole sum.
    pub replicas: u64,
    /// The length of the vector.
    pub numbers: u64,
    /// The rank's partial sums in order, with their scalars.
    pub parts: Vec<Partial<Vec<f64>>>,
}

impl ReducePlan {
    /// The plan of a rank that holds `partials`; the error says why they can't be summed.
    pub fn new(replicas: usize, partials: &[Partial<Sums>]) -> Result<ReducePlan, String> {
        let Some(first) = partials.first() else {
            return Err("a rank without a replica has nothing to sum".to_owned());
        };
        let (numbers, scalars) = (first.values.vector.len(), first.values.scalars.len());
        let alike = |p: &Partial<Sums>| p.values.vector.len() == numbers && p.values.scalars.len() == scalars;
        if partials.len() > PARTS_MAX || scalars > SCALARS_MAX || !partials.iter().all(alike) {
            let count = partials.len();
            return Err(format!(
                "{count} partial sums with {scalars} scalars: at most {PARTS_MAX} of one length, with {SCALARS_MAX} scalars"
            ));
        }
        let part =
            |p: &Partial<Sums>| Partial { first: p.first, len: p.len, values: p.values.scalars.clone() };
        Ok(ReducePlan {
            replicas: replicas as u64,
            numbers: numbers as u64,
            parts: partials.iter().map(part).collect(),
        })
    }

    /// The number of scalars of each part.
    pub fn scalars(&self) -> usize {
        self.parts.first().map_or(0, |part| part.values.len())
    }

    /// The body of its frame, little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.replicas.to_le_bytes());
        out.extend(self.numbers.to_le_bytes());
        out.extend((self.parts.len() as u32).to_le_bytes());
        out.extend((self.scalars() as u32).to_le_bytes());
        for part in &self.parts {
            out.extend((part.first as u64).to_le_bytes());
            out.extend((part.len as u64).to_le_bytes());
            part.values.iter().for_each(|number| out.extend(number.to_le_bytes()));
        }
        out
    }

    /// Reads what [`ReducePlan::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<ReducePlan, String> {
        let wrong = || format!("{} bytes that can't be read as the plan of a sum", bytes.len());
        let (head, rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(wrong)?;
        let words = head.as_chunks::<8>().0;
        let (replicas, numbers, counts) =
            (u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]), u64::from_le_bytes(words[2]));
        let (parts, scalars) = ((counts & u64::from(u32::MAX)) as usize, (counts >> 32) as usize);
        let each = 16 + scalars.min(SCALARS_MAX) * 8;
        if parts == 0 || parts > PARTS_MAX || scalars > SCALARS_MAX || rest.len() != parts * each {
            return Err(wrong());
        }
        let parts = rest.chunks_exact(each).map(|part| {
            let words = part.as_chunks::<8>().0;
            let (first, len) = (u64::from_le_bytes(words[0]) as usize, u64::from_le_bytes(words[1]) as usize);
            Partial { first, len, values: words[2..].iter().map(|word| f64::from_le_bytes(*word)).collect() }
        });
        Ok(ReducePlan { replicas, numbers, parts: parts.collect() })
    }

    /// How this plan differs from `ours`, if the two can't be of one sum.
    pub fn difference(&self, ours: &ReducePlan) -> Option<String> {
        let theirs = (self.numbers, self.scalars(), self.replicas);
        let ours = (ours.numbers, ours.scalars(), ours.replicas);
        (theirs != ours)
            .then(|| format!("it brings (numbers, scalars, replicas) {theirs:?} instead of {ours:?}"))
    }
}

/// In which order the parts of all ranks are added: along the tree over logical replicas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReduceOrder {
    /// Pairs of parts, counted over all ranks in order: the second is added to the first.
    pub steps: Vec<(usize, usize)>,
    /// The part that holds the sum in the end.
    pub root: usize,
    /// The sums of the scalars.
    pub scalars: Vec<f64>,
}

impl ReduceOrder {
    /// The order for the plans of all ranks in order. Where it can choose, the sum is kept in the part
    /// `home`.
    pub fn new(plans: &[&ReducePlan], home: usize) -> Result<ReduceOrder, muster_llm::parallel::Error> {
        let replicas = plans.first().map_or(0, |plan| plan.replicas);
        let mut tree = Tree::new(usize::try_from(replicas).unwrap_or(usize::MAX));
        let mut steps = Vec::new();
        let parts = plans.iter().flat_map(|plan| &plan.parts).enumerate();
        for (index, part) in parts {
            let leaf = Partial { first: part.first, len: part.len, values: (index, part.values.clone()) };
            tree.push(leaf, |left: &mut (usize, Vec<f64>), right| {
                // Addition of two floats commutes, so either part may take the sum.
                let (into, from) = if right.0 == home { (right.0, left.0) } else { (left.0, right.0) };
                steps.push((into, from));
                left.0 = into;
                left.1.iter_mut().zip(&right.1).for_each(|(sum, other)| *sum += other);
            })?;
        }
        let (root, scalars) = tree.total()?;
        Ok(ReduceOrder { steps, root, scalars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(parts: &[(usize, usize)]) -> ReducePlan {
        let part = |(first, len): &(usize, usize)| Partial {
            first: *first,
            len: *len,
            values: vec![*first as f64, 0.5],
        };
        ReducePlan { replicas: 5, numbers: 9, parts: parts.iter().map(part).collect() }
    }

    #[test]
    fn plans_come_back_as_they_went() {
        let plan = plan(&[(0, 2), (2, 1)]);
        let bytes = plan.encode();
        assert_eq!(ReducePlan::decode(&bytes), Ok(plan));
        for cut in 0..bytes.len() {
            assert!(ReducePlan::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 16..24 {
            let mut damaged = bytes.clone();
            damaged[at] = 255;
            assert!(
                ReducePlan::decode(&damaged).is_err_and(|e| e.contains("can't be read as the plan of a sum")),
                "byte {at}"
            );
        }
    }

    #[test]
    fn the_sum_stays_at_home() {
        let plans = [plan(&[(0, 2), (2, 1)]), plan(&[(3, 1)]), plan(&[(4, 1)])];
        let plans: Vec<&ReducePlan> = plans.iter().collect();
        let order = ReduceOrder::new(&plans, 2).expect("is whole");
        assert_eq!((order.steps, order.root), (vec![(2, 1), (2, 0), (2, 3)], 2));
        assert_eq!(order.scalars, vec![9.0, 2.0]);
        assert_eq!(ReduceOrder::new(&plans, 3).expect("is whole").root, 3);
        assert!(ReduceOrder::new(&plans[..2], 0).is_err());
        assert!(ReduceOrder::new(&[], 0).is_err());
    }
}
