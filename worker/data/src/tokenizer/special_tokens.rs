//! The BOS, EOS and padding tokens of a Hugging Face tokenizer (`tokenizer_config.json`,
//! `special_tokens_map.json`).

use super::super::Error;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The special tokens of a tokenizer, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Beginning of sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos_token: Option<String>,
    /// End of sequence; also the document separator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos_token: Option<String>,
    /// Padding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_token: Option<String>,
}

impl SpecialTokens {
    /// Reads `tokenizer_config.json` and `special_tokens_map.json`, either of which may be missing; the map
    /// takes precedence.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] if a file is not a JSON object, or a token is not a string, an object with
    /// `content` or null.
    pub fn from_files(config: Option<&[u8]>, map: Option<&[u8]>) -> Result<Self, Error> {
        let mut specials = Self::default();
        for (name, bytes) in [("tokenizer_config.json", config), ("special_tokens_map.json", map)] {
            let Some(bytes) = bytes else { continue };
            let failed = |reason: String| Error::Tokenizer {
                doing: "read the special tokens of",
                reason: format!("{name}: {reason}"),
            };
            let value: Value = serde_json::from_slice(bytes).map_err(|e| failed(e.to_string()))?;
            let object = value.as_object().ok_or_else(|| failed("it is no JSON object".to_owned()))?;
            let places = [
                ("bos_token", &mut specials.bos_token),
                ("eos_token", &mut specials.eos_token),
                ("pad_token", &mut specials.pad_token),
            ];
            for (key, place) in places {
                match object.get(key) {
                    None | Some(Value::Null) => {}
                    Some(token) => {
                        let content = token.as_str().or_else(|| token.get("content").and_then(Value::as_str));
                        *place = Some(
                            content
                                .ok_or_else(|| failed(format!("`{key}` is {token}, not a text")))?
                                .to_owned(),
                        );
                    }
                }
            }
        }
        Ok(specials)
    }

    /// Whether no token is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Writes a `special_tokens_map.json`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_are_read_in_all_their_spellings() {
        let config =
            br#"{"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null, "model_max_length": 9}"#;
        let map = br#"{"eos_token": "<|im_end|>", "additional_special_tokens": []}"#;
        let specials = SpecialTokens::from_files(Some(config), Some(map)).expect("reads");
        assert_eq!(
            (specials.bos_token.as_deref(), specials.eos_token.as_deref(), &specials.pad_token),
            (Some("<s>"), Some("<|im_end|>"), &None)
        );
        assert_eq!(SpecialTokens::from_files(None, Some(&specials.to_bytes())).expect("reads"), specials);
        assert!(SpecialTokens::from_files(None, None).expect("reads").is_empty());
        let table: [(&[u8], &str); 3] = [
            (b"[]", "no JSON object"),
            (b"{", "tokenizer_config.json: EOF"),
            (br#"{"eos_token": 7}"#, "`eos_token` is 7, not a text"),
        ];
        for (bytes, expected) in table {
            let message = SpecialTokens::from_files(Some(bytes), None).expect_err(expected).to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
