//! Reads one split of the documents below some roots, in a fixed order and within a byte budget; normalises
//! and filters each.
//!
//! A scan runs in steps of some megabytes, so that the caller can save each and resume after the last. Memory
//! holds the documents kept so far and those of the current step.

mod config;
mod files;
mod process;
#[cfg(test)]
mod tests;

pub use config::{ScanConfig, Split};

use super::Error;
use super::decontaminate::ContaminationIndex;
use super::documents::{Place, Scan, ScanReport, Tally};
use super::filters::DropReason;
use super::read::{self, Format, PartRange, Record};
use files::ListedPart;
use muster_host::compute::Compute;
use process::{Processed, Processor};
use rayon::prelude::*;
use std::ops::ControlFlow;

/// Reads one whole split.
///
/// A document's split depends only on its file's name and its position there, so the splits together hold
/// each document once.
///
/// # Errors
/// [`Error::Read`] with the path of a directory or file that can't be read; [`Error::Parameters`] if more
/// than [`ScanConfig::malformed_max`] records are malformed.
pub fn scan(config: &ScanConfig, split: Split, compute: &Compute) -> Result<Scan, Error> {
    let mut scanner = Scanner::open(config, split)?;
    while let Some(step) = scanner.step(compute)? {
        scanner.add_step(step)?;
    }
    scanner.finish()
}

/// About the number of steps in a split with a full budget. The caller may save each step, so they must not
/// become too many.
const STEPS: u64 = 128;
/// Bytes of records that wait to be processed.
const WAITING_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Records that wait to be processed.
const WAITING_MAX: usize = 4096;

/// The result of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Its documents and their counts.
    pub scan: Scan,
    /// Parts of files that it read or skipped.
    pub parts: usize,
}

/// Reads a split step by step.
pub struct Scanner {
    config: ScanConfig,
    list: Vec<ListedPart>,
    processor: Processor,
    /// Parts that were read or skipped.
    done: usize,
    scan: Scan,
    budget: u64,
}

impl Scanner {
    /// Lists the split's files, and reads the evaluation sets.
    ///
    /// # Errors
    /// As [`scan`].
    pub fn open(config: &ScanConfig, split: Split) -> Result<Self, Error> {
        if split.of == 0 || split.index >= split.of {
            return Err(Error::Parameters(format!(
                "there is no split {} of {}; splits are counted from 0",
                split.index, split.of
            )));
        }
        if config.held_out_per_mille > 1000 {
            return Err(Error::Parameters(format!(
                "{} of a thousand documents can't be held out",
                config.held_out_per_mille
            )));
        }
        let contamination = ContaminationIndex::read(&config.decontaminate)?;
        let report = ScanReport { split: split.index, splits: split.of, ..ScanReport::default() };
        Ok(Self {
            list: files::list(config, split)?,
            processor: Processor::new(config, contamination),
            config: config.clone(),
            done: 0,
            scan: Scan { report, ..Scan::default() },
            budget: config.bytes_max / u64::from(split.of),
        })
    }

    /// A hash (BLAKE3, hexadecimal) of the parameters and the list of parts. A step may only be resumed by a
    /// scanner with the same fingerprint.
    ///
    /// # Errors
    /// [`Error::Parameters`] if the parameters can't be written as JSON, such as a path that isn't UTF-8.
    pub fn fingerprint(&self) -> Result<String, Error> {
        let config = serde_json::to_vec(&self.config).map_err(|e| Error::Parameters(e.to_string()))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&config);
        for listed in &self.list {
            hasher.update(
                format!("\n{} {} {:?}", listed.name, listed.part.file_bytes, listed.part.range).as_bytes(),
            );
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The counts of the steps added so far.
    #[must_use]
    pub fn report(&self) -> &ScanReport {
        &self.scan.report
    }

    /// Whether parts remain after `step`.
    #[must_use]
    pub fn has_more_after(&self, step: &Step) -> bool {
        self.done + step.parts < self.list.len()
    }

    /// Adds a step of this scanner, or of an earlier one with the same [`Scanner::fingerprint`].
    ///
    /// # Errors
    /// [`Error::CountMismatch`] if its counts disagree, or it has more parts than remain.
    pub fn add_step(&mut self, step: Step) -> Result<(), Error> {
        step.scan.report.check()?;
        if step.parts > self.list.len() - self.done {
            return Err(Error::CountMismatch(format!(
                "a step has {} parts, but only {} remain",
                step.parts,
                self.list.len() - self.done
            )));
        }
        self.done += step.parts;
        self.scan.report.join(step.scan.report);
        self.scan.documents.extend(step.scan.documents);
        Ok(())
    }

    /// Reads the next parts, at least [`ScanConfig::step_bytes`] if there are as many; `None` when all are
    /// done.
    ///
    /// # Errors
    /// As [`scan`].
    pub fn step(&self, compute: &Compute) -> Result<Option<Step>, Error> {
        if self.done == self.list.len() {
            return Ok(None);
        }
        let report = &self.scan.report;
        let mut work = Work {
            scanner: self,
            compute,
            step: Scan {
                report: ScanReport { split: report.split, splits: report.splits, ..ScanReport::default() },
                ..Scan::default()
            },
            waiting: Vec::new(),
            waiting_bytes: 0,
            full: report.dropped.contains_key(&DropReason::OverBudget) || report.unread.documents > 0,
        };
        let enough = self.config.step_bytes.max(self.budget / STEPS);
        let (mut parts, mut bytes) = (0, 0u64);
        for (listed, number) in self.list.iter().zip(0..).skip(self.done) {
            // Skipped parts cost nothing, so they never end a step.
            if bytes >= enough && !work.full {
                break;
            }
            work.part(listed, number)?;
            parts += 1;
            bytes += listed.part.bytes;
        }
        work.flush()?;
        Ok(Some(Step { scan: work.step, parts }))
    }

    /// The documents and counts of the split.
    ///
    /// # Errors
    /// [`Error::CountMismatch`] unless every document was kept or dropped for exactly one reason.
    pub fn finish(self) -> Result<Scan, Error> {
        self.scan.report.check()?;
        Ok(self.scan)
    }
}

/// A step in progress.
struct Work<'a> {
    scanner: &'a Scanner,
    compute: &'a Compute,
    step: Scan,
    /// Records that were read, with the number of their part.
    waiting: Vec<(usize, Record)>,
    waiting_bytes: u64,
    /// Whether the budget is used up.
    full: bool,
}

