//! The label store: which item has which labels from whom, and what still needs labels.
//!
//! Its one job is the rules. [`LabelStore::add`] checks whether a label may be accepted, and changes only the
//! pending labels; [`LabelStore::apply`] is the only fold, for labels that are in the log and for those that
//! are read back after a restart. It knows no files, no log and no HTTP.

use super::item::Item;
use super::refusal::{LABELS_MAX, PEOPLE_MAX, Refusal, check_label, is_name};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A label as it was given, and as the artifacts hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The item's id.
    pub item: String,
    /// The person's name.
    pub who: String,
    /// One of the stage's labels, or any text if it has none.
    pub label: String,
    /// Whether it is equal to the proposal; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// When it was given, by the worker's clock, in ms since 1970.
    #[serde(default)]
    pub at_ms: u64,
}

/// A person's newest label of an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CurrentLabel {
    /// The person's name.
    pub who: String,
    /// The label.
    pub label: String,
    /// Whether it is equal to the proposal; `None` if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<bool>,
    /// When it was given, in ms since 1970.
    pub at_ms: u64,
}

/// The rules of a stage, from its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRules {
    /// The labels to choose from; empty: any text.
    pub labels: Vec<String>,
    /// Labels per item, each by another person.
    pub per_item: usize,
    /// Whether one more person decides if they differ.
    pub adjudicate: bool,
    /// Whether the stage may be ended before every item has its labels.
    pub allow_partial: bool,
}

/// The status of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemStatus<'a> {
    /// It lacks labels.
    Open,
    /// Its labels differ, and one more person must decide.
    Disputed,
    /// Its labels are equal.
    Agreed(&'a str),
    /// Its labels differ, in a stage without adjudication.
    Disagreed,
    /// Its labels differ, and one more person chose this one.
    Adjudicated(&'a str),
}

impl<'a> ItemStatus<'a> {
    /// Its name in the JSON that people and programs read.
    pub fn word(self) -> &'static str {
        match self {
            ItemStatus::Open => "open",
            ItemStatus::Disputed => "disputed",
            ItemStatus::Agreed(_) => "agreed",
            ItemStatus::Disagreed => "disagreed",
            ItemStatus::Adjudicated(_) => "adjudicated",
        }
    }

    /// Whether it needs no more labels.
    pub fn is_complete(self) -> bool {
        match self {
            ItemStatus::Open | ItemStatus::Disputed => false,
            ItemStatus::Agreed(_) | ItemStatus::Disagreed | ItemStatus::Adjudicated(_) => true,
        }
    }

    /// The agreed or adjudicated label.
    pub fn label(self) -> Option<&'a str> {
        match self {
            ItemStatus::Agreed(label) | ItemStatus::Adjudicated(label) => Some(label),
            ItemStatus::Open | ItemStatus::Disputed | ItemStatus::Disagreed => None,
        }
    }
}

/// What accepting a label changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelChange {
    /// It is the person's first for this item.
    New,
    /// It replaces another of the same person.
    Changed,
    /// The person gave the same before.
    Repeated,
}

/// Labels that are checked and will be accepted together.
#[derive(Clone, Debug, Default)]
pub struct PendingLabels {
    /// The labels that their items will have, by index of the item.
    touched: BTreeMap<usize, Vec<CurrentLabel>>,
    /// The people who are not in the store.
    people: BTreeSet<String>,
    /// The labels, without repeats.
    pub labels: Vec<Label>,
}

/// The items and their labels.
#[derive(Debug)]
pub struct LabelStore {
    items: Vec<Item>,
    index_by_id: BTreeMap<String, usize>,
    rules: StageRules,
    /// By index of the item: the newest label of each person, in the order of their first.
    labels: Vec<Vec<CurrentLabel>>,
    people: BTreeMap<String, u64>,
    complete: usize,
    accepted: u64,
    closed: Option<String>,
}

impl LabelStore {
    /// A store without labels. The ids of the items must differ.
    pub fn new(items: Vec<Item>, rules: StageRules) -> LabelStore {
        let index_by_id = items.iter().enumerate().map(|(index, item)| (item.id.clone(), index)).collect();
        let labels = vec![Vec::new(); items.len()];
        LabelStore {
            items,
            index_by_id,
            rules,
            labels,
            people: BTreeMap::new(),
            complete: 0,
            accepted: 0,
            closed: None,
        }
    }

    /// The items, in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The rules.
    pub fn rules(&self) -> &StageRules {
        &self.rules
    }

    /// The index of the item with this id.
    pub fn find(&self, id: &str) -> Option<usize> {
        self.index_by_id.get(id).copied()
    }

    /// The labels of an item, one per person, in the order of their first.
    pub fn labels_of(&self, index: usize) -> &[CurrentLabel] {
        self.labels.get(index).map_or(&[], Vec::as_slice)
    }

    /// The number of current labels of each person.
    pub fn people(&self) -> &BTreeMap<String, u64> {
        &self.people
    }

    /// The number of items that need no more labels.
    pub fn complete(&self) -> usize {
        self.complete
    }

    /// The number of accepted labels, including replaced ones.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// The person who ended the stage early.
    pub fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Whether no more labels are needed.
    pub fn is_over(&self) -> bool {
        self.closed.is_some() || self.complete == self.items.len()
    }

