use super::*;
use crate::documents::Turn;

fn verdict(text: &str, filters: &Filters) -> Option<DropReason> {
    match apply(Body::Text(text.to_owned()), filters) {
        FilterOutcome::Kept(_, _) => None,
        FilterOutcome::Dropped(reason, tally) => {
            assert_eq!(tally, Tally { documents: 1, bytes: text.len() as u64 }, "{reason}");
            Some(reason)
        }
    }
}

#[test]
fn each_rule_for_code_drops_what_it_names() {
    let code = "pub fn area(width: u32, height: u32) -> u32 {\n    width * height\n}\n";
    let many =
        |line: &dyn Fn(usize) -> String, count: usize| (0..count).map(|i| line(i) + "\n").collect::<String>();
    let varied = many(&|i| format!("let value_of_{i} = compute_something_of({i});"), 20);
    let table: [(&str, String, Option<DropReason>); 10] = [
        ("code", varied.clone(), None),
        ("small", code.to_owned(), Some(DropReason::TooSmall)),
        ("large", varied.repeat(500), Some(DropReason::TooLarge)),
        ("control", format!("{varied}\u{1}"), Some(DropReason::ControlCharacters)),
        ("generated", format!("// This file is @generated.\n{varied}"), Some(DropReason::Generated)),
        ("marker far below", format!("{varied}{varied}// do not edit"), None),
        ("one long line", format!("{varied}// {}", "word ".repeat(100)), Some(DropReason::LongLine)),
        ("long lines", many(&|i| format!("{i} {}", "word ".repeat(30)), 9), Some(DropReason::LongLines)),
        ("numbers", many(&|i| format!("0x{i:08}, 0x{i:09}, 0x{i:010},"), 30), Some(DropReason::FewLetters)),
        ("repeated", "let the_same = line_again();\n".repeat(20), Some(DropReason::RepeatedLines)),
    ];
    for (name, text, expected) in table {
        assert_eq!(verdict(&text, &Filters::default()), expected, "{name}");
    }
}

/// Prose that no rule minds: every sentence is another.
fn prose(sentences: usize) -> String {
    let nouns = "miller sailor brother village teacher clock winter river letter bridge harbour evening garden window market forest captain \
        painter lantern orchard kitchen journey mountain chimney carpet island wagon blanket ladder meadow pocket castle feather thunder";
    let nouns: Vec<&str> = nouns.split_whitespace().collect();
    let noun = |i: usize, place: usize| {
        nouns[crate::shingles::splitmix64((i * 8 + place) as u64) as usize % nouns.len()]
    };
    let one = |i: usize| {
        let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|place| noun(i, place));
        format!("A {a} of the {b} will carry that {c} to every {d} and {e}.")
    };
    (0..sentences).map(|i| one(i) + if i % 4 == 3 { "\n" } else { " " }).collect::<String>() + "\n"
}

