//! Tokenizers that are trained, loaded, and asked for what they must not do.

use super::*;
use crate::documents::{Body, Document, Place};

use std::fmt::Write;

const TEXT: &str = include_str!("mod.rs");

fn trained(vocab_size: usize) -> Tokenizer {
    trained_as(&TokenizerConfig { vocab_size, ..TokenizerConfig::default() })
}

fn trained_as(config: &TokenizerConfig) -> Tokenizer {
    let document = |held_out, text: &str| {
        Document::new("a".to_owned(), Place::Whole, Body::Text(text.to_owned()), held_out)
    };
    let scan =
        Scan { documents: vec![document(true, &"zq".repeat(99)), document(false, TEXT)], ..Scan::default() };
    let selection = Selection { keep: vec![vec![0, 1]], ..Selection::default() };
    Tokenizer::train(config, &[scan], &selection, &Compute::new(1).expect("starts")).expect("trains")
}

#[test]
fn any_text_comes_back_and_lengths_are_of_bytes() {
    let tokenizer = trained(400);
    assert_eq!(tokenizer.vocab_size(), 400);
    let every_char: String = (1..0x300).filter_map(char::from_u32).collect();
    for text in [
        "",
        "fn main() {}\n",
        "\t  \n\n x",
        "<|end|> inside",
        "caf\u{e9} \u{1f980}",
        every_char.as_str(),
        TEXT,
    ] {
        let tokens = tokenizer.encode(text).expect("encodes");
        assert!(!tokens.contains(&tokenizer.eos()));
        assert_eq!(tokenizer.decode(&tokens).expect("decodes"), text);
        let bytes: u32 = tokens.iter().map(|t| tokenizer.byte_lengths()[*t as usize]).sum();
        assert_eq!(bytes as usize, text.len());
    }
    assert_eq!(tokenizer.decode(&[tokenizer.eos()]).expect("decodes"), "");
    assert!(tokenizer.decode(&[400]).expect_err("outside").to_string().contains("token 400"));
    let tokens = tokenizer.encode(TEXT).expect("encodes").len();
    assert!(tokens * 3 < TEXT.len() * 2, "{tokens} tokens for {} bytes", TEXT.len());
}

#[test]
fn training_twice_gives_the_same_bytes_and_sees_no_held_out_text() {
    let (one, two) = (trained(700), trained(700));
    assert_eq!(one.hash(), two.hash());
    let read = Tokenizer::from_bytes(one.to_bytes()).expect("reads");
    assert_eq!(read.encode(TEXT).expect("encodes"), one.encode(TEXT).expect("encodes"));
    assert!(!one.pieces.contains(&b"zqzq".to_vec()));
}

#[test]
fn the_encoder_gives_the_librarys_tokens() {
    let tokenizer = trained(600);
    let ascii: String = (1..0x80).filter_map(char::from_u32).collect();
    let reversed: String = ascii.chars().rev().collect();
    let spaces = " a  b   c \n d\n\n  e \t\t f  \n";
    let quotes = "it's 'a b'static 'll' '' x'd\"'re 've12's";
    for text in [TEXT, ascii.as_str(), reversed.as_str(), spaces, quotes, "", " ", "a ", "\n", "\u{e9} x"] {
        let mut tokens = Vec::new();
        tokenizer.encoder().encode(text, &mut tokens).expect("encodes");
        assert_eq!(tokens, tokenizer.encode(text).expect("encodes"), "{text:?}");
    }
}

/// `trained(600)` with its expression replaced by that of a larger model's tokenizer.
fn as_of(pattern: &str) -> Vec<u8> {
    let mut json: serde_json::Value = serde_json::from_slice(trained(600).to_bytes()).expect("is JSON");
    let level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let split = serde_json::json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    json["pre_tokenizer"] = serde_json::json!({"type": "Sequence", "pretokenizers": [split, level]});
    json["normalizer"] = serde_json::json!({"type": "NFC"});
    serde_json::to_vec(&json).expect("is JSON")
}

#[test]
fn cuts_change_no_token_of_any_expression_that_is_known() {
    // Every pair and triple of what the expressions tell apart.
    let kinds = [
        "a",
        "'s",
        "'",
        "7",
        " ",
        "\n",
        "\r\n",
        "\t",
        "}",
        "\u{e9}",
        "\u{a0}",
        "\u{2003}",
        "\u{663}",
        "\u{1f980}",
        "e\u{301}",
        "_",
    ];
    let mut text = String::new();
    for one in kinds {
        for two in kinds {
            for three in kinds {
                write!(text, "{one}{two}{three}").expect("writes to memory");
            }
        }
    }
    let llama = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let qwen = llama.replace("{1,3}", "");
    let table = [
        (trained(600).to_bytes().to_vec(), SplitRule::Gpt2),
        (as_of(llama), SplitRule::Llama3),
        (as_of(&qwen), SplitRule::Llama3),
        (as_of(r"\s|\S+"), SplitRule::Never),
    ];
    for (json, cut) in table {
        let tokenizer = Tokenizer::from_bytes(&json).expect("reads");
        assert_eq!(tokenizer.split_rule, cut);
        let mut encoder = tokenizer.encoder();
        for text in [text.as_str(), TEXT, include_str!("tests.rs"), &TEXT.replace('\n', "\r\n")] {
            let mut tokens = Vec::new();
            encoder.encode(text, &mut tokens).expect("encodes");
            assert_eq!(tokens, tokenizer.encode(text).expect("encodes"), "{cut:?}");
        }
    }
}

