//! Planted pairs of an exact Jaccard index, over splits and shares.

use super::bands::{Pairs, Share, THRESHOLD, pairs};
use super::components::select;
use super::minhash::{MinHashConfig, MinHasher};
use super::sketch::Sketch;
use crate::Error;
use crate::documents::{Body, Document, Place, Scan};
use muster_host::compute::Compute;
use std::collections::BTreeSet;

/// Two texts of 180 shingles of 5 words: the first `common` words are the same, so that `common - 4` shingles
/// are.
fn pair(number: usize, common: usize, of: usize) -> [String; 2] {
    let word = |side: usize, at: usize| format!("w{number}x{}x{at}", if at < common { 0 } else { side + 1 });
    [0, 1].map(|side| (0..of).map(|at| word(side, at)).collect::<Vec<_>>().join(" "))
}

fn jaccard(one: &str, other: &str) -> f64 {
    let signer = MinHasher::new(&MinHashConfig::default()).expect("is sound");
    let sets = [one, other].map(|text| signer.shingles(text).into_iter().collect::<BTreeSet<_>>());
    sets[0].intersection(&sets[1]).count() as f64 / sets[0].union(&sets[1]).count() as f64
}

fn scan(texts: &[String], first: usize) -> Scan {
    let document = |(place, text): (usize, &String)| {
        Document::new(format!("root/{:06}", first + place), Place::Whole, Body::Text(text.clone()), false)
    };
    Scan { documents: texts.iter().enumerate().map(document).collect(), ..Scan::default() }
}

fn sketches(scans: &[Scan]) -> Vec<Sketch> {
    let compute = Compute::new(2).expect("starts");
    scans
        .iter()
        .map(|scan| Sketch::of(scan, Some(&MinHashConfig::default()), &compute).expect("is made"))
        .collect()
}

fn found(sketches: &[Sketch], of: u32) -> Pairs {
    let mut all = Pairs::default();
    for index in 0..of {
        let share = pairs(
            sketches.len(),
            |split| Ok::<_, Error>(sketches[split].clone()),
            Share { index, of },
            THRESHOLD,
        )
        .expect("compares");
        all.documents = share.documents;
        all.pairs.extend(share.pairs);
    }
    all.pairs.sort_unstable();
    all.pairs.dedup();
    all
}

#[test]
fn near_duplicates_are_found_and_others_are_not() {
    const PAIRS: usize = 1000;
    // (shingles in common) / (180 + 180 - common): 160/200, 120/240.
    for (common, expected, least, most) in [(164, 0.8, 0.90, 1.0), (124, 0.5, 0.0, 0.02)] {
        let texts: Vec<String> = (0..PAIRS).flat_map(|number| pair(number, common, 184)).collect();
        for number in [0, PAIRS - 1] {
            assert_eq!(jaccard(&texts[2 * number], &texts[2 * number + 1]), expected);
        }
        let found = found(&sketches(&[scan(&texts, 0)]), 3);
        assert!(
            found.pairs.iter().all(|(one, other)| one.is_multiple_of(2) && *other == one + 1),
            "only planted pairs are alike"
        );
        let share = found.pairs.len() as f64 / PAIRS as f64;
        assert!(
            (least..=most).contains(&share),
            "of pairs with a Jaccard index of {expected}, {share} were found"
        );
    }
}

#[test]
fn the_choice_depends_on_neither_splits_nor_shares() {
    let mut texts: Vec<String> = (0..40).flat_map(|number| pair(number, 176, 184)).collect();
    // A chain, equal documents, a large bucket, and texts without a word.
    texts.extend(pair(0, 176, 184));
    texts.extend((0..200).map(|number| format!("{} tail{number}", pair(77, 184, 184)[0])));
    texts.extend(["...".to_owned(), "---".to_owned(), "...".to_owned()]);
    let whole = scan(&texts, 0);
    let mut kept = Vec::new();
    for (per_split, shares) in [(texts.len(), 1), (texts.len(), 4), (50, 1), (7, 3), (1, 2)] {
        let scans: Vec<Scan> = whole
            .documents
            .chunks(per_split)
            .map(|documents| Scan { documents: documents.to_vec(), ..Scan::default() })
            .rev()
            .collect();
        let sketches = sketches(&scans);
        let entries: Vec<_> = scans.iter().map(Scan::entries).collect();
        let selection = select(&entries, found(&sketches, shares).pairs).expect("chooses");
        let chosen = selection
            .keep
            .iter()
            .zip(&entries)
            .flat_map(|(keep, entries)| keep.iter().map(|at| entries[*at as usize].path.clone()));
        let chosen: BTreeSet<String> = chosen.collect();
        let sum = |tallies: &[crate::documents::Tally]| {
            tallies.iter().map(|tally| tally.documents).sum::<u64>() as usize
        };
        let dropped = (sum(&selection.duplicates), sum(&selection.near_duplicates));
        assert_eq!(chosen.len() + dropped.0 + dropped.1, texts.len());
        kept.push((chosen, dropped));
    }
    assert!(kept.iter().all(|one| *one == kept[0]), "{kept:?}");
    // Both of the first pair come twice, and three dots do.
    let (chosen, (equal, near)) = &kept[0];
    assert_eq!((chosen.len(), *equal, *near), (43, 3, 239));
    assert!(
        chosen.contains("root/000000") && !chosen.contains("root/000001") && !chosen.contains("root/000080")
    );
}

#[test]
fn what_does_not_fit_together_is_said() {
    let sketch = sketches(&[scan(&pair(1, 10, 20), 0)]).remove(0);
    let refused = |sketches: &[Sketch], share, threshold| {
        let read = |split: usize| Ok::<_, Error>(sketches[split].clone());
        pairs(sketches.len(), read, share, threshold).expect_err("refused").to_string()
    };
    let share = Share { index: 0, of: 1 };
    let bare = Sketch { minhash: None, signatures: Vec::new(), ..sketch.clone() };
    let other =
        Sketch { minhash: Some(MinHashConfig { seed: 9, ..MinHashConfig::default() }), ..sketch.clone() };
    assert!(refused(&[sketch.clone(), bare], share, 0.7).contains("the sketch of split 1 has no signatures"));
    assert!(
        refused(&[sketch.clone(), other], share, 0.7)
            .contains("the signatures of split 1 were made with other parameters")
    );
    assert!(refused(&[], Share { index: 2, of: 2 }, 0.7).contains("no share 2 of 2"));
    assert!(refused(&[], share, 1.5).contains("a threshold of 1.5"));
    assert!(
        select(&[sketch.entries], [(0, 2)])
            .expect_err("refused")
            .to_string()
            .contains("there are 2 documents")
    );
}
