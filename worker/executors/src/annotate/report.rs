//! What comes of the labels: a line for each item, and an account of who agrees with whom.

use super::agreement::{Agreement, Unit, agreement};
use super::board::{Board, Given, Standing};
use crate::error::Error;
use muster_protocol::ids::Digest;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Confusions that a report lists at most: of free texts almost every pair is another one. The most frequent
/// are kept.
const CONFUSIONS_MAX: usize = 1_000;

/// A line of the export. `docs/job-file.md` says what it must be.
#[derive(Debug, Serialize)]
struct Line<'a> {
    id: &'a str,
    text: &'a str,
    /// The label that counts; `None`: there is none yet, or people differ.
    label: Option<&'a str>,
    standing: &'static str,
    labels: &'a [Given],
    #[serde(skip_serializing_if = "Option::is_none")]
    proposal: Option<&'a str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    source: &'a Map<String, Value>,
}

/// The artifact `report`, and what `GET /status.json` shows.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Items.
    pub items: u64,
    /// Items with nothing more to be done.
    pub complete: u64,
    /// Items by how they stand.
    pub standings: BTreeMap<&'static str, u64>,
    /// Labels as they stand.
    pub labels: u64,
    /// Labels that their own givers replaced.
    pub replaced: u64,
    /// Labels by who gave them.
    pub people: BTreeMap<String, u64>,
    /// Items by the label that counts, the most frequent first; free texts are not listed.
    pub by_label: Vec<(String, u64)>,
    /// Who agrees with whom; without those who decide between others.
    pub agreement: Agreement,
    /// What became of the proposals, if there were any.
    pub proposals: Option<Proposals>,
    /// Items whose labels differ, decided or not.
    pub differing: Vec<Differing>,
    /// Who ended it early, if somebody did.
    pub closed: Option<String>,
}

/// What became of the proposals.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Proposals {
    /// Items with one.
    pub items: u64,
    /// Labels of those items.
    pub labels: u64,
    /// Labels that are what was proposed.
    pub confirmed: u64,
    /// The part of the labels that are.
    pub share: Option<f64>,
}

/// An item whose labels differ.
#[derive(Debug, Serialize)]
pub struct Differing {
    /// Which.
    pub id: String,
    /// `disagreed`, `disputed` or `adjudicated`.
    pub standing: &'static str,
    /// By whom, and what.
    pub labels: Vec<(String, String)>,
}

/// The output of `data.annotate`.
#[derive(Debug, Serialize)]
pub struct AnnotateOutput {
    /// The artifact of JSON lines, one for each item.
    pub labelled: Digest,
    /// The artifact [`Report`].
    pub report: Digest,
    /// Items.
    pub items: u64,
    /// Items with a label that counts.
    pub decided: u64,
    /// Items that people differ on, and that nobody decided.
    pub differing: u64,
    /// Items that lack labels, since it was ended early.
    pub open: u64,
    /// Labels as they stand.
    pub labels: u64,
    /// Who gave them.
    pub people: u64,
    /// Raw agreement.
    pub raw: Option<f64>,
    /// Cohen's kappa, if there were two people only.
    pub kappa: Option<f64>,
    /// Krippendorff's alpha.
    pub alpha: Option<f64>,
    /// The part of the labels that confirm what was proposed.
    pub confirmed: Option<f64>,
}

/// The items with their labels so far, as JSON lines.
pub fn labelled(board: &Board) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for (place, item) in board.items().iter().enumerate() {
        let standing = board.standing(place);
        let line = Line {
            id: &item.id,
            text: &item.text,
            label: standing.label(),
            standing: standing.word(),
            labels: board.given(place),
            proposal: item.proposal.as_deref(),
            source: &item.source,
        };
        serde_json::to_writer(&mut bytes, &line)
            .map_err(|error| Error::Unfit(format!("write the labelled items: {error}")))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The account of the labels so far.
pub fn report(board: &Board) -> Report {
    let rules = board.rules();
    let (mut standings, mut by_label, mut differing) =
        (BTreeMap::new(), BTreeMap::<&str, u64>::new(), Vec::new());
    let mut proposals = Proposals { items: 0, labels: 0, confirmed: 0, share: None };
    let mut units: Vec<Unit<'_>> = Vec::with_capacity(board.items().len());
    for (place, item) in board.items().iter().enumerate() {
        let (standing, given) = (board.standing(place), board.given(place));
        *standings.entry(standing.word()).or_default() += 1;
        if let (Some(label), false) = (standing.label(), rules.labels.is_empty()) {
            *by_label.entry(label).or_default() += 1;
        }
        // Who decides has seen what the others said, and is no measure of agreement.
        units.push(
            given
                .iter()
                .take(rules.per_item)
                .map(|given| (given.who.as_str(), given.label.as_str()))
                .collect(),
        );
        if let Standing::Disputed | Standing::Disagreed | Standing::Adjudicated(_) = standing {
            let labels = given.iter().map(|given| (given.who.clone(), given.label.clone())).collect();
            differing.push(Differing { id: item.id.clone(), standing: standing.word(), labels });
        }
        if item.proposal.is_some() {
            proposals.items += 1;
            proposals.labels += given.len() as u64;
            proposals.confirmed += given.iter().filter(|given| given.confirmed == Some(true)).count() as u64;
        }
    }
    proposals.share = part(proposals.confirmed, proposals.labels);
    let mut agreement = agreement(&units);
    // The order of equals is that of the labels.
    agreement.confusion.sort_by_key(|confusion| std::cmp::Reverse(confusion.pairs));
    agreement.confusion.truncate(CONFUSIONS_MAX);
    let mut by_label: Vec<(String, u64)> =
        by_label.into_iter().map(|(label, items)| (label.to_owned(), items)).collect();
    by_label.sort_by_key(|(_, items)| std::cmp::Reverse(*items));
    let labels: u64 = board.people().values().sum();
    Report {
        items: board.items().len() as u64,
        complete: board.complete() as u64,
        standings,
        labels,
        replaced: board.taken() - labels,
        people: board.people().clone(),
        by_label,
        agreement,
        proposals: (proposals.items > 0).then_some(proposals),
        differing,
        closed: board.closed().map(str::to_owned),
    }
}

impl Report {
    /// The output that says so in short.
    pub fn output(&self, labelled: Digest, report: Digest) -> AnnotateOutput {
        let standing = |word: &str| self.standings.get(word).copied().unwrap_or(0);
        let kappa = match self.agreement.pairs.as_slice() {
            [pair] => pair.kappa,
            [] | [_, _, ..] => None,
        };
        AnnotateOutput {
            labelled,
            report,
            items: self.items,
            decided: standing("agreed") + standing("adjudicated"),
            differing: standing("disagreed") + standing("disputed"),
            open: standing("open"),
            labels: self.labels,
            people: self.people.len() as u64,
            raw: self.agreement.raw.map(rounded),
            kappa: kappa.map(rounded),
            alpha: self.agreement.alpha.map(rounded),
            confirmed: self.proposals.and_then(|proposals| proposals.share).map(rounded),
        }
    }
}

fn part(some: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| some as f64 / all as f64)
}

/// Six digits after the point are enough for a record.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}
