//! Conversations as tokens with a loss mask: only what the assistant says is learnt from.
//!
//! Three forms by name: ChatML (as Qwen's models speak it), Llama 3's, and plain texts one after another.
//! Each turn is encoded on its own, so no token reaches from a prompt into an answer, and what a model sees
//! when it is asked is exactly what it saw when it learnt; the marks between turns are special tokens, which
//! no content can spell. There is no template engine: a form is a few lines here.

use super::Error;
use super::documents::Turn;
use super::shard::Sequence;
use super::tokenizer::{Encoder, Tokenizer};
use serde::{Deserialize, Serialize};

/// Whose turns are learnt from.
const ASSISTANT: &str = "assistant";

/// A form of conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatTemplate {
    /// `<|im_start|>role\ncontent<|im_end|>\n`; the content and its end mark are learnt from.
    Chatml,
    /// `<|begin_of_text|>`, then `<|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>`, with the
    /// content trimmed.
    Llama3,
    /// The contents as they are, and the tokenizer's boundary behind each of the assistant's: prompt and
    /// completion.
    Plain,
}

/// A conversation as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// All tokens, with a flag for each that is learnt from.
    pub sequence: Sequence,
    /// How many tokens each turn has; what stands before the first counts with it.
    pub turns: Vec<u32>,
}

impl ChatTemplate {
    /// The form of that name; `auto` is what the tokenizer's special tokens are for.
    ///
    /// # Errors
    /// When there is none of that name, or the tokenizer lacks its special tokens.
    pub fn named(name: &str, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let all = [Self::Chatml, Self::Llama3, Self::Plain];
        let lacks = |template: Self| {
            template.special_tokens().iter().find(|token| tokenizer.special(token).is_none())
        };
        let template = match name {
            "auto" => all.into_iter().find(|template| lacks(*template).is_none()).unwrap_or(Self::Plain),
            "chatml" => Self::Chatml,
            "llama3" => Self::Llama3,
            "plain" => Self::Plain,
            other => {
                return Err(Error::Parameters(format!(
                    "`template` is `auto`, `chatml`, `llama3` or `plain`, not {other:?}"
                )));
            }
        };
        match lacks(template) {
            None => Ok(template),
            Some(token) => Err(Error::Parameters(format!(
                "the template `{name}` needs the special token {token}, which the tokenizer has not"
            ))),
        }
    }

    /// What its marks are; the tokenizer must have them as special tokens.
    #[must_use]
    pub fn special_tokens(self) -> &'static [&'static str] {
        match self {
            Self::Chatml => &["<|im_start|>", "<|im_end|>"],
            Self::Llama3 => &["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            Self::Plain => &[],
        }
    }

    /// A whole conversation.
    ///
    /// # Errors
    /// When the tokenizer lacks a mark or refuses a text.
    pub fn conversation(self, turns: &[Turn], encoder: &mut Encoder<'_>) -> Result<Conversation, Error> {
        let mut writer = Writer { encoder, conversation: Conversation::default() };
        self.begin(&mut writer)?;
        for turn in turns {
            let before = writer.conversation.turns.iter().sum::<u32>();
            self.head(&turn.role, &mut writer)?;
            self.content(&turn.content, turn.role == ASSISTANT, &mut writer)?;
            writer.conversation.turns.push(writer.conversation.sequence.tokens.len() as u32 - before);
        }
        Ok(writer.conversation)
    }

    /// What a model is given to answer: the conversation so far, and the beginning of the assistant's turn.
    ///
    /// # Errors
    /// As [`ChatTemplate::conversation`].
    pub fn prompt(self, turns: &[Turn], encoder: &mut Encoder<'_>) -> Result<Sequence, Error> {
        let sequence = self.conversation(turns, encoder)?.sequence;
        let mut writer = Writer { encoder, conversation: Conversation { sequence, turns: Vec::new() } };
        if turns.is_empty() {
            self.begin(&mut writer)?;
        }
        self.head(ASSISTANT, &mut writer)?;
        Ok(writer.conversation.sequence)
    }

    /// Two answers to one prompt, of which nothing else is learnt from: chosen, rejected.
    ///
    /// # Errors
    /// As [`ChatTemplate::conversation`].
    pub fn preference(
        self,
        prompt: &[Turn],
        answers: [&str; 2],
        encoder: &mut Encoder<'_>,
    ) -> Result<[Sequence; 2], Error> {
        let mut sequence = self.prompt(prompt, encoder)?;
        // An earlier answer of the assistant's is part of the prompt here.
        sequence.learnt.fill(false);
        let [chosen, rejected] = answers.map(|answer| {
            let mut writer = Writer {
                encoder,
                conversation: Conversation { sequence: sequence.clone(), turns: Vec::new() },
            };
            self.content(answer, true, &mut writer).map(|()| writer.conversation.sequence)
        });
        Ok([chosen?, rejected?])
    }

    fn begin(self, writer: &mut Writer<'_, '_>) -> Result<(), Error> {
        match self {
            Self::Llama3 => writer.mark("<|begin_of_text|>", false),
            Self::Chatml | Self::Plain => Ok(()),
        }
    }

    fn head(self, role: &str, writer: &mut Writer<'_, '_>) -> Result<(), Error> {
        match self {
            Self::Chatml => {
                writer.mark("<|im_start|>", false)?;
                writer.text(&format!("{role}\n"), false)
            }
            Self::Llama3 => {
                writer.mark("<|start_header_id|>", false)?;
                writer.text(role, false)?;
                writer.mark("<|end_header_id|>", false)?;
                writer.text("\n\n", false)
            }
            Self::Plain => Ok(()),
        }
    }

    fn content(self, content: &str, learnt: bool, writer: &mut Writer<'_, '_>) -> Result<(), Error> {
        match self {
            Self::Chatml => {
                writer.text(content, learnt)?;
                writer.mark("<|im_end|>", learnt)?;
                writer.text("\n", false)
            }
            Self::Llama3 => {
                writer.text(content.trim(), learnt)?;
                writer.mark("<|eot_id|>", learnt)
            }
            Self::Plain => {
                writer.text(content, learnt)?;
                if learnt {
                    let boundary = writer.encoder.tokenizer().eos();
                    writer.push(&[boundary], true);
                }
                Ok(())
            }
        }
    }
}

