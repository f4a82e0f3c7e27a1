//! Tokenizers and conversations that Hugging Face's libraries encoded (`oracle/data/record.py`): ours must
//! give the same tokens and masks.
//!
//! `MUSTER_GOLDEN_DATA` names another recording than the one in the tree.

use super::Tokenizer;
use super::split_rule::SplitRule;
use crate::chat::ChatTemplate;
use crate::documents::Turn;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Cases {
    texts: Vec<TextCase>,
    chats: Vec<ChatCase>,
}

#[derive(Deserialize)]
struct TextCase {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct ChatCase {
    template: String,
    turns: Vec<Turn>,
    ids: Vec<u32>,
    learnt: Vec<u8>,
}

fn recorded(name: &str) -> (Tokenizer, Cases) {
    let kept = || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let place = std::env::var_os("MUSTER_GOLDEN_DATA").map_or_else(kept, PathBuf::from);
    let json = fs::read(place.join(format!("{name}.json"))).expect("is there");
    let cases = fs::read(place.join(format!("{name}.cases.json"))).expect("is there");
    (Tokenizer::from_bytes(&json).expect("loads"), serde_json::from_slice(&cases).expect("are cases"))
}

#[test]
fn texts_give_the_tokens_that_hugging_face_gives() {
    let table = [
        ("gpt2", SplitRule::Gpt2, true),
        ("llama3", SplitRule::Llama3, true),
        ("qwen2", SplitRule::Llama3, false),
        ("sentence-piece", SplitRule::Never, true),
        ("unigram", SplitRule::Never, false),
        ("added", SplitRule::Never, true),
    ];
    for (name, cut, lossless) in table {
        let (tokenizer, cases) = recorded(name);
        assert_eq!(tokenizer.split_rule, cut, "{name}");
        let mut encoder = tokenizer.encoder();
        for TextCase { text, ids } in &cases.texts {
            assert_eq!(&tokenizer.encode(text).expect("encodes"), ids, "{name}: {text:?}");
            // Once as something new, and once from memory.
            for _ in 0..2 {
                let mut tokens = Vec::new();
                encoder.encode(text, &mut tokens).expect("encodes");
                assert_eq!(&tokens, ids, "{name}, by the encoder: {text:?}");
            }
            if lossless {
                assert_eq!(&tokenizer.decode(ids).expect("decodes"), text, "{name}");
            }
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        }
        assert!(cases.texts.len() > 10, "{name}");
    }
}

#[test]
fn conversations_give_the_tokens_and_masks_that_transformers_gives() {
    let mut seen = 0;
    for name in ["gpt2", "llama3", "qwen2"] {
        let (tokenizer, cases) = recorded(name);
        for case in &cases.chats {
            let template = ChatTemplate::named(&case.template, &tokenizer).expect("is one");
            let conversation = template.conversation(&case.turns, &mut tokenizer.encoder()).expect("encodes");
            assert_eq!(conversation.sequence.tokens, case.ids, "{name}, {template:?}: {:?}", case.turns);
            let learnt: Vec<u8> =
                conversation.sequence.learnt.iter().map(|learnt| u8::from(*learnt)).collect();
            assert_eq!(learnt, case.learnt, "{name}, {template:?}: {:?}", case.turns);
            seen += 1;
        }
    }
    assert_eq!(seen, 15);
}
