//! What a rank brings to a sum, as it tells the others before it sends numbers; and how all parts are put
//! together.

use super::Sums;
use muster_llm::parallel::{Partial, Tree};

/// Most partial sums of a rank: more than any range over 2^64 replicas is left with.
const PARTS_MAX: usize = 128;
/// Most scalars that may go along with a vector.
const SCALARS_MAX: usize = 512;
/// Bytes before the parts: replicas, numbers, parts, scalars.
const HEAD_BYTES: usize = 24;

/// What a rank brings.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Logical replicas of the whole sum.
    pub replicas: u64,
    /// Numbers of the vector.
    pub numbers: u64,
    /// The scalars of each partial sum, in order.
    pub parts: Vec<Partial<Vec<f64>>>,
}

impl Plan {
    /// Of what this rank holds.
    pub fn of(replicas: usize, partials: &[Partial<Sums>]) -> Result<Plan, String> {
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
        Ok(Plan {
            replicas: replicas as u64,
            numbers: numbers as u64,
            parts: partials.iter().map(part).collect(),
        })
    }

    /// Scalars of each part.
    pub fn scalars(&self) -> usize {
        self.parts.first().map_or(0, |part| part.values.len())
    }

    /// As bytes.
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

    /// Reads what [`Plan::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Plan, String> {
        let wrong = || format!("{} bytes that are no plan of a sum", bytes.len());
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or_else(wrong)?;
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
        Ok(Plan { replicas, numbers, parts: parts.collect() })
    }

    /// How this plan differs from that of rank 0 (or ours), if the two can't be of one sum.
    pub fn difference(&self, ours: &Plan) -> Option<String> {
        let theirs = (self.numbers, self.scalars(), self.replicas);
        let ours = (ours.numbers, ours.scalars(), ours.replicas);
        (theirs != ours)
            .then(|| format!("it brings (numbers, scalars, replicas) {theirs:?} instead of {ours:?}"))
    }
}

/// How the parts of all ranks become one: which is added to which, and where the sum is in the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// Places of parts, counted over all ranks in order: the second is added to the first.
    pub steps: Vec<(usize, usize)>,
    /// Where the sum is.
    pub root: usize,
    /// The sums of the scalars.
    pub scalars: Vec<f64>,
}

impl Recipe {
    /// Of the plans of all ranks in order; sums are best made at the place `home`.
    pub fn of(plans: &[&Plan], home: usize) -> Result<Recipe, muster_llm::parallel::Error> {
        let replicas = plans.first().map_or(0, |plan| plan.replicas);
        let mut tree = Tree::new(usize::try_from(replicas).unwrap_or(usize::MAX));
        let mut steps = Vec::new();
        let parts = plans.iter().flat_map(|plan| &plan.parts).enumerate();
        for (place, part) in parts {
            let leaf = Partial { first: part.first, len: part.len, values: (place, part.values.clone()) };
            tree.push(leaf, |left: &mut (usize, Vec<f64>), right| {
                // Addition commutes, so that the sum may stay where it is wanted.
                let (into, from) = if right.0 == home { (right.0, left.0) } else { (left.0, right.0) };
                steps.push((into, from));
                left.0 = into;
                left.1.iter_mut().zip(&right.1).for_each(|(sum, other)| *sum += other);
            })?;
        }
        let (root, scalars) = tree.total()?;
        Ok(Recipe { steps, root, scalars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(parts: &[(usize, usize)]) -> Plan {
        let part = |(first, len): &(usize, usize)| Partial {
            first: *first,
            len: *len,
            values: vec![*first as f64, 0.5],
        };
        Plan { replicas: 5, numbers: 9, parts: parts.iter().map(part).collect() }
    }

    #[test]
    fn plans_come_back_as_they_went() {
        let plan = plan(&[(0, 2), (2, 1)]);
        let bytes = plan.encode();
        assert_eq!(Plan::decode(&bytes), Ok(plan));
        for cut in 0..bytes.len() {
            assert!(Plan::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 16..24 {
            let mut damaged = bytes.clone();
            damaged[at] = 255;
            assert!(Plan::decode(&damaged).is_err_and(|e| e.contains("no plan of a sum")), "byte {at}");
        }
    }

    #[test]
    fn a_recipe_sums_at_home() {
        let plans = [plan(&[(0, 2), (2, 1)]), plan(&[(3, 1)]), plan(&[(4, 1)])];
        let plans: Vec<&Plan> = plans.iter().collect();
        let recipe = Recipe::of(&plans, 2).expect("is whole");
        assert_eq!((recipe.steps, recipe.root), (vec![(2, 1), (2, 0), (2, 3)], 2));
        assert_eq!(recipe.scalars, vec![9.0, 2.0]);
        assert_eq!(Recipe::of(&plans, 3).expect("is whole").root, 3);
        assert!(Recipe::of(&plans[..2], 0).is_err());
        assert!(Recipe::of(&[], 0).is_err());
    }
}
