//! Which language a text is in, by its script and its trigrams (crate `whatlang`).
//!
//! It tells 69 languages apart on a few sentences, and is often wrong on a few words: documents that short
//! are better judged by their size.

use super::reason::DropReason;
use crate::Error;
use serde::{Deserialize, Serialize};

/// The languages wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Languages {
    /// ISO 639-3 codes: `eng`, `deu`, `cmn`.
    pub wanted: Vec<String>,
    /// Least confidence, of a thousand.
    pub confidence_per_mille_min: u32,
}

impl Default for Languages {
    fn default() -> Self {
        Self { wanted: Vec::new(), confidence_per_mille_min: 500 }
    }
}

/// Bytes from the beginning that are looked at: more make it no surer.
const BYTES_LOOKED_AT: usize = 8 * 1024;

impl Languages {
    /// The rule for those codes.
    ///
    /// # Errors
    /// [`Error::Parameters`] with a code that is not known.
    pub fn of(codes: &[String]) -> Result<Self, Error> {
        match codes.iter().find(|code| whatlang::Lang::from_code(code.as_str()).is_none()) {
            Some(code) => {
                let known: Vec<&str> = whatlang::Lang::all().iter().map(whatlang::Lang::code).collect();
                Err(Error::Parameters(format!(
                    "there is no language {code:?}; there are, by ISO 639-3, {}",
                    known.join(", ")
                )))
            }
            None => Ok(Self { wanted: codes.to_vec(), ..Self::default() }),
        }
    }

    /// Whether `text` is in none of the languages, as far as can be told.
    #[must_use]
    pub fn drop_reason(&self, text: &str) -> Option<DropReason> {
        let start = &text[..text.floor_char_boundary(BYTES_LOOKED_AT)];
        let found = whatlang::detect(start);
        let wanted = found.is_some_and(|found| {
            let sure = found.confidence() * 1000.0 >= f64::from(self.confidence_per_mille_min);
            sure && self.wanted.iter().any(|code| code == found.lang().code())
        });
        (!wanted).then_some(DropReason::Language)
    }
}
