use super::super::documents::{Body, Entry};
use super::*;
use crate::decontaminate::Decontaminate;
use crate::filters::Filters;
use crate::normalise::Normalise;
use std::collections::BTreeSet;
use std::fs;

fn compute() -> Compute {
    Compute::new(1).expect("starts")
}

fn source(salt: usize) -> String {
    (0..12).map(|i| format!("let value_{salt}_{i} = compute_something({salt}, {i});\n")).collect()
}

/// A tree of 40 good files, and one bad of each kind.
fn tree() -> (tempfile::TempDir, ScanConfig) {
    let home = tempfile::tempdir().expect("makes a directory");
    let root = home.path().join("root");
    fs::create_dir_all(root.join("deep/er")).expect("makes directories");
    for i in 0..40 {
        let place = if i % 3 == 0 { "deep/er" } else { "deep" };
        fs::write(root.join(place).join(format!("file{i}.rs")), source(i)).expect("writes");
    }
    fs::write(root.join("small.rs"), "fn main() {}").expect("writes");
    fs::write(root.join("binary.rs"), [0xff; 300]).expect("writes");
    fs::write(root.join("windows.rs"), format!("\u{feff}{}", source(99).replace('\n', "\r\n")))
        .expect("writes");
    fs::write(root.join("notes.txt"), source(1)).expect("writes");
    std::os::unix::fs::symlink(root.join("deep"), root.join("link")).expect("links");
    let config = ScanConfig { roots: vec![root], held_out_per_mille: 300, ..ScanConfig::default() };
    (home, config)
}

fn entries(config: &ScanConfig, of: u32) -> Vec<Entry> {
    let mut all = Vec::new();
    for index in 0..of {
        let scan = scan(config, Split { index, of }, &compute()).expect("scans");
        let dropped: u64 = scan.report.dropped.values().map(|tally| tally.documents).sum();
        assert_eq!(scan.report.seen.documents, scan.report.kept.documents + dropped);
        all.extend(scan.entries());
    }
    all.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
    all
}

#[test]
fn splits_hold_each_file_once_however_many_there_are() {
    let (_home, config) = tree();
    let one = entries(&config, 1);
    assert_eq!(one.len(), 41);
    assert!(one.iter().any(|e| e.held_out) && one.iter().any(|e| !e.held_out));
    for of in [2, 3, 7] {
        assert_eq!(entries(&config, of), one, "{of} splits");
    }
}

#[test]
fn what_is_left_out_has_a_reason_and_text_is_normalised() {
    let (_home, config) = tree();
    let scan = scan(&config, Split { index: 0, of: 1 }, &compute()).expect("scans");
    let dropped: Vec<_> =
        scan.report.dropped.iter().map(|(reason, tally)| (*reason, tally.documents)).collect();
    assert_eq!(dropped, [(DropReason::TooSmall, 1), (DropReason::NotUtf8, 1)]);
    let windows = scan.documents.iter().find(|d| d.entry.path == "root/windows.rs").expect("is kept");
    assert_eq!(windows.body.plain(), source(99));
}

#[test]
fn a_budget_takes_the_same_sample_each_time_and_counts_the_rest() {
    let (_home, mut config) = tree();
    let all = entries(&config, 1).into_iter().map(|e| e.path).collect::<BTreeSet<_>>();
    config.bytes_max = 8 * 1024;
    let small = scan(&config, Split { index: 0, of: 1 }, &compute()).expect("scans");
    let again = scan(&config, Split { index: 0, of: 1 }, &compute()).expect("scans");
    assert_eq!(small, again);
    assert!(small.report.kept.bytes <= 8 * 1024 && small.report.kept.documents > 5);
    assert!(small.documents.iter().all(|d| all.contains(&d.entry.path)));
    assert_eq!(small.report.seen.documents, 43);
}

#[test]
fn bad_parameters_and_missing_roots_are_named() {
    let (_home, config) = tree();
    let refused =
        |config: &ScanConfig, split| scan(config, split, &compute()).expect_err("refused").to_string();
    assert!(refused(&config, Split { index: 2, of: 2 }).contains("split 2 of 2"));
    let absent = ScanConfig { roots: vec!["/no/such/place".into()], ..config };
    assert!(refused(&absent, Split { index: 0, of: 1 }).contains("/no/such/place"));
}

/// A corpus of every format, with one bad record of each kind, and what it is read with.
fn corpus() -> (tempfile::TempDir, ScanConfig) {
    let home = tempfile::tempdir().expect("makes a directory");
    let root = home.path().join("corpus");
    fs::create_dir_all(&root).expect("makes a directory");
    let sentence = |salt: usize| {
        format!("Sentence {salt} says that the number {} is {}.", salt * 7, ["odd", "even"][salt % 2])
    };
    let line = |salt: usize| match salt % 4 {
        0 => format!("{{\"text\": \"{}\"}}", sentence(salt)),
        1 => format!("{{\"prompt\": \"{}\", \"completion\": \"yes {salt}\"}}", sentence(salt)),
        2 => format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"caf\u{e9} {}\"}}]}}\r",
            sentence(salt)
        ),
        _ => format!("{{\"prompt\": \"{}\", \"chosen\": \"a {salt}\", \"rejected\": \"b\"}}", sentence(salt)),
    };
    let lines: String = (0..300).map(|salt| line(salt) + "\n").collect();
    fs::write(root.join("rows.jsonl"), format!("{lines}\nnonsense\n{{\"txt\": 1}}\n{}", line(300)))
        .expect("writes");
    let paragraphs: String =
        (400..500).map(|salt| sentence(salt) + "\n" + &sentence(salt + 1000) + "\n\n \n").collect();
    fs::write(root.join("more.jsonl.notes"), paragraphs).expect("writes");
    let sets = vec![super::super::decontaminate::EvalSet {
        name: "quiz".to_owned(),
        path: home.path().join("quiz.txt"),
    }];
    fs::write(home.path().join("quiz.txt"), "sentence 8: says that the number 56 is odd").expect("writes");
    let config = ScanConfig {
        roots: vec![root],
        extensions: vec!["jsonl".to_owned()],
        block_bytes: 700,
        filters: Filters::none(),
        normalise: Normalise::ALL,
        decontaminate: Decontaminate { sets, ..Decontaminate::default() },
        ..ScanConfig::default()
    };
    (home, config)
}

