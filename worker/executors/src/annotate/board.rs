//! The board: which item has which labels, by whom, and what still has to be done.
//!
//! Its one job is the rules. [`Board::draft`] says whether a label may be taken and changes nothing;
//! [`Board::apply`] is the only fold, for labels that are in the log and for those that are read back after a
//! restart. It knows no files, no log and no HTTP.

use super::items::Item;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The longest name of a person.
pub const WHO_BYTES_MAX: usize = 64;
/// The longest label.
pub const LABEL_BYTES_MAX: usize = 16 << 10;
/// Labels that are kept at most, with those that were replaced.
pub const LABELS_MAX: u64 = 10_000_000;
/// People at most; each may meet each other one, and is compared.
pub const PEOPLE_MAX: usize = 256;

/// A label as it was given: what the artifacts hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Which item.
    pub item: String,
    /// Who says so.
    pub who: String,
    /// What.
    pub label: String,
    /// Whether it is what the model proposed; `None`: nothing was proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// When, by the worker's clock, in ms since 1970.
    #[serde(default)]
    pub at_ms: u64,
}

/// A person's label of an item, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Given {
    /// Who says so.
    pub who: String,
    /// What.
    pub label: String,
    /// Whether it is what the model proposed; `None`: nothing was proposed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// When, in ms since 1970.
    pub at_ms: u64,
}

/// The rules of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The labels there are; empty: any text.
    pub labels: Vec<String>,
    /// Labels of each item, each by another person.
    pub per_item: usize,
    /// Whether one more person decides where they differ.
    pub adjudicate: bool,
    /// Whether somebody may end it before every item has its labels.
    pub allow_partial: bool,
}

/// How an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// It lacks labels.
    Open,
    /// Its labels differ, and one more person is to decide.
    Disputed,
    /// Its labels are the same.
    Agreed(&'a str),
    /// Its labels differ, and nobody is to decide.
    Disagreed,
    /// Its labels differ, and this was decided.
    Adjudicated(&'a str),
}

impl<'a> Standing<'a> {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Disputed => "disputed",
            Standing::Agreed(_) => "agreed",
            Standing::Disagreed => "disagreed",
            Standing::Adjudicated(_) => "adjudicated",
        }
    }

    /// Whether nothing more is to be done.
    pub fn is_complete(self) -> bool {
        match self {
            Standing::Open | Standing::Disputed => false,
            Standing::Agreed(_) | Standing::Disagreed | Standing::Adjudicated(_) => true,
        }
    }

    /// The label that counts, if there is one.
    pub fn label(self) -> Option<&'a str> {
        match self {
            Standing::Agreed(label) | Standing::Adjudicated(label) => Some(label),
            Standing::Open | Standing::Disputed | Standing::Disagreed => None,
        }
    }
}

/// Why a label is not taken. Phrases for the person who gave it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name is none.
    #[error("`who` is a name of 1 to {WHO_BYTES_MAX} bytes without control characters, not {0:?}")]
    Who(String),
    /// There is no such item.
    #[error("there is no item {0:?}")]
    Item(String),
    /// The label is none of those there are.
    #[error("the label of {item:?} is one of {known}, not {label:?}")]
    Label {
        /// Which item.
        item: String,
        /// The label given.
        label: String,
        /// The labels there are.
        known: String,
    },
    /// The label says nothing, or too much.
    #[error("the label of {item:?} is a text of 1 to {LABEL_BYTES_MAX} bytes, not of {bytes}")]
    Length {
        /// Which item.
        item: String,
        /// Its length.
        bytes: usize,
    },
    /// Others have labelled it.
    #[error("{0:?} has all its labels, by others")]
    Full(String),
    /// There is no room for more.
    #[error("no more labels are taken: there are {LABELS_MAX}, or {PEOPLE_MAX} people")]
    Limit,
    /// It is over.
    #[error("no more labels are taken: {0} has ended it")]
    Closed(String),
    /// It may not be ended yet.
    #[error("{open} items lack labels, and the stage does not allow to end it before: `allow_partial` does")]
    Unfinished {
        /// How many.
        open: usize,
    },
}

