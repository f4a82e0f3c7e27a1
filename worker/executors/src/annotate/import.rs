//! Labels as JSON lines, as people bring them from elsewhere: all are understood, or none is taken.

use super::board::{Board, Draft, Label, Taken};
use super::items::lines;
use serde::{Deserialize, Serialize};

/// Complaints that are listed at most.
const COMPLAINTS_MAX: usize = 50;

/// A line that is not right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// Which line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// A line. Further members are passed over, so that what was exported elsewhere need not be cut.
#[derive(Debug, Deserialize)]
struct Line {
    item: String,
    who: String,
    label: String,
}

/// What labels came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// New ones.
    pub new: u64,
    /// Those that replaced another one of the same person.
    pub changed: u64,
    /// Those that were there.
    pub repeated: u64,
}

impl Tally {
    /// Of one label.
    pub fn of(taken: Taken) -> Tally {
        let mut tally = Tally::default();
        tally.add(taken);
        tally
    }

    /// Counts one.
    pub fn add(&mut self, taken: Taken) {
        match taken {
            Taken::New => self.new += 1,
            Taken::Changed => self.changed += 1,
            Taken::Repeated => self.repeated += 1,
        }
    }
}

/// Reads the lines, given at `at_ms`.
///
/// # Errors
/// The lines that are none.
pub fn parse(bytes: &[u8], at_ms: u64) -> Result<Vec<(usize, Label)>, Vec<Complaint>> {
    let (mut labels, mut complaints) = (Vec::new(), Vec::new());
    for (number, line) in lines(bytes) {
        match serde_json::from_slice::<Line>(line) {
            Ok(Line { item, who, label }) => {
                labels.push((number, Label { item, who, label, confirmed: None, at_ms }))
            }
            Err(error) => complain(
                &mut complaints,
                number,
                format!("is not {{\"item\", \"who\", \"label\"}} with texts: {error}"),
            ),
        }
    }
    if complaints.is_empty() { Ok(labels) } else { Err(complaints) }
}

/// Adds all of them to a draft.
///
/// # Errors
/// The lines that may not be taken; the draft is to be dropped.
pub fn draft(board: &Board, draft: &mut Draft, labels: Vec<(usize, Label)>) -> Result<Tally, Vec<Complaint>> {
    let (mut tally, mut complaints) = (Tally::default(), Vec::new());
    for (number, label) in labels {
        match board.draft(draft, label) {
            Ok(taken) => tally.add(taken),
            Err(refusal) => complain(&mut complaints, number, refusal.to_string()),
        }
    }
    if complaints.is_empty() { Ok(tally) } else { Err(complaints) }
}

fn complain(complaints: &mut Vec<Complaint>, line: usize, message: String) {
    if complaints.len() < COMPLAINTS_MAX {
        complaints.push(Complaint { line, message });
    }
}
