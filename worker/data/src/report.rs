//! A data set's account for people, in Markdown: what went in, what came out, why the difference, and what it
//! is like.

use super::manifest::{DatasetSide, Manifest};
use super::statistics::{Lengths, SideStatistics, Statistics};
use std::fmt::Write;

/// Sources that the report names; the statistics have more.
const SOURCES_SHOWN: usize = 20;
/// The longest bar of a histogram, in characters.
const BAR: u64 = 40;

/// The report. It says nothing that is not in the manifest or the statistics.
#[must_use]
pub fn markdown(manifest: &Manifest, statistics: &Statistics) -> String {
    let mut page = Page::default();
    page.line("# Data set\n");
    page.line(&format!(
        "Tokenizer `{}` of {} tokens; document boundary: token {}.\n",
        manifest.tokenizer, manifest.vocab_size, manifest.boundary
    ));
    page.line("## Documents\n\n| | documents | bytes | |\n|---|--:|--:|--:|");
    let share = |part: u64| percent(part, manifest.seen.documents);
    let seen = manifest.seen;
    page.line(&format!("| seen | {} | {} | 100.0 % |", seen.documents, seen.bytes));
    page.line(&format!(
        "| **kept** | {} | {} | {} |",
        manifest.kept.documents,
        manifest.kept.bytes,
        share(manifest.kept.documents)
    ));
    for (reason, tally) in &manifest.dropped {
        page.line(&format!(
            "| dropped: {} | {} | {} | {} |",
            words(&format!("{reason:?}")),
            tally.documents,
            tally.bytes,
            share(tally.documents)
        ));
    }
    page.line("\nEvery document seen is kept, or dropped for one reason: the lines add up.");
    if manifest.lines_removed.documents > 0 {
        page.line(&format!(
            "\n{} lines with {} bytes were taken out of documents that are kept.",
            manifest.lines_removed.documents, manifest.lines_removed.bytes
        ));
    }
    if manifest.unread.documents > 0 {
        page.line(&format!(
            "\n{} parts of files with {} bytes were not read: the budget was used up.",
            manifest.unread.documents, manifest.unread.bytes
        ));
    }
    for (set, tally) in &manifest.contaminated {
        page.line(&format!(
            "\n{} of those dropped share text with the evaluation set `{set}`.",
            tally.documents
        ));
    }
    for (name, side, figures) in [
        ("Training", &manifest.train, &statistics.train),
        ("Held out", &manifest.held_out, &statistics.held_out),
    ] {
        page.side(name, side, figures);
    }
    page.line("\n## Sources\n\n| source | documents | bytes | tokens |\n|---|--:|--:|--:|");
    let mut sources: Vec<_> = statistics.sources.iter().collect();
    sources.sort_by(|one, two| (two.1.bytes, one.0).cmp(&(one.1.bytes, two.0)));
    for (name, source) in sources.iter().take(SOURCES_SHOWN) {
        page.line(&format!(
            "| `{}` | {} | {} | {} |",
            name.replace(['|', '`', '\n'], "?"),
            source.documents,
            source.bytes,
            source.tokens
        ));
    }
    if sources.len() > SOURCES_SHOWN {
        page.line(&format!("\n{} more sources are in the statistics.", sources.len() - SOURCES_SHOWN));
    }
    if !manifest.config.is_empty() {
        page.line("\n## Parameters\n");
        for (key, value) in &manifest.config {
            page.line(&format!("- `{key}`: `{value}`"));
        }
    }
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        // Writing to memory doesn't fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn side(&mut self, name: &str, side: &DatasetSide, figures: &SideStatistics) {
        self.line(&format!("\n## {name}\n"));
        self.line(&format!(
            "{} documents, {} tokens in {} shards; {:.3} bytes per token; {:.1} % of the tokens are masked out; {} sequences cut.\n",
            figures.documents,
            figures.tokens,
            side.shards.len(),
            figures.bytes_per_token,
            figures.masked_share * 100.0,
            figures.truncated
        ));
        let vocabulary = &figures.vocabulary;
        self.line(&format!(
            "{} of {} tokens occur ({:.1} %), {} of them fewer than ten times.",
            vocabulary.used,
            vocabulary.size,
            vocabulary.coverage * 100.0,
            vocabulary.rare
        ));
        self.lengths("tokens", &figures.tokens_per_document);
        self.lengths("bytes", &figures.bytes_per_document);
    }

    fn lengths(&mut self, unit: &str, lengths: &Lengths) {
        let Some(most) = lengths.histogram.iter().map(|bin| bin.documents).max() else { return };
        self.line(&format!(
            "\nA document has {} to {} {unit}: mean {:.1}, median {}, 90 % up to {}, 99 % up to {}.\n\n```",
            lengths.min, lengths.max, lengths.mean, lengths.median, lengths.p90, lengths.p99
        ));
        for bin in &lengths.histogram {
            let bar = "#".repeat((bin.documents * BAR).div_ceil(most) as usize);
            self.line(&format!(
                "{:>10} to {:>10} {unit} {:>9} {bar}",
                bin.from,
                bin.below - 1,
                bin.documents
            ));
        }
        self.line("```");
    }
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 })
}

/// `TooLong` as `too long`.
fn words(name: &str) -> String {
    let mut words = String::new();
    for (position, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && position > 0 {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Tally;
    use crate::filters::DropReason;
    use crate::statistics::{Bin, SourceStatistics};

    #[test]
    fn the_page_says_what_is_in_the_account() {
        let tally = |documents| Tally { documents, bytes: documents * 10 };
        let manifest = Manifest {
            seen: tally(8),
            kept: tally(6),
            dropped: [(DropReason::TooLong, tally(2))].into(),
            config: [("context".to_owned(), 128.into())].into(),
            contaminated: [("exam".to_owned(), tally(1))].into(),
            lines_removed: tally(3),
            unread: tally(5),
            ..Manifest::default()
        };
        let histogram =
            vec![Bin { from: 4, below: 8, documents: 2 }, Bin { from: 8, below: 16, documents: 4 }];
        let lengths = Lengths { min: 5, max: 9, histogram, ..Lengths::default() };
        let train = SideStatistics {
            documents: 6,
            tokens_per_document: lengths,
            masked_share: 0.25,
            ..SideStatistics::default()
        };
        let sources = (0..30)
            .map(|i| (format!("a|{i}"), SourceStatistics { bytes: i, ..SourceStatistics::default() }))
            .collect();
        let page = markdown(&manifest, &Statistics { train, sources, ..Statistics::default() });
        for expected in [
            "| seen | 8 | 80 | 100.0 % |",
            "| **kept** | 6 | 60 | 75.0 % |",
            "| dropped: too long | 2 | 20 | 25.0 % |",
            "25.0 % of the tokens are masked out",
            "         4 to          7 tokens         2 ####################\n",
            "         8 to         15 tokens         4 ########################################\n",
            "| `a?29` | 0 | 29 | 0 |",
            "10 more sources",
            "3 lines with 30 bytes",
            "5 parts of files with 50 bytes",
            "1 of those dropped share text with the evaluation set `exam`",
            "- `context`: `128`",
        ] {
            assert!(page.contains(expected), "{expected} is not in\n{page}");
        }
    }
}