impl Refusal {
    /// Whether another label would have been taken, as opposed to a state that does not take it.
    pub fn is_of_input(&self) -> bool {
        match self {
            Refusal::Who(_) | Refusal::Item(_) | Refusal::Label { .. } | Refusal::Length { .. } => true,
            Refusal::Full(_) | Refusal::Limit | Refusal::Closed(_) | Refusal::Unfinished { .. } => false,
        }
    }
}

/// What a label would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is a new one.
    New,
    /// It replaces another one of the same person.
    Changed,
    /// The same was said before.
    Repeated,
}

/// Labels that are to be taken together.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// The items that they touch, as they would stand.
    touched: BTreeMap<usize, Vec<Given>>,
    /// People who are new.
    people: BTreeSet<String>,
    /// The labels, without repeats.
    pub labels: Vec<Label>,
}

/// The items and their labels.
#[derive(Debug)]
pub struct Board {
    items: Vec<Item>,
    index: BTreeMap<String, usize>,
    rules: Rules,
    /// By item: the newest label of each person, in the order of their first.
    given: Vec<Vec<Given>>,
    people: BTreeMap<String, u64>,
    complete: usize,
    taken: u64,
    closed: Option<String>,
}

impl Board {
    /// A board without labels. The ids of the items differ.
    pub fn new(items: Vec<Item>, rules: Rules) -> Board {
        let index = items.iter().enumerate().map(|(place, item)| (item.id.clone(), place)).collect();
        let given = vec![Vec::new(); items.len()];
        Board { items, index, rules, given, people: BTreeMap::new(), complete: 0, taken: 0, closed: None }
    }

    /// The items, in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The place of an item.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The labels of an item: one for each person, in the order of their first.
    pub fn given(&self, place: usize) -> &[Given] {
        self.given.get(place).map_or(&[], Vec::as_slice)
    }

    /// How many labels each person has standing.
    pub fn people(&self) -> &BTreeMap<String, u64> {
        &self.people
    }

    /// Items with nothing more to be done.
    pub fn complete(&self) -> usize {
        self.complete
    }

    /// Labels that were taken, with those that were replaced.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Who ended it early, if somebody did.
    pub fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Whether no more labels are awaited.
    pub fn is_over(&self) -> bool {
        self.closed.is_some() || self.complete == self.items.len()
    }

