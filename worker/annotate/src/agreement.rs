//! Agreement between people who labelled the same items: raw agreement, Cohen's kappa, Krippendorff's alpha,
//! and what is confused with what.
//!
//! Labels are nominal: two are the same or they are not. Everything is counted in integers, in the order of
//! the items, and divided at the end, so that the same labels give the same figures.
//!
//! Sources: J. Cohen, "A coefficient of agreement for nominal scales", 1960; K. Krippendorff, "Computing
//! Krippendorff's alpha-reliability", 2011.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Labels of one item: who, and what; each person once.
pub type Unit<'a> = Vec<(&'a str, &'a str)>;

/// How far people agree.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Agreement {
    /// Items with two labels or more: the others say nothing about agreement.
    pub items: u64,
    /// Of all pairs of labels of the same item, the part that is equal, as a mean over the items. From 0 to
    /// 1.
    pub raw: Option<f64>,
    /// Krippendorff's alpha for nominal data: 1 is perfect, 0 is chance, below is worse. `None`: all labels
    /// are the same, or there are none.
    pub alpha: Option<f64>,
    /// Cohen's kappa for each two people who labelled the same items.
    pub pairs: Vec<Pair>,
    /// How often two labels of the same item were these two, in any order; the same one twice is agreement.
    pub confusion: Vec<Confusion>,
}

/// Two people.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// One.
    pub a: String,
    /// The other.
    pub b: String,
    /// Items that both labelled.
    pub items: u64,
    /// The part of them where they agree.
    pub raw: f64,
    /// Cohen's kappa: agreement beyond chance, given how often each uses each label. `None`: both used one
    /// label only.
    pub kappa: Option<f64>,
}

/// Two labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// One.
    pub a: String,
    /// The other, or the same.
    pub b: String,
    /// Pairs of labels of the same item.
    pub pairs: u64,
}

/// Computes all of it.
pub fn agreement(units: &[Unit<'_>]) -> Agreement {
    type Both<'a> = (&'a str, &'a str);
    let pairable: Vec<&Unit<'_>> = units.iter().filter(|unit| unit.len() >= 2).collect();
    let mut confusion: BTreeMap<Both<'_>, u64> = BTreeMap::new();
    let mut tables: BTreeMap<Both<'_>, BTreeMap<Both<'_>, u64>> = BTreeMap::new();
    for unit in &pairable {
        for (index, (who, label)) in unit.iter().enumerate() {
            for (other, its) in &unit[index + 1..] {
                *confusion.entry(ordered(label, its)).or_default() += 1;
                let (people, labels) = if who <= other {
                    ((*who, *other), (*label, *its))
                } else {
                    ((*other, *who), (*its, *label))
                };
                *tables.entry(people).or_default().entry(labels).or_default() += 1;
            }
        }
    }
    Agreement {
        items: pairable.len() as u64,
        raw: raw(&pairable),
        alpha: alpha(&pairable),
        pairs: tables.iter().map(|((a, b), table)| pair(a, b, table)).collect(),
        confusion: confusion
            .into_iter()
            .map(|((a, b), pairs)| Confusion { a: a.to_owned(), b: b.to_owned(), pairs })
            .collect(),
    }
}

fn ordered<'a>(a: &'a str, b: &'a str) -> (&'a str, &'a str) {
    if a <= b { (a, b) } else { (b, a) }
}

fn counts<'a>(labels: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, u64> {
    let mut counts = BTreeMap::new();
    for label in labels {
        *counts.entry(label).or_default() += 1;
    }
    counts
}

/// Of a unit: its labels, and its ordered pairs of different labels.
fn disagreeing(unit: &Unit<'_>) -> (u64, u64) {
    let labels = unit.len() as u64;
    let same: u64 = counts(unit.iter().map(|(_, label)| *label)).values().map(|count| count * count).sum();
    (labels, labels * labels - same)
}

