//! Writes shards of texts, conversations and preferences into a directory, for other programs to read:
//! `write_shards DIRECTORY`.
//!
//! Beside them lie each tokenizer, as `NAME.tokenizer.json`, and the texts of a shard of plain texts, as JSON
//! lines: who tokenizes those must come to the same shard.

use muster_data::chat::ChatTemplate;
use muster_data::dedup::Selection;
use muster_data::documents::{Body, Document, Place, Scan, Turn};
use muster_data::megatron::Files;
use muster_data::pack::{PackConfig, TooLong, pack};
use muster_data::shard::Shard;
use muster_data::tokenizer::{Tokenizer, TokenizerConfig};
use muster_host::compute::Compute;
use std::error::Error;
use std::path::Path;
use std::{env, fs};

/// Documents of each kind.
const DOCUMENTS: u64 = 40;
/// Most tokens of a conversation: some are longer, and cut.
const CONTEXT: usize = 96;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args().nth(1).ok_or("name a directory")?;
    let compute = Compute::new(2)?;
    let texts: Vec<Document> = (0..DOCUMENTS).map(|row| document(row, text(row))).collect();
    let talks =
        (0..2 * DOCUMENTS).map(|row| document(row, if row % 2 == 0 { chat(row) } else { preference(row) }));
    for (name, documents, vocab_size) in
        [("text", texts.clone(), 400), ("chat", talks.collect(), 400), ("wide", texts, 70_000)]
    {
        let scan = Scan { documents, ..Scan::default() };
        let keep: Vec<u32> = (0..scan.documents.len() as u32).collect();
        let selection = Selection { keep: vec![keep.clone()], ..Selection::default() };
        let mut special_tokens: Vec<String> =
            ChatTemplate::Chatml.special_tokens().iter().map(|token| (*token).to_owned()).collect();
        // A vocabulary that two bytes cannot count needs no text to learn from.
        special_tokens.extend((400..vocab_size).map(|number| format!("<|reserved_{number}|>")));
        let config = TokenizerConfig { vocab_size, special_tokens, ..TokenizerConfig::default() };
        let tokenizer = Tokenizer::train(&config, std::slice::from_ref(&scan), &selection, &compute)?;
        let config =
            PackConfig { template: ChatTemplate::Chatml, context: CONTEXT, too_long: TooLong::Truncate };
        let packed = pack(&scan, &keep, name, &config, &tokenizer, &compute)?;
        let directory = Path::new(&directory);
        fs::write(directory.join(format!("{name}.tokenizer.json")), tokenizer.to_bytes())?;
        for shard in [&packed.train, &packed.held_out] {
            write(directory, shard)?;
            let texts =
                scan.documents.iter().filter(|document| document.entry.held_out == shard.index().held_out);
            let lines = texts.map(|document| match &document.body {
                Body::Text(text) => Some(format!("{}\n", serde_json::json!({ "text": text }))),
                Body::Chat(_) | Body::Preference { .. } => None,
            });
            if let Some(lines) = lines.collect::<Option<String>>() {
                fs::write(directory.join(format!("{}.jsonl", shard.index().name)), lines)?;
            }
        }
    }
    Ok(())
}

fn document(row: u64, body: Body) -> Document {
    Document::new("made.jsonl".to_owned(), Place::Row(row), body, row.is_multiple_of(5))
}

fn text(row: u64) -> Body {
    Body::Text(
        (0..row + 3)
            .map(|line| format!("fn line_{line}() -> u64 {{ {row} + {} }} // \u{e9}\n", line * row))
            .collect(),
    )
}

fn turn(role: &str, content: String) -> Turn {
    Turn { role: role.to_owned(), content }
}

fn chat(row: u64) -> Body {
    let asked = (0..row % 3 + 1).flat_map(|n| {
        [turn("user", format!("What is {n} + {row}?")), turn("assistant", format!("It is {}.", n + row))]
    });
    Body::Chat(asked.collect())
}

fn preference(row: u64) -> Body {
    let prompt = vec![turn("system", "Add.".to_owned()), turn("user", format!("What is {row} + {row}?"))];
    Body::Preference { prompt, chosen: format!("{}", 2 * row), rejected: format!("{row}, I think.") }
}

fn write(directory: &Path, shard: &Shard) -> Result<(), Box<dyn Error>> {
    let name = &shard.index().name;
    let put = |name: &str, files: &Files| {
        fs::write(directory.join(format!("{name}.bin")), &files.bin)?;
        fs::write(directory.join(format!("{name}.idx")), &files.idx)
    };
    put(name, shard.files())?;
    shard.mask_files().map(|files| put(&format!("{name}-mask"), files)).transpose()?;
    fs::write(directory.join(format!("{name}.json")), shard.index_bytes())?;
    Ok(())
}