    /// How an item stands.
    pub fn standing(&self, place: usize) -> Standing<'_> {
        standing(self.given(place), &self.rules)
    }

    /// The next item for `who`, after the place `after` and around. Items that are shown to as many others as
    /// they lack labels come last.
    pub fn next(&self, who: &str, after: Option<usize>, shown: &BTreeMap<usize, usize>) -> Option<usize> {
        let first = after.map_or(0, |after| after + 1);
        let mut fallback = None;
        for place in (first..self.items.len()).chain(0..first.min(self.items.len())) {
            let given = self.given(place);
            if given.iter().any(|given| given.who == who) {
                continue;
            }
            let wanted = match standing(given, &self.rules) {
                Standing::Open => self.rules.per_item - given.len(),
                Standing::Disputed => 1,
                Standing::Agreed(_) | Standing::Disagreed | Standing::Adjudicated(_) => continue,
            };
            if shown.get(&place).copied().unwrap_or(0) < wanted {
                return Some(place);
            }
            fallback = fallback.or(Some(place));
        }
        fallback
    }

    /// Adds a label to a draft, if it may be taken after those that are in it.
    ///
    /// # Errors
    /// Why it may not; the draft is as it was.
    pub fn draft(&self, draft: &mut Draft, mut label: Label) -> Result<Taken, Refusal> {
        if let Some(who) = &self.closed {
            return Err(Refusal::Closed(who.clone()));
        }
        if !is_name(&label.who) {
            return Err(Refusal::Who(label.who));
        }
        let Some(place) = self.find(&label.item) else { return Err(Refusal::Item(label.item)) };
        check_label(&self.rules.labels, &label.item, &label.label)?;
        let item = &self.items[place];
        label.confirmed = item.proposal.as_ref().map(|proposal| *proposal == label.label);
        let given = draft.touched.get(&place).map_or(self.given(place), Vec::as_slice);
        let taken = match given.iter().find(|given| given.who == label.who) {
            Some(same) if same.label == label.label => return Ok(Taken::Repeated),
            Some(_) => Taken::Changed,
            None => {
                match standing(given, &self.rules) {
                    Standing::Open | Standing::Disputed => {}
                    Standing::Agreed(_) | Standing::Disagreed | Standing::Adjudicated(_) => {
                        return Err(Refusal::Full(label.item));
                    }
                }
                Taken::New
            }
        };
        let known = self.people.contains_key(&label.who) || draft.people.contains(&label.who);
        let crowded = !known && self.people.len() + draft.people.len() >= PEOPLE_MAX;
        if crowded || self.taken + draft.labels.len() as u64 >= LABELS_MAX {
            return Err(Refusal::Limit);
        }
        if !known {
            draft.people.insert(label.who.clone());
        }
        let mut changed = given.to_vec();
        put(&mut changed, &label);
        draft.touched.insert(place, changed);
        draft.labels.push(label);
        Ok(taken)
    }

    /// How many labels will have been taken, and how many items will be complete, once a draft is applied.
    pub fn with(&self, draft: &Draft) -> (u64, usize) {
        let complete = |given| usize::from(standing(given, &self.rules).is_complete());
        let (mut after, mut before) = (self.complete, 0);
        for (place, given) in &draft.touched {
            after += complete(given);
            before += complete(self.given(*place));
        }
        (self.taken + draft.labels.len() as u64, after - before)
    }

    /// Takes a label that is in the log.
    pub fn apply(&mut self, label: &Label) {
        // The log holds only labels of these items; another is none of ours.
        let Some(place) = self.find(&label.item) else { return };
        let before = self.standing(place).is_complete();
        if put(&mut self.given[place], label) {
            *self.people.entry(label.who.clone()).or_default() += 1;
        }
        let after = self.standing(place).is_complete();
        self.complete = self.complete + usize::from(after) - usize::from(before);
        self.taken += 1;
    }

    /// Whether `who` may end it now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_close(&self, who: &str) -> Result<(), Refusal> {
        if !is_name(who) {
            return Err(Refusal::Who(who.to_owned()));
        }
        let open = self.items.len() - self.complete;
        if open > 0 && !self.rules.allow_partial { Err(Refusal::Unfinished { open }) } else { Ok(()) }
    }

    /// It is ended: this is in the log.
    pub fn close(&mut self, who: String) {
        self.closed.get_or_insert(who);
    }
}

fn standing<'a>(given: &'a [Given], rules: &Rules) -> Standing<'a> {
    let (Some(first), true) = (given.first(), given.len() >= rules.per_item) else { return Standing::Open };
    if given[..rules.per_item].iter().all(|other| other.label == first.label) {
        return Standing::Agreed(&first.label);
    }
    match (rules.adjudicate, given.get(rules.per_item)) {
        (false, _) => Standing::Disagreed,
        (true, None) => Standing::Disputed,
        (true, Some(judge)) => Standing::Adjudicated(&judge.label),
    }
}

/// Puts a label in its place; whether it is the person's first of the item.
fn put(given: &mut Vec<Given>, label: &Label) -> bool {
    let new = Given {
        who: label.who.clone(),
        label: label.label.clone(),
        confirmed: label.confirmed,
        at_ms: label.at_ms,
    };
    match given.iter_mut().find(|given| given.who == label.who) {
        Some(old) => {
            *old = new;
            false
        }
        None => {
            given.push(new);
            true
        }
    }
}

/// Whether a label may stand for an item.
///
/// # Errors
/// Why not.
pub fn check_label(labels: &[String], item: &str, label: &str) -> Result<(), Refusal> {
    if labels.is_empty() {
        let fits = (1..=LABEL_BYTES_MAX).contains(&label.len()) && !label.trim().is_empty();
        return if fits {
            Ok(())
        } else {
            Err(Refusal::Length { item: item.to_owned(), bytes: label.len() })
        };
    }
    if labels.iter().any(|known| known == label) {
        return Ok(());
    }
    let known = labels.iter().map(|known| format!("{known:?}")).collect::<Vec<_>>().join(", ");
    // What was given may be anything, of any length.
    Err(Refusal::Label { item: item.to_owned(), label: label.chars().take(WHO_BYTES_MAX).collect(), known })
}

/// Whether this is the name of a person.
pub fn is_name(who: &str) -> bool {
    (1..=WHO_BYTES_MAX).contains(&who.len()) && who.trim() == who && !who.chars().any(char::is_control)
}