#[test]
fn special_tokens_are_those_that_are_named() {
    let config = TokenizerConfig {
        vocab_size: 400,
        special_tokens: ["<|im_start|>", "<|end|>", "<s>"].map(str::to_owned).to_vec(),
        ..TokenizerConfig::default()
    };
    let json = trained_as(&config).to_bytes().to_vec();
    let plain = Tokenizer::from_bytes(&json).expect("reads");
    assert_eq!((plain.eos(), plain.bos(), plain.pad()), (0, None, 0));
    assert_eq!(
        (plain.special("<|im_start|>"), plain.special("<s>"), plain.special("a")),
        (Some(1), Some(2), None)
    );
    let specials = SpecialTokens {
        bos_token: Some("<s>".to_owned()),
        eos_token: Some("<|im_start|>".to_owned()),
        pad_token: Some(EOS.to_owned()),
    };
    let named = Tokenizer::load(&json, specials.clone()).expect("reads");
    assert_eq!((named.eos(), named.bos(), named.pad()), (1, Some(2), 0));
    assert_ne!(named.hash(), plain.hash());
    assert!(!named.encode("<|im_start|><s>").expect("encodes").iter().any(|token| *token < 3));
    assert_eq!(named.decode(&[1, 2, 0]).expect("decodes"), "");

    named.check_vocabulary(400).expect("fits");
    named.check_hash(named.hash()).expect("is the same");
    let absent = SpecialTokens { eos_token: Some("</s>".to_owned()), ..specials };
    let table = [
        (named.check_vocabulary(399), "400 tokens against a vocabulary of 399"),
        (named.check_hash(plain.hash()), plain.hash()),
        (Tokenizer::load(&json, absent).map(drop), "`eos_token` \"</s>\" is not in its vocabulary"),
    ];
    for (result, expected) in table {
        let message = result.expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn other_kinds_of_tokenizers_are_loaded() {
    let word_level = r#"{"version": "1.0", "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "normalizer": null, "post_processor": null, "decoder": null, "pre_tokenizer": {"type": "WhitespaceSplit"},
        "added_tokens": [{"id": 0, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
        "model": {"type": "WordLevel", "vocab": {"</s>": 0, "[UNK]": 1, "ab": 2, "c": 9}, "unk_token": "[UNK]"}}"#;
    let tokenizer = Tokenizer::from_bytes(word_level.as_bytes()).expect("reads");
    assert_eq!((tokenizer.vocab_size(), tokenizer.eos(), tokenizer.split_rule), (10, 0, SplitRule::Never));
    // Nothing is cut to two tokens, as the file would have it.
    let mut tokens = Vec::new();
    tokenizer.encoder().encode("ab c ab x", &mut tokens).expect("encodes");
    assert_eq!(tokens, [2, 9, 2, 1]);
    assert_eq!(tokenizer.byte_lengths()[..3], [0, 5, 2]);
    assert_eq!(tokenizer.decode(&[2, 9, 0]).expect("decodes"), "ab c");

    let pieces = r#"{"version": "1.0", "truncation": null, "padding": null, "post_processor": null,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null, "added_tokens": [],
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "vocab": {"<unk>": 0, "</s>": 1, "<0x0A>": 2, "▁": 3, "a": 4, "▁a": 5}, "merges": ["▁ a"], "unk_token": "<unk>",
            "byte_fallback": true, "fuse_unk": true}}"#;
    let tokenizer = Tokenizer::from_bytes(pieces.as_bytes()).expect("reads");
    let tokens = tokenizer.encode("a a\n").expect("encodes");
    assert_eq!((&tokens[..], tokenizer.eos()), (&[5, 5, 2][..], 1));
    assert_eq!(tokenizer.decode(&tokens).expect("decodes"), "a a\n");
    assert_eq!(tokenizer.byte_lengths(), [5, 0, 1, 1, 1, 2]);
}

#[test]
fn what_cannot_be_used_is_refused() {
    let json = String::from_utf8(trained(300).to_bytes().to_vec()).expect("is text");
    let table = [
        ("nonsense".to_owned(), "read the tokenizer"),
        (json.replace(EOS, "<|other|>"), "name its `eos_token` in special_tokens_map.json"),
        (json.replace("\"dropout\":null", "\"dropout\":0.1"), "at random"),
    ];
    for (json, expected) in table {
        let message = Tokenizer::from_bytes(json.as_bytes()).err().expect(expected).to_string();
        assert!(message.contains(expected), "{message}");
    }
}