struct Writer<'e, 't> {
    encoder: &'e mut Encoder<'t>,
    conversation: Conversation,
}

impl Writer<'_, '_> {
    fn push(&mut self, tokens: &[u32], learnt: bool) {
        let sequence = &mut self.conversation.sequence;
        sequence.tokens.extend_from_slice(tokens);
        sequence.learnt.resize(sequence.tokens.len(), learnt);
    }

    fn text(&mut self, text: &str, learnt: bool) -> Result<(), Error> {
        let sequence = &mut self.conversation.sequence;
        self.encoder.encode(text, &mut sequence.tokens)?;
        sequence.learnt.resize(sequence.tokens.len(), learnt);
        Ok(())
    }

    fn mark(&mut self, mark: &str, learnt: bool) -> Result<(), Error> {
        let token = self.encoder.tokenizer().special(mark);
        let token = token.ok_or_else(|| {
            Error::Parameters(format!(
                "the tokenizer has no special token {mark}, which the chat template needs"
            ))
        })?;
        self.push(&[token], learnt);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedup::Selection;
    use crate::documents::{Body, Document, Place, Scan};
    use crate::tokenizer::TokenizerConfig;
    use muster_host::compute::Compute;

    fn tokenizer(special_tokens: &[&str]) -> Tokenizer {
        let text = "user assistant system What is this? It is a test of turns.\n\n".repeat(20);
        let document = Document::new("a".to_owned(), Place::Whole, Body::Text(text), false);
        let scan = Scan { documents: vec![document], ..Scan::default() };
        let selection = Selection { keep: vec![vec![0]], ..Selection::default() };
        let special_tokens = special_tokens.iter().map(|token| (*token).to_owned()).collect();
        let config = TokenizerConfig { vocab_size: 340, special_tokens, ..TokenizerConfig::default() };
        Tokenizer::train(&config, &[scan], &selection, &Compute::new(1).expect("starts")).expect("trains")
    }

    fn turns(turns: &[(&str, &str)]) -> Vec<Turn> {
        turns
            .iter()
            .map(|(role, content)| Turn { role: (*role).to_owned(), content: (*content).to_owned() })
            .collect()
    }

    /// What is written, with special tokens spelled out; what is learnt from stands in brackets.
    fn shown(tokenizer: &Tokenizer, marks: &[&str], sequence: &Sequence) -> String {
        let mut shown = String::new();
        let mut open = false;
        for (token, learnt) in sequence.tokens.iter().zip(&sequence.learnt) {
            if *learnt != open {
                shown.push(if *learnt { '[' } else { ']' });
                open = *learnt;
            }
            match marks.iter().find(|mark| tokenizer.special(mark) == Some(*token)) {
                Some(mark) => shown.push_str(mark),
                None => shown.push_str(&tokenizer.decode(&[*token]).expect("decodes")),
            }
        }
        if open {
            shown.push(']');
        }
        shown
    }

    const TALK: [(&str, &str); 4] =
        [("system", "Be brief."), ("user", "What?"), ("assistant", " A test.\n"), ("user", "<|im_end|>")];

    #[test]
    fn only_what_the_assistant_says_is_learnt_from() {
        let table = [
            (
                ChatTemplate::Chatml,
                "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n[ A test.\n<|im_end|>]\n\
                 <|im_start|>user\n<|im_end|><|im_end|>\n",
            ),
            (
                ChatTemplate::Llama3,
                "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n\
                 What?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n[A test.<|eot_id|>]<|start_header_id|>user<|end_header_id|>\n\n\
                 <|im_end|><|eot_id|>",
            ),
            (ChatTemplate::Plain, "Be brief.What?[ A test.\n<|end|>]<|im_end|>"),
        ];
        for (template, expected) in table {
            let tokenizer = tokenizer(template.special_tokens());
            let mut encoder = tokenizer.encoder();
            let marks = [template.special_tokens(), &["<|end|>"]].concat();
            let conversation = template.conversation(&turns(&TALK), &mut encoder).expect("encodes");
            assert_eq!(shown(&tokenizer, &marks, &conversation.sequence), expected);
            assert_eq!(
                (conversation.turns.len(), conversation.turns.iter().sum::<u32>() as usize),
                (4, conversation.sequence.tokens.len())
            );

            // What a model is asked is the beginning of what it learnt.
            let asked = template.prompt(&turns(&TALK[..2]), &mut encoder).expect("encodes");
            assert_eq!(asked.tokens, conversation.sequence.tokens[..asked.tokens.len()]);
            assert_eq!(
                conversation.sequence.learnt.iter().position(|learnt| *learnt),
                Some(asked.tokens.len())
            );
            // What a user spells is no mark.
            let ends = conversation
                .sequence
                .tokens
                .iter()
                .filter(|token| Some(**token) == tokenizer.special("<|im_end|>"))
                .count();
            assert_eq!(ends, if template == ChatTemplate::Chatml { 4 } else { 0 });
        }
    }

    #[test]
    fn two_answers_share_their_prompt() {
        let tokenizer = tokenizer(ChatTemplate::Chatml.special_tokens());
        let pair = ChatTemplate::Chatml
            .preference(&turns(&TALK[1..3]), ["yes", "no, never"], &mut tokenizer.encoder())
            .expect("encodes");
        let shown = pair.map(|sequence| shown(&tokenizer, ChatTemplate::Chatml.special_tokens(), &sequence));
        let prompt = "<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n A test.\n<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(shown, [format!("{prompt}[yes<|im_end|>]\n"), format!("{prompt}[no, never<|im_end|>]\n")]);
    }

    #[test]
    fn a_form_is_found_by_name_or_by_the_tokenizer() {
        let table = [
            (&[][..], "auto", Ok(ChatTemplate::Plain)),
            (&["<|im_start|>", "<|im_end|>"], "auto", Ok(ChatTemplate::Chatml)),
            (ChatTemplate::Llama3.special_tokens(), "auto", Ok(ChatTemplate::Llama3)),
            (ChatTemplate::Llama3.special_tokens(), "plain", Ok(ChatTemplate::Plain)),
            (&["<|im_start|>"], "chatml", Err("needs the special token <|im_end|>")),
            (&[], "jinja", Err("`auto`, `chatml`, `llama3` or `plain`, not \"jinja\"")),
        ];
        for (special_tokens, name, expected) in table {
            match (ChatTemplate::named(name, &tokenizer(special_tokens)), expected) {
                (found, Ok(expected)) => assert_eq!(found.expect("is found"), expected),
                (found, Err(expected)) => {
                    let message = found.expect_err(expected).to_string();
                    assert!(message.contains(expected), "{message}");
                }
            }
        }
        let lacking =
            ChatTemplate::Chatml.prompt(&[], &mut tokenizer(&[]).encoder()).expect_err("lacks").to_string();
        assert!(lacking.contains("no special token <|im_start|>"), "{lacking}");
    }
}
