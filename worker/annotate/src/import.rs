//! Importing labels from JSON lines: all are accepted, or none.

use super::item::lines;
use super::label_store::{Label, LabelChange, LabelStore, PendingLabels};
use serde::{Deserialize, Serialize};

/// Most lines that are listed as invalid.
const ERRORS_MAX: usize = 50;

/// An invalid line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LineError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// A line. Other members are ignored, so that exports of other programs can be imported.
#[derive(Debug, Deserialize)]
struct ImportLine {
    item: String,
    who: String,
    label: String,
}

/// How many labels were accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImportCounts {
    /// Labels of people who had none for the item.
    pub new: u64,
    /// Labels that replaced another of the same person.
    pub changed: u64,
    /// Labels that the same person gave before.
    pub repeated: u64,
}

impl ImportCounts {
    /// The counts of one label.
    pub fn of(change: LabelChange) -> ImportCounts {
        let mut counts = ImportCounts::default();
        counts.add(change);
        counts
    }

    /// LabelsRecord one.
    pub fn add(&mut self, change: LabelChange) {
        match change {
            LabelChange::New => self.new += 1,
            LabelChange::Changed => self.changed += 1,
            LabelChange::Repeated => self.repeated += 1,
        }
    }
}

/// Parses labels with the numbers of their lines, given at `at_ms`; the error lists the invalid lines.
pub fn parse(bytes: &[u8], at_ms: u64) -> Result<Vec<(usize, Label)>, Vec<LineError>> {
    let (mut labels, mut errors) = (Vec::new(), Vec::new());
    for (number, line) in lines(bytes) {
        match serde_json::from_slice::<ImportLine>(line) {
            Ok(ImportLine { item, who, label }) => {
                labels.push((number, Label { item, who, label, confirmed: None, at_ms }))
            }
            Err(error) => report(
                &mut errors,
                number,
                format!("is not {{\"item\", \"who\", \"label\"}} with texts: {error}"),
            ),
        }
    }
    if errors.is_empty() { Ok(labels) } else { Err(errors) }
}

/// Adds all labels to `pending`; the error lists the lines that are refused, and `pending` must be dropped.
pub fn add_all(
    store: &LabelStore,
    pending: &mut PendingLabels,
    labels: Vec<(usize, Label)>,
) -> Result<ImportCounts, Vec<LineError>> {
    let (mut counts, mut errors) = (ImportCounts::default(), Vec::new());
    for (number, label) in labels {
        match store.add(pending, label) {
            Ok(change) => counts.add(change),
            Err(refusal) => report(&mut errors, number, refusal.to_string()),
        }
    }
    if errors.is_empty() { Ok(counts) } else { Err(errors) }
}

fn report(errors: &mut Vec<LineError>, line: usize, message: String) {
    if errors.len() < ERRORS_MAX {
        errors.push(LineError { line, message });
    }
}
