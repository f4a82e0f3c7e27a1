//! The rules of the label store, and the pages.

use super::item::Item;
use super::label_store::{ItemStatus, Label, LabelChange, LabelStore, PendingLabels, StageRules};
use super::page;
use super::refusal::Refusal;
use serde_json::Map;
use std::collections::BTreeMap;

fn store(per_item: usize, adjudicate: bool) -> LabelStore {
    let item = |id: &str| Item { id: id.to_owned(), text: String::new(), proposal: None, source: Map::new() };
    let rules = StageRules {
        labels: vec!["x".to_owned(), "y".to_owned()],
        per_item,
        adjudicate,
        allow_partial: false,
    };
    LabelStore::new(vec![item("1"), item("2")], rules)
}

fn give(store: &mut LabelStore, item: &str, who: &str, label: &str) -> Result<LabelChange, Refusal> {
    let mut pending = PendingLabels::default();
    let label = Label {
        item: item.to_owned(),
        who: who.to_owned(),
        label: label.to_owned(),
        confirmed: None,
        at_ms: 0,
    };
    let change = store.add(&mut pending, label)?;
    let expected = store.counts_with(&pending);
    pending.labels.iter().for_each(|label| store.apply(label));
    assert_eq!(expected, (store.accepted(), store.complete()));
    Ok(change)
}

#[test]
fn the_rules_of_the_board() {
    let mut two = store(2, true);
    assert_eq!(give(&mut two, "1", "ann", "x"), Ok(LabelChange::New));
    assert_eq!(give(&mut two, "1", "ann", "x"), Ok(LabelChange::Repeated));
    assert_eq!(give(&mut two, "1", "bob", "y"), Ok(LabelChange::New));
    assert_eq!((two.status(0), two.complete()), (ItemStatus::Disputed, 0));
    // A changed mind settles it, and changed back it is disputed again, until somebody else decides.
    assert_eq!(give(&mut two, "1", "bob", "x"), Ok(LabelChange::Changed));
    assert_eq!((two.status(0), two.complete()), (ItemStatus::Agreed("x"), 1));
    assert_eq!(give(&mut two, "1", "eve", "y"), Err(Refusal::Full("1".to_owned())));
    assert_eq!(give(&mut two, "1", "bob", "y"), Ok(LabelChange::Changed));
    assert_eq!(give(&mut two, "1", "eve", "y"), Ok(LabelChange::New));
    assert_eq!((two.status(0), two.complete(), two.accepted()), (ItemStatus::Adjudicated("y"), 1, 5));
    assert_eq!(two.may_close("ann"), Err(Refusal::Unfinished { open: 1 }));
    let table =
        [("", "x", "1"), (" ann", "x", "1"), ("a\tb", "x", "1"), ("ann", "z", "1"), ("ann", "x", "3")];
    for (who, label, item) in table {
        assert!(give(&mut two, item, who, label).unwrap_err().is_of_input(), "{who} {label} {item}");
    }
    let mut differing = store(2, false);
    for (who, label) in [("ann", "x"), ("bob", "y")] {
        give(&mut differing, "2", who, label).unwrap();
    }
    assert_eq!((differing.status(1), differing.status(1).label()), (ItemStatus::Disagreed, None));
}

#[test]
fn two_people_are_not_shown_the_same_while_there_is_another() {
    let mut store = store(1, false);
    let shown = BTreeMap::from([(0, 1)]);
    assert_eq!(store.next("bob", None, &BTreeMap::new()), Some(0));
    assert_eq!(store.next("bob", None, &shown), Some(1));
    assert_eq!(store.next("bob", Some(1), &shown), Some(1), "around");
    give(&mut store, "2", "bob", "x").unwrap();
    assert_eq!(store.next("bob", None, &shown), Some(0), "better twice than never");
    give(&mut store, "1", "ann", "x").unwrap();
    assert_eq!(store.next("bob", None, &BTreeMap::new()), None);
}

#[test]
fn whatever_is_shown_is_escaped() {
    let evil = "</pre></textarea><script>alert('1')</script>\"&\0";
    let item = Item {
        id: evil.to_owned(),
        text: evil.to_owned(),
        proposal: Some(evil.to_owned()),
        source: Map::new(),
    };
    for labels in [vec![evil.to_owned()], Vec::new()] {
        let rules = StageRules { labels, per_item: 2, adjudicate: true, allow_partial: true };
        let mut store = LabelStore::new(vec![item.clone()], rules);
        for who in ["ann", "<bob>"] {
            let label = Label {
                item: evil.to_owned(),
                who: who.to_owned(),
                label: format!("{evil}{who}"),
                confirmed: None,
                at_ms: 0,
            };
            store.apply(&label);
        }
        let context = page::PageContext { title: evil, question: evil, store: &store };
        let pages = [
            page::ask_name(&context),
            page::item(&context, "<i>", 0, Some(&item)),
            page::item(&context, "<bob>", 0, None),
            page::nothing_left(&context, "<i>", Some(&item)),
            page::error(&context, "<i>", evil),
        ];
        for page in pages {
            let lower = page.to_lowercase();
            for word in ["<script", "<i>", "<bob", "'1'", "&\0", "\0"] {
                assert!(!lower.contains(word), "{word}: {page}");
            }
            assert_eq!(page.matches("</pre>").count(), page.matches("<pre>").count(), "{page}");
            assert!(page.contains("&lt;script&gt;"), "{page}");
        }
    }
}