impl Work<'_> {
    fn part(&mut self, listed: &ListedPart, number: usize) -> Result<(), Error> {
        let part = &listed.part;
        let config = &self.scanner.config;
        if self.full {
            self.pass_over(listed);
            return Ok(());
        }
        let mut end = None;
        read::read(part, &config.fields, config.filters.bytes_max, &mut |record| {
            end = Some(record.place);
            self.waiting_bytes += record.bytes;
            self.waiting.push((number, record));
            if self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX {
                self.flush()?;
            }
            Ok(if self.full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if self.full
            && let Some(Place::Bytes { end, .. }) = end
            && let PartRange::Block { end: last, .. } = part.range
            && end < last
        {
            self.step.report.unread.add(last - end);
        }
        Ok(())
    }

    /// Counts a part that is not read since the budget is used up: a text file as one dropped document, a
    /// file of many documents as unread bytes.
    fn pass_over(&mut self, listed: &ListedPart) {
        let report = &mut self.step.report;
        match listed.part.format {
            Format::Text | Format::Auto => {
                report.seen.add(listed.part.bytes);
                report.dropped.entry(DropReason::OverBudget).or_default().add(listed.part.bytes);
            }
            Format::Lines | Format::Paragraphs | Format::Jsonl | Format::Parquet => {
                report.unread.add(listed.part.bytes)
            }
        }
    }

    /// Processes the waiting records on all threads, and counts the results in order.
    fn flush(&mut self) -> Result<(), Error> {
        let (scanner, waiting) = (self.scanner, std::mem::take(&mut self.waiting));
        self.waiting_bytes = 0;
        let process = |(number, record): (usize, Record)| {
            let listed = &scanner.list[number];
            (number, record.place, record.line, scanner.processor.process(listed, record))
        };
        let processed: Vec<_> = self.compute.run(|| waiting.into_par_iter().map(process).collect());
        for (number, place, line, processed) in processed {
            self.count(number, place, line, processed)?;
        }
        Ok(())
    }

    fn count(
        &mut self,
        number: usize,
        place: Place,
        line: Option<u64>,
        processed: Processed,
    ) -> Result<(), Error> {
        let room = self
            .scanner
            .budget
            .saturating_sub(self.scanner.scan.report.kept.bytes + self.step.report.kept.bytes);
        match processed {
            Processed::Kept(document, _) if self.full || document.entry.bytes > room => {
                self.full = true;
                self.drop(DropReason::OverBudget, document.entry.bytes);
            }
            Processed::Kept(document, removed) => {
                let report = &mut self.step.report;
                report.seen.add(document.entry.bytes);
                report.kept.add(document.entry.bytes);
                report.lines_removed.join(removed);
                self.step.documents.push(*document);
            }
            Processed::Contaminated(set, bytes) => {
                self.step.report.contaminated.entry(set).or_default().add(bytes);
                self.drop(DropReason::Contaminated, bytes);
            }
            Processed::Malformed(reason, bytes) => {
                self.drop(DropReason::Malformed, bytes);
                self.malformed(number, place, line, &reason)?;
            }
            Processed::Dropped(reason, bytes) => self.drop(reason, bytes),
        }
        Ok(())
    }

    fn drop(&mut self, reason: DropReason, bytes: u64) {
        let report = &mut self.step.report;
        report.seen.add(bytes);
        report.dropped.entry(reason).or_default().add(bytes);
    }

    /// Names a place that is malformed, if it is one of the first; too many are an error.
    fn malformed(
        &mut self,
        number: usize,
        place: Place,
        line: Option<u64>,
        reason: &str,
    ) -> Result<(), Error> {
        let (scanner, report) = (self.scanner, &mut self.step.report);
        let listed = &scanner.list[number];
        let known = scanner.scan.report.malformed.len();
        if known + report.malformed.len() < super::documents::MALFORMED_NAMED {
            let at = match (line, place) {
                (Some(line), Place::Whole | Place::Bytes { .. }) => line.to_string(),
                (None, Place::Bytes { start, .. }) => read::line_of(&listed.part.path, start)?.to_string(),
                (_, Place::Row(row)) => format!("row {row}"),
                (None, Place::Whole) => "1".to_owned(),
            };
            report.malformed.push(format!("{}:{at}: {reason}", listed.name));
        }
        let count = |report: &ScanReport| {
            report.dropped.get(&DropReason::Malformed).map_or(0, |tally: &Tally| tally.documents)
        };
        let most = scanner.config.malformed_max;
        if count(report) + count(&scanner.scan.report) > most {
            let first = scanner
                .scan
                .report
                .malformed
                .iter()
                .chain(&report.malformed)
                .take(3)
                .cloned()
                .collect::<Vec<_>>();
            return Err(Error::Parameters(format!(
                "more than {most} records of split {} are malformed: {}",
                report.split,
                first.join("; ")
            )));
        }
        Ok(())
    }
}
