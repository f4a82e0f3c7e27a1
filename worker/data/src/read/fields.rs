//! Finds the document in the fields of a row (a JSON object or a table row).
//!
//! Tried in this order: a text; `messages`; a preference, `prompt` with `chosen` and `rejected`; `prompt`
//! with `completion`. A conversation is a list of `{role, content}`. In preferences, `chosen` and `rejected`
//! may also be conversations, as in data sets for Hugging Face TRL: their last turns are the answers, and the
//! turns before must be equal in both.

use crate::documents::{Body, Turn};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The names of the fields. A row need not have all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fields {
    /// Running text.
    pub text: String,
    /// A conversation.
    pub messages: String,
    /// The prompt, a text or a conversation.
    pub prompt: String,
    /// The answer to the prompt.
    pub completion: String,
    /// The better answer.
    pub chosen: String,
    /// The worse answer.
    pub rejected: String,
}

impl Default for Fields {
    fn default() -> Self {
        let [text, messages, prompt, completion, chosen, rejected] =
            ["text", "messages", "prompt", "completion", "chosen", "rejected"].map(str::to_owned);
        Self { text, messages, prompt, completion, chosen, rejected }
    }
}

/// Fields that a message names, at most.
const NAMED_MAX: usize = 12;

impl Fields {
    /// All names.
    #[must_use]
    pub fn names(&self) -> [&str; 6] {
        [&self.text, &self.messages, &self.prompt, &self.completion, &self.chosen, &self.rejected]
    }

    /// The document of a JSON object.
    ///
    /// # Errors
    /// What is wrong with it and what is expected.
    pub fn of_json(&self, text: &str) -> Result<Body, String> {
        match serde_json::from_str(text) {
            Ok(Value::Object(row)) => self.of_row(row),
            Ok(other) => Err(format!("expected a JSON object, got {}", kind(&other))),
            Err(e) => Err(format!("invalid JSON: {e}")),
        }
    }

    /// The document of a row.
    ///
    /// # Errors
    /// What is wrong with it and what is expected.
    pub fn of_row(&self, mut row: Map<String, Value>) -> Result<Body, String> {
        // A null counts as a missing field.
        let mut get = |name: &str| row.remove(name).filter(|value| !value.is_null());
        if let Some(value) = get(&self.text) {
            return Ok(Body::Text(string(&self.text, value)?));
        }
        if let Some(value) = get(&self.messages) {
            let turns = turns(&self.messages, value)?;
            return if turns.is_empty() {
                Err(format!("`{}` is empty", self.messages))
            } else {
                Ok(Body::Chat(turns))
            };
        }
        let prompt = get(&self.prompt);
        match (get(&self.chosen), get(&self.rejected), prompt, get(&self.completion)) {
            (Some(chosen), Some(rejected), prompt, _) => self.preference(prompt, chosen, rejected),
            (None, None, Some(prompt), Some(completion)) => {
                let mut conversation = self.asked(prompt)?;
                match completion {
                    Value::Array(_) => conversation.extend(turns(&self.completion, completion)?),
                    other => conversation.push(Turn {
                        role: "assistant".to_owned(),
                        content: string(&self.completion, other)?,
                    }),
                }
                Ok(Body::Chat(conversation))
            }
            (Some(_), None, _, _) => Err(format!("`{}` without `{}`", self.chosen, self.rejected)),
            (None, Some(_), _, _) => Err(format!("`{}` without `{}`", self.rejected, self.chosen)),
            (None, None, prompt, completion) => {
                let had = [(&self.prompt, prompt.is_some()), (&self.completion, completion.is_some())];
                let had = had.into_iter().filter(|(_, had)| *had).map(|(name, _)| name.clone());
                let named: Vec<String> =
                    had.chain(row.keys().cloned()).take(NAMED_MAX).map(|name| format!("`{name}`")).collect();
                Err(format!(
                    "no `{}`, no `{}`, no `{}` with `{}`, and no `{}` with `{}`; it has {}",
                    self.text,
                    self.messages,
                    self.prompt,
                    self.completion,
                    self.chosen,
                    self.rejected,
                    if named.is_empty() { "nothing".to_owned() } else { named.join(", ") }
                ))
            }
        }
    }

    fn preference(&self, prompt: Option<Value>, chosen: Value, rejected: Value) -> Result<Body, String> {
        let asked = prompt.map(|prompt| self.asked(prompt)).transpose()?;
        let (before, chosen) = answer(&self.chosen, chosen)?;
        let (before_other, rejected) = answer(&self.rejected, rejected)?;
        if before != before_other {
            return Err(format!(
                "`{}` and `{}` are answers to different conversations",
                self.chosen, self.rejected
            ));
        }
        // A conversation that stands before the answers is the longer account of what was asked.
        let prompt = if before.is_empty() { asked.unwrap_or_default() } else { before };
        if prompt.is_empty() {
            return Err(format!("no `{}`: answers without a question", self.prompt));
        }
        Ok(Body::Preference { prompt, chosen, rejected })
    }

    fn asked(&self, prompt: Value) -> Result<Vec<Turn>, String> {
        match prompt {
            Value::Array(_) => turns(&self.prompt, prompt),
            other => Ok(vec![Turn { role: "user".to_owned(), content: string(&self.prompt, other)? }]),
        }
    }
}

/// What stands before an answer, and the answer.
fn answer(name: &str, value: Value) -> Result<(Vec<Turn>, String), String> {
    if !value.is_array() {
        return Ok((Vec::new(), string(name, value)?));
    }
    let mut before = turns(name, value)?;
    let last = before.pop().ok_or_else(|| format!("`{name}` is empty"))?;
    Ok((before, last.content))
}

fn string(name: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("`{name}` is {}, not a text", kind(&other))),
    }
}

fn turns(name: &str, value: Value) -> Result<Vec<Turn>, String> {
    let Value::Array(list) = value else {
        return Err(format!("`{name}` is {}, not a list of {{role, content}}", kind(&value)));
    };
    let turn = |(place, value): (usize, Value)| {
        let Value::Object(mut turn) = value else {
            return Err(format!("`{name}[{place}]` is {}, not {{role, content}}", kind(&value)));
        };
        let mut part = |key: &str| {
            let value = turn.remove(key).ok_or_else(|| format!("`{name}[{place}]` has no `{key}`"))?;
            string(&format!("{name}[{place}].{key}"), value)
        };
        Ok(Turn { role: part("role")?, content: part("content")? })
    };
    list.into_iter().enumerate().map(turn).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