#[test]
fn rows_are_read_once_however_many_splits_there_are_and_the_books_balance() {
    let (_home, config) = corpus();
    let one = entries(&config, 1);
    // 301 rows, of which one is in the quiz.
    assert_eq!(one.len(), 300);
    assert!(one.iter().any(|e| e.held_out));
    for of in [2, 3, 16] {
        assert_eq!(entries(&config, of), one, "{of} splits");
    }
    let scan = scan(&config, Split { index: 0, of: 1 }, &compute()).expect("scans");
    let dropped: Vec<_> =
        scan.report.dropped.iter().map(|(reason, tally)| (*reason, tally.documents)).collect();
    assert_eq!(dropped, [(DropReason::Malformed, 2), (DropReason::Contaminated, 1)]);
    assert_eq!(scan.report.contaminated.get("quiz").map(|tally| tally.documents), Some(1));
    assert_eq!(scan.report.malformed.len(), 2);
    assert!(
        scan.report.malformed.iter().any(|place| place.starts_with("corpus/rows.jsonl:302: invalid JSON: ")),
        "{:?}",
        scan.report
    );
    assert!(
        scan.report
            .malformed
            .iter()
            .any(|place| place.starts_with("corpus/rows.jsonl:303: no `text`, no `messages`"))
    );
    let kinds =
        |wanted: fn(&Body) -> bool| scan.documents.iter().filter(|document| wanted(&document.body)).count();
    let counts = [
        kinds(|body| matches!(body, Body::Text(_))),
        kinds(|body| matches!(body, Body::Chat(_))),
        kinds(|body| matches!(body, Body::Preference { .. })),
    ];
    assert_eq!(counts, [75, 150, 75]);

    let strict = ScanConfig { malformed_max: 1, ..config };
    let message =
        super::scan(&strict, Split { index: 0, of: 1 }, &compute()).expect_err("too many").to_string();
    assert!(
        message.contains("more than 1 records of split 0 are malformed: corpus/rows.jsonl:"),
        "{message}"
    );
}

#[test]
fn a_budget_of_rows_leaves_the_rest_unread_and_the_books_balance() {
    let (_home, config) = corpus();
    let small = ScanConfig { bytes_max: 6_000, ..config };
    let (one, two) = (compute(), Compute::new(2).expect("starts"));
    let found = scan(&small, Split { index: 0, of: 1 }, &one).expect("scans");
    assert_eq!(scan(&small, Split { index: 0, of: 1 }, &two).expect("scans"), found);
    found.report.check().expect("balances");
    assert!(found.report.kept.bytes <= 6_000 && found.report.kept.documents > 20, "{:?}", found.report);
    assert!(
        found.report.unread.bytes > 5_000 || found.report.dropped.contains_key(&DropReason::OverBudget),
        "{:?}",
        found.report
    );
}

#[test]
fn a_scan_that_goes_on_from_its_steps_finds_the_same() {
    let (_home, config) = tree();
    let config = ScanConfig { step_bytes: 2_000, bytes_max: 16_000, ..config };
    let split = Split { index: 0, of: 1 };
    let whole = scan(&config, split, &compute()).expect("scans");
    assert!(whole.report.dropped.contains_key(&DropReason::OverBudget));
    let mut steps = Vec::new();
    let mut first = Scanner::open(&config, split).expect("opens");
    while let Some(step) = first.step(&compute()).expect("steps") {
        steps.push((step.scan.to_bytes().expect("writes"), step.parts, first.has_more_after(&step)));
        first.add_step(step).expect("is taken");
    }
    assert!(steps.len() > 5 && steps.iter().rev().skip(1).all(|step| step.2) && !steps[steps.len() - 1].2);
    for done in 0..=steps.len() {
        let mut other = Scanner::open(&config, split).expect("opens");
        assert_eq!(other.fingerprint().expect("has a name"), first.fingerprint().expect("has a name"));
        for (bytes, parts, _) in &steps[..done] {
            other
                .add_step(Step { scan: Scan::from_bytes(bytes).expect("reads"), parts: *parts })
                .expect("is taken");
        }
        while let Some(step) = other.step(&compute()).expect("steps") {
            other.add_step(step).expect("is taken");
        }
        assert_eq!(other.finish().expect("balances"), whole, "behind {done} steps");
    }
    assert_eq!(first.report(), &whole.report);

    let step = |scanner: &Scanner| scanner.step(&compute()).expect("steps").expect("has parts");
    let mut third = Scanner::open(&config, split).expect("opens");
    let broken = Step { parts: 44, ..step(&third) };
    assert!(third.add_step(broken).expect_err("too many parts").to_string().contains("only 43 remain"));
    let mut cooked = step(&third);
    cooked.scan.report.seen.documents += 1;
    assert!(third.add_step(cooked).expect_err("does not balance").to_string().contains("were seen"));
    let other = ScanConfig { seed: 9, ..config };
    assert_ne!(
        Scanner::open(&other, split).expect("opens").fingerprint().expect("has a name"),
        first.fingerprint().expect("has a name")
    );
}