    /// The status of an item.
    pub fn status(&self, index: usize) -> ItemStatus<'_> {
        item_status(self.labels_of(index), &self.rules)
    }

    /// The next item for `who`: the first after the index `after`, and then from the start. Items that are
    /// already shown to as many others (`shown`, by index) as they lack labels come last.
    pub fn next(&self, who: &str, after: Option<usize>, shown: &BTreeMap<usize, usize>) -> Option<usize> {
        let first = after.map_or(0, |after| after + 1);
        let mut fallback = None;
        for index in (first..self.items.len()).chain(0..first.min(self.items.len())) {
            let given = self.labels_of(index);
            if given.iter().any(|given| given.who == who) {
                continue;
            }
            let wanted = match item_status(given, &self.rules) {
                ItemStatus::Open => self.rules.per_item - given.len(),
                ItemStatus::Disputed => 1,
                ItemStatus::Agreed(_) | ItemStatus::Disagreed | ItemStatus::Adjudicated(_) => continue,
            };
            if shown.get(&index).copied().unwrap_or(0) < wanted {
                return Some(index);
            }
            fallback = fallback.or(Some(index));
        }
        fallback
    }

    /// Adds a label to those that are pending, if it may be accepted after them. If not, they are unchanged.
    pub fn add(&self, pending: &mut PendingLabels, mut label: Label) -> Result<LabelChange, Refusal> {
        if let Some(who) = &self.closed {
            return Err(Refusal::Closed(who.clone()));
        }
        if !is_name(&label.who) {
            return Err(Refusal::Who(label.who));
        }
        let Some(index) = self.find(&label.item) else { return Err(Refusal::Item(label.item)) };
        check_label(&self.rules.labels, &label.item, &label.label)?;
        let item = &self.items[index];
        label.confirmed = item.proposal.as_ref().map(|proposal| *proposal == label.label);
        let given = pending.touched.get(&index).map_or(self.labels_of(index), Vec::as_slice);
        let change = match given.iter().find(|given| given.who == label.who) {
            Some(same) if same.label == label.label => return Ok(LabelChange::Repeated),
            Some(_) => LabelChange::Changed,
            None => {
                match item_status(given, &self.rules) {
                    ItemStatus::Open | ItemStatus::Disputed => {}
                    ItemStatus::Agreed(_) | ItemStatus::Disagreed | ItemStatus::Adjudicated(_) => {
                        return Err(Refusal::Full(label.item));
                    }
                }
                LabelChange::New
            }
        };
        let known = self.people.contains_key(&label.who) || pending.people.contains(&label.who);
        let crowded = !known && self.people.len() + pending.people.len() >= PEOPLE_MAX;
        if crowded || self.accepted + pending.labels.len() as u64 >= LABELS_MAX {
            return Err(Refusal::Limit);
        }
        if !known {
            pending.people.insert(label.who.clone());
        }
        let mut changed = given.to_vec();
        put(&mut changed, &label);
        pending.touched.insert(index, changed);
        pending.labels.push(label);
        Ok(change)
    }

    /// The number of accepted labels and of complete items once `pending` are applied.
    pub fn counts_with(&self, pending: &PendingLabels) -> (u64, usize) {
        let complete = |given| usize::from(item_status(given, &self.rules).is_complete());
        let (mut after, mut before) = (self.complete, 0);
        for (index, given) in &pending.touched {
            after += complete(given);
            before += complete(self.labels_of(*index));
        }
        (self.accepted + pending.labels.len() as u64, after - before)
    }

    /// Applies a label that is in the log.
    pub fn apply(&mut self, label: &Label) {
        // The log holds only labels of these items.
        let Some(index) = self.find(&label.item) else { return };
        let before = self.status(index).is_complete();
        if put(&mut self.labels[index], label) {
            *self.people.entry(label.who.clone()).or_default() += 1;
        }
        let after = self.status(index).is_complete();
        self.complete = self.complete + usize::from(after) - usize::from(before);
        self.accepted += 1;
    }

    /// Whether `who` may end the stage now.
    pub fn may_close(&self, who: &str) -> Result<(), Refusal> {
        if !is_name(who) {
            return Err(Refusal::Who(who.to_owned()));
        }
        let open = self.items.len() - self.complete;
        if open > 0 && !self.rules.allow_partial { Err(Refusal::Unfinished { open }) } else { Ok(()) }
    }

    /// Ends the stage, as the log says.
    pub fn close(&mut self, who: String) {
        self.closed.get_or_insert(who);
    }
}

fn item_status<'a>(given: &'a [CurrentLabel], rules: &StageRules) -> ItemStatus<'a> {
    let (Some(first), true) = (given.first(), given.len() >= rules.per_item) else { return ItemStatus::Open };
    if given[..rules.per_item].iter().all(|other| other.label == first.label) {
        return ItemStatus::Agreed(&first.label);
    }
    match (rules.adjudicate, given.get(rules.per_item)) {
        (false, _) => ItemStatus::Disagreed,
        (true, None) => ItemStatus::Disputed,
        (true, Some(adjudicator)) => ItemStatus::Adjudicated(&adjudicator.label),
    }
}

/// Puts a label among those of its item; returns whether it is the person's first.
fn put(given: &mut Vec<CurrentLabel>, label: &Label) -> bool {
    let new = CurrentLabel {
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
