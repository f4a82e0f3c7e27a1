//! Processes one record: decodes, normalises and filters it, and compares it with the evaluation sets.

use super::config::ScanConfig;
use super::files::{ListedPart, is_held_out};
use crate::decontaminate::ContaminationIndex;
use crate::documents::{Document, Place, Tally};
use crate::filters::{self, DropReason, FilterOutcome};
use crate::read::Record;

/// The result for one record. Sizes are bytes of text.
#[derive(Debug)]
pub enum Processed {
    /// It is kept; the tally counts the lines that a filter removed.
    Kept(Box<Document>, Tally),
    /// It shares text with the named evaluation set; its bytes.
    Contaminated(String, u64),
    /// It is not of the declared format: the reason and its bytes.
    Malformed(String, u64),
    /// It is dropped for another reason; its bytes.
    Dropped(DropReason, u64),
}

/// Processes records, on any number of threads.
#[derive(Debug)]
pub struct Processor {
    config: ScanConfig,
    contamination: ContaminationIndex,
}

impl Processor {
    pub fn new(config: &ScanConfig, contamination: ContaminationIndex) -> Self {
        Self { config: config.clone(), contamination }
    }

    pub fn process(&self, listed: &ListedPart, record: Record) -> Processed {
        let body = match record.raw.body(&self.config.fields) {
            Ok(body) => self.config.normalise.body(body),
            Err((DropReason::Malformed, reason)) => return Processed::Malformed(reason, record.bytes),
            Err((reason, _)) => return Processed::Dropped(reason, record.bytes),
        };
        let (body, removed) = match filters::apply(body, &self.config.filters) {
            FilterOutcome::Kept(body, removed) => (body, removed),
            FilterOutcome::Dropped(reason, tally) => return Processed::Dropped(reason, tally.bytes),
        };
        if let Some(set) = self.contamination.of(&body.plain()) {
            return Processed::Contaminated(set.to_owned(), body.bytes());
        }
        let mut document = Document::new(listed.name.clone(), record.place, body, false);
        // A file is held out by its name, so that its versions stay together; a record by its content, so
        // that copies stay together.
        document.entry.held_out = match record.place {
            Place::Whole => listed.held_out,
            Place::Bytes { .. } | Place::Row(_) => is_held_out(&self.config, &document.entry.hash),
        };
        Processed::Kept(Box::new(document), removed)
    }
}
