//! The results: a line for each item with its labels, and a report on agreement.

use super::agreement::{Agreement, Unit, agreement};
use super::error::Error;
use super::label_store::{CurrentLabel, ItemStatus, LabelStore};
use muster_protocol::ids::Digest;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Most confusions in a report, the most frequent ones: almost every pair of free texts is a different one.
const CONFUSIONS_MAX: usize = 1_000;

/// A line of the export, as in `docs/job-file.md`.
#[derive(Debug, Serialize)]
struct LabelledLine<'a> {
    id: &'a str,
    text: &'a str,
    /// The agreed or adjudicated label.
    label: Option<&'a str>,
    standing: &'static str,
    labels: &'a [CurrentLabel],
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
    /// Items that need no more labels.
    pub complete: u64,
    /// Items by status.
    pub standings: BTreeMap<&'static str, u64>,
    /// Current labels.
    pub labels: u64,
    /// Labels that the same person replaced.
    pub replaced: u64,
    /// Current labels by person.
    pub people: BTreeMap<String, u64>,
    /// Items by agreed or adjudicated label, the most frequent first; empty for free texts.
    pub by_label: Vec<(String, u64)>,
    /// Agreement between people, without the adjudicating labels.
    pub agreement: Agreement,
    /// How often proposals were confirmed, if there were any.
    pub proposals: Option<Proposals>,
    /// Items whose labels differ, adjudicated or not.
    pub differing: Vec<DisputedItem>,
    /// The person who ended the stage early.
    pub closed: Option<String>,
}

/// How often proposals were confirmed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Proposals {
    /// Items with a proposal.
    pub items: u64,
    /// Labels of those items.
    pub labels: u64,
    /// Labels that are equal to the proposal.
    pub confirmed: u64,
    /// `confirmed / labels`.
    pub share: Option<f64>,
}

/// An item whose labels differ.
#[derive(Debug, Serialize)]
pub struct DisputedItem {
    /// The item.
    pub id: String,
    /// `disagreed`, `disputed` or `adjudicated`.
    pub standing: &'static str,
    /// Person and label.
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
    /// Items with an agreed or adjudicated label.
    pub decided: u64,
    /// Items whose labels differ, without adjudication.
    pub differing: u64,
    /// Items that lack labels, because the stage was ended early.
    pub open: u64,
    /// Current labels.
    pub labels: u64,
    /// People who labelled.
    pub people: u64,
    /// Raw agreement.
    pub raw: Option<f64>,
    /// Cohen's kappa, if exactly two people labelled the same items.
    pub kappa: Option<f64>,
    /// Krippendorff's alpha.
    pub alpha: Option<f64>,
    /// The part of the labels that confirm a proposal.
    pub confirmed: Option<f64>,
}

/// The items with their labels so far, as JSON lines.
pub fn labelled(store: &LabelStore) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for (index, item) in store.items().iter().enumerate() {
        let status = store.status(index);
        let line = LabelledLine {
            id: &item.id,
            text: &item.text,
            label: status.label(),
            standing: status.word(),
            labels: store.labels_of(index),
            proposal: item.proposal.as_deref(),
            source: &item.source,
        };
        serde_json::to_writer(&mut bytes, &line)
            .map_err(|source| Error::Encode { values: "labelled items", source })?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The report on the labels so far.
pub fn report(store: &LabelStore) -> Report {
    let rules = store.rules();
    let (mut standings, mut by_label, mut differing) =
        (BTreeMap::new(), BTreeMap::<&str, u64>::new(), Vec::new());
    let mut proposals = Proposals { items: 0, labels: 0, confirmed: 0, share: None };
    let mut units: Vec<Unit<'_>> = Vec::with_capacity(store.items().len());
    for (index, item) in store.items().iter().enumerate() {
        let (status, given) = (store.status(index), store.labels_of(index));
        *standings.entry(status.word()).or_default() += 1;
        if let (Some(label), false) = (status.label(), rules.labels.is_empty()) {
            *by_label.entry(label).or_default() += 1;
        }
        // An adjudicator has seen the labels of the others, which would bias the measures.
        units.push(
            given
                .iter()
                .take(rules.per_item)
                .map(|given| (given.who.as_str(), given.label.as_str()))
                .collect(),
        );
        if let ItemStatus::Disputed | ItemStatus::Disagreed | ItemStatus::Adjudicated(_) = status {
            let labels = given.iter().map(|given| (given.who.clone(), given.label.clone())).collect();
            differing.push(DisputedItem { id: item.id.clone(), standing: status.word(), labels });
        }
        if item.proposal.is_some() {
            proposals.items += 1;
            proposals.labels += given.len() as u64;
            proposals.confirmed += given.iter().filter(|given| given.confirmed == Some(true)).count() as u64;
        }
    }
    proposals.share = ratio(proposals.confirmed, proposals.labels);
    let mut agreement = agreement(&units);
    // Stable: equal counts stay in the order of their labels.
    agreement.confusion.sort_by_key(|confusion| std::cmp::Reverse(confusion.pairs));
    agreement.confusion.truncate(CONFUSIONS_MAX);
    let mut by_label: Vec<(String, u64)> =
        by_label.into_iter().map(|(label, items)| (label.to_owned(), items)).collect();
    by_label.sort_by_key(|(_, items)| std::cmp::Reverse(*items));
    let labels: u64 = store.people().values().sum();
    Report {
        items: store.items().len() as u64,
        complete: store.complete() as u64,
        standings,
        labels,
        replaced: store.accepted() - labels,
        people: store.people().clone(),
        by_label,
        agreement,
        proposals: (proposals.items > 0).then_some(proposals),
        differing,
        closed: store.closed().map(str::to_owned),
    }
}

impl Report {
    /// The summary that is the task's output.
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

fn ratio(some: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| some as f64 / all as f64)
}

/// Six decimals are enough for a record.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}