#[test]
fn each_rule_for_prose_drops_what_it_names() {
    let gopher = Filters { gopher: Some(Gopher::default()), ..Filters::none() };
    let repetition = Filters { repetition: Some(Repetition::default()), ..Filters::none() };
    let c4 = Filters { c4: Some(C4::default()), ..Filters::none() };
    let text = prose(20);
    let lines = |prefix: &str, suffix: &str| {
        text.lines().map(|line| format!("{prefix}{line}{suffix}\n")).collect::<String>()
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let of_other = |part: &str, every: usize| {
        words.chunks(every).map(|chunk| format!("{} {part}", chunk.join(" "))).collect::<Vec<_>>().join(" ")
    };
    let half = text.split_inclusive('\n').collect::<Vec<_>>();
    let table: [(&str, &Filters, String, Option<DropReason>); 23] = [
        ("prose", &Filters::web(), text.clone(), None),
        ("few words", &gopher, prose(3), Some(DropReason::FewWords)),
        ("many words", &gopher, "the mill and ".repeat(40_000), Some(DropReason::ManyWords)),
        (
            "long words",
            &gopher,
            "the incomprehensibilities and disproportionatenesses ".repeat(30),
            Some(DropReason::WordLength),
        ),
        ("short words", &gopher, "a to be of it ".repeat(30), Some(DropReason::WordLength)),
        ("hashes", &gopher, of_other("#mill", 4), Some(DropReason::Symbols)),
        ("ellipses within", &gopher, of_other("so ... on", 4), Some(DropReason::Symbols)),
        ("bullets", &gopher, lines("- ", ""), Some(DropReason::Bullets)),
        ("unfinished lines", &gopher, lines("", " and so on\u{2026}"), Some(DropReason::Ellipses)),
        ("numbers", &gopher, of_other("12.345 67.890", 3), Some(DropReason::FewAlphabeticWords)),
        (
            "no stop words",
            &gopher,
            "Mills grind slowly under grey northern clouds. ".repeat(10),
            Some(DropReason::FewStopWords),
        ),
        ("prose does not repeat", &repetition, text.clone(), None),
        (
            "lines",
            &repetition,
            format!("{text}{}", "Read more.\n".repeat(9)),
            Some(DropReason::DuplicateLines),
        ),
        (
            "text of lines",
            &repetition,
            format!("{text}{}", half[..2].concat()),
            Some(DropReason::DuplicateLineText),
        ),
        ("one run", &repetition, of_other("purchase yesterday", 4), Some(DropReason::TopNgram)),
        (
            "long runs",
            &repetition,
            format!("{text} {}", text.replace('\n', " ")),
            Some(DropReason::DuplicateNgrams),
        ),
        ("prose is sentences", &c4, text.clone(), None),
        ("filler", &c4, format!("Lorem ipsum dolor sit amet.\n{text}"), Some(DropReason::LoremIpsum)),
        ("braces", &c4, format!("Then came {{ a brace.\n{text}"), Some(DropReason::CurlyBraces)),
        ("few sentences", &c4, prose(4), Some(DropReason::FewSentences)),
        ("a menu", &c4, "Home\nAbout us\nContact\n".repeat(9), Some(DropReason::TooSmall)),
        ("nothing", &Filters::none(), String::new(), Some(DropReason::TooSmall)),
        ("anything", &Filters::none(), "{\u{1}#...".to_owned(), None),
    ];
    for (name, filters, text, expected) in table {
        assert_eq!(verdict(&text, filters), expected, "{name}");
    }
}

#[test]
fn repeated_paragraphs_are_told_from_repeated_lines() {
    let rules =
        Repetition { lines_per_mille_max: 1000, line_text_per_mille_max: 1000, ..Repetition::default() };
    let again = format!("{}\n{}", prose(20), "\nA short one.\n".repeat(4));
    assert_eq!(rules.drop_reason(&again), Some(DropReason::DuplicateParagraphs));
    let long = format!("{}\n\n{}\n\n{}\n\nOne more.\n", prose(20), prose(8).trim(), prose(8).trim());
    assert_eq!(rules.drop_reason(&long), Some(DropReason::DuplicateParagraphText));
}

#[test]
fn lines_that_are_no_sentences_are_taken_out_and_counted() {
    let gone = ["Home | About", "Read the Terms of Use before you go on.", "On and on...", "Yes."];
    let text = format!("{}\n{}{}\n", gone[0], prose(20), gone[1..].join("\n"));
    let FilterOutcome::Kept(body, removed) =
        apply(Body::Text(text), &Filters { c4: Some(C4::default()), ..Filters::none() })
    else {
        panic!("the rest is prose");
    };
    assert_eq!(body.plain(), prose(20));
    assert_eq!(removed, Tally { documents: 4, bytes: gone.iter().map(|line| line.len() as u64 + 1).sum() });
}

#[test]
fn languages_are_told_apart() {
    let german = "Der alte M\u{fc}ller erinnert sich an den Fluss, der im Winter langsamer flie\u{df}t, und an die Br\u{fc}cken, \u{fc}ber die er ging.";
    let english = prose(6);
    let rule = |codes: &[&str]| {
        Languages::of(&codes.iter().map(|code| (*code).to_owned()).collect::<Vec<_>>()).expect("are known")
    };
    let table = [
        (&["eng"][..], english.as_str(), None),
        (&["eng"], german, Some(DropReason::Language)),
        (&["deu"], german, None),
        (&["deu", "eng"], &english, None),
        (&["eng"], "12345 67890", Some(DropReason::Language)),
    ];
    for (codes, text, expected) in table {
        assert_eq!(rule(codes).drop_reason(text), expected, "{codes:?} {text}");
    }
    assert!(
        Languages::of(&["english".to_owned()])
            .expect_err("no code")
            .to_string()
            .contains("unknown language \"english\"")
    );
}

#[test]
fn conversations_are_judged_by_all_their_text_and_stay_whole() {
    let turn = |role: &str, content: &str| Turn { role: role.to_owned(), content: content.to_owned() };
    let chat = Body::Chat(vec![turn("user", "Tell me"), turn("assistant", &prose(20))]);
    assert_eq!(apply(chat.clone(), &Filters::web()), FilterOutcome::Kept(chat, Tally::default()));
    let short = Body::Chat(vec![turn("user", "Tell me"), turn("assistant", "No.")]);
    assert_eq!(
        apply(short, &Filters::web()),
        FilterOutcome::Dropped(DropReason::FewWords, Tally { documents: 1, bytes: 10 })
    );
}

#[test]
fn presets_have_names() {
    assert_eq!(Filters::preset("code").expect("is one"), Filters::default());
    assert_eq!(Filters::preset("web").expect("is one"), Filters::web());
    assert!(
        Filters::preset("prose").expect_err("is none").to_string().contains("use `none`, `code` or `web`")
    );
    assert_eq!(DropReason::DuplicateNgrams.to_string(), "duplicate_ngrams");
}