fn raw(pairable: &[&Unit<'_>]) -> Option<f64> {
    let sum: f64 = pairable
        .iter()
        .map(|unit| {
            let (labels, differ) = disagreeing(unit);
            1.0 - differ as f64 / (labels * (labels - 1)) as f64
        })
        .sum();
    (!pairable.is_empty()).then(|| sum / pairable.len() as f64)
}

/// 1 - observed over expected disagreement, both from the coincidence matrix: a unit of m labels adds each of
/// its ordered pairs with weight 1/(m - 1).
fn alpha(pairable: &[&Unit<'_>]) -> Option<f64> {
    let mut differ: BTreeMap<u64, u64> = BTreeMap::new();
    for unit in pairable {
        let (labels, pairs) = disagreeing(unit);
        *differ.entry(labels - 1).or_default() += pairs;
    }
    let observed: f64 = differ.iter().map(|(weight, pairs)| *pairs as f64 / *weight as f64).sum();
    let totals = counts(pairable.iter().flat_map(|unit| unit.iter().map(|(_, label)| *label)));
    let labels: u64 = totals.values().sum();
    // A square of ten million fits into 64 bits.
    let expected = labels * labels - totals.values().map(|total| total * total).sum::<u64>();
    (expected > 0).then(|| 1.0 - (labels - 1) as f64 * observed / expected as f64)
}

fn pair(a: &str, b: &str, table: &BTreeMap<(&str, &str), u64>) -> Pair {
    let items: u64 = table.values().sum();
    let (mut of_a, mut of_b): (BTreeMap<&str, u64>, BTreeMap<&str, u64>) = (BTreeMap::new(), BTreeMap::new());
    for ((its, other), count) in table {
        *of_a.entry(its).or_default() += count;
        *of_b.entry(other).or_default() += count;
    }
    let equal: u64 = table.iter().filter(|((its, other), _)| its == other).map(|(_, count)| count).sum();
    let labels: BTreeSet<&str> = of_a.keys().chain(of_b.keys()).copied().collect();
    let by_chance: u64 =
        labels.iter().map(|label| of_a.get(label).unwrap_or(&0) * of_b.get(label).unwrap_or(&0)).sum();
    let whole = items * items;
    // (po - pe) / (1 - pe) with both over items^2, so that no rounding makes a zero of what is none.
    let kappa =
        (whole > by_chance).then(|| ((equal * items) as f64 - by_chance as f64) / (whole - by_chance) as f64);
    Pair { a: a.to_owned(), b: b.to_owned(), items, raw: equal as f64 / items.max(1) as f64, kappa }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row of letters per person, one column per item; a point is no label.
    fn units<'a>(rows: &[(&'a str, &'a str)]) -> Vec<Unit<'a>> {
        let length = rows.first().map_or(0, |(_, row)| row.len());
        let column = |index: usize| {
            rows.iter().map(move |(who, row)| (*who, &row[index..=index])).filter(|(_, label)| *label != ".")
        };
        (0..length).map(|index| column(index).collect()).collect()
    }

    fn close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 5e-4), "{found:?} is not {expected}");
    }

    #[test]
    fn alpha_of_krippendorffs_examples() {
        // Computing Krippendorff's Alpha-Reliability, 2011: A, B and C.
        let binary = units(&[("meg", "0100000010"), ("owen", "1110010000")]);
        close(agreement(&binary).alpha, 0.095);
        let nominal = units(&[("ben", "aabbdcccedda"), ("gerry", "babbbccceddd")]);
        close(agreement(&nominal).alpha, 0.692);
        let missing = units(&[
            ("a", "123321412..."),
            ("b", "1233224125.3"),
            ("c", ".3332342251."),
            ("d", "12332441251."),
        ]);
        let found = agreement(&missing);
        close(found.alpha, 0.743);
        assert_eq!((found.items, found.pairs.len()), (11, 6));
    }

    #[test]
    fn kappa_of_the_textbook() {
        // 50 grant proposals, two readers: yes-yes 20, yes-no 5, no-yes 10, no-no 15.
        let mut units: Vec<Unit<'_>> = Vec::new();
        for (a, b, times) in [("yes", "yes", 20), ("yes", "no", 5), ("no", "yes", 10), ("no", "no", 15)] {
            // The order in which two people came to an item must not matter.
            units.extend(
                (0..times)
                    .map(|n| if n % 2 == 0 { vec![("A", a), ("B", b)] } else { vec![("B", b), ("A", a)] }),
            );
        }
        let found = agreement(&units);
        close(found.raw, 0.7);
        close(found.pairs[0].kappa, 0.4);
        assert_eq!((found.pairs.len(), found.pairs[0].items), (1, 50));
        let confused: Vec<(&str, &str, u64)> =
            found.confusion.iter().map(|both| (both.a.as_str(), both.b.as_str(), both.pairs)).collect();
        assert_eq!(confused, [("no", "no", 15), ("no", "yes", 15), ("yes", "yes", 20)]);
    }

    #[test]
    fn what_says_nothing_is_no_figure() {
        type Row<'a> = (&'a str, &'a str);
        let table: &[(&[Row<'_>], Option<f64>)] = &[
            (&[], None),
            (&[("a", "xyz")], None),
            (&[("a", "xxx"), ("b", "xxx")], Some(1.0)),
            (&[("a", "xy"), ("b", "yx")], Some(0.0)),
        ];
        for (rows, raw) in table {
            let found = agreement(&units(rows));
            assert_eq!(found.raw, *raw, "{rows:?}");
        }
        let same = agreement(&units(&[("a", "xxx"), ("b", "xxx")]));
        assert_eq!((same.alpha, same.pairs[0].kappa), (None, None));
        let opposed = agreement(&units(&[("a", "xy"), ("b", "yx")]));
        assert_eq!((opposed.alpha, opposed.pairs[0].kappa), (Some(-0.5), Some(-1.0)));
    }
}
